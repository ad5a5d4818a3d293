"""The frames of the ECUs: bytes as cantools would write them, each message at its time, nothing out of order."""

from __future__ import annotations

import dataclasses
import itertools
from importlib import resources
from typing import Any

import cantools
import numpy as np
import pytest

from edge.can.frames import EXTENDED, FRAME, Frames
from edge.can.j1939 import Listener
from edge.can.j1939.diagnostics import decode_dm
from edge.errors import ScenarioError
from sim_bus.doors import STEPS, Readings
from sim_bus.ecus import CHANNELS, NODES, Ecus, crc8_sae_j1850, derived, needed
from sim_bus.ecus.ecus import MOST_JITTER
from sim_bus.ecus.j1939 import bam
from sim_bus.scenario.model import CanPlan
from sim_bus.streams import Streams

SEED = 20_261
TRANSPORT = ("TP_CM", "TP_DT")
GUARDS = ("AliveCounter", "Checksum")
STEADY = CanPlan(jitter_ms=0.0)


def databases() -> list[Any]:
    folder = resources.files("dbc")
    return [cantools.database.load_string((folder / f"{n}.dbc").read_text("ascii")) for n in CHANNELS]


BUSES = databases()
LIMITS = {
    s.name: (float(s.minimum), float(s.maximum))
    for bus in BUSES
    for m in bus.messages
    for s in m.signals
    if s.minimum is not None
}


