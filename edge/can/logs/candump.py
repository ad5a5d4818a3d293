"""candump logs (`candump -l`, `-L`) through the kernel in `_candump.pyx`.

    (1700000000.000001) can0 123#1122          classic, 11 bit
    (1700000000.000002) can0 00000123#R4 T     remote, 29 bit, asks for 4 bytes; sent by this machine
    (1700000000.000003) can0 123##31122        FD with bit rate switch (1) and error state (2)
    (1700000000.000004) can0 20000080#00...    error frame: bit 29 of the id

A line that is no frame is refused and counted by reason; reading goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edge.can._candump import LINE_MAX as FRAME_LINE_MAX
from edge.can._candump import Parser, format
from edge.can.frames import FRAME, Frames
from edge.can.logs.reader import MAX_CHANNELS, Reader
from edge.can.logs.stream import LINE_MAX, CutShort, Stream
from edge.errors import LogError

CHUNK = 16384
WRITE_BYTES = 1 << 18


class CandumpReader(Reader):
    """Frames of a candump log."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._parser = Parser()

    @property
    def channels(self) -> list[str]:
        return [name.decode("utf-8", "replace") for name in self._parser.channels]

    @property
    def refused(self) -> dict[str, int]:
        return self._parser.refused

    def __iter__(self) -> Iterator[Frames]:
        frames, used = np.empty(CHUNK, FRAME), 0
        try:
            for block in self._whole_lines():
                at, end = 0, len(block)
                while at < end:
                    at, taken = self._parser.parse(block, at, frames[used:])
                    used += taken
                    if used == CHUNK:
                        yield frames
                        frames, used = np.empty(CHUNK, FRAME), 0
        except CutShort:
            if used:
                yield frames[:used]
            raise
        if used:
            yield frames[:used]

    def _whole_lines(self) -> Iterator[bytes]:
        """The bytes in blocks that end with a newline."""
        rest, skipping = b"", False
        for n, block in enumerate(self.stream.blocks()):
            if n == 0:
                block = block.removeprefix(b"\xef\xbb\xbf")
            end = block.rfind(b"\n") + 1
            if end:
                begin = block.find(b"\n") + 1 if skipping else 0
                skipping = False
                yield rest + block[begin:end] if rest else block[begin:end]
                rest = block[end:]
            elif not skipping:
                rest += block
            if len(rest) > LINE_MAX:
                self._parser.refuse_long_line()
                rest, skipping = b"", True
        if rest.strip() or skipping:
            raise CutShort("ends in the middle of a line")


class CandumpLines:
    """Frames as lines "(seconds.micros) channel id#data", as `CandumpReader` reads them back, to the bit.

    Raises
    ------
    LogError
        The channels can't be named in a log: over 256, or with a space.
    """

    def __init__(self, channels: list[str]) -> None:
        bad = [name for name in channels if not name or name.split() != [name]]
        if bad or len(channels) > MAX_CHANNELS:
            what = f"a channel named {bad[0]!r}" if bad else f"{len(channels)} channels"
            raise LogError(f"a candump log can't have {what}")
        self._names = [name.encode() for name in channels]
        self._buffer = bytearray(WRITE_BYTES + FRAME_LINE_MAX + max(map(len, self._names), default=0))

    def of(self, frames: Frames) -> Iterator[memoryview]:
        """The lines in pieces, each valid until the next is asked for.

        Raises
        ------
        LogError
            A frame is none that candump can say (a negative time, an id or length beyond its kind, a channel without a
            name, a remote FD frame): those before it were given.
        """
        at = 0
        frames = np.ascontiguousarray(frames)
        while at < len(frames):
            size, taken = format(frames[at:], self._names, self._buffer)
            if not taken:
                raise LogError(f"no frame of a candump log: {frames[at]}")
            yield memoryview(self._buffer)[:size]
            at += taken


class CandumpWriter:
    """A candump log.

    Raises
    ------
    LogError
        The file can't be written, or `CandumpLines` can't have the channels.
    """

    def __init__(self, path: Path, channels: list[str]) -> None:
        self.path = path
        with self._named():
            self._lines = CandumpLines(channels)
            self._file = path.open("wb")

    def write(self, frames: Frames) -> None:
        """Write frames, in order.

        Raises
        ------
        LogError
            The disk refused; or a frame is none that candump can say: those before it are written.
        """
        with self._named():
            for part in self._lines.of(frames):
                self._file.write(part)

    def close(self) -> None:
        """Close the file.

        Raises
        ------
        LogError
            The disk refused what was left.
        """
        with self._named():
            self._file.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, LogError) as error:
            what = getattr(error, "strerror", None) or error
            raise LogError(f"{self.path}: cannot be written: {what}") from None
