"""Where the frames of a simulation go: a log, a pipe, three CAN channels, or nowhere.

All are context managers and take whole arrays of frames, times from 0. `--to` names one:

    FILE.log FILE.blf             candump, Vector BLF: the same bytes for the same seed
    FILE.asc FILE.mf4 FILE.trc    through python-can's writers
    -                             candump lines on stdout
    a pipe or device that exists  candump lines into it
    vcan0, can0                   SocketCAN, three interfaces
    INTERFACE:CHANNEL             any of python-can's

A file gets its name only when its writer ends well; after an error none is left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

import can
import numpy as np

from edge.can.frames import BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, REMOTE, Frames
from edge.can.logs import CandumpLines
from edge.errors import LogError, ScenarioError, SourceError
from sim_bus.blf import BlfWriter
from sim_bus.ecus import CHANNELS
from sim_bus.files import WholeFile
from sim_bus.socketcan import SocketCanSender
from sim_bus.transmit import patiently

LOG_START_US = 1_700_000_000_000_000  # a fixed date for logs, so that the same seed gives the same bytes
STDOUT = "-"


class Sink(Protocol):
    """Where frames go. `left_out`: how many the place can't hold."""

    left_out: int

    def write(self, frames: Frames) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _dated(frames: Frames) -> Frames:
    frames = frames.copy()
    frames["time_us"] += LOG_START_US
    return frames


class CandumpSink(WholeFile):
    """A candump log.

    Raises
    ------
    LogError
    """

    left_out = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path, LogError)
        self._lines = CandumpLines(list(CHANNELS))
        self._file: IO[bytes] | None = None
        with self.opening():
            self._file = self.part.open("wb")

    def write(self, frames: Frames) -> None:
        """Write frames.

        Raises
        ------
        LogError
        """
        assert self._file is not None
        with self.guard():
            for part in self._lines.of(_dated(frames)):
                self._file.write(part)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class BlfSink(WholeFile):
    """A BLF log; channels 1 to 3.

    Raises
    ------
    LogError
    """

    left_out = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path, LogError)
        self._writer: BlfWriter | None = None
        with self.opening():
            self._writer = BlfWriter(self.part, LOG_START_US)

    def write(self, frames: Frames) -> None:
        """Write frames.

        Raises
        ------
        LogError
        """
        assert self._writer is not None
        with self.guard():
            self._writer.write(frames)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


# suffix -> python-can's writer, and the flags of frames that it can't write
PYTHON_CAN: dict[str, tuple[Callable[..., Any], int]] = {
    ".asc": (can.ASCWriter, 0),
    ".mf4": (can.MF4Writer, 0),
    ".trc": (can.TRCWriter, ERROR | REMOTE | FD),
}


