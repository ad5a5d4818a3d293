"""Bits on the bus: against a plain bit-by-bit twin, and against figures that others published."""

import random

import numpy as np
import pytest

from edge.can.frames import BITRATE_SWITCH, ERROR, EXTENDED, FD, FRAME, REMOTE, Frames
from edge.can.load import FD_LENGTHS, bits_on_bus, bus_load, most_frames

SEED = 3


def frame(identifier: int, flags: int = 0, data: bytes = b"") -> Frames:
    one = np.zeros(1, FRAME)
    one["id"], one["flags"], one["length"] = identifier, flags, len(data)
    one["data"][0, : len(data)] = np.frombuffer(data, np.uint8)
    return one


def stuff(text: str, last_counts: bool) -> list[int]:
    """Places after which a stuff bit stands: a shift register, one bit at a time."""
    places, sent = [], ""
    for place, bit in enumerate(text):
        sent += bit
        if sent[-5:] in ("00000", "11111"):
            sent += "1" if bit == "0" else "0"
            if last_counts or place < len(text) - 1:
                places.append(place)
    return places


def crc15(text: str) -> str:
    """CRC of ISO 11898-1 as the standard writes it: one bit at a time."""
    register = 0
    for bit in text:
        following = int(bit) ^ register >> 14
        register = register << 1 & 0x7FFF
        if following:
            register ^= 0x4599
    return f"{register:015b}"


def plain(one: Frames) -> tuple[int, int]:
    """The textbook's twin of bits_on_bus, for one frame."""
    flags, length, number = int(one["flags"][0]), int(one["length"][0]), int(one["id"][0])
    remote = "1" if flags & REMOTE else "0"
    start = f"0{number >> 18:011b}11{number & 0x3FFFF:018b}" if flags & EXTENDED else f"0{number:011b}"
    data = "" if flags & REMOTE else "".join(f"{b:08b}" for b in one["data"][0, :length])
    if not flags & FD:
        middle = remote + "00"
        body = start + middle + f"{length:04b}" + data
        body += crc15(body)
        return len(body) + len(stuff(body, True)) + 13, 0
    switch = "1" if flags & BITRATE_SWITCH else "0"
    head = start + ("0" if flags & EXTENDED else "00") + "10" + switch
    rest = "0" + f"{FD_LENGTHS.index(length):04b}" + data
    places = stuff(head + rest, False)
    first = sum(p < len(head) for p in places)
    nominal = len(head) + first + 13
    second = len(rest) + len(places) - first + (27 if length <= 16 else 32)
    return (nominal, second) if flags & BITRATE_SWITCH else (nominal + second, 0)


def test_every_kind_of_frame_as_the_plain_twin_counts_it() -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    parts = []
    for _ in range(3000):
        flags = rng.choice((0, EXTENDED)) | rng.choice((0, 0, REMOTE, FD, FD | BITRATE_SWITCH))
        length = rng.choice(FD_LENGTHS if flags & FD else range(9))
        fill = rng.choice((b"\0", b"\xff", b"\x1f", bytes([rng.randrange(256)])))
        data = bytes(length) if flags & REMOTE else rng.choice((rng.randbytes(length), fill * length))
        parts.append(
            frame(rng.randrange(1 << 29) if flags & EXTENDED else rng.randrange(1 << 11), flags, data)
        )
    nominal, second = bits_on_bus(np.concatenate(parts))
    assert list(zip(nominal.tolist(), second.tolist(), strict=True)) == [plain(p) for p in parts]


def test_lengths_without_stuffing_and_the_bounds_that_tindell_gave() -> None:
    """47 + 8n and 67 + 8n bits, and at most (34 + 8n - 1) / 4 and (54 + 8n - 1) / 4 stuff bits: Davis,
    Burns, Bril, Lukkien, "Controller Area Network schedulability analysis: refuted, revisited and revised",
    Real-Time Systems 35 (2007)."""
    rng = random.Random(SEED)
    for _ in range(2000):
        extended, length = rng.random() < 0.5, rng.randrange(9)
        identifier = rng.randrange(1 << 29) if extended else rng.randrange(1 << 11)
        one = frame(identifier, EXTENDED if extended else 0, rng.randbytes(length))
        bits = int(bits_on_bus(one)[0][0])
        least, stuffable = (67, 54) if extended else (47, 34)
        assert least + 8 * length <= bits <= least + 8 * length + (stuffable + 8 * length - 1) // 4


def test_error_frames_take_nothing_and_no_frames_are_no_load() -> None:
    nominal, second = bits_on_bus(frame(4, ERROR, bytes(8)))
    assert (nominal.tolist(), second.tolist()) == ([0], [0])
    assert bus_load(np.zeros(0, FRAME), 1.0, 500_000) == 0
    assert bus_load(frame(1), 0.0, 500_000) == 0


def test_load_of_both_phases() -> None:
    one = frame(0x555, FD | BITRATE_SWITCH, b"\x55" * 64)
    nominal, second = (int(v[0]) for v in bits_on_bus(one))
    assert bus_load(one, 0.001, 500_000, 2_000_000) == pytest.approx(
        (nominal / 500_000 + second / 2_000_000) / 0.001
    )
    assert bus_load(one, 0.001, 500_000) == pytest.approx((nominal + second) / 500_000 / 0.001)


def test_no_second_holds_more_of_the_shortest_frames() -> None:
    assert most_frames(500_000) >= 500_000 / int(bits_on_bus(frame(0x2AA))[0][0])
