"""Checksums and counters: the published vectors, a plain twin, AUTOSAR's own library, and every flipped bit."""

from __future__ import annotations

import random
from typing import Any

import cantools
import crccheck
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge.can import _protection
from edge.can.protection import (
    BAD_CHECKSUM,
    GOOD,
    REPEATED_COUNTER,
    compile_protection,
    crc_table,
    new_states,
)
from edge.signals.protection import KINDS, Checksum, Counter
from edge.signals.signal_map import MessageRule

TIMEOUT_MS = 500
SEED = 11
P1 = "autosar-e2e-1"
P11 = "autosar-e2e-11"
IDS = tuple(range(1, 17))


def message(length: int, **signals: str) -> Any:
    """A message with signals as a DBC places them: name="start|bits@order"."""
    lines = [f"BO_ 256 M: {length} ECU"]
    lines += [f' SG_ {name} : {where}+ (1,0) [0|0] "" ECU' for name, where in signals.items()]
    text = 'VERSION ""\n\nBU_: ECU\n\n' + "\n".join(lines) + "\n"
    return cantools.database.load_string(text, "dbc", strict=False).messages[0]


class Guard:
    """A message's protection with the state of one sender."""

    def __init__(self, db_message: Any, counter: Counter | None, checksum: Checksum | None) -> None:
        rule = MessageRule(0, "M", 100, TIMEOUT_MS, counter, checksum)
        self.protection = np.array([compile_protection(db_message, rule)])
        self.state = new_states(1)

    def check(self, data: bytes, time_us: int = 0, frame_id: int = 256) -> int:
        return _protection.check_frame(self.protection, self.state, frame_id, time_us, data)

    def sum_of(self, data: bytes, frame_id: int = 256) -> int:
        return _protection.checksum_of(self.protection, frame_id, data)


def guard(kind: str, length: int = 8, mode: str = "", ids: tuple[int, ...] = (), at: int = 0) -> Guard:
    """A guard with the checksum at byte `at` and the counter after it, as AUTOSAR's examples have them."""
    bits = KINDS[kind].bits[0]
    size = KINDS[kind].counter_bits or 4
    db = message(length, CRC=f"{8 * at}|{bits}@1", Counter=f"{8 * at + bits}|{size}@1")
    last = KINDS[kind].last or (1 << size) - 1
    return Guard(db, Counter("Counter", last), Checksum("CRC", kind, ids, mode, 0, length - 1))


# Published vectors


@pytest.mark.parametrize(
    ("kind", "mode", "ids", "data"),
    [
        # AUTOSAR PRS_E2EProtocol, profile 1, data id 0x123, two frames of each mode
        (P1, "both", (0x123,), "cc00000000000000"),
        (P1, "both", (0x123,), "9101000000000000"),
        (P1, "alternating", (0x123,), "ce00000000000000"),
        (P1, "alternating", (0x123,), "0201000000000000"),
        (P1, "low", (0x123,), "ce00000000000000"),
        (P1, "low", (0x123,), "9301000000000000"),
        (P1, "nibble", (0x123,), "2a10000000000000"),
        (P1, "nibble", (0x123,), "7711000000000000"),
        # profile 11 has the same arithmetic
        (P11, "both", (0x123,), "cc00000000000000"),
        (P11, "nibble", (0x123,), "2a10000000000000"),
        # profile 2, ids 1 to 16
        ("autosar-e2e-2", "", IDS, "1b01000000000000"),
        # profile 5, data id 0x1234, short
        ("autosar-e2e-5", "", (0x1234,), "1cca000000000000"),
    ],
)
def test_vectors_of_the_autosar_specification(kind: str, mode: str, ids: tuple[int, ...], data: str) -> None:
    assert guard(kind, mode=mode, ids=ids).check(bytes.fromhex(data)) == GOOD


def test_vectors_of_the_autosar_specification_with_the_header_elsewhere() -> None:
    profile5 = guard("autosar-e2e-5", 16, ids=(0x1234,), at=8)
    assert profile5.check(bytes.fromhex("00000000000000002891000000000000")) == GOOD
    db = message(8, CRC="56|8@1", Counter="0|4@1")
    last = Guard(db, Counter("Counter", 14), Checksum("CRC", P1, (0x123,), "nibble", 0, 7))
    assert last.check(bytes.fromhex("100000000000002a")) == GOOD
    assert last.check(bytes.fromhex("1100000000000077")) == GOOD


