"""The ECUs: bytes as cantools would write them, each message at its time, nothing out of order."""

from __future__ import annotations

import random
from importlib import resources
from typing import Any

import cantools
import numpy as np
import pytest
from cantools.database import Message

from edge.can.frames import EXTENDED, Frames
from edge.can.j1939 import Listener
from sim_bus.ecus import BAM_GAP_US, CHANNELS, Packer, bam, crc8_sae_j1850
from sim_bus.scenario import load_scenario
from sim_bus.simulation import Simulation

SEED = 20_261
TRANSPORT = ("TP_CM", "TP_DT")


def databases() -> dict[str, Any]:
    folder = resources.files("dbc")
    return {
        name: cantools.database.load_string((folder / f"{name}.dbc").read_text("ascii")) for name in CHANNELS
    }


BUSES = databases()
MESSAGES = [m for bus in BUSES.values() for m in bus.messages]


@pytest.fixture(scope="module")
def minute() -> Frames:
    """60 s of a winter day."""
    steps = Simulation(load_scenario("winter_day"), 7).steps()
    return np.concatenate([frames for frames, _ in zip(steps, range(600), strict=False)])


def of(frames: Frames, channel: int, message: Message) -> Frames:
    return frames[(frames["channel"] == channel) & (frames["id"] == message.frame_id)]


def random_raw(message: Message, names: set[str], rng: random.Random) -> dict[str, int]:
    """Raw values within the limits that the DBC gives."""
    raw = {}
    for s in message.signals:
        if s.name in names:
            least, most = (round((v - s.offset) / s.scale) for v in (s.minimum, s.maximum))
            raw[s.name] = rng.choice((least, most, rng.randint(least, most)))
    return raw


def pages(message: Message) -> list[set[str]]:
    """The signals that travel together: one set, or one for each value of the multiplexer."""
    always = {s.name for s in message.signals if s.multiplexer_ids is None}
    numbers = sorted({n for s in message.signals for n in s.multiplexer_ids or ()})
    return [
        always | {s.name for s in message.signals if s.multiplexer_ids and n in s.multiplexer_ids}
        for n in numbers
    ] or [always]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.name)
def test_packed_as_cantools_packs(message: Message) -> None:
    print("seed", SEED)
    rng, packer = random.Random(SEED), Packer(message)
    for number, names in enumerate(pages(message)):
        for _ in range(20):
            raw = random_raw(message, names, rng)
            if message.is_multiplexed():
                raw[next(s.name for s in message.signals if s.is_multiplexer)] = number
            values = {s.name: raw[s.name] * s.scale + s.offset for s in message.signals if s.name in raw}
            expected = message.encode(raw, scaling=False, strict=False)
            assert packer.pack(values) == expected, (raw, values)


def test_a_value_beyond_the_range_saturates_and_nan_says_not_available() -> None:
    packer = Packer(BUSES["bms"].get_message_by_name("BMS_PackStatus"))
    ends = {"SoC": (0, 200), "PackVoltage": (0, 12000), "PackCurrent": (-32768, 32767)}
    for name, (least, most) in ends.items():
        start, bits, *_ = packer.fields[name]
        mask = (1 << bits) - 1
        for value, raw in ((-1e9, least), (1e9, most), (float("nan"), mask)):
            word = int.from_bytes(packer.pack({name: value}), "little")
            assert word >> start & mask == raw & mask


def test_times_never_fall(minute: Frames) -> None:
    assert (np.diff(minute["time_us"]) >= 0).all()
    assert len(minute) > 10_000


def test_each_step_holds_its_own_time_only() -> None:
    """What is due later, as the packets of a long message are, waits for its step."""
    for n, frames in zip(range(1, 120), Simulation(load_scenario("spring_day"), 2).steps(), strict=False):
        assert (frames["time_us"] >= (n - 1) * 100_000).all()
        assert (frames["time_us"] < n * 100_000).all()


