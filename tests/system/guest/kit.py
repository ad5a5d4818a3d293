"""What the checks inside a guest share. It does not import python-can: that alone takes an emulated PC 20 s."""

import struct
import subprocess
import time
from collections.abc import Callable

import numpy as np

from edge.can import socketcan
from edge.can.frames import FRAME, Frames
from edge.can.socketcan import SocketCanSource

ERR_FLAG = 0x20000000
socketcan.LINK_EVERY_S = 0.0  # type: ignore[misc]  # each status looks at the interface anew


def sh(command: str) -> str:
    """A shell command that must succeed; what it printed."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def take(source: SocketCanSource, count: int, seconds: float = 20) -> Frames:
    """So many frames; fewer only where they don't come."""
    parts: list[Frames] = [np.zeros(0, FRAME)]
    deadline = time.monotonic() + seconds
    while sum(map(len, parts)) < count and time.monotonic() < deadline:
        parts.append(source.read(0.2))
    return np.concatenate(parts)


def drain(source: SocketCanSource) -> Frames:
    """All that waits now."""
    parts = [source.read(0.1)]
    while len(parts[-1]):
        parts.append(source.read(0.1))
    return np.concatenate(parts)


def until(check: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until it is so; fail where it never is. A guest on a busy machine takes its time."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def payloads(frames: Frames) -> list[bytes]:
    return [f["data"][: f["length"]].tobytes() for f in frames]


def raw_frame(
    can_id: int, data: bytes, fd: bool = False, fd_flags: int = 0, length: int | None = None
) -> bytes:
    """struct can_frame or canfd_frame; `length` may lie."""
    size = len(data) if length is None else length
    return struct.pack("=IBB2x", can_id, size, fd_flags) + data.ljust(64 if fd else 8, b"\0")
