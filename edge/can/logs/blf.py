"""Vector BLF (Binary Logging Format) through the kernel in `_blf.pyx`.

A header, then containers of zlib-compressed or stored bytes; those bytes, one after another, are the objects.
Vector publishes no specification; the layout is that of python-can's `can.io.blf` (which follows T. Lorenz's Vector_BLF).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from edge.can._blf import Parser
from edge.can.frames import FRAME, Frames
from edge.can.logs.reader import Reader
from edge.can.logs.stream import CutShort, Stream

CHUNK = 16384
# signature, header's size, 8 bytes of versions, file's size, size unpacked, objects, objects read, start (SYSTEMTIME)
_HEADER = struct.Struct("<4sL8xQQLL8H16x")
_BASE = struct.Struct("<4sHHLL")  # signature, header's size, its version, object's size, type
_CONTAINER = struct.Struct("<H6xL4x")  # method, size unpacked
CONTAINER = 10
STORED, DEFLATED = 0, 2
CONTAINER_MAX = 1 << 26  # bytes, packed or not; Vector's own are 128 KiB


class BlfReader(Reader):
    """Frames of a BLF file."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._parser = Parser(0)

    @property
    def channels(self) -> list[str]:
        return [str(number) for number in self._parser.channels]

    @property
    def refused(self) -> dict[str, int]:
        return self._parser.refused

    def __iter__(self) -> Iterator[Frames]:
        frames, used = np.empty(CHUNK, FRAME), 0
        rest, need = bytearray(), 0  # an object's beginning, and the bytes that it takes
        trouble = ""
        parts = self._parts(_Bytes(self.stream.blocks()))
        while not trouble:
            try:
                part = next(parts, None)
            except CutShort as cut:
                trouble = str(cut)
                break
            if part is None:
                trouble = "ends in the middle of an object" if rest.strip(b"\0") else ""
                break
            if rest:
                rest += part
                if len(rest) < need:
                    continue
            block, at = rest or part, 0
            while True:
                at, taken = self._parser.parse(block, at, frames[used:])
                used += taken
                if used < CHUNK:
                    break
                yield frames
                frames, used = np.empty(CHUNK, FRAME), 0
            rest, trouble = bytearray(block[at:]), self._parser.damage
            need = _object_size(rest)
            if need > CONTAINER_MAX:
                trouble = f"an object of {need} bytes"
        if used:
            yield frames[:used]
        if trouble:
            raise CutShort(trouble)

    def _parts(self, file: _Bytes) -> Iterator[bytes]:
        """What the containers hold."""
        head = file.take(_HEADER.size)
        if len(head) < _HEADER.size:
            raise CutShort("ends in the middle of its header")
        _, header_size, file_size, *fields = _HEADER.unpack(head)
        self._parser = Parser(_start_us(fields[3:]))
        file.take(min(max(header_size - _HEADER.size, 0), CONTAINER_MAX))
        while base := file.object_header():
            signature, _, _, size, kind = _BASE.unpack(base)
            if signature != b"LOBJ" or not _BASE.size <= size <= CONTAINER_MAX:
                raise CutShort(f"no container where one must begin, {file.taken} bytes in")
            body = file.take(size - _BASE.size)
            cut = len(body) < size - _BASE.size
            if kind != CONTAINER:
                yield base + body  # written without containers
            elif len(body) >= _CONTAINER.size:
                yield from _unpacked(body, cut)
            if cut:
                raise CutShort("ends in the middle of a container")
            if kind == CONTAINER and len(body) < _CONTAINER.size:
                raise CutShort(f"a container of {size} bytes")
        if file.taken < file_size:
            raise CutShort(f"ends after {file.taken} bytes of the {file_size} that its header speaks of")


class _Bytes:
    """Blocks as one run of bytes; `taken` is how many were taken."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block, self._at = b"", 0
        self.taken = 0

    def take(self, size: int) -> bytes:
        """The next bytes; fewer at the end."""
        parts, need = [], size
        while need:
            if self._at == len(self._block):
                block = next(self._blocks, None)
                if block is None:
                    break
                self._block, self._at = block, 0
            parts.append(self._block[self._at : self._at + need])
            self._at += len(parts[-1])
            need -= len(parts[-1])
        self.taken += size - need
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def object_header(self) -> bytes:
        """The 16 bytes that every object begins with, padding skipped; nothing at the end."""
        base = self.take(_BASE.size).lstrip(b"\0")
        if base:
            base += self.take(_BASE.size - len(base))
        if 0 < len(base) < _BASE.size:
            raise CutShort("ends in the middle of an object's header")
        return base


def _object_size(rest: bytearray) -> int:
    """How many bytes there must be before the object at their beginning is whole; 0 where that can't be told yet."""
    at = rest.find(b"LOBJ", 0, 8)
    return at + int.from_bytes(rest[at + 8 : at + 12], "little") if 0 <= at <= len(rest) - 12 else 0


def _unpacked(body: bytes, cut: bool) -> Iterator[bytes]:
    """What a container holds; of one that is cut short, what there is."""
    method, _ = _CONTAINER.unpack_from(body)
    packed = body[_CONTAINER.size :]
    if method == STORED:
        yield packed
    elif method == DEFLATED:
        inflate = zlib.decompressobj()
        try:
            yield inflate.decompress(packed, CONTAINER_MAX)
        except zlib.error as error:  # its checksum covers all of it: nothing in it can be trusted
            raise CutShort(f"a container is damaged: {error}") from None
        if inflate.unconsumed_tail:
            raise CutShort(f"a container holds over {CONTAINER_MAX} bytes")
        if not inflate.eof and not cut:
            raise CutShort("a container is damaged: its packing ends in the middle")
    else:
        raise CutShort(f"a container packed by the unknown method {method}")


def _start_us(systemtime: list[int]) -> int:
    """SYSTEMTIME (year, month, weekday, day, hour, minute, second, ms), UTC; 0 where there is none."""
    year, month, _, day, hour, minute, second, ms = systemtime
    try:
        start = datetime(year, month, day, hour, minute, second, ms * 1000, tzinfo=UTC)
    except ValueError:
        return 0
    delta = start - datetime(1970, 1, 1, tzinfo=UTC)
    return max((delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds, 0)
