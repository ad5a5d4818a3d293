"""Sources of frames: anything that python-can reads. They only receive; there is no send in here.

A source spec is `INTERFACE:CHANNEL` (`socketcan:can0`, `virtual:bus-1`, `udp_multicast:239.74.163.2`);
a plain `can0` is SocketCAN.
"""

from __future__ import annotations

import contextlib
import time
from typing import Protocol

import can
import numpy as np

from edge.can.frames import FRAME, Frames
from edge.can.messages import fill_frame
from edge.errors import SourceError

MAX_READ = 1024


class Source(Protocol):
    """Where frames come from. Times are monotonic microseconds."""

    name: str

    def open(self) -> None:
        """Begin to receive. Raises SourceError."""

    def read(self, timeout_s: float) -> Frames:
        """What has arrived, up to 1024 frames; waits up to timeout_s for the first. Raises SourceError."""

    def close(self) -> None:
        """Stop; may be called twice."""


def open_source(spec: str, number: int, bitrate: int) -> Source:
    """The source of a spec, not yet open.

    Raises
    ------
    SourceError
        The interface is not one that python-can knows.
    """
    interface, _, channel = spec.partition(":") if ":" in spec else ("socketcan", "", spec)
    if interface not in can.VALID_INTERFACES:
        raise SourceError(
            f"{spec}: no interface {interface!r}; python-can knows {', '.join(sorted(can.VALID_INTERFACES))}"
        )
    return PythonCanSource(interface, channel, bitrate, number)


class PythonCanSource:
    """One python-can bus, received only.

    python-can stamps with the wall clock on most interfaces; the offset to the monotonic clock is taken
    at the first frame, and anew where a stamp would lie in the future or over a second in the past.
    """

    def __init__(self, interface: str, channel: str, bitrate: int, number: int) -> None:
        self.name = f"{interface}:{channel}"
        self._interface, self._channel, self._bitrate, self._number = interface, channel, bitrate, number
        self._bus: can.BusABC | None = None
        self._offset_us: int | None = None
        self._last_us = 0

    def open(self) -> None:
        """Open the bus.

        Raises
        ------
        SourceError
            python-can can't open it.
        """
        try:
            self._bus = can.Bus(interface=self._interface, channel=self._channel, bitrate=self._bitrate)
        except (can.CanError, OSError, ValueError, ImportError, TypeError) as error:
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
        messages = []
        try:
            message = self._bus.recv(timeout_s)
            while message is not None:
                messages.append(message)
                message = self._bus.recv(0) if len(messages) < MAX_READ else None
        except (can.CanError, OSError, ValueError) as error:
            raise SourceError(f"{self.name}: {error}") from None
        frames = np.zeros(len(messages), FRAME)
        for frame, message in zip(frames, messages, strict=True):
            fill_frame(frame, message, self._time_us(message.timestamp), self._number)
        return frames

    def close(self) -> None:
        """Close the bus."""
        bus, self._bus = self._bus, None
        if bus is not None:
            with contextlib.suppress(can.CanError, OSError):
                bus.shutdown()

    def _time_us(self, stamp_s: float) -> int:
        """The stamp on the monotonic scale; never runs backwards."""
        now, stamp = time.monotonic_ns() // 1000, round(stamp_s * 1e6)
        if self._offset_us is None or not now - 1_000_000 <= stamp + self._offset_us <= now:
            self._offset_us = now - stamp
        self._last_us = max(self._last_us, stamp + self._offset_us)
        return self._last_us
