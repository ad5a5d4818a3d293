"""Which format a log is in, and the log itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from edge.can.frames import Frames
from edge.can.logs import text
from edge.can.logs.blf import BlfReader
from edge.can.logs.candump import CandumpReader
from edge.can.logs.mf4 import Mf4Reader
from edge.can.logs.python_can import PythonCanReader, asc, mend_asc, python_can_csv, trc
from edge.can.logs.reader import Reader
from edge.can.logs.stream import CutShort, Stream
from edge.can.logs.text import TextReader
from edge.errors import LogError

HEAD = 1 << 12  # bytes that tell the format


class Format(NamedTuple):
    name: str
    magic: bytes | re.Pattern[str]  # what the file begins with, or what one of its first lines matches
    reader: Callable[[Stream], Reader]


def _lines(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE)


def _text(
    pattern: str, parse: Callable[[], text.Parse]
) -> tuple[re.Pattern[str], Callable[[Stream], Reader]]:
    return _lines(pattern), partial(TextReader, make_parse=parse)


# In this order: the first that fits.
FORMATS = (
    Format("BLF", b"LOGG", BlfReader),
    Format("MF4", b"MDF ", Mf4Reader),
    Format("MF4", b"UnFinMF ", Mf4Reader),
    Format("TRC", _lines(r"\A;\$FILEVERSION"), partial(PythonCanReader, make=trc)),
    Format(
        "python-can CSV",
        _lines(r"\Atimestamp,arbitration_id,"),
        partial(PythonCanReader, make=python_can_csv),
    ),
    Format("GVRET CSV", *_text(r"\A\s*time ?stamp,id,extended,", text.gvret)),
    Format("SavvyCAN CSV", *_text(r"\Aid,data bytes", text.generic)),
    Format("BUSMASTER", *_text(r"\A\*\*\*BUSMASTER", text.busmaster)),
    Format("Microchip", *_text(r"^CAN BUS Analyzer", text.microchip)),
    Format(
        "ASC",
        _lines(r"\Adate \w|^base +(hex|dec)\b"),
        partial(PythonCanReader, make=asc, mend=mend_asc),
    ),
    Format("CRTD", *_text(r"^\d+(\.\d+)? \d*(CXX|CVR|[RT](11|29) [0-9A-F]+)( |\r?$)", text.crtd)),
    Format("candump", _lines(r"^\s*\(\d+(\.\d+)?\)\s+\S+\s+[0-9A-F]+#"), CandumpReader),
)
KNOWN = (
    "candump, ASC, BLF, TRC, python-can CSV, MF4, GVRET and SavvyCAN CSV, CRTD, BUSMASTER and Microchip logs"
)


class Log:
    """A log file: iterate over it for FRAME arrays of up to 16384 frames; each iteration begins anew.

    format      what it is
    channels    the names seen so far; a frame's channel number is its place there
    refused     reason -> how many records so far were no frames; reading went on after each
    fraction    how far we have read, 0 to 1
    """

    def __init__(self, path: Path, found: Format) -> None:
        self.path = path
        self.format = found.name
        self.channels: list[str] = []
        self.refused: dict[str, int] = {}
        self.fraction = 0.0
        self._make_reader = found.reader

    def __iter__(self) -> Iterator[Frames]:
        """The frames, in order.

        Raises
        ------
        LogError
            The file can't be read, is damaged or ends in the middle: after all frames before that.
        """
        with Stream(self.path) as stream:
            reader = self._make_reader(stream)
            try:
                for frames in reader:
                    self._note(reader)
                    yield frames
            except CutShort as error:
                raise LogError(f"{self.path}: breaks off or is damaged: {error}") from None
            finally:
                self._note(reader)

    def _note(self, reader: Reader) -> None:
        self.channels, self.refused, self.fraction = reader.channels, reader.refused, reader.fraction


def open_log(path: Path) -> Log:
    """Open a log of CAN frames.

    Raises
    ------
    LogError
        There is no such file, it can't be read, or is in none of the known formats.
    """
    with Stream(path) as stream:
        head = stream.head(HEAD)
    words = head.decode("utf-8", "replace").removeprefix("\ufeff")
    for found in FORMATS:
        magic = found.magic
        if head.startswith(magic) if isinstance(magic, bytes) else magic.search(words):
            return Log(path, found)
    what = "in a format" if head else "empty, or broken from its beginning, in a format"
    raise LogError(f"{path}: {what} that is not known; we read {KNOWN}, and those gzipped or with zstd")


class Logs:
    """Several logs, one after another: iterate for each, opened when its turn comes.

    `fraction` is how far we are in all of them, 0 to 1, by the sizes of the files.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._sizes = [path.stat().st_size if path.is_file() else 0 for path in paths]
        self._before, self._size = 0, 0  # of the logs that were read; of the one that is
        self._log: Log | None = None

    def __iter__(self) -> Iterator[Log]:
        """The logs.

        Raises
        ------
        LogError
            As `open_log`.
        """
        self._before, self._log = 0, None
        for path, size in zip(self._paths, self._sizes, strict=True):
            self._log, self._size = open_log(path), size
            yield self._log
            self._before, self._log = self._before + self._size, None

    @property
    def fraction(self) -> float:
        here = self._log.fraction * self._size if self._log else 0.0
        return (self._before + here) / max(sum(self._sizes), 1)
