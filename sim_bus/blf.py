"""A Vector BLF log, written: whole arrays of frames at a time, and the same bytes for the same frames.

As python-can's writer has the format (its `can/io/blf.py`; Vector publishes no description), of which these are used:

    object     "LOBJ", header size u16, header version u16 = 1, object size u32, type u32,
               flags u32 = 2 (ns), client u16, object version u16, time u64 (ns since the log's start), body
    body       CAN_MESSAGE 1, CAN_ERROR_EXT 73, CAN_FD_MESSAGE 100
    file       header of 144 bytes, then containers (type 10): zlib over 128 KiB of objects, which may lie across two
"""

from __future__ import annotations

import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.can.frames import BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, OWN, REMOTE, Frames

HEADER = struct.Struct("<4sLBBBBBBBBQQLL8H8H")
HEADER_SIZE = 144
BASE = struct.Struct("<4sHHLL")
CONTAINER = struct.Struct("<H6xL4x")
CONTAINER_TYPE, DEFLATED = 10, 2
CONTAINER_BYTES = 128 * 1024
LEVEL = 1  # of zlib: twice as fast as its default for a tenth more bytes
EXTENDED_BIT = 0x80000000
DLC = np.zeros(65, np.uint8)  # of a length
DLC[:9] = range(9)
for _length, _dlc in ((12, 9), (16, 10), (20, 11), (24, 12), (32, 13), (48, 14), (64, 15)):
    DLC[_length] = _dlc

_HEAD = [
    ("signature", "S4"), ("header", "<u2"), ("version", "<u2"), ("size", "<u4"), ("kind", "<u4"),
    ("unit", "<u4"), ("client", "<u2"), ("object", "<u2"), ("time", "<u8"),
]  # fmt: skip
_FIRST = [("channel", "<u2"), ("flags", "u1"), ("dlc", "u1"), ("id", "<u4")]
MESSAGE = np.dtype([*_HEAD, *_FIRST, ("data", "u1", 8)])
FD_MESSAGE = np.dtype(
    [*_HEAD, *_FIRST, ("duration", "<u4"), ("bits", "u1"), ("fd", "u1"), ("length", "u1"), ("pad", "u1", 5),
     ("data", "u1", 64)]
)  # fmt: skip
ERROR_EXT = np.dtype(
    [*_HEAD, ("channel", "<u2"), ("there", "<u2"), ("about", "<u4"), ("code", "u1"), ("position", "u1"),
     ("dlc", "u1"), ("pad", "u1"), ("duration", "<u4"), ("id", "<u4"), ("ext", "<u2"), ("pad2", "<u2"),
     ("data", "u1", 8)]
)  # fmt: skip
KINDS = ((MESSAGE, 1), (FD_MESSAGE, 100), (ERROR_EXT, 73))


class BlfWriter:
    """Frames of whole seconds or more; `start_us` is the date of time 0, in whole milliseconds.

    Raises
    ------
    OSError
    """

    def __init__(self, path: Path, start_us: int) -> None:
        self._file = path.open("wb")
        self._start_us, self._stop_us = start_us, start_us
        self._objects, self._plain_bytes = 0, HEADER_SIZE
        self._buffer = bytearray()
        self._write_header(HEADER_SIZE)

    def write(self, frames: Frames) -> None:
        """Write frames, their times from 0.

        Raises
        ------
        OSError
        """
        if not len(frames):
            return
        kind = np.where(frames["flags"] & ERROR, 2, np.where(frames["flags"] & FD, 1, 0))
        for part in np.split(np.arange(len(frames)), np.flatnonzero(np.diff(kind)) + 1):
            self._buffer += _objects(frames[part], int(kind[part[0]])).tobytes()
        self._objects += len(frames)
        self._stop_us = self._start_us + int(frames["time_us"][-1])
        while len(self._buffer) >= CONTAINER_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the header again.

        Raises
        ------
        OSError
        """
        with self._file:
            while self._buffer:
                self._flush()
            size = self._file.tell()
            self._file.seek(0)
            self._write_header(size)

    def _flush(self) -> None:
        plain = bytes(self._buffer[:CONTAINER_BYTES])
        del self._buffer[:CONTAINER_BYTES]
        packed = zlib.compress(plain, LEVEL)
        size = BASE.size + CONTAINER.size + len(packed)
        head = BASE.pack(b"LOBJ", BASE.size, 1, size, CONTAINER_TYPE) + CONTAINER.pack(DEFLATED, len(plain))
        self._file.write(head + packed + bytes(size % 4))
        self._plain_bytes += BASE.size + CONTAINER.size + len(plain)

    def _write_header(self, size: int) -> None:
        times = (*_systemtime(self._start_us), *_systemtime(self._stop_us))
        fields = (
            b"LOGG",
            HEADER_SIZE,
            5,
            0,
            0,
            0,
            2,
            6,
            8,
            1,
            size,
            self._plain_bytes,
            self._objects,
            0,
            *times,
        )
        self._file.write(HEADER.pack(*fields).ljust(HEADER_SIZE, b"\0"))


def _objects(frames: Frames, which: int) -> npt.NDArray[Any]:
    """Frames of one kind as BLF objects."""
    dtype, kind = KINDS[which]
    flags = frames["flags"]
    found = np.zeros(len(frames), dtype)
    found["signature"], found["header"], found["version"] = b"LOBJ", 32, 1
    found["size"], found["kind"], found["unit"] = dtype.itemsize, kind, 2
    found["time"] = frames["time_us"].astype(np.uint64) * 1000
    found["channel"] = frames["channel"].astype(np.uint16) + 1
    found["id"] = frames["id"] | np.where(flags & EXTENDED, EXTENDED_BIT, 0).astype(np.uint32)
    found["dlc"] = DLC[frames["length"]]
    found["data"] = frames["data"][:, : found["data"].shape[1]]
    if which != 2:
        found["flags"] = np.where(flags & OWN, 1, 0) | np.where(flags & REMOTE, 0x80, 0)
    if which == 1:
        found["length"] = frames["length"]
        found["fd"] = 1 | np.where(flags & BITRATE_SWITCH, 2, 0) | np.where(flags & ERROR_STATE, 4, 0)
    return found


def _systemtime(time_us: int) -> tuple[int, ...]:
    t = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_us // 1000)
    return (t.year, t.month, t.isoweekday() % 7, t.day, t.hour, t.minute, t.second, t.microsecond // 1000)