@pytest.mark.parametrize(
    ("kind", "peer"),
    [
        ("crc8-sae-j1850", crccheck.crc.Crc8SaeJ1850),
        ("crc8-autosar", crccheck.crc.Crc8Autosar),
        ("crc8-smbus", crccheck.crc.Crc8Smbus),
        ("crc8-maxim-dow", crccheck.crc.Crc8MaximDow),
        ("crc16-ibm-3740", crccheck.crc.Crc16Ibm3740),
    ],
)
def test_check_values_of_the_crc_catalogue(kind: str, peer: Any) -> None:
    size = peer._width // 8
    db = message(9 + size, CRC=f"72|{8 * size}@1")
    made = Guard(db, None, Checksum("CRC", kind, (), "", 0, 8 + size))
    assert made.sum_of(b"123456789" + bytes(size)) == peer._check_result
    rng = random.Random(SEED)
    for _ in range(200):
        data = rng.randbytes(9)
        assert made.sum_of(data + bytes(size)) == peer.calc(data)


@pytest.mark.parametrize(
    ("kind", "data", "frame_id", "wanted"),
    [
        # SPN 4207 and SPN 3188, worked by hand:
        # 1+2+...+7 = 28, counter 5, identifier 0x0C000003 -> 15: 48 = 0x30
        ("j1939-tsc1", "0102030405060705", 0x0C000003, ((0x30 >> 6 & 3) + (0x30 >> 3) + 0x30) & 7),
        ("j1939-xbr", "0102030405060705", 0x0C000003, ((0x30 >> 4) + 0x30) & 15),
        # the longest sum: 7 * 255 + 7 + 0x1C + 3 * 255 = 2585 = 0xA19
        ("j1939-tsc1", "ffffffffffffff07", 0x1CFFFFFF, ((0xA19 >> 6 & 3) + (0xA19 >> 3) + 0xA19) & 7),
        ("j1939-xbr", "ffffffffffffff07", 0x1CFFFFFF, ((0xA19 >> 4) + 0xA19) & 15),
    ],
)
def test_j1939_checksums_have_the_identifier_in_them(
    kind: str, data: str, frame_id: int, wanted: int
) -> None:
    made = j1939(kind)
    raw = bytearray.fromhex(data)
    assert made.sum_of(bytes(raw), frame_id) == wanted
    raw[7] |= wanted << 4
    assert made.check(bytes(raw), 0, frame_id) == GOOD
    raw[7] = raw[7] & 0xF | 0xF0  # "not available" is no proof
    assert made.check(bytes(raw), 0, frame_id) == (GOOD if wanted == 15 else BAD_CHECKSUM)


def j1939(kind: str) -> Guard:
    db = message(8, Counter="56|4@1", CRC="60|4@1")
    return Guard(db, Counter("Counter", KINDS[kind].last or 15), Checksum("CRC", kind, (), "", 0, 7))


# AUTOSAR's arithmetic as an independent library has it


def test_equal_to_the_autosar_e2e_library() -> None:
    e2e = pytest.importorskip("e2e", reason="the peer, autosar-e2e, is not installed")
    print("seed", SEED)
    rng = random.Random(SEED)
    made = 0
    for _ in range(3000):
        length = rng.randint(4, 64)
        data = bytearray(rng.randbytes(length))
        data_id = rng.randrange(1 << 16)
        ids = tuple(rng.randbytes(16))
        case = rng.choice(["1", "2", "5", "11"])
        if case == "1":
            mode = rng.choice(["both", "alternating", "low", "nibble"])
            data_id &= 0xFFF if mode == "nibble" else 0xFFFF
            data[1] = data[1] & 0xF0 | rng.randrange(15)
            number = getattr(e2e.p01, "E2E_P01_DATAID_" + {"alternating": "ALT"}.get(mode, mode.upper()))
            e2e.p01.e2e_p01_protect(data, data_id, data_id_mode=number, increment_counter=False)
            assert guard(P1, length, mode, (data_id,)).check(bytes(data)) == GOOD, (mode, data.hex())
        elif case == "11":
            mode = rng.choice(["both", "nibble"])
            data_id &= 0xFFF if mode == "nibble" else 0xFFFF
            data[1] = data[1] & 0xF0 | rng.randrange(15)
            number = getattr(e2e.p11, "E2E_P11_DATAID_" + mode.upper())
            e2e.p11.e2e_p11_protect(data, data_id, data_id_mode=number, increment_counter=False)
            assert guard(P11, length, mode, (data_id,)).check(bytes(data)) == GOOD, (mode, data.hex())
        elif case == "2":
            e2e.p02.e2e_p02_protect(data, bytes(ids), increment_counter=False)
            assert guard("autosar-e2e-2", length, "", ids).check(bytes(data)) == GOOD
        else:
            e2e.p05.e2e_p05_protect(data, data_id, increment_counter=False)
            assert guard("autosar-e2e-5", length, "", (data_id,)).check(bytes(data)) == GOOD
        made += 1
    assert made == 3000


