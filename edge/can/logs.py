"""Logs of CAN frames: read in whatever format the ecosystem writes, written as candump logs.

What a file is, its content decides; the name only where content can't (gzip, zstd are looked into).
python-can reads candump, Vector ASC and BLF, PEAK TRC, its own CSV, and MF4 (with asammdf, the `[lab]` extra).
"""

from __future__ import annotations

import gzip
import importlib.util
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import can
import numpy as np
import zstandard
from can.io.generic import MessageReader

from edge.can.frames import BITRATE_SWITCH, ERROR, EXTENDED, FD, FRAME, REMOTE, Frames
from edge.can.messages import fill_frame
from edge.errors import LogError

CHUNK = 4096


def _mf4(path: Path) -> Any:
    if importlib.util.find_spec("asammdf") is None:
        raise LogError(f"{path}: MF4 needs asammdf; install it with: pip install 'ayaz[lab]'")
    return can.MF4Reader(path)


Opener = Callable[[Path], Any]
# What a file begins with -> how it is read. Text formats are told by their first lines.
BINARY: tuple[tuple[bytes, Opener], ...] = (
    (b"LOGG", lambda path: can.BLFReader(path)),
    (b"MDF ", _mf4),
    (b"UnFinMF ", _mf4),
)
TEXT: tuple[tuple[Callable[[str], bool], Opener], ...] = (
    (
        lambda text: text.startswith("(") and "#" in text.split("\n", 1)[0],
        lambda path: can.CanutilsLogReader(path),
    ),
    (lambda text: text.startswith(";$FILEVERSION"), lambda path: can.TRCReader(path)),
    (lambda text: text.startswith("timestamp,arbitration_id,"), lambda path: can.CSVReader(path)),
    (
        lambda text: (
            text.lower().startswith("date ") or "\nbase hex" in text.lower() or "\nbase dec" in text.lower()
        ),
        lambda path: can.ASCReader(path, relative_timestamp=True),
    ),
)
_BROKEN_PACKING = (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError)
KNOWN = "candump, ASC, BLF, TRC, python-can CSV and MF4"


class Log:
    """A log file: iterate over it for FRAME arrays of up to 4096 frames.

    `channels` are the names seen so far; a frame's channel number is its place there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels: list[str] = []
        self._numbers: dict[Any, int] = {}
        self._open = _opener(path)

    def __iter__(self) -> Iterator[Frames]:
        """The frames, in order.

        Raises
        ------
        LogError
            The file can't be read, or ends in the middle: after all frames before that.
        """
        buffer, used = np.zeros(CHUNK, FRAME), 0
        trouble: Exception | None = None
        with ExitStack() as stack:
            reader: Iterator[can.Message] = iter(())
            reading = _Reading(self.path, self._open)
            try:
                reader = stack.enter_context(reading)
            except LogError:
                raise
            except Exception as error:  # python-can's readers raise almost anything on a broken file
                trouble = error
            while trouble is None:
                try:
                    message = next(reader)
                    self._fill(buffer[used], message)
                except StopIteration:
                    break
                except Exception as error:
                    trouble = error
                    break
                used += 1
                if used == CHUNK:
                    yield buffer
                    buffer, used = np.zeros(CHUNK, FRAME), 0
            if used:
                yield buffer[:used]
        trouble = reading.trouble or trouble
        if trouble is not None:
            what = (str(trouble).splitlines() or [type(trouble).__name__])[0]
            raise LogError(f"{self.path}: breaks off or is damaged: {what}") from None

    def _fill(self, frame: Any, message: can.Message) -> None:
        if not 0 <= message.timestamp < 1e12:
            raise ValueError(f"a frame at {message.timestamp} s")
        fill_frame(frame, message, round(message.timestamp * 1e6), self._number(message.channel))

    def _number(self, name: Any) -> int:
        if name not in self._numbers:
            if len(self.channels) == 256:
                raise ValueError("over 256 channels")
            self._numbers[name] = len(self.channels)
            self.channels.append(str(name))
        return self._numbers[name]


def open_log(path: Path) -> Log:
    """Open a log of CAN frames.

    Raises
    ------
    LogError
        There is no such file, or none of the known formats.
    """
    return Log(path)


def _opener(path: Path) -> Opener:
    try:
        unpack = _packing(path)
        with unpack() if unpack else path.open("rb") as file:
            head = file.read(4096)
    except _BROKEN_PACKING as error:
        raise LogError(f"{path}: damaged: {error}") from None
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror or error}") from None
    text = head.decode("utf-8", "replace").lstrip("\ufeff")
    found = next((o for magic, o in BINARY if head.startswith(magic)), None)
    found = found or next((o for fits, o in TEXT if fits(text)), None)
    if found is None:
        raise LogError(
            f"{path}: {'empty' if not head else 'in a format'} that is not known; we read {KNOWN}, and those gzipped or with zstd"
        )
    return found


def _packing(path: Path) -> Callable[[], Any] | None:
    """How to unpack the file; None where it is not packed."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        return lambda: gzip.open(path)
    if magic == b"\x28\xb5\x2f\xfd":
        return lambda: zstandard.open(path, "rb")
    return None


