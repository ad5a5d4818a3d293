"""The decoder: what it decodes, whose slots it fills, what it refuses, whole. Conformance is test_conformance.py."""

import math
import random
import struct
from typing import Any

import cantools
import numpy as np
import pytest
from cantools.database import Database
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.can.decoder import MAX_SOURCES, Counts, Decoder, LatestTable
from edge.can.frames import ERROR, EXTENDED, FRAME, REMOTE, Frames
from edge.errors import DecodeError
from edge.signals.catalogue import Catalogue, Signal, load_catalogue
from edge.signals.validity import ERROR as IN_ERROR
from edge.signals.validity import GOOD, NEVER, NOT_AVAILABLE
from sim_bus.ecus import crc8_sae_j1850
from tests.edge.can.conformance import number, plain_raw

SEED = 7
OUTCOMES = ("decoded", "unknown", "refused", "error_frames", "remote_frames", "transport")


def frame(frame_id: int, data: bytes, channel: int = 0, flags: int = 0, time_us: int = 0) -> Frames:
    out = np.zeros(1, FRAME)
    out["id"], out["channel"], out["flags"], out["length"] = frame_id, channel, flags, len(data)
    out["data"][0, : len(data)] = np.frombuffer(data, np.uint8)
    out["time_us"] = time_us
    return out


def loaded(text: str) -> Any:
    database = cantools.database.load_string(f'VERSION ""\nBU_: a\n{text}', "dbc", strict=False)
    assert isinstance(database, Database)
    return database


def j1939(*ids: int, signals: str = ' SG_ v : 0|8@1+ (1,0) [0|0] "" a', length: int = 8) -> Any:
    """Messages m0, m1, ... of J1939, each with an unsigned byte `v`."""
    database = loaded("".join(f"BO_ {n | 1 << 31} m{i}: {length} a\n{signals}\n" for i, n in enumerate(ids)))
    for message in database.messages:
        message.protocol = "j1939"
    return database


class Bench:
    """A decoder of one database with its table and counts."""

    def __init__(self, database: Any, **more: Any) -> None:
        self.decoder = Decoder([(0, database, {})], **more)
        self.latest, self.counts = LatestTable(len(self.decoder.slots)), Counts(1)

    def feed(self, *frames: Frames) -> None:
        self.decoder.update(np.concatenate(frames), self.latest, self.counts)

    def value(self, slot: int) -> float:
        return float(self.latest.value[slot])

    def total(self) -> dict[str, int]:
        total = self.counts.total()
        assert total["received"] == sum(total[o] for o in OUTCOMES)
        return total