# A plain twin


def twin(kind: str, data: bytes, skip: range, counter: int, frame_id: int, mode: str, ids: Any) -> int:
    """The checksum that a message should have, written for reading."""
    rest = bytes(b for n, b in enumerate(data) if n not in skip)
    low_high = ids[0].to_bytes(2, "little") if len(ids) == 1 else b""
    before = {
        "both": low_high,
        "low": low_high[:1],
        "alternating": low_high[counter & 1 :][:1],
        "nibble": low_high[:1] + b"\0",
    }
    if kind == "xor":
        value = 0
        for byte in rest:
            value ^= byte
        return value
    if kind == "sum":
        return sum(rest) & 0xFF
    if kind.startswith("j1939"):
        total = sum(rest) + counter + sum(frame_id.to_bytes(4, "little"))
        return (
            (total >> 4) + total & 15 if kind == "j1939-xbr" else (total >> 6 & 3) + (total >> 3) + total & 7
        )
    if kind in (P1, P11):
        return bitwise(before[mode] + rest, 8, 0x1D, 0, 0)
    if kind == "autosar-e2e-2":
        return bitwise(rest + bytes([ids[counter]]), 8, 0x2F, 0xFF, 0xFF)
    if kind == "autosar-e2e-5":
        return bitwise(rest + low_high, 16, 0x1021, 0xFFFF, 0)
    peer = {
        "crc8-sae-j1850": (8, 0x1D, 0xFF, 0xFF),
        "crc8-autosar": (8, 0x2F, 0xFF, 0xFF),
        "crc8-smbus": (8, 0x07, 0, 0),
        "crc16-ibm-3740": (16, 0x1021, 0xFFFF, 0),
    }
    if kind == "crc8-maxim-dow":
        turned = bytes(int(f"{b:08b}"[::-1], 2) for b in rest)
        return int(f"{bitwise(turned, 8, 0x31, 0, 0):08b}"[::-1], 2)
    return bitwise(rest, *peer[kind])


def bitwise(data: bytes, width: int, polynomial: int, start: int, xor_out: int) -> int:
    """A CRC, bit by bit."""
    value = start
    for byte in data:
        for n in range(7, -1, -1):
            top = value >> (width - 1) & 1
            value = value << 1 & (1 << width) - 1
            if top ^ byte >> n & 1:
                value ^= polynomial
    return value ^ xor_out


