"""A log file's bytes: plain, gzip or zstd, in blocks, with how far we are; and its lines."""

from __future__ import annotations

import io
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import zstandard

from edge.errors import LogError

BLOCK = 1 << 20  # at most this much at a time, packed or not
GZIP_PIECE = 1 << 14  # what follows a member is copied: little, or many tiny members take for ever
ZSTD_PIECE = 1 << 10  # zstd has no limit on its output: one KiB makes at most 33 MB
ZSTD_WINDOW = 1 << 27
LINE_MAX = 1 << 16  # bytes; no format's line comes near it
BROKEN_PACKING = (EOFError, zlib.error, zstandard.ZstdError)


class CutShort(Exception):
    """The log ends, or is damaged, in the middle of something: all before that was given."""


class _Gzip:
    """zlib's gzip reader, several members, bounded output."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)
        self.whole = False

    def feed(self, packed: bytes) -> Iterator[bytes]:
        for at in range(0, len(packed), GZIP_PIECE):
            piece = packed[at : at + GZIP_PIECE]
            while piece:
                if self._inflate.eof:
                    piece = piece.lstrip(b"\0")  # padding after a member
                    if not piece:
                        break
                    self._inflate = zlib.decompressobj(wbits=31)
                yield self._inflate.decompress(piece, BLOCK)
                piece = self._inflate.unconsumed_tail or self._inflate.unused_data
                self.whole = self._inflate.eof
        while not self._inflate.eof and (more := self._inflate.decompress(b"", BLOCK)):
            yield more


class _Zstd:
    """Several frames one after another, in small pieces: that bounds the memory."""

    def __init__(self) -> None:
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
        self._frame = self._unpacker.decompressobj()
        self.whole = False

    def feed(self, packed: bytes) -> Iterator[bytes]:
        for at in range(0, len(packed), ZSTD_PIECE):
            piece = packed[at : at + ZSTD_PIECE]
            while piece:
                if self._frame.eof:
                    self._frame = self._unpacker.decompressobj()
                yield self._frame.decompress(piece)
                self.whole = self._frame.eof
                piece = self._frame.unused_data if self._frame.eof else b""


class _Unpacker(Protocol):
    whole: bool

    def feed(self, packed: bytes) -> Iterator[bytes]: ...


PACKINGS: dict[bytes, type[Any]] = {b"\x1f\x8b": _Gzip, b"\x28\xb5\x2f\xfd": _Zstd}


class Stream:
    """A log's bytes, unpacked.

    Raises
    ------
    LogError
        There is no such file, it is no file, or we may not read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise LogError(f"{path}: cannot be read: it is no regular file")
            self._file = io.FileIO(path)
        except OSError as error:
            raise LogError(f"{path}: cannot be read: {error.strerror or error}") from None
        magic = self._file.read(4) or b""
        self._file.seek(0)
        self._size = path.stat().st_size
        self._given = 0
        self.packed = next((kind for head, kind in PACKINGS.items() if magic.startswith(head)), None)
        self._blocks = self._unpacked(self.packed()) if self.packed else self._plain()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def fraction(self) -> float:
        """How much of the file has been read, 0 to 1."""
        return min(self._given / self._size, 1.0) if self._size else 1.0

    def blocks(self) -> Iterator[bytes]:
        """All bytes, in blocks that are never empty.

        Raises
        ------
        CutShort
            The packing is damaged, or ends in the middle; or the disk refused.
        """
        return self._blocks

    def head(self, size: int) -> bytes:
        """The first bytes, for those who want to know what it is; then the stream is used up."""
        found = b""
        try:
            while len(found) < size:
                found += next(self._blocks)
        except (StopIteration, CutShort):
            pass
        return found[:size]

    def _plain(self) -> Iterator[bytes]:
        try:
            while block := self._file.read(BLOCK):
                self._given += len(block)
                yield block
        except OSError as error:
            raise CutShort(f"cannot be read: {error.strerror or error}") from None

    def _unpacked(self, unpacker: _Unpacker) -> Iterator[bytes]:
        try:
            for packed in self._plain():
                for block in unpacker.feed(packed):
                    if block:
                        yield block
        except BROKEN_PACKING as error:
            raise CutShort(f"its packing is damaged: {error}") from None
        if not unpacker.whole:
            raise CutShort("its packing ends in the middle")


class Lines:
    """A text log's lines, without their newline; a last line that has none is not a line.

    `too_long` counts the lines that were left out.

    Raises
    ------
    CutShort
        At the end, where the last line has no newline: half a line often reads as another frame.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.too_long = 0

    def __iter__(self) -> Iterator[str]:
        rest, skipping = b"", False
        for n, block in enumerate(self._stream.blocks()):
            lines = (rest + (block.removeprefix(b"\xef\xbb\xbf") if n == 0 else block)).split(b"\n")
            rest = lines.pop()
            if skipping and lines:
                lines.pop(0)
                skipping = False
            if skipping or len(rest) > LINE_MAX:
                self.too_long += not skipping
                rest, skipping = b"", True
            for line in lines:
                if len(line) > LINE_MAX:
                    self.too_long += 1
                else:
                    yield line.decode("utf-8", "replace")
        if rest.strip() or skipping:
            raise CutShort("ends in the middle of a line")