class _Reading(AbstractContextManager[Iterator[can.Message]]):
    """An open reader; a compressed log is first unpacked into a temporary file, as far as it goes.

    `trouble` is why the unpacking ended early, if it did.
    """

    def __init__(self, path: Path, opener: Opener) -> None:
        self._path, self._opener = path, opener
        self._stack = ExitStack()
        self.trouble: Exception | None = None

    def __enter__(self) -> Iterator[can.Message]:
        unpack = _packing(self._path)
        with self._stack:  # closes what is open where the reader can't be made
            path = self._unpacked(unpack) if unpack else self._path
            reader: MessageReader = self._stack.enter_context(self._opener(path))
            self._stack = self._stack.pop_all()
        return iter(reader)

    def _unpacked(self, unpack: Callable[[], Any]) -> Path:
        suffix = self._path.with_suffix("").suffix
        temporary = self._stack.enter_context(tempfile.NamedTemporaryFile(suffix=suffix))  # noqa: SIM115
        try:
            with unpack() as plain:
                while block := plain.read1(1 << 20):
                    temporary.write(block)
        except _BROKEN_PACKING as error:
            self.trouble = error
        temporary.flush()
        return Path(temporary.name)

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class CandumpWriter:
    """A candump log (`candump -L`): "(seconds.micros) channel id#data".

    Raises
    ------
    LogError
        The file can't be written.
    """

    def __init__(self, path: Path, channels: list[str]) -> None:
        self.path = path
        self._channels = channels
        try:
            self._file = path.open("w", encoding="ascii")
        except OSError as error:
            raise LogError(f"{path}: cannot be written: {error.strerror}") from None

    def write(self, frames: Frames) -> None:
        """Write frames, in order.

        Raises
        ------
        LogError
            The disk refused.
        """
        try:
            self._file.write("".join(map(self._line, frames)))
        except OSError as error:
            raise LogError(f"{self.path}: cannot be written: {error.strerror}") from None

    def _line(self, frame: Any) -> str:
        time_us, flags = int(frame["time_us"]), int(frame["flags"])
        frame_id = f"{int(frame['id']):08X}" if flags & (EXTENDED | ERROR) else f"{int(frame['id']):03X}"
        if flags & ERROR:
            frame_id = f"{int(frame['id']) | 0x20000000:08X}"
        data = frame["data"][: frame["length"]].tobytes().hex().upper()
        body = (
            f"##{1 if flags & BITRATE_SWITCH else 0}{data}"
            if flags & FD
            else f"#{'R' if flags & REMOTE else data}"
        )
        channel = self._channels[int(frame["channel"])]
        return f"({time_us // 1_000_000:010d}.{time_us % 1_000_000:06d}) {channel} {frame_id}{body}\n"

    def close(self) -> None:
        """Close the file.

        Raises
        ------
        LogError
            The disk refused what was left.
        """
        try:
            self._file.close()
        except OSError as error:
            raise LogError(f"{self.path}: cannot be written: {error.strerror}") from None