@st.composite
def protected(draw: Any) -> tuple[Guard, bytes, int, tuple[Any, ...]]:
    """A guard of any kind anywhere in a message, a good frame for it, and what the twin needs."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    known = KINDS[kind]
    length = draw(st.integers(5, 64))
    big = draw(st.booleans())
    at = draw(st.integers(0, length - 3))
    size = max(1, known.bits[0] // 8)
    mode = draw(st.sampled_from(known.modes or ("",)))
    limit = 0xFFF if mode == "nibble" else (1 << known.id_bits) - 1
    ids = tuple(draw(st.lists(st.integers(0, limit), min_size=known.ids, max_size=known.ids)))
    if kind.startswith("j1939"):
        signals = {"Counter": f"{8 * at}|4@1", "CRC": f"{8 * at + 4}|4@1"}
        place, counter_bits = at, 4
    else:
        counter_bits = known.counter_bits or draw(st.integers(1, 8))
        place = at + size if draw(st.booleans()) or at == 0 else at - 1
        shift = draw(st.sampled_from([0, 4])) if counter_bits == 4 else draw(st.integers(0, 8 - counter_bits))
        start = 8 * place + (shift + counter_bits - 1 if big else shift)
        signals = {
            "CRC": f"{8 * at + (7 if big else 0)}|{8 * size}@{0 if big else 1}",
            "Counter": f"{start}|{counter_bits}@{0 if big else 1}",
        }
    db = message(length, **signals)
    last = known.last or (1 << counter_bits) - 1
    first = draw(st.integers(0, length - 1))
    end = draw(st.integers(first, length - 1))
    made = Guard(db, Counter("Counter", last), Checksum("CRC", kind, ids, mode, first, end))
    frame_id = draw(st.integers(0, (1 << 29) - 1))
    values = {"Counter": draw(st.integers(0, last)), "CRC": 0}
    data = bytearray(draw(st.binary(min_size=length, max_size=length)))
    put(db, data, values)
    if mode == "nibble":
        half = 4 if db.get_signal_by_name("Counter").start % 8 < 4 else 0
        data[place] = data[place] & (0xF0 >> half) | ids[0] >> 8 << half
    skip = range(at, at + size)
    area = [*range(first), *skip, *range(end + 1, length)]
    wanted = twin(kind, bytes(data), area, values["Counter"], frame_id, mode, ids)  # type: ignore[arg-type]
    put(db, data, {"CRC": wanted})
    return made, bytes(data), frame_id, (kind, first, end, db, wanted)


def put(db: Any, data: bytearray, values: dict[str, int]) -> None:
    """Set some signals of a frame, bit by bit."""
    for name, value in values.items():
        signal = db.get_signal_by_name(name)
        bit = signal.start
        for n in range(signal.length):
            of_value = value >> (signal.length - 1 - n if signal.byte_order == "big_endian" else n) & 1
            data[bit // 8] = data[bit // 8] & ~(1 << bit % 8) | of_value << bit % 8
            big = signal.byte_order == "big_endian"
            bit = (bit + 15 if bit % 8 == 0 else bit - 1) if big else bit + 1


def counter_of(db: Any, data: bytearray) -> int:
    return int(db.decode(bytes(data), decode_choices=False)["Counter"])


@given(protected())
def test_a_good_frame_is_good_as_the_twin_says(case: tuple[Guard, bytes, int, tuple[Any, ...]]) -> None:
    made, data, frame_id, (_, _, _, _, wanted) = case
    assert made.sum_of(data, frame_id) == wanted
    assert made.check(data, 0, frame_id) == GOOD


@given(protected(), st.data())
def test_every_flipped_bit_of_what_is_protected_is_noticed(
    case: tuple[Guard, bytes, int, tuple[Any, ...]], more: Any
) -> None:
    made, data, frame_id, (kind, first, end, db, _) = case
    spoiled = bytearray(data)
    bit = more.draw(st.integers(8 * first, 8 * end + 7))
    spoiled[bit // 8] ^= 1 << bit % 8
    # What the arithmetic can't promise: folding to three bits, and an id that changes with the counter.
    assume(kind != "j1939-tsc1")
    assume(not made.protection["listed"][0] or counter_of(db, spoiled) == counter_of(db, bytearray(data)))
    assert made.check(bytes(spoiled), 0, frame_id) == BAD_CHECKSUM


@given(protected(), st.data())
def test_a_crc_notices_every_burst_up_to_its_width(
    case: tuple[Guard, bytes, int, tuple[Any, ...]], more: Any
) -> None:
    """In data that go into it one after the other (Peterson and Brown, Cyclic Codes, Proc. IRE 1961)."""
    made, data, frame_id, (_, first, end, _, _) = case
    assume(made.protection["family"][0] in (1, 2) and not made.protection["listed"][0])
    width = 8 * int(made.protection["family"][0])
    at = int(made.protection["checksum"][0]["first"])
    sides = [(first, min(end + 1, at)), (max(first, at + width // 8), end + 1)]
    low, high = more.draw(st.sampled_from([s for s in sides if s[0] < s[1]] or [(0, 0)]))
    assume(high > low)
    reflected = int(made.protection["table"][0]) == 3
    bits = min(width, 8 * (high - low))
    place = more.draw(st.integers(0, 8 * (high - low) - bits))
    pattern = more.draw(st.integers(1, (1 << bits) - 1))
    spoiled = bytearray(data)
    for n in range(bits):
        if pattern >> n & 1:
            bit = place + n
            spoiled[low + bit // 8] ^= 1 << (bit % 8 if reflected else 7 - bit % 8)
    assert made.check(bytes(spoiled), 0, frame_id) == BAD_CHECKSUM


def test_three_bits_of_tsc1_can_miss_a_flipped_bit() -> None:
    """Two frames one bit apart with one checksum: SPN 4207 promises no more."""
    made = j1939("j1939-tsc1")
    one, other = bytes([0xFC, 0, 0, 0, 0, 0, 0, 0]), bytes([0xFE, 0, 0, 0, 0, 0, 0, 0])
    assert made.sum_of(one, 2) == made.sum_of(other, 2)


# The state


def alive(kind: str = "crc8-sae-j1850", last: int = 14) -> Guard:
    db = message(8, CRC="0|8@1", Counter="8|4@1")
    return Guard(db, Counter("Counter", last), Checksum("CRC", kind, (), "", 0, 7))


def frame(made: Guard, counter: int, spoil: int = 0) -> bytes:
    data = bytes([0, counter, 1, 2, 3, 4, 5, 6])
    return bytes([made.sum_of(data) ^ spoil]) + data[1:]


def test_the_first_frame_is_accepted_whatever_its_counter() -> None:
    for counter in range(15):
        made = alive()
        assert made.check(frame(made, counter)) == GOOD
        assert made.state["skipped"][0] == 0


def test_a_repeated_counter_is_refused_and_a_jump_is_counted() -> None:
    made = alive()
    sent = [0, 0, 1, 4, 4, 14, 0, 1]
    said = [made.check(frame(made, c), 1000 * n) for n, c in enumerate(sent)]
    assert said == [GOOD, REPEATED_COUNTER, GOOD, GOOD, REPEATED_COUNTER, GOOD, GOOD, GOOD]
    assert made.state["skipped"][0] == 2 + 9  # 2, 3 and 5 to 13
    assert made.state["counter"][0] == 1


def test_a_counter_wraps_where_its_map_says() -> None:
    for last in (1, 7, 14, 15):
        made = alive(last=last)
        for n in range(40):
            assert made.check(frame(made, n % (last + 1)), 1000 * n) == GOOD
        assert made.state["skipped"][0] == 0


def test_a_counter_beyond_its_last_is_no_good_frame() -> None:
    made = alive(last=14)
    assert made.check(frame(made, 15)) == BAD_CHECKSUM


def test_a_bad_frame_leaves_the_state_as_it_was() -> None:
    made = alive()
    made.check(frame(made, 3))
    before = made.state.copy()
    assert made.check(frame(made, 4, spoil=1), 5) == BAD_CHECKSUM
    assert made.check(frame(made, 4)[:7], 5) == BAD_CHECKSUM
    assert made.check(b"", 5) == BAD_CHECKSUM
    assert made.state == before


def test_a_sender_that_started_again_is_not_locked_out() -> None:
    """After a silence of the time-out, or when the log's time jumps back, an old counter is new."""
    made = alive()
    us = 1000 * TIMEOUT_MS
    made.check(frame(made, 0), 10 * us)
    assert made.check(frame(made, 0), 11 * us) == REPEATED_COUNTER
    assert made.check(frame(made, 0), 12 * us + 1) == GOOD
    assert made.check(frame(made, 0), 9 * us) == GOOD
    assert made.check(frame(made, 9), 20 * us) == GOOD
    assert made.state["skipped"][0] == 0  # a silence is not counted as lost frames