# One signal


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_signal_is_what_its_bits_say(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1, 3, 8, 12, 64]))
    bits = data.draw(st.integers(1, min(64, 8 * size)))
    place = data.draw(st.integers(0, 8 * size - bits))
    big, signed = data.draw(st.booleans()), data.draw(st.booleans())
    scale = data.draw(st.sampled_from(["1", "0.1", "3", "-2", "1e300", "12345678901"]))
    offset = data.draw(st.sampled_from(["0", "-40", "0.25", "9007199254740993"]))
    start = 8 * (place // 8) + 7 - place % 8 if big else place
    form = f"{start}|{bits}@{0 if big else 1}{'-' if signed else '+'} ({scale},{offset})"
    database = loaded(f'BO_ 5 m: {size} a\n SG_ s : {form} [0|0] "" a\n')
    payload = data.draw(st.binary(min_size=size, max_size=size))
    signal = database.messages[0].signals[0]
    raw = plain_raw(payload, signal)
    wanted = signal.conversion.raw_to_scaled(raw)
    bench = Bench(database)
    assert bench.decoder.decode_message(5, payload, scaling=False) == {"s": raw}
    got = bench.decoder.decode_message(5, payload)["s"]
    assert (type(got), repr(got)) == (type(wanted), repr(wanted))
    bench.feed(frame(5, payload))
    assert int(bench.latest.raw[0]) & (1 << 64) - 1 == int(raw) & (1 << 64) - 1
    if math.isfinite(number(wanted)):
        assert struct.pack("d", bench.value(0)) == struct.pack("d", float(wanted))
        again = bench.decoder.for_people(0, int(bench.latest.raw[0]), bench.value(0))
        assert (type(again), repr(again)) == (type(wanted), repr(wanted))
    else:
        assert bench.latest.state[0] == IN_ERROR


@pytest.mark.parametrize(("bits", "code", "kind"), [(32, "<f", 1), (64, "<d", 2)])
@pytest.mark.parametrize("sent", [1.5, -0.0, 1e-40, math.inf, -math.inf, math.nan])
def test_floats_and_those_that_are_no_numbers(bits: int, code: str, kind: int, sent: float) -> None:
    database = loaded(f'BO_ 5 m: 8 a\n SG_ s : 0|{bits}@1- (1,0) [0|0] "" a\nSIG_VALTYPE_ 5 s : {kind};\n')
    bench = Bench(database)
    first = struct.pack(code, 2.0).ljust(8, b"\0")
    payload = struct.pack(code, sent).ljust(8, b"\0")
    bench.feed(frame(5, first), frame(5, payload, time_us=9))
    events = bench.decoder.events(frame(5, payload), bench.counts)
    shown = bench.decoder.decode_message(5, payload)["s"]
    assert isinstance(shown, float)
    assert struct.pack("d", shown) == struct.pack(
        "d", bench.decoder.decode_message(5, payload, scaling=False)["s"]
    )
    assert bench.latest.time_us[0] == 9
    if math.isfinite(sent):
        assert bench.latest.state[0] == events.state[0] == GOOD
        assert bench.value(0) == events.value[0] == shown
        assert math.copysign(1, bench.value(0)) == math.copysign(1, sent)
    else:
        assert bench.latest.state[0] == events.state[0] == IN_ERROR
        assert bench.value(0) == 2.0  # the last that was good
        assert bench.decoder.for_people(0, int(events.raw[0]), float(events.value[0]), IN_ERROR) is None


def test_half_floats() -> None:
    signal = cantools.database.can.Signal("h", 0, 16, conversion=_float_conversion())
    message = cantools.database.can.Message(5, "m", 2, [signal])
    decoder = Decoder([(0, Database([message]), {})])
    for bits in range(0, 1 << 16, 7):
        payload = bits.to_bytes(2, "little")
        wanted = struct.unpack("<e", payload)[0]
        got = decoder.decode_message(5, payload)["h"]
        assert isinstance(got, float)
        assert math.isnan(got) if math.isnan(wanted) else struct.pack("d", got) == struct.pack("d", wanted)


def _float_conversion() -> Any:
    from cantools.database.conversion import BaseConversion

    return BaseConversion.factory(is_float=True)


# Whole frames

MUX = (
    'BO_ 5 m: 8 a\n SG_ top M : 0|8@1+ (1,0) [0|0] "" a\n SG_ a m0 : 8|8@1+ (1,0) [0|0] "" a\n'
    ' SG_ sub m1M : 8|4@1+ (1,0) [0|0] "" a\n SG_ b m2 : 16|8@1+ (1,0) [0|0] "" a\n'
    ' SG_ c m3 : 16|8@1- (1,0) [0|0] "" a\nSG_MUL_VAL_ 5 a top 0-0, 5-9;\nSG_MUL_VAL_ 5 sub top 1-1;\n'
    "SG_MUL_VAL_ 5 b sub 2-2;\nSG_MUL_VAL_ 5 c sub 3-6;\n"
)


@pytest.mark.parametrize(
    ("payload", "wanted"),
    [
        ([0, 7, 0], {"top": 0, "a": 7}),
        ([9, 7, 0], {"top": 9, "a": 7}),
        ([1, 2, 200], {"top": 1, "sub": 2, "b": 200}),
        ([1, 6, 200], {"top": 1, "sub": 6, "c": -56}),
        ([1, 7, 200], None),
        ([2, 0, 0], None),
    ],
)
def test_nested_and_extended_multiplexers(payload: list[int], wanted: dict[str, int] | None) -> None:
    bench = Bench(loaded(MUX))
    data = bytes(payload + [0] * 5)
    bench.feed(frame(5, data))
    if wanted is None:
        with pytest.raises(DecodeError):
            bench.decoder.decode_message(5, data)
        assert bench.total()["bad_mux"] == 1
        assert not bench.latest.state.any()
        return
    assert bench.decoder.decode_message(5, data) == wanted
    heard = {
        bench.decoder.slots[n].signal: bench.value(n) for n in np.flatnonzero(bench.latest.state).tolist()
    }
    assert heard == wanted


def test_a_scaled_selector_selects_by_its_value() -> None:
    database = loaded(
        'BO_ 5 m: 8 a\n SG_ top M : 0|8@1+ (2,10) [0|0] "" a\n SG_ a m20 : 8|8@1+ (1,0) [0|0] "" a\n'
    )
    bench = Bench(database)
    assert bench.decoder.decode_message(5, bytes([5, 3] + 6 * [0])) == {"top": 20, "a": 3}
    assert bench.decoder.decode_message(5, bytes([20, 3] + 6 * [0]), scaling=False) == {"top": 20, "a": 3}
    bench.feed(frame(5, bytes([5, 3] + 6 * [0])), frame(5, bytes([20, 3] + 6 * [0])))
    assert (bench.total()["decoded"], bench.total()["bad_mux"]) == (1, 1)


def test_short_frames_are_refused_or_truncated() -> None:
    database = loaded('BO_ 5 m: 4 a\n SG_ a : 0|8@1+ (1,0) [0|0] "" a\n SG_ b : 16|16@1+ (1,0) [0|0] "" a\n')
    bench = Bench(database)
    with pytest.raises(DecodeError, match="3 instead of 4"):
        bench.decoder.decode_message(5, b"\1\2\3")
    assert bench.decoder.decode_message(5, b"\1\2\3", allow_truncated=True) == {"a": 1}
    assert bench.decoder.decode_message(5, b"\1\2\3\4\5") == {"a": 1, "b": 0x403}
    bench.feed(frame(5, b"\1\2\3"), frame(5, b"\1\2\3\4\5"))
    assert (bench.total()["too_short"], bench.total()["decoded"]) == (1, 1)


def test_what_no_message_is_named_by() -> None:
    decoder = Decoder([(0, loaded('BO_ 5 m: 1 a\n SG_ a : 0|8@1+ (1,0) [0|0] "" a\n'), {})])
    for frame_id, more in ((6, {}), (5, {"is_extended": True}), (5, {"channel": 1}), (1 << 40, {}), (-1, {})):
        with pytest.raises(KeyError):
            decoder.decode_message(frame_id, b"\0", **more)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        decoder.update(np.zeros(3), LatestTable(1), Counts(1))  # type: ignore[arg-type]


def test_events_are_rows_in_the_order_of_frames() -> None:
    text = "".join(
        f"BO_ {n} m{n}: 8 a\n" + "".join(f' SG_ s{k} : {8 * k}|8@1+ (1,0) [0|0] "" a\n' for k in range(n))
        for n in range(1, 9)
    )
    rng = random.Random(SEED)
    frames = np.concatenate(
        [frame(rng.randrange(10), rng.randbytes(rng.choice([7, 8, 8, 8])), time_us=n) for n in range(3000)]
    )
    bench = Bench(loaded(text))
    events = bench.decoder.events(frames, bench.counts)
    assert (np.diff(events.frame) >= 0).all()
    names = [bench.decoder.slots[s] for s in events.slot.tolist()]
    for row, slot in enumerate(names):
        one = frames[events.frame[row]]
        assert slot.message == f"m{one['id']}"
        assert events.value[row] == one["data"][int(slot.signal[1:])] == events.raw[row]
    assert len(np.unique(events.frame)) == bench.total()["decoded"] > 1500
    again = Bench(loaded(text))
    again.feed(frames)
    assert again.total() == bench.total()
    for n in range(len(bench.decoder.slots)):
        last = np.flatnonzero(events.slot == n)[-1]
        assert again.value(n) == events.value[last]
        assert again.latest.time_us[n] == events.frame[last]
    pieces = Bench(loaded(text))
    for n in range(0, len(frames), 7):
        pieces.feed(frames[n : n + 7])
    assert pieces.latest.value.tobytes() == again.latest.value.tobytes()
    assert pieces.total() == again.total()


def test_error_and_remote_frames_hold_nothing() -> None:
    bench = Bench(loaded('BO_ 5 m: 1 a\n SG_ a : 0|8@1+ (1,0) [0|0] "" a\n'))
    bench.feed(frame(5, b"\7", flags=ERROR), frame(5, b"\7", flags=REMOTE), frame(5, b"\7", flags=EXTENDED))
    total = bench.total()
    assert (total["error_frames"], total["remote_frames"], total["unknown"]) == (1, 1, 1)
    assert bench.latest.state[0] == NEVER


# What cantools does for us


def test_signals_over_64_bits_go_to_cantools() -> None:
    database = loaded(
        'BO_ 5 m: 16 a\n SG_ a : 0|72@1+ (1,0) [0|0] "" a\n SG_ b : 72|8@1- (0.5,0) [0|0] "" a\n'
    )
    bench = Bench(database)
    data = bytes(range(16))
    assert bench.decoder.decode_message(5, data) == database.decode_message(5, data)
    bench.feed(frame(5, data, time_us=3), frame(5, data[:15]))
    assert bench.value(0) == float(int.from_bytes(data[:9], "little"))
    assert (bench.value(1), bench.latest.raw[1], bench.latest.time_us[1]) == (4.5, 9, 3)
    total = bench.total()
    assert (total["fallback"], total["decoded"], total["too_short"]) == (1, 1, 1)
    events = bench.decoder.events(np.concatenate([frame(9, b""), frame(5, data)]), bench.counts)
    assert events.frame.tolist() == [1, 1]
    assert events.slot.tolist() == [0, 1]


# J1939


def test_j1939_sources_have_slots_of_their_own() -> None:
    bench = Bench(j1939(0x18FF10FE))
    slot = bench.decoder.slot(0, "m0", "v")
    assert bench.decoder.slots[slot].source is None
    bench.feed(*(frame(0x0CFF1000 | s, bytes([s] + 7 * [0]), flags=EXTENDED) for s in (7, 9, 7, 8)))
    assert bench.decoder.slots[slot].source == 7
    assert bench.value(slot) == 7
    assert [s.source for s in bench.decoder.slots] == [7, 9, 8]
    assert bench.latest.value.tolist() == [7, 9, 8]
    assert bench.total()["decoded"] == 4


def test_j1939_the_databases_own_source_comes_first() -> None:
    bench = Bench(j1939(0x18FF1003))
    bench.feed(frame(0x18FF1007, bytes([1] + 7 * [0]), flags=EXTENDED))
    assert bench.latest.state[bench.decoder.slot(0, "m0", "v")] == NEVER
    bench.feed(frame(0x18FF1003, bytes([2] + 7 * [0]), flags=EXTENDED))
    assert bench.value(bench.decoder.slot(0, "m0", "v")) == 2


def test_j1939_the_map_chooses_by_address() -> None:
    bench = Bench(j1939(0x18FF10FE))
    slot, nine = bench.decoder.slot(0, "m0", "v"), bench.decoder.slot(0, "m0", "v", address=9)
    assert slot != nine
    assert bench.decoder.slot(0, "m0", "v", address=9) == nine
    bench.feed(*(frame(0x18FF1000 | s, bytes([s] + 7 * [0]), flags=EXTENDED) for s in (9, 8)))
    assert bench.value(nine) == 9
    assert bench.value(slot) == 9  # the first that was heard, too
    assert bench.value(bench.decoder.slot(0, "m0", "v", address=8)) == 8
    plain = Decoder([(0, loaded('BO_ 5 m: 1 a\n SG_ a : 0|8@1+ (1,0) [0|0] "" a\n'), {})])
    with pytest.raises(KeyError):
        plain.slot(0, "m", "a", address=9)


def test_j1939_the_map_chooses_by_name_wherever_that_sits() -> None:
    bench = Bench(j1939(0x18FF10FE))
    name = 0x8000_1234_5678_9ABC
    slot = bench.decoder.slot(0, "m0", "v", name=name)

    def value(source: int, sent: int) -> Frames:
        return frame(0x18FF1000 | source, bytes([sent] + 7 * [0]), flags=EXTENDED)

    def claim(source: int) -> Frames:
        return frame(0x18EEFF00 | source, name.to_bytes(8, "little"), flags=EXTENDED)

    bench.feed(value(7, 1), claim(7), value(7, 2), claim(8), value(7, 3), value(8, 4), value(7, 5))
    assert bench.value(slot) == 4
    assert bench.decoder.slots[slot].source == 8
    events = bench.decoder.events(np.concatenate([claim(9), value(9, 6), value(8, 7)]), bench.counts)
    assert [(int(s), float(v)) for s, v in zip(events.slot, events.value, strict=True) if s == slot] == [
        (slot, 6.0)
    ]
    assert bench.total()["transport"] == 3


def test_j1939_sources_are_bounded() -> None:
    bench = Bench(j1939(0x18FF10FE))
    for s in range(250):
        bench.feed(frame(0x18FF1000 | s, bytes([1] + 7 * [0]), flags=EXTENDED))
    assert len(bench.decoder.slots) == MAX_SOURCES
    assert bench.total()["too_many_sources"] == 250 - MAX_SOURCES


@pytest.mark.parametrize(
    ("raw", "state"), [(0xFA, GOOD), (0xFB, IN_ERROR), (0xFE, IN_ERROR), (0xFF, NOT_AVAILABLE)]
)
def test_j1939_ranges_that_are_no_numbers(raw: int, state: int) -> None:
    bench = Bench(j1939(0x18FF10FE))
    bench.feed(
        frame(0x18FF1007, bytes(8), flags=EXTENDED), frame(0x18FF1007, bytes([raw] + 7 * [0]), flags=EXTENDED)
    )
    assert bench.latest.state[0] == state
    assert bench.value(0) == (raw if state == GOOD else 0)
    assert bench.latest.raw[0] == raw
    assert bench.decoder.decode_message(0x18FF1007, bytes([raw] + 7 * [0])) == {"v": raw}


def test_ranges_of_the_map() -> None:
    database = loaded('BO_ 5 m: 8 a\n SG_ a : 0|8@1- (1,0) [0|0] "" a\n SG_ b : 8|8@1+ (1,0) [0|0] "" a\n')
    signal = Signal(0, "m", "a", "Vehicle.Speed", "km/h", not_available=(-128, -128), error=(-127, -120))
    bench = Bench(database, signals=[signal])
    for raw, state in ((-128, NOT_AVAILABLE), (-127, IN_ERROR), (-120, IN_ERROR), (-119, GOOD), (127, GOOD)):
        bench.feed(frame(5, struct.pack("b", raw) + b"\xff" + bytes(6)))
        assert bench.latest.state.tolist() == [state, GOOD]


def test_a_transported_message_comes_between_its_last_packet_and_the_next_frame() -> None:
    signals = ' SG_ v : 0|8@1+ (1,0) [0|0] "" a\n SG_ end : 800|8@1+ (1,0) [0|0] "" a'
    database = j1939(0x18FF10FE, signals=signals, length=101)
    payload = bytes([5] + 99 * [0] + [77])
    packets = [payload[n : n + 7].ljust(7, b"\xff") for n in range(0, 101, 7)]
    announce = bytes([32, 101, 0, len(packets), 0xFF, 0x10, 0xFF, 0x00])
    frames = [frame(0x1CECFF07, announce, flags=EXTENDED)]
    for n, packet in enumerate(packets):
        frames.append(frame(0x1CEBFF07, bytes([n + 1]) + packet, flags=EXTENDED, time_us=1000 * n))
    frames.append(frame(0x18FEF107, bytes(8), flags=EXTENDED, time_us=99_000))
    bench = Bench(database)
    bench.feed(*frames)
    assert bench.latest.value.tolist() == [5, 77]
    assert bench.latest.time_us[0] == 1000 * (len(packets) - 1)
    total = bench.total()
    assert (total["messages"], total["messages_decoded"], total["transport"], total["unknown"]) == (
        1, 1, len(packets) + 1, 1,
    )  # fmt: skip
    events = Bench(database).decoder.events(np.concatenate(frames), Counts(1))
    assert events.frame.tolist() == [len(packets), len(packets)]
    got = bench.decoder.decode_message(0x18FF1007, payload)
    assert got == {"v": 5, "end": 77}


# Protection, and frames that mean nothing


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue([(name, name) for name in ("bms", "inverter", "vehicle")])


def status(counter: int, spoil: int = 0) -> bytes:
    body = bytes([0x10, 0x17, 0xF6, 0xFF, 100, 0x13, counter])
    return body + bytes([crc8_sae_j1850(body) ^ spoil])


def test_refusals_change_nothing_and_are_counted(catalogue: Catalogue) -> None:
    decoder = Decoder.from_catalogue(catalogue)
    latest, counts = LatestTable(len(decoder.slots)), Counts(3)
    slot = decoder.slot(0, "BMS_PackStatus", "PackVoltage")
    decoder.update(frame(0x100, status(1)), latest, counts)
    assert latest.value[slot] == pytest.approx(590.4)
    bad = [
        frame(0x100, status(2, spoil=1)),
        frame(0x100, status(1)),
        frame(0x100, status(2)[:7]),
        frame(0x200, bytes([200]) + bytes(7)),
        frame(0x7FF, bytes(8)),
        frame(0x100, status(3), flags=EXTENDED),
    ]
    for one in bad:
        one["time_us"] = 99
        decoder.update(one, latest, counts)
    assert latest.time_us.max() == 0
    total = counts.total()
    assert [total[k] for k in ("bad_checksum", "repeated_counter", "too_short", "bad_mux", "unknown")] == [
        1, 1, 1, 1, 2,
    ]  # fmt: skip
    assert total["received"] == sum(total[o] for o in OUTCOMES) == 7


def test_garbage_frames_are_all_accounted_for(catalogue: Catalogue) -> None:
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    frames = np.frombuffer(rng.bytes(FRAME.itemsize * 100_000), FRAME).copy()
    frames["length"] %= 65
    frames["channel"] %= 4
    known = np.array([m.frame_id for c in catalogue.channels for m in c.database.messages], np.uint32)
    frames["id"] = np.where(rng.random(len(frames)) < 0.8, rng.choice(known, len(frames)), frames["id"])
    decoder = Decoder.from_catalogue(catalogue)
    latest, counts = LatestTable(len(decoder.slots)), Counts(3)
    decoder.update(frames, latest, counts)
    total = counts.total()
    assert total["received"] == sum(total[o] for o in OUTCOMES) == int((frames["channel"] < 3).sum())
    assert min(total[o] for o in ("decoded", "unknown", "too_short", "bad_mux", "bad_checksum")) > 100
    good = latest.state == GOOD
    assert np.isfinite(latest.value[good]).all()
    assert np.isnan(latest.value[latest.state == NEVER]).all()
    again, counted = Decoder.from_catalogue(catalogue), Counts(3)
    again.events(frames, counted)
    assert counted.total() == total


def test_j1939_matches_by_pgn_whatever_priority(catalogue: Catalogue) -> None:
    decoder = Decoder.from_catalogue(catalogue)
    slot = decoder.slot(2, "CCVS1", "WheelBasedVehicleSpeed")
    latest, counts = LatestTable(len(decoder.slots)), Counts(3)
    source = decoder.slots[slot].source
    assert source is not None
    payload = bytes([0, 0, 30, 0, 0, 0, 0, 0])
    decoder.update(frame(0x0CFEF100 | source, payload, 2, EXTENDED), latest, counts)
    decoder.update(frame(0x18FEF100 | source, payload, 2, EXTENDED), latest, counts)
    assert latest.value[slot] == 30.0
    assert counts.total()["decoded"] == 2
