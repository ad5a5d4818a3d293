"""Logs cut and flipped anywhere: what lies before the damage comes out, then one typed error at most.

A slice in `make test`, all of it in `make campaign`. Time and memory are bounded for the whole of it.
"""

import gzip
import random
import resource
import time
from pathlib import Path

import can
import numpy as np
import pytest
import zstandard

from edge.can.frames import ERROR, EXTENDED, FD, Frames
from edge.can.logs.stream import Lines, Stream
from tests.edge.can.log_files import SEED, message_of, messages, random_frames, read, text_log, write

TEXT = ("log", "asc", "trc", "csv", "gvret", "crtd", "busmaster", "microchip")
KINDS = (*TEXT, "blf", "stored", "log.gz", "log.zst", "mf4")
SECONDS = 20.0  # for one file; a whole one takes milliseconds, MF4's process a second
GROWTH = 600 << 20  # bytes that this process may grow by, over all files


def make(folder: Path, kind: str) -> bytes:
    """A log whose frames' bytes are not all alike."""
    path = folder / f"x.{kind}"
    if kind == "stored":
        with can.BLFWriter(folder / "x.blf", compression_level=0) as writer:
            for frame in random_frames(300, SEED):
                writer.on_message_received(message_of(frame))
        return (folder / "x.blf").read_bytes()
    if kind == "blf":
        write(path, [message_of(f) for f in random_frames(300, SEED)])
    elif kind in ("log.gz", "log.zst"):
        plain = make(folder, "log")
        return gzip.compress(plain) if kind == "log.gz" else zstandard.ZstdCompressor().compress(plain)
    elif kind in ("gvret", "crtd", "busmaster", "microchip"):
        return text_log(kind, messages())
    else:
        write(path, messages())
    return path.read_bytes()


def damage(data: bytes, rng: random.Random) -> tuple[bytes, int]:
    """Cut it, flip bytes, take some out or put some in -> what is left, where the damage begins."""
    kind = rng.randrange(4)
    at = rng.randrange(len(data))
    if kind == 0:
        return data[:at], at
    if kind == 1:
        return data[:at] + data[at + rng.randrange(1, 200) :], at
    if kind == 2:
        return data[:at] + rng.randbytes(rng.randrange(1, 100)) + data[at:], at
    places = sorted(rng.randrange(len(data)) for _ in range(rng.randrange(1, 6)))
    damaged = bytearray(data)
    for place in places:
        damaged[place] ^= 1 << rng.randrange(8)
    return bytes(damaged), places[0]


def check(frames: Frames) -> None:
    """Nothing in them that no frame can have."""
    assert frames["length"].max(initial=0) <= 64
    assert frames["id"].max(initial=0) < 1 << 29
    assert frames["id"][(frames["flags"] & (EXTENDED | ERROR)) == 0].max(initial=0) <= 0x7FF
    assert frames["length"][(frames["flags"] & FD) == 0].max(initial=0) <= 8
    assert frames["time_us"].min(initial=0) >= 0
    beyond = np.arange(64) >= frames["length"][:, None]
    assert not frames["data"][beyond].any()


def fuzz(tmp_path: Path, kind: str, count: int, seed: int) -> None:
    print("seed", seed, "kind", kind)
    data = make(tmp_path, kind)
    path = tmp_path / "damaged"
    path.write_bytes(data)
    whole, trouble, _ = read(path)
    assert (len(whole), trouble) == (300, "")
    rng = random.Random(seed)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for n in range(count):
        damaged, at = damage(data, rng)
        path.write_bytes(damaged)
        begin = time.monotonic()
        frames, trouble, log = read(path)
        assert time.monotonic() - begin < SECONDS, (seed, n)
        assert trouble.count("\n") == 0
        assert log is None or sum(log.refused.values()) < len(damaged)
        check(frames)
        if kind in TEXT and log is not None and log.format != "SavvyCAN CSV":
            before = frames_before(data, at, len(whole))
            assert frames[:before].tobytes() == whole[:before].tobytes(), (seed, n)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown) * 1024 < GROWTH


def frames_before(data: bytes, at: int, count: int) -> int:
    """How many of a text log's frames end before the damage; none where the head is damaged."""
    lines = data.count(b"\n") - data[at:].count(b"\n")
    others = data.count(b"\n") - count
    return max(lines - others, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_anywhere(tmp_path: Path, kind: str) -> None:
    fuzz(tmp_path, kind, 4 if kind == "mf4" else 150, SEED)


@pytest.mark.whole
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_anywhere_campaign(tmp_path: Path, kind: str) -> None:
    for seed in range(10):
        fuzz(tmp_path, kind, 40 if kind == "mf4" else 5000, 1000 + seed)


@pytest.mark.parametrize("kind", ["log", "blf"])
def test_cut_at_every_byte(tmp_path: Path, kind: str) -> None:
    """A short log, cut everywhere: whole frames only, growing in number."""
    frames = random_frames(12, SEED)
    path = tmp_path / f"x.{kind}"
    write(path, [message_of(f) for f in frames])
    data = path.read_bytes()
    whole, _, _ = read(path)
    counts = []
    for size in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:size])
        got, trouble, _ = read(tmp_path / "cut")
        assert got.tobytes() == whole[: len(got)].tobytes()
        assert trouble or data[size - 1 : size] == b"\n"
        counts.append(len(got))
    assert counts == sorted(counts)
    assert counts[-1] >= len(whole) - 1


def test_lines_of_any_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\ufeffone\n\ntwo\r\nthr\xe9e\n" + "x" * 70_000 + "\nfour\n"
    (tmp_path / "x").write_text(text, "utf-8", newline="")
    for block in (3, 5, 64, 65_536, 1 << 20):
        monkeypatch.setattr("edge.can.logs.stream.BLOCK", block)
        with Stream(tmp_path / "x") as stream:
            lines = Lines(stream)
            assert list(lines) == ["one", "", "two\r", "thr\xe9e", "four"]
            assert lines.too_long == 1
