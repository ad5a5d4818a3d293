"""The readers of logs, beside python-can's; the writer too. The peer iterates its reader over all messages."""

import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import can
import numpy as np

from bench.measure import SEED, Result, fastest, version
from edge.can.frames import EXTENDED, FRAME, OWN, Frames
from edge.can.logs import CandumpWriter, open_log

FRAMES = 200_000
PEER_FRAMES = 40_000  # python-can takes seconds for more
CHANNELS = ["can0", "can1", "vcan2"]


def workload(count: int) -> Frames:
    """Three buses, mostly 8 bytes, a third of the ids 29 bit; counters and slow values, as on a bus."""
    rng = np.random.default_rng(SEED)
    frames = np.zeros(count, FRAME)
    frames["time_us"] = 1_700_000_000_000_000 + np.cumsum(rng.integers(50, 250, count))
    frames["channel"] = rng.integers(0, len(CHANNELS), count)
    extended = rng.random(count) < 0.33
    ids = np.where(
        extended, 0x18F00000 + 0x100 * rng.integers(0, 24, count), rng.integers(0x100, 0x13C, count)
    )
    frames["id"] = ids
    frames["flags"] = np.where(extended, EXTENDED, 0) | np.where(rng.random(count) < 0.01, OWN, 0)
    frames["length"] = rng.choice([8, 8, 8, 8, 6, 4, 2], count)
    values = rng.integers(0, 256, (64, 8))[ids % 64]  # a message's bytes change little
    values[:, 0] = np.arange(count) & 255
    values[:, 1] = (np.arange(count) >> 6) & 255
    frames["data"][:, :8] = np.where(np.arange(8) < frames["length"][:, None], values, 0)
    return frames


def messages(frames: Frames) -> list[can.Message]:
    """Frames as python-can's messages."""
    return [
        can.Message(
            timestamp=int(f["time_us"]) / 1e6,
            arbitration_id=int(f["id"]),
            is_extended_id=bool(f["flags"] & EXTENDED),
            is_rx=not f["flags"] & OWN,
            data=f["data"][: f["length"]].tobytes(),
            channel=int(f["channel"]),
        )
        for f in frames
    ]


def read_all(path: Path) -> int:
    return sum(len(frames) for frames in open_log(path))


def compared(
    name: str, ours: float, theirs: float, peer: str, must: float | None, aim: float | None
) -> Result:
    """Both in seconds a frame."""
    return Result(name, ours * 1e9, "ns/frame", peer, theirs / ours, must, aim)


def benchmarks() -> Iterator[Result]:
    """candump and BLF read, candump written; and zlib's own time, the floor of any BLF reader."""
    frames, peer = workload(FRAMES), version("python-can")
    some = messages(frames[:PEER_FRAMES])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, theirs = folder / "ours.log", folder / "theirs.log"

        def write(path: Path, what: Frames) -> None:
            writer = CandumpWriter(path, CHANNELS)
            for n in range(0, len(what), 64):  # as a live bus gives them
                writer.write(what[n : n + 64])
            writer.close()

        def write_theirs() -> None:
            with can.CanutilsLogWriter(folder / "peer.log") as writer:
                for message in some:
                    writer.on_message_received(message)

        write(theirs, frames[:PEER_FRAMES])
        a = fastest(lambda: write(ours, frames), 3) / FRAMES
        b = fastest(write_theirs, 2) / PEER_FRAMES
        yield compared("candump written, 64 frames a call", a, b, peer, None, None)

        a = fastest(lambda: read_all(ours), 5) / FRAMES
        b = fastest(lambda: sum(1 for _ in can.CanutilsLogReader(theirs)), 2) / PEER_FRAMES
        yield compared("candump read", a, b, peer, 20, 40)

        blf = folder / "x.blf"
        with can.BLFWriter(blf) as writer:
            for message in messages(frames):
                writer.on_message_received(message)
        a = fastest(lambda: read_all(blf), 5) / FRAMES
        b = fastest(lambda: sum(1 for _ in can.BLFReader(blf)), 1) / FRAMES
        yield compared("BLF read", a, b, peer, 6, 12)
        packed = containers(blf.read_bytes())
        floor = fastest(lambda: [zlib.decompress(part) for part in packed], 5) / FRAMES
        yield Result("BLF, zlib alone (the floor)", floor * 1e9, "ns/frame", peer, b / floor)


def containers(data: bytes) -> list[bytes]:
    """The zlib streams of a BLF file that python-can wrote."""
    at, found = 144, []
    while at < len(data):
        size = int.from_bytes(data[at + 8 : at + 12], "little")
        found.append(data[at + 32 : at + size])
        at += size + size % 4
    return found