@pytest.mark.parametrize("channel", range(3), ids=CHANNELS)
def test_each_message_comes_at_its_cycle_time(minute: Frames, channel: int) -> None:
    for message in BUSES[CHANNELS[channel]].messages:
        if message.name in TRANSPORT or message.length > 8:
            continue
        times = of(minute, channel, message)["time_us"]
        assert message.cycle_time, message.name
        assert times[0] < message.cycle_time * 1000, message.name
        assert set(np.diff(times).tolist()) == {message.cycle_time * 1000}, message.name
        assert abs(len(times) - 60_000 / message.cycle_time) <= 1, message.name


def test_no_frame_but_those_of_the_databases(minute: Frames) -> None:
    for channel, name in enumerate(CHANNELS):
        known = {(m.frame_id, m.length, m.is_extended_frame) for m in BUSES[name].messages}
        mine = minute[minute["channel"] == channel]
        sent = set(
            zip(
                mine["id"].tolist(),
                mine["length"].tolist(),
                (mine["flags"] == EXTENDED).tolist(),
                strict=True,
            )
        )
        assert sent == {k for k in known if k[1] <= 8}


def test_counters_and_checksums_are_right(minute: Frames) -> None:
    seen = 0
    for channel, name in enumerate(CHANNELS):
        for message in BUSES[name].messages:
            names = [s.name for s in message.signals]
            if "AliveCounter" not in names:
                continue
            frames = of(minute, channel, message)
            counts = (frames["data"][:, 6] & 15).tolist()
            assert counts == [n % 16 for n in range(len(counts))]
            for frame in frames:
                assert crc8_sae_j1850(frame["data"][:7].tobytes()) == frame["data"][7]
            seen += 1
    assert seen == 5


def test_the_crc_is_the_standards() -> None:
    """The check values of AUTOSAR's SWS_CRCLibrary for CRC-8 SAE J1850."""
    checks = {"00000000": 0x59, "F20183": 0x37, "0FAA0055": 0x79, "00FF5511": 0xB8, "332255AABBCCDDEEFF": 0xCB,
              "926B55": 0x8C, "FFFFFFFF": 0x74}  # fmt: skip
    assert {text: crc8_sae_j1850(bytes.fromhex(text)) for text in checks} == checks


@pytest.mark.parametrize("message", [m for m in MESSAGES if m.is_multiplexed()], ids=lambda m: m.name)
def test_every_page_comes_in_turn(minute: Frames, message: Message) -> None:
    turn = of(minute, 0, message)["data"][:, 0]
    assert (turn == np.arange(len(turn)) % len(pages(message))).all()


def test_a_long_message_is_reassembled(minute: Frames) -> None:
    message = BUSES["vehicle"].get_message_by_name("PROP_HvessCounters")
    vehicle = minute[minute["channel"] == 2]
    packets = vehicle[
        np.isin(vehicle["id"], [BUSES["vehicle"].get_message_by_name(n).frame_id for n in TRANSPORT])
    ]
    assert len(packets) == 12 * 4
    gaps = np.diff(packets["time_us"])
    assert (gaps.reshape(-1)[np.arange(len(gaps)) % 4 != 3] == BAM_GAP_US).all()
    listener = Listener(2)
    whole = listener.feed(vehicle)
    assert listener.transport.broken == 0
    assert len(whole) == 12
    first, last = (message.decode(w.payload) for w in (whole[0], whole[-1]))
    assert first["HvessDischargedEnergy"] == pytest.approx(3120, abs=1)
    assert last["HvessDischargedEnergy"] > first["HvessDischargedEnergy"]
    assert last["HvessHoursInService"] == pytest.approx(4103)


def test_bam_says_how_much_comes() -> None:
    message = BUSES["vehicle"].get_message_by_name("PROP_HvessCounters")
    (announce_id, announce), *packets = bam(message, bytes(range(20)))
    assert (announce_id, packets[0][0]) == (0x1CECFFF3, 0x1CEBFFF3)
    assert announce == bytes([32, 20, 0, 3, 0xFF, 0x14, 0xFF, 0])
    assert [data[0] for _, data in packets] == [1, 2, 3]
    assert b"".join(data[1:] for _, data in packets) == bytes(range(20)) + b"\xff"