def test_a_sender_that_hangs_stays_refused() -> None:
    """Its frames come, so there is no silence: its signals go stale, as they should."""
    made = alive()
    said = [made.check(frame(made, 0), 1000 * n) for n in range(0, 5 * TIMEOUT_MS, 50)]
    assert said.count(GOOD) == 1
    assert made.check(frame(made, 1), 5000 * TIMEOUT_MS) == GOOD


def test_without_a_rule_everything_is_good() -> None:
    made = Guard(message(8, A="0|8@1"), None, None)
    assert made.check(bytes(8)) == made.check(bytes(8)) == made.check(b"") == GOOD


def test_a_counter_alone() -> None:
    made = Guard(message(8, Counter="4|12@1"), Counter("Counter", 4095), None)
    assert [made.check(bytes([n << 4 & 0xFF, n >> 4]) + bytes(6), n) for n in (0xFFF, 0xFFF, 0, 0xABC)] == [
        GOOD, REPEATED_COUNTER, GOOD, GOOD,
    ]  # fmt: skip
    assert made.state["skipped"][0] == 0xABC - 1


def test_the_kernel_takes_no_more_tables_than_it_has_room_for() -> None:
    with pytest.raises(ValueError, match="at most 8"):
        _protection.set_tables(np.zeros((9, 256), np.uint8), np.zeros((1, 256), np.uint16))


def test_tables_have_the_known_beginning() -> None:
    assert crc_table(0x1D, 8)[:4] == [0x00, 0x1D, 0x3A, 0x27]
    assert crc_table(0x1021, 16)[:3] == [0x0000, 0x1021, 0x2042]