class PythonCanFile(WholeFile):
    """A log in a format of python-can's.

    Raises
    ------
    LogError
        It can't be written, or the format needs a package that is missing.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, LogError)
        self.left_out = 0
        self._writer: Any = None
        writer, self._refused = PYTHON_CAN[path.suffix.lower()]
        try:
            with self.opening():
                self._writer = writer(self.part)
        except NotImplementedError:
            raise LogError(
                f"{path}: this format needs asammdf; install it with: pip install 'ayaz[files]'"
            ) from None

    def write(self, frames: Frames) -> None:
        """Write frames.

        Raises
        ------
        LogError
        """
        if self._refused:
            kept = frames["flags"] & self._refused == 0
            self.left_out += len(frames) - int(kept.sum())
            frames = frames[kept]
        with self.guard():
            for message in messages(_dated(frames)):
                self._writer.on_message_received(message)

    def close(self) -> None:
        if self._writer is None:
            return
        try:
            self._writer.stop()
        finally:
            with contextlib.suppress(OSError):
                self._writer.file.close()


class PipeSink(contextlib.AbstractContextManager["PipeSink"]):
    """Candump lines on stdout, or into a pipe or device that is there.

    Whoever reads stdout may go when he likes: BrokenPipeError, which `ayaz` ends with quietly. Of a named pipe it is a
    LogError.
    """

    left_out = 0

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lines = CandumpLines(list(CHANNELS))
        self._file: IO[bytes] = sys.stdout.buffer if path is None else _open_pipe(path)

    def write(self, frames: Frames) -> None:
        """Write frames, and let the reader have them.

        Raises
        ------
        BrokenPipeError
            The reader of stdout went away.
        LogError
            That of a named pipe did, or the device is full.
        """
        try:
            for part in self._lines.of(_dated(frames)):
                self._file.write(part)
            self._file.flush()
        except OSError as error:
            if self._path is None and isinstance(error, BrokenPipeError):
                raise
            raise LogError(f"{self._path or 'stdout'}: cannot be written: {error.strerror}") from None

    def __exit__(self, *_: object) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._file.close()


def _open_pipe(path: Path) -> IO[bytes]:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        nobody = "nobody reads it" if error.errno == errno.ENXIO else error.strerror
        raise LogError(f"{path}: cannot be written: {nobody}") from None
    os.set_blocking(handle, True)
    return os.fdopen(handle, "wb")


class BusSink(contextlib.AbstractContextManager["BusSink"]):
    """Three python-can buses.

    Raises
    ------
    SourceError
    """

    left_out = 0

    def __init__(self, interface: str, channels: Sequence[str]) -> None:
        self._name = interface
        self._buses: list[can.BusABC] = []
        for channel in channels:
            try:
                self._buses.append(can.Bus(interface=interface, channel=channel))
            except Exception as error:  # the drivers behind python-can raise whatever they like
                self.__exit__()
                raise SourceError(f"{interface}:{channel}: cannot be opened: {error}") from None

    def write(self, frames: Frames) -> None:
        """Send frames.

        Raises
        ------
        SourceError
            The interface has gone, or takes nothing more.
        """
        for channel, message in zip(frames["channel"].tolist(), messages(frames), strict=True):
            try:
                patiently(partial(self._buses[channel].send, message), self._name)
            except (can.CanError, OSError) as error:
                raise SourceError(f"{self._name}: cannot send: {error}") from None

    def __exit__(self, *_: object) -> None:
        for bus in self._buses:
            with contextlib.suppress(can.CanError, OSError):
                bus.shutdown()


class NoSink(contextlib.AbstractContextManager["NoSink"]):
    """Only the truth or the picture is wanted."""

    left_out = 0

    def write(self, frames: Frames) -> None:
        """Nothing."""

    def __exit__(self, *_: object) -> None:
        """Nothing."""


def messages(frames: Frames) -> list[can.Message]:
    """python-can's messages: channel is the frame's number, all flags are kept."""
    fields = ("time_us", "id", "channel", "flags", "length")
    data = np.ascontiguousarray(frames["data"]).tobytes()
    return [
        can.Message(
            timestamp=time_us / 1e6,
            arbitration_id=identifier,
            is_extended_id=bool(flags & EXTENDED),
            is_remote_frame=bool(flags & REMOTE),
            is_error_frame=bool(flags & ERROR),
            is_fd=bool(flags & FD),
            bitrate_switch=bool(flags & BITRATE_SWITCH),
            error_state_indicator=bool(flags & ERROR_STATE),
            channel=channel,
            dlc=length,
            data=None if flags & REMOTE else data[64 * n : 64 * n + length],
        )
        for n, (time_us, identifier, channel, flags, length) in enumerate(
            zip(*(frames[name].tolist() for name in fields), strict=True)
        )
    ]


FILES: dict[str, Callable[[Path], Sink]] = {
    ".log": CandumpSink,
    ".blf": BlfSink,
    **dict.fromkeys(PYTHON_CAN, PythonCanFile),
}


def file_of(to: str | None) -> Path | None:
    """The path of a `--to` that is a file to be made."""
    return Path(to) if to and Path(to).suffix.lower() in FILES and not is_pipe(to) else None


def is_pipe(to: str) -> bool:
    """Stdout, or a pipe or device that exists."""
    if to == STDOUT:
        return True
    try:
        mode = Path(to).stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def is_live(to: str | None) -> bool:
    """A CAN interface: time passes there."""
    return to is not None and file_of(to) is None and not is_pipe(to)


def bus_channels(spec: str) -> tuple[str, list[str]]:
    """The python-can interface and the three channels that a `--to` names.

    `virtual:NAME` gives NAME-bms, NAME-inverter, NAME-vehicle; `udp_multicast:239.74.163.2` that address
    and the two after it; `vcan0` vcan0, vcan1, vcan2; three names with commas are taken as they are.

    Raises
    ------
    ScenarioError
        There is no such interface, or not three channels.
    """
    interface, _, channel = spec.partition(":") if ":" in spec else ("socketcan", "", spec)
    if (
        interface not in can.VALID_INTERFACES
        or not channel
        or "/" in channel
        or (":" not in spec and "." in spec)
    ):
        raise ScenarioError(
            f"--to {spec}: neither a file that ends in {', '.join(FILES)} nor INTERFACE:CHANNEL of python-can"
        )
    if "," in channel:
        channels = channel.split(",")
        if len(channels) != len(CHANNELS) or not all(channels):
            raise ScenarioError(f"--to {spec}: three channels are needed: {', '.join(CHANNELS)}")
        return interface, channels
    head = channel.rstrip("0123456789")
    if interface == "virtual" or head == channel:
        return interface, [f"{channel}-{name}" for name in CHANNELS]
    first = int(channel[len(head) :])
    return interface, [f"{head}{first + n}" for n in range(len(CHANNELS))]


def open_sink(to: str | None) -> Sink:
    """The sink of a `--to`.

    Raises
    ------
    ScenarioError, SourceError, LogError
    """
    if to is None:
        return NoSink()
    if is_pipe(to):
        return PipeSink(None if to == STDOUT else Path(to))
    path = file_of(to)
    if path is not None:
        return FILES[path.suffix.lower()](path)
    interface, channels = bus_channels(to)
    return SocketCanSender(channels) if interface == "socketcan" else BusSink(interface, channels)