def readings(second: int, rng: np.random.Generator, wild: bool = False, on: bool = True) -> Readings:
    """A second of values all over their signals' ranges; `wild`: also beyond, at the ends, and not available."""

    def some(low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        values = rng.uniform(low, high, shape)
        if wild:
            which = rng.integers(0, 12, shape)
            for n, special in enumerate((low, high, low - 1e6, high + 1e6, np.nan)):
                values[which == n] = special
        return values

    values = {name: some(*LIMITS[name], (STEPS,)) for name in sorted(needed())}
    return Readings(
        second * 1_000_000,
        values,
        some(-1500, 1500, (STEPS, 2)),
        some(0, 5, (STEPS, 2, 176)),
        some(-40, 125, (STEPS, 2, 44)),
        rng.integers(0, 2, (2, 176)).astype(np.bool_),
        dict.fromkeys(NODES, on),
    )


def sent(seconds: int, plan: CanPlan = STEADY, wild: bool = False) -> tuple[list[Readings], Frames]:
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    ecus = Ecus(plan, Streams(SEED))
    said = [readings(n, rng, wild) for n in range(seconds)]
    return said, np.concatenate([ecus.frames(r) for r in said])


@pytest.fixture(scope="module")
def minute() -> Frames:
    return sent(60)[1]


@pytest.fixture(scope="module")
def wild() -> tuple[list[Readings], Frames]:
    return sent(30, wild=True)


def known(frame: Any) -> Any:
    return BUSES[frame["channel"]].get_message_by_frame_id(int(frame["id"]))


def of(frames: Frames, message: Any) -> Frames:
    return frames[frames["id"] == message.frame_id]


def raw_of(signal: Any, value: float) -> int:
    """As a careful person would write it: rounded, saturated; not a number is all ones, of a signed signal the
    number that has no opposite, and of a single bit off."""
    if value != value:
        ones = (1 << signal.length) - 1
        return -(1 << signal.length - 1) if signal.is_signed else ones if signal.length > 1 else 0
    low, high = (round((v - signal.offset) / signal.scale) for v in (signal.minimum, signal.maximum))
    return min(max(round((value - signal.offset) / signal.scale), low), high)


def expected(message: Any, frame: Any, r: Readings, values: dict[str, np.ndarray]) -> bytes:
    """What cantools encodes for the values of the frame's step, with the frame's own page and counter."""
    step = int(frame["time_us"]) % 1_000_000 // 100_000
    data = frame["data"][: frame["length"]].tobytes()
    here = message.decode(data, decode_choices=False, scaling=False, allow_truncated=False)
    raw = {}
    for signal in message.signals:
        if signal.name not in here:
            continue
        name = signal.name
        if name in GUARDS or signal.is_multiplexer:
            raw[name] = here[name]
        elif "_Cell" in name and not name.endswith("Count"):
            cell = int(name.split("_Cell")[1][:3]) - 1
            string = int(name[6]) - 1
            source = r.balancing[string, cell] if name.endswith("Balancing") else r.cell_v[step, string, cell]
            raw[name] = raw_of(signal, float(source))
        elif "_Temp" in name and "Page" not in name:
            raw[name] = raw_of(signal, float(r.cell_degc[step, int(name[6]) - 1, int(name[-2:]) - 1]))
        else:
            raw[name] = raw_of(signal, float(values[name][step]))
    return bytes(message.encode(raw, scaling=False, strict=False, padding=False))


def test_each_frame_is_what_cantools_encodes(wild: tuple[list[Readings], Frames]) -> None:
    said, frames = wild
    all_values = [derived(r) | r.values for r in said]
    checked: dict[str, int] = {}
    for frame in frames[frames["time_us"] > 12_000_000]:  # everything has been measured by then
        message = known(frame)
        if message.name in TRANSPORT or message.name.startswith(("AddressClaim", "DM1")):
            continue
        second = int(frame["time_us"]) // 1_000_000
        data = frame["data"][: frame["length"]].tobytes()
        want = expected(message, frame, said[second], all_values[second])
        used = bytearray(message.length)
        for signal in message.signals:  # the bits that nobody uses are the sender's
            for bit in range(signal.start, signal.start + signal.length):
                used[bit // 8] |= 1 << bit % 8
        assert bytes(a & u for a, u in zip(data, used, strict=True)) == bytes(
            a & u for a, u in zip(want, used, strict=True)
        ), message.name
        checked[message.name] = checked.get(message.name, 0) + 1
    names = {m.name for bus in BUSES for m in bus.messages if m.length <= 8 and m.name not in TRANSPORT}
    assert {n for n in names if not n.startswith(("AddressClaim", "DM1"))} == set(checked)


def test_the_bytes_do_not_depend_on_the_others_messages_jitter(minute: Frames) -> None:
    assert minute.tobytes() == sent(60)[1].tobytes()
    other = sent(60, CanPlan(jitter_ms=2.0))[1]
    assert other.tobytes() != minute.tobytes()
    assert len(other) == pytest.approx(len(minute), abs=30)


@pytest.mark.parametrize("jitter_ms", [0.0, 3.0])
def test_each_message_comes_at_its_cycle_time(jitter_ms: float, minute: Frames) -> None:
    frames = minute if jitter_ms == 0 else sent(60, CanPlan(jitter_ms=jitter_ms))[1]
    for channel, bus in enumerate(BUSES):
        for message in bus.messages:
            if message.name in TRANSPORT or message.length > 8 or message.name.startswith("AddressClaim"):
                continue
            period = message.cycle_time * 1000
            times = of(frames[frames["channel"] == channel], message)["time_us"].astype(np.int64)
            gaps = np.diff(times)
            assert abs(len(times) - 60_000_000 / period) <= 2_800_000 / period + 1, message.name
            assert (gaps > 0).all(), message.name
            if jitter_ms == 0:
                assert set(gaps.tolist()) == {period}, message.name
            else:
                assert np.abs(gaps - period).max() <= 2 * MOST_JITTER * period + 1
                assert np.ptp(gaps) > 0


def test_times_never_fall_and_each_second_holds_its_own() -> None:
    rng, ecus = np.random.default_rng(SEED), Ecus(CanPlan(), Streams(SEED))
    for n in range(30):
        frames = ecus.frames(readings(n, rng))
        assert (np.diff(frames["time_us"].astype(np.int64)) >= 0).all()
        assert (frames["time_us"] >= n * 1_000_000).all()
        assert (frames["time_us"] < (n + 1) * 1_000_000).all()


def test_no_frame_but_those_of_the_databases(minute: Frames) -> None:
    for frame in minute:
        message = known(frame)
        assert message.length == frame["length"] or message.name.startswith("DM1")
        assert bool(frame["flags"] & EXTENDED) == message.is_extended_frame
    short = {m.frame_id for bus in BUSES for m in bus.messages if m.length <= 8}
    assert short <= set(minute["id"].tolist()), "each message was sent"


def test_counters_and_checksums_are_right(minute: Frames) -> None:
    seen = 0
    for bus in BUSES:
        for message in bus.messages:
            if "AliveCounter" not in {s.name for s in message.signals}:
                continue
            frames = of(minute, message)
            counts = (frames["data"][:, 6] & 15).tolist()
            assert counts == [n % 16 for n in range(len(counts))]
            for frame in frames:
                assert crc8_sae_j1850(frame["data"][:7].tobytes()) == frame["data"][7]
            seen += 1
    assert seen >= 5


def test_the_crc_is_the_standards() -> None:
    """The check values of AUTOSAR's SWS_CRCLibrary for CRC-8 SAE J1850."""
    checks = {"00000000": 0x59, "F20183": 0x37, "0FAA0055": 0x79, "00FF5511": 0xB8, "332255AABBCCDDEEFF": 0xCB,
              "926B55": 0x8C, "FFFFFFFF": 0x74}  # fmt: skip
    assert {text: crc8_sae_j1850(bytes.fromhex(text)) for text in checks} == checks


def test_pages_come_in_turn(minute: Frames) -> None:
    several = 0
    for bus in BUSES:
        for message in (m for m in bus.messages if m.is_multiplexed()):
            (mux,) = (s for s in message.signals if s.is_multiplexer)
            ids = sorted({n for s in message.signals for n in s.multiplexer_ids or ()})
            turn = of(minute, message)["data"][:, mux.start // 8] & ((1 << mux.length) - 1)
            assert (turn == np.array(ids)[np.arange(len(turn)) % len(ids)]).all()
            several += 1
    assert several >= 4


def test_long_messages_are_reassembled(minute: Frames) -> None:
    vehicle = minute[minute["channel"] == 2]
    counters = BUSES[2].get_message_by_name("PROP_HvessCounters")
    listener = Listener(2)
    whole = [w for w in listener.feed(vehicle) if len(w.payload) == counters.length]
    assert listener.transport.broken == 0
    assert 10 <= len(whole) <= 12
    assert all(counters.decode(w.payload)["HvessDischargedEnergy"] >= 0 for w in whole)


def test_bam_says_how_much_comes() -> None:
    message = BUSES[2].get_message_by_name("PROP_HvessCounters")
    (announce_id, announce), *packets = bam(message.frame_id, bytes(range(20)))
    assert (announce_id, packets[0][0]) == (0x1CECFFF3, 0x1CEBFFF3)
    assert announce == bytes([32, 20, 0, 3, 0xFF, 0x14, 0xFF, 0])
    assert [data[0] for _, data in packets] == [1, 2, 3]
    assert b"".join(data[1:] for _, data in packets) == bytes(range(20)) + b"\xff"


@pytest.mark.parametrize("codes", [(), ((520_194, 18),), ((520_194, 18), (520_192, 1), (520_193, 0))])
def test_dm1_says_what_is_wrong(codes: tuple[tuple[int, int], ...]) -> None:
    rng, ecus = np.random.default_rng(SEED), Ecus(STEADY, Streams(SEED))
    listener, found = Listener(2), []
    for n in range(8):
        r = dataclasses.replace(readings(n, rng), trouble=codes)
        frames = ecus.frames(r)
        vehicle = frames[frames["channel"] == 2]
        single = vehicle[(vehicle["id"] >> 8 & 0xFFFF) == 0xFECA]
        found += [decode_dm(f["data"][:8].tobytes()) for f in single]
        found += [decode_dm(w.payload) for w in listener.feed(vehicle) if w.id >> 8 & 0xFFFF == 0xFECA]
    said = [dm for dm in found if dm is not None]
    assert len(said) >= 4
    assert {tuple((d.spn, d.fmi) for d in dm.dtcs if d.spn) for dm in said[1:]} == {codes}


def test_addresses_are_claimed_first_and_what_is_not_measured_is_not_available() -> None:
    rng, ecus = np.random.default_rng(SEED), Ecus(STEADY, Streams(SEED))
    frames = np.concatenate([ecus.frames(readings(n, rng)) for n in range(3)])
    vehicle = frames[frames["channel"] == 2]
    for address in {int(i) & 0xFF for i in vehicle["id"]}:
        mine = vehicle[(vehicle["id"] & 0xFF) == address]
        assert int(mine["id"][0]) >> 8 & 0xFFFF == 0xEEFF
    summary = of(
        frames, BUSES[0].get_message_by_name("HVESSD3") if False else BUSES[2].get_message_by_name("AMB")
    )
    first = BUSES[2].get_message_by_name("AMB").decode(summary["data"][0, :8].tobytes(), scaling=False)
    assert first["AmbientAirTemp"] == 0xFFFF, "it takes the body two seconds to feel the weather"


def test_silent_without_supply_and_anew_after_a_restart() -> None:
    rng, ecus = np.random.default_rng(SEED), Ecus(STEADY, Streams(SEED))
    for n in range(3):
        ecus.frames(readings(n, rng))
    ecus.restart("BMS", 3_400_000)
    frames = np.concatenate([ecus.frames(readings(n, rng)) for n in (3, 4, 5)])
    status = of(frames, BUSES[0].get_message_by_name("BMS_PackStatus"))
    gap = np.diff(status["time_us"].astype(np.int64))
    assert 200_000 < gap.max() < 1_700_000
    after = status[int(gap.argmax()) + 1 :]
    assert (after["data"][:, 6] & 15)[:3].tolist() == [0, 1, 2]
    assert len(ecus.frames(readings(6, rng, on=False))) == 0
    with pytest.raises(ScenarioError, match="no node 'ABS'"):
        ecus.restart("ABS", 0)


def test_a_database_that_lacks_a_signal(tmp_path: Any) -> None:
    folder = resources.files("dbc")
    for name in CHANNELS:
        text = (folder / f"{name}.dbc").read_text("ascii")
        (tmp_path / f"{name}.dbc").write_text(text.replace("MotorTemp", "MotorHeat"), "ascii")
    with pytest.raises(ScenarioError, match=r"inverter\.dbc.*MotorHeat"):
        Ecus(CanPlan(folder=str(tmp_path)), Streams(1))
    (tmp_path / "bms.dbc").write_bytes(b"\xff\x00 nothing")
    with pytest.raises(ScenarioError, match=r"bms\.dbc"):
        Ecus(CanPlan(folder=str(tmp_path)), Streams(1))
    with pytest.raises(ScenarioError):
        Ecus(CanPlan(folder=str(tmp_path / "none")), Streams(1))


def test_readings_of_another_shape() -> None:
    ecus, rng = Ecus(STEADY, Streams(1)), np.random.default_rng(1)
    r = readings(0, rng)
    with pytest.raises(ScenarioError, match="values"):
        ecus.frames(dataclasses.replace(r, cell_v=r.cell_v[:, :, :100]))
    lacking = dict(itertools.islice(r.values.items(), 3))
    with pytest.raises(ScenarioError, match="no such value"):
        ecus.frames(dataclasses.replace(r, values=lacking))
    assert ecus.frames(r).dtype == FRAME
