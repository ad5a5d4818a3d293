"""The logs that python-can reads: Vector ASC, PEAK TRC and python-can's own CSV.

Its readers get whole lines only, so that a cut line is never read as a shorter frame; those of ASC and CSV stop at the
first line that they can't read. What they get wrong is put right in their input.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import can

from edge.can.frames import Frames
from edge.can.logs.reader import MAX_US, Reader, Refused
from edge.can.logs.stream import CutShort, Lines, Stream
from edge.can.messages import fill_frame

MakeReader = Callable[
    [Any, Callable[[str], None]], Any
]  # the file, who counts refused lines -> python-can's reader
# A library's warnings about a line's lengths are not for our user, who has not set up logging.
logging.getLogger("can.io.asc").addHandler(logging.NullHandler())


class _TextFile:
    """Lines as the file object that python-can's readers want."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def __iter__(self) -> _TextFile:
        return self

    def __next__(self) -> str:
        return next(self._lines) + "\n"

    def read(self) -> str:
        raise NotImplementedError("python-can's text readers read lines")

    def close(self) -> None:
        """The stream is its owner's to close."""


class PythonCanReader(Reader):
    """Frames of a log through one of python-can's text readers."""

    def __init__(
        self, stream: Stream, make: MakeReader, mend: Callable[[Iterator[str]], Iterator[str]] | None = None
    ) -> None:
        super().__init__(stream)
        self._lines = Lines(stream)
        lines = mend(iter(self._lines)) if mend else iter(self._lines)
        self._reader = make(_TextFile(lines), self.refuse)

    @property
    def refused(self) -> dict[str, int]:
        long = self._lines.too_long
        return {**super().refused, **({"line too long": long} if long else {})}

    def __iter__(self) -> Iterator[Frames]:
        return self.gather(self._messages(), partial(fill_message, self))

    def _messages(self) -> Iterator[can.Message]:
        try:
            yield from self._reader
        except CutShort:
            raise
        except Exception as error:  # python-can's readers raise almost anything on a broken line
            raise CutShort((str(error).splitlines() or [type(error).__name__])[0]) from None


def fill_message(reader: Reader, frame: Any, message: can.Message) -> bool:
    """A message into a zeroed record.

    Raises
    ------
    Refused
    """
    time_us = message.timestamp * 1e6
    if not (math.isfinite(time_us) and 0 <= round(time_us) <= MAX_US):
        raise Refused("time")
    if not 0 <= message.arbitration_id <= (0x1FFFFFFF if message.is_extended_id else 0x7FF):
        raise Refused("identifier")
    if len(message.data) > (64 if message.is_fd else 8):
        raise Refused("length")
    channel = "0" if message.channel is None else str(message.channel)
    fill_frame(frame, message, round(time_us), reader.number(channel))
    return True


class _TrcReader(can.TRCReader):
    """python-can's, but a line that it can't read is counted; its own leaves out some with a warning, and ends at others."""

    def __init__(self, file: Any, refuse: Callable[[str], None]) -> None:
        super().__init__(file)
        self._refuse = refuse

    def _parse_line(self, line: str) -> can.Message | None:
        if not line or line.startswith(";"):
            return None
        try:
            return self._parse_cols(tuple(line.split(maxsplit=self._num_columns)))
        except (IndexError, KeyError, ValueError):
            self._refuse("malformed")
            return None


def trc(file: Any, refuse: Callable[[str], None]) -> can.TRCReader:
    return _TrcReader(file, refuse)


def python_can_csv(file: Any, _: Callable[[str], None]) -> can.CSVReader:
    return can.CSVReader(file)


def asc(file: Any, _: Callable[[str], None]) -> can.ASCReader:
    return can.ASCReader(file, relative_timestamp=True)


_ASC_HEADER = re.compile(r"date\s|base\s+(hex|dec)|//|(no)?\s*internal\s+events", re.IGNORECASE)
_ASC_RELATIVE = re.compile(r"base\s+(hex|dec)\s+timestamps\s+relative", re.IGNORECASE)
_ASC_TIME = re.compile(r"\s*(\d{1,12}\.\d{1,12})(\s.*)")


def mend_asc(lines: Iterator[str]) -> Iterator[str]:
    """ASC as python-can's reader takes it.

    It swallows the first line after the header: an empty one is put there. It takes relative times (each since the
    event before) for absolute ones: they are summed.
    """
    in_header, relative = True, False
    time_s = Decimal(0)
    for line in lines:
        if in_header and not _ASC_HEADER.match(line.strip()):
            in_header = False
            yield ""
        relative = relative or bool(_ASC_RELATIVE.match(line.strip()))
        if relative and (found := _ASC_TIME.fullmatch(line)):
            time_s += Decimal(found[1])
            line = f"{time_s}{found[2]}"
        yield line
