"""Sources of frames. They only receive; there is no send in here.

A source spec is `INTERFACE:CHANNEL`; a plain `can0` is SocketCAN.

    can0, socketcan:can0                     our own reader: edge/can/socketcan.py
    slcan:/dev/ttyACM0, virtual:x, ...       any other interface of python-can
    log:PATH, log:PATH@CHANNEL               a log file, at its own pace
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import can
import numpy as np

from edge.can.frames import FRAME, Frames
from edge.can.logs import open_log
from edge.can.messages import fill_frame
from edge.can.socketcan import SocketCanSource
from edge.can.status import SourceStatus
from edge.errors import LogError, SourceError

MAX_READ = 1024
POLL_S = 0.002  # between looks at an interface that can't be waited for

# How python-can's interfaces are asked not to acknowledge
LISTEN_ONLY: Final[dict[str, dict[str, Any]]] = {
    "cantact": {"monitor": True},
    "kvaser": {"driver_mode": False},
    "pcan": {"state": can.BusState.PASSIVE},
    "seeedstudio": {"operation_mode": "silent"},
    "slcan": {"listen_only": True},
    "systec": {"state": can.BusState.PASSIVE},
    "vector": {"listen_only": True},
}
NO_CONTROLLER = ("virtual", "udp_multicast")  # nothing that could acknowledge
IP_MULTICAST_ALL, IPV6_MULTICAST_ALL = 49, 29  # linux/in.h, linux/in6.h


class Source(Protocol):
    """Where frames come from. Times are monotonic microseconds and never run backwards."""

    name: str

    def open(self) -> None:
        """Begin to receive; after `close`, begin anew. Raises SourceError."""

    def read(self, timeout_s: float) -> Frames:
        """What has arrived, up to 1024 frames; waits up to timeout_s for the first. Raises SourceError."""

    def close(self) -> None:
        """Stop; may be called twice."""

    def fileno(self) -> int | None:
        """A descriptor that is readable when frames wait; None where there is none."""

    def status(self) -> SourceStatus:
        """Counts since the source was made, and the state of its bus; also while it is closed."""


def open_source(
    spec: str,
    number: int,
    bitrate: int,
    *,
    data_bitrate: int | None = None,
    filters: str = "",
    listen_only: bool = True,
) -> Source:
    """The source of a spec, not yet open.

    Parameters
    ----------
    number: the channel number that its frames get.
    bitrate, data_bitrate: bit/s; the second where the bus is CAN FD with bit rate switch.
    filters: kernel filters, `ID:MASK,...` in hexadecimal (SocketCAN only); none takes every frame.
    listen_only: the interface shall not acknowledge: asked for where it can be, complained of where not.

    Raises
    ------
    SourceError
        The interface is not one that we or python-can know, or the filters are wrong.
    """
    interface, _, channel = spec.partition(":") if ":" in spec else ("socketcan", "", spec)
    if interface == "socketcan":
        return SocketCanSource(
            channel, number, bitrate, data_bitrate=data_bitrate, filters=filters, listen_only=listen_only
        )
    if filters:
        raise SourceError(f"{spec}: filters are the kernel's; only socketcan has them")
    if interface == "log":
        return LogSource(channel, number)
    if interface not in can.VALID_INTERFACES:
        known = ", ".join(sorted({"log", *can.VALID_INTERFACES}))
        raise SourceError(f"{spec}: no interface {interface!r}; we and python-can know {known}")
    return PythonCanSource(interface, channel, bitrate, number, data_bitrate, listen_only)


class PythonCanSource:
    """One python-can bus, received only.

    python-can stamps with the wall clock on most interfaces; the offset to the monotonic clock is taken
    at the first frame, and anew where a stamp would lie in the future or over a second in the past.
    It computes its time-outs with the wall clock too, so it is never asked to wait: we do.
    """

    def __init__(
        self,
        interface: str,
        channel: str,
        bitrate: int,
        number: int,
        data_bitrate: int | None = None,
        listen_only: bool = True,
    ) -> None:
        self.name = f"{interface}:{channel}"
        self._interface, self._channel, self._number = interface, channel, number
        self._listen_only = listen_only
        self._options: dict[str, Any] = {"bitrate": bitrate, "receive_own_messages": False}
        if data_bitrate:
            self._options |= {"fd": True, "data_bitrate": data_bitrate}
        if listen_only:
            self._options |= LISTEN_ONLY.get(interface, {})
        self._bus: can.BusABC | None = None
        self._fileno: int | None = None
        self._offset_us: int | None = None
        self._last_us = 0
        self._frames = self._malformed = 0

    def open(self) -> None:
        """Open the bus.

        Raises
        ------
        SourceError
            python-can can't open it.
        """
        self.close()
        try:
            self._bus = can.Bus(interface=self._interface, channel=self._channel, **self._options)
            self._fileno = _fileno(self._bus)
            if self._interface == "udp_multicast" and self._fileno is not None:
                _only_own_groups(self._fileno)
        except (can.CanError, OSError, ValueError, ImportError, TypeError, AttributeError) as error:
            self.close()
            raise SourceError(f"{self.name}: cannot be opened: {error}") from None

    def read(self, timeout_s: float) -> Frames:
        """What has arrived; see Source.

        Raises
        ------
        SourceError
            The bus is gone.
        """
        if self._bus is None:
            raise SourceError(f"{self.name}: is not open")
        try:
            messages = self._waiting(self._bus)
            deadline = time.monotonic() + timeout_s
            while not messages and (left_s := deadline - time.monotonic()) > 0:
                self._wait(left_s)
                messages = self._waiting(self._bus)
        except Exception as error:  # python-can's interfaces raise almost anything
            raise SourceError(f"{self.name}: {error or type(error).__name__}") from None
        return self._to_frames(messages)

    def _waiting(self, bus: can.BusABC) -> list[can.Message]:
        messages: list[can.Message] = []
        while len(messages) < MAX_READ and (message := bus.recv(0)) is not None:
            messages.append(message)
        return messages

    def _wait(self, left_s: float) -> None:
        if self._fileno is None:
            time.sleep(min(POLL_S, left_s))
        else:
            select.select([self._fileno], [], [], left_s)

    def _to_frames(self, messages: list[can.Message]) -> Frames:
        frames, used = np.zeros(len(messages), FRAME), 0
        for message in messages:
            try:
                fill_frame(frames[used], message, self._time_us(message.timestamp), self._number)
                used += 1
            except (ValueError, OverflowError):
                frames[used] = np.zeros((), FRAME)
                self._malformed += 1
        self._frames += used
        return frames[:used]

    def close(self) -> None:
        """Close the bus."""
        bus, self._bus, self._fileno = self._bus, None, None
        if bus is not None:
            with contextlib.suppress(can.CanError, OSError):
                bus.shutdown()

    def fileno(self) -> int | None:
        """See Source."""
        return self._fileno

    def status(self) -> SourceStatus:
        """What python-can can tell: not what its drivers lost."""
        asked = self._listen_only and self._interface in LISTEN_ONLY
        complaint = (
            f"{self.name}: python-can can't ask it to listen only; set it so with its own tool, or say "
            "listen_only = false"
        )
        silent = self._interface in NO_CONTROLLER or asked or not self._listen_only
        return SourceStatus(
            state="down" if self._bus is None else "up",
            frames=self._frames,
            malformed=self._malformed,
            listen_only=True if asked else None,
            complaints=() if silent else (complaint,),
        )

    def _time_us(self, stamp_s: float) -> int:
        """The stamp on the monotonic scale; never runs backwards."""
        now, stamp = time.monotonic_ns() // 1000, round(stamp_s * 1e6)
        if self._offset_us is None or not now - 1_000_000 <= stamp + self._offset_us <= now:
            self._offset_us = now - stamp
        self._last_us = max(self._last_us, stamp + self._offset_us)
        return self._last_us


def _fileno(bus: can.BusABC) -> int | None:
    try:
        number = bus.fileno()
    except (NotImplementedError, can.CanError, OSError):
        return None
    return number if number >= 0 else None


def _only_own_groups(fileno: int) -> None:
    """A UDP socket gets every group that anyone on this machine has joined at its port, unless it says no."""
    if sys.platform != "linux":
        return
    with socket.socket(fileno=os.dup(fileno)) as same:
        if same.family == socket.AF_INET6:
            same.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
        else:
            same.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)


class LogSource:
    """A log file played as if it came now: at its own pace, its first frame when the source is opened.

    `PATH@CHANNEL` takes one channel of a log that has several. After its end nothing comes any more.
    """

    def __init__(self, place: str, number: int) -> None:
        self.name = f"log:{place}"
        path, _, channel = (
            place.rpartition("@") if "@" in place and not Path(place).exists() else (place, "", "")
        )
        self._path, self._channel, self._number = Path(path), channel, number
        self._parts: Iterator[Frames] | None = None
        self._next = np.zeros(0, FRAME)
        self._ahead_us: int | None = None  # monotonic time minus the log's
        self._last_us = 0
        self._count = 0
        self._end: str | None = None

    def open(self) -> None:
        """Begin at the log's beginning.

        Raises
        ------
        SourceError
            It can't be read, or is no log.
        """
        try:
            log = open_log(self._path)
        except LogError as error:
            raise SourceError(f"{self.name}: cannot be opened: {error}") from None
        self._parts, self._next = self._of_channel(log), np.zeros(0, FRAME)
        self._ahead_us = self._end = None

    def _of_channel(self, log: Any) -> Iterator[Frames]:
        for frames in log:
            chosen = frames
            if self._channel:
                numbers = [n for n, name in enumerate(log.channels) if str(name) == self._channel]
                chosen = frames[np.isin(frames["channel"], numbers)]
            elif len(log.channels) > 1:
                names = ", ".join(map(str, log.channels))
                raise SourceError(f"{self.name}: has the channels {names}; take one: log:{self._path}@NAME")
            chosen = chosen.copy()
            chosen["channel"] = self._number
            if len(chosen):
                yield chosen

    def read(self, timeout_s: float) -> Frames:
        """What is due; see Source.

        Raises
        ------
        SourceError
            The source is not open, or the log has several channels and none was named.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            due_us = self._due_us()
            left_s = deadline - time.monotonic()
            if due_us is not None and due_us <= time.monotonic_ns() // 1000:
                return self._take()
            if left_s <= 0:
                return np.zeros(0, FRAME)
            until_due_s = left_s if due_us is None else due_us / 1e6 - time.monotonic()
            time.sleep(max(min(left_s, until_due_s), 0.0))

    def _due_us(self) -> int | None:
        """When the next frame comes, in monotonic time; None after the end."""
        if self._parts is None:
            raise SourceError(f"{self.name}: is not open")
        if not len(self._next) and self._end is None:
            try:
                self._next = next(self._parts)
            except StopIteration:
                self._end = f"{self.name}: has ended"
            except LogError as error:
                self._end = str(error)
        if not len(self._next):
            return None
        first_us = int(self._next["time_us"][0])
        if self._ahead_us is None:
            self._ahead_us = time.monotonic_ns() // 1000 - first_us
        return first_us + self._ahead_us

    def _take(self) -> Frames:
        assert self._ahead_us is not None
        now_us = time.monotonic_ns() // 1000
        due = self._next["time_us"][:MAX_READ] + self._ahead_us <= now_us
        count = len(due) if due.all() else int(due.argmin())
        frames, self._next = self._next[:count], self._next[count:]
        times = np.maximum.accumulate(np.maximum(frames["time_us"] + self._ahead_us, self._last_us))
        frames["time_us"] = times
        self._last_us = int(times[-1])
        self._count += count
        return frames

    def close(self) -> None:
        """Stop."""
        self._parts = None

    def fileno(self) -> int | None:
        """None: a log can't be waited for."""
        return None

    def status(self) -> SourceStatus:
        """`ended` after the last frame, with a complaint that says how the log ended."""
        state = "down" if self._parts is None else "ended" if self._end else "up"
        return SourceStatus(state=state, frames=self._count, complaints=(self._end,) if self._end else ())
