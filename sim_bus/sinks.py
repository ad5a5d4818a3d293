"""Where the frames of a simulation go: a log, three CAN channels, or nowhere; and the file of the truth.

All are context managers. A file gets its name only when its writer ends well; after an error none is left.
"""

from __future__ import annotations

import contextlib
import csv
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import can

from edge.can.frames import EXTENDED, Frames
from edge.can.logs import CandumpWriter
from edge.command import whole_file
from edge.errors import ScenarioError, SourceError
from sim_bus.ecus import CHANNELS
from sim_bus.simulation import TRUTH_COLUMNS, Truth, truth_line

LOG_START_US = 1_700_000_000_000_000  # a fixed date for logs, so that the same seed gives the same bytes


class Sink(Protocol):
    """Where frames go."""

    def write(self, frames: Frames) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _File(ABC):
    """A file under way is FILE.part."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = contextlib.ExitStack()
        self.part = self._stack.enter_context(whole_file(path))
        self._stack.callback(self.close)

    @abstractmethod
    def close(self) -> None:
        """Write what is left."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        except OSError as trouble:
            raise ScenarioError(f"{self.path}: cannot be written: {trouble.strerror}") from None


class LogSink(_File):
    """A candump log."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._writer = CandumpWriter(self.part, list(CHANNELS))

    def write(self, frames: Frames) -> None:
        """Write frames.

        Raises
        ------
        LogError
        """
        frames = frames.copy()
        frames["time_us"] += LOG_START_US
        self._writer.write(frames)

    def close(self) -> None:
        self._writer.close()


class TruthFile(_File):
    """The truth as CSV.

    Raises
    ------
    ScenarioError
        The file can't be written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._file = self.part.open("w", newline="", encoding="utf-8", buffering=1)
        except OSError as error:
            raise ScenarioError(f"{path}: cannot be written: {error.strerror}") from None
        self._rows = csv.writer(self._file)
        self._write(TRUTH_COLUMNS)

    def write(self, truth: Truth) -> None:
        """Write one row.

        Raises
        ------
        ScenarioError
        """
        self._write(truth_line(truth))

    def _write(self, row: Sequence[str]) -> None:
        try:
            self._rows.writerow(row)
        except OSError as error:
            raise ScenarioError(f"{self.path}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        self._file.close()


class BusSink(contextlib.AbstractContextManager["BusSink"]):
    """Three python-can buses."""

    def __init__(self, interface: str, channels: Sequence[str]) -> None:
        self._buses: list[can.BusABC] = []
        for channel in channels:
            try:
                self._buses.append(can.Bus(interface=interface, channel=channel))
            except Exception as error:  # the drivers behind python-can raise whatever they like
                self.__exit__()
                raise SourceError(
                    f"{interface}:{channel}: cannot be opened: {error}{_hint(interface)}"
                ) from None

    def write(self, frames: Frames) -> None:
        """Send frames.

        Raises
        ------
        SourceError
        """
        for frame in frames:
            message = can.Message(
                arbitration_id=int(frame["id"]),
                is_extended_id=bool(frame["flags"] & EXTENDED),
                data=frame["data"][: frame["length"]].tobytes(),
            )
            try:
                self._buses[int(frame["channel"])].send(message)
            except (can.CanError, OSError) as error:
                raise SourceError(f"cannot send: {error}") from None

    def __exit__(self, *_: object) -> None:
        for bus in self._buses:
            with contextlib.suppress(can.CanError, OSError):
                bus.shutdown()


class NoSink(contextlib.AbstractContextManager["NoSink"]):
    """Only the truth or the picture is wanted."""

    def write(self, frames: Frames) -> None:
        """Nothing."""

    def __exit__(self, *_: object) -> None:
        """Nothing."""


def _hint(interface: str) -> str:
    if interface != "socketcan":
        return ""
    return "; make one with: sudo ip link add dev vcan0 type vcan && sudo ip link set vcan0 up"


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
            f"--to {spec}: neither a file that ends in .log nor INTERFACE:CHANNEL of python-can"
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
    if to.endswith(".log"):
        return LogSink(Path(to))
    return BusSink(*bus_channels(to))
