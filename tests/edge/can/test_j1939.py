"""BAM transport: whole messages come out, broken ones are counted and never half delivered."""

import random

import numpy as np
import pytest

from edge.can.frames import EXTENDED, FRAME, Frames
from edge.can.j1939 import Reassembler

PGN = 0xFEB0


def frame(pf: int, source: int, data: bytes, time_us: int) -> Frames:
    out = np.zeros(1, FRAME)
    out["id"], out["flags"], out["length"] = 7 << 26 | pf << 16 | 0xFF00 | source, EXTENDED, len(data)
    out["data"][0, : len(data)] = np.frombuffer(data, np.uint8)
    out["time_us"] = time_us
    return out


def bam(data: bytes, source: int = 3, begin_us: int = 0, every_us: int = 60_000) -> list[Frames]:
    packets = [data[n : n + 7].ljust(7, b"\xff") for n in range(0, len(data), 7)]
    head = (
        bytes([32]) + len(data).to_bytes(2, "little") + bytes([len(packets), 255]) + PGN.to_bytes(3, "little")
    )
    parts = [frame(0xEC, source, head, begin_us)]
    return parts + [
        frame(0xEB, source, bytes([n]) + p, begin_us + n * every_us) for n, p in enumerate(packets, 1)
    ]


def fed(frames: list[Frames]) -> tuple[list[bytes], Reassembler]:
    reassembler = Reassembler()
    whole = [reassembler.feed(f) for f in frames]
    return [w["data"][0, : w["length"][0]].tobytes() for w in whole if len(w)], reassembler


@pytest.mark.parametrize("size", [9, 14, 15, 63, 64])
def test_a_message_comes_whole(size: int) -> None:
    data = bytes(range(size))
    parts = bam(data)
    assert fed(parts)[0] == [data]
    (whole,) = [w for w in [Reassembler().feed(np.concatenate(parts))] if len(w)]
    assert whole["id"][0] >> 8 & 0x3FFFF == PGN
    assert whole["id"][0] & 0xFF == 3
    assert whole["time_us"][0] == parts[-1]["time_us"][0]


def test_sources_do_not_mix() -> None:
    one, two = bam(b"1" * 20, source=1), bam(b"2" * 30, source=2)
    mixed = [f for pair in zip(one, two[: len(one)], strict=True) for f in pair] + two[len(one) :]
    assert sorted(fed(mixed)[0]) == [b"1" * 20, b"2" * 30]


@pytest.mark.parametrize(
    "broken",
    [
        lambda parts: parts[:2] + parts[3:],  # one is missing
        lambda parts: [*parts[:2], *parts[1:]],  # one comes twice
        lambda parts: [parts[0], parts[2], parts[1], *parts[3:]],  # out of order
        lambda parts: parts[:2] + parts,  # announced anew in the middle: the second counts
    ],
)
def test_broken_sessions_are_counted(broken: object) -> None:
    data = bytes(range(30))
    whole, reassembler = fed(broken(bam(data)))  # type: ignore[operator]
    assert whole in ([], [data])
    assert reassembler.broken == 1
    assert fed([*broken(bam(data)), *bam(b"after" * 4, begin_us=9_000_000)])[0][-1] == b"after" * 4  # type: ignore[operator]


def test_a_session_times_out() -> None:
    whole, reassembler = fed(bam(bytes(20), every_us=800_000))
    assert whole == []
    assert reassembler.broken == 1


def test_too_long_is_counted() -> None:
    whole, reassembler = fed(bam(bytes(200)))
    assert whole == []
    assert reassembler.too_long == 1


def test_garbage_never_gives_a_message_that_was_not_sent() -> None:
    seed = 5
    print("seed", seed)
    rng = random.Random(seed)
    reassembler = Reassembler()
    for n in range(20_000):
        pf = rng.choice([0xEC, 0xEB, 0xEB, 0xEB])
        head = bytes([32, rng.randrange(9, 80), 0, rng.randrange(12), 255, 0, 1, 0])
        data = (
            head
            if pf == 0xEC and rng.random() < 0.8
            else bytes([rng.randrange(8)]) + rng.randbytes(rng.choice([7, 7, 3]))
        )
        whole = reassembler.feed(frame(pf, rng.randrange(4), data, n * 1000))
        assert all(9 <= length <= 64 for length in whole["length"].tolist())
    assert len(reassembler._sessions) <= 4
    assert reassembler.broken > 100
