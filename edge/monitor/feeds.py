"""Where a monitored bus's frames come from: the interfaces themselves, or a log at its own pace.

A feed gives the bus frames and ticks (`advance`) and says how it stands (`picture`). It only listens.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge import clock
from edge.can.frames import FRAME, Frames
from edge.can.logs import Log
from edge.can.sources import Source, open_source
from edge.config import CanConfig
from edge.core import TICK_US
from edge.errors import LogError, SourceError
from edge.monitor.bus import Bus
from edge.recording import Piece, pieces

REOPEN_S = 1.0
BUDGET_S = 0.05  # how long `advance` may take before the keys are looked at again
SPEEDS = tuple(2.0**n for n in range(-4, 11))


@dataclass(frozen=True)
class SourcePicture:
    """One channel's source: its state, what was lost or went wrong by name, what it complains of.

    `controller` holds what the interface tells of itself: error counters, listen-only.
    """

    state: str
    losses: Mapping[str, int]
    complaints: tuple[str, ...] = ()
    controller: Mapping[str, int | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class FeedPicture:
    """How a feed stands. `elapsed_s` is the log's time; `trouble` is why a log ended early."""

    label: str
    live: bool
    elapsed_s: float = 0.0
    speed: float = 1.0
    paused: bool = False
    hurrying: bool = False
    finished: bool = False
    trouble: str = ""
    strangers: int = 0  # frames of channels that nobody named
    sources: Sequence[SourcePicture] = ()


class LiveFeed:
    """The channels of a configuration, listening; an interface that goes away is looked for every second."""

    def __init__(self, channels: Sequence[CanConfig], label: str) -> None:
        self._channels = [_Channel(c, n) for n, c in enumerate(channels)]
        self._label = label
        self._next_tick_us = 0

    def advance(self, bus: Bus) -> bool:
        """Feed what has arrived; whether more may be waiting."""
        more = False
        for channel in self._channels:
            frames = channel.read()
            if len(frames):
                bus.feed(frames)
                more = True
        now_us = clock.monotonic_us()
        if now_us >= self._next_tick_us:
            self._next_tick_us = now_us + TICK_US
            bus.tick(now_us)
        return more

    def key(self, name: str) -> bool:
        """The bus takes no orders."""
        return False

    def picture(self) -> FeedPicture:
        """How the channels stand."""
        return FeedPicture(self._label, live=True, sources=[c.picture() for c in self._channels])

    def close(self) -> None:
        for channel in self._channels:
            channel.close()


class _Channel:
    """One interface that comes back by itself after it went away. Every frame is taken, whatever filters the
    agent has: the load and the unknown identifiers must be true."""

    def __init__(self, config: CanConfig, number: int) -> None:
        self._source: Source = open_source(
            config.source,
            number,
            config.bitrate,
            data_bitrate=config.data_bitrate,
            listen_only=config.listen_only,
        )
        self._open = False
        self._trouble = ""
        self._reopened = 0
        self._next_try_s = 0.0

    def read(self) -> Frames:
        """What has arrived; nothing while the interface is away."""
        try:
            if not self._open and not self._try_to_open():
                return np.zeros(0, FRAME)
            return self._source.read(0.0)
        except SourceError as error:
            self._trouble = str(error)
            self.close()
            return np.zeros(0, FRAME)

    def _try_to_open(self) -> bool:
        if time.monotonic() < self._next_try_s:
            return False
        self._next_try_s = time.monotonic() + REOPEN_S
        self._source.open()
        self._open = True
        self._reopened += bool(self._trouble)
        self._trouble = ""
        return True

    def picture(self) -> SourcePicture:
        """How the source stands."""
        status = self._source.status()
        losses = {**status.losses(), "reopened": self._reopened}
        losses |= {f"{kind} errors": n for kind, n in status.error_frames.items()}
        controller = {name: getattr(status, name) for name in ("tx_errors", "rx_errors", "listen_only")}
        return SourcePicture(
            state=status.state if self._open else "away",
            losses={name: n for name, n in losses.items() if n},
            complaints=(*((self._trouble,) if self._trouble else ()), *status.complaints),
            controller={name: value for name, value in controller.items() if value is not None},
        )

    def close(self) -> None:
        self._source.close()
        self._open = False


class LogFeed:
    """A log at its own pace times `speed`; with `hurry`, as fast as it can be read, to its end."""

    def __init__(
        self,
        log: Log,
        chunks: Iterator[Frames],
        names: Sequence[str],
        speed: float = 1.0,
        hurry: bool = False,
    ) -> None:
        """`chunks` is what the log gives; `names` are the bus's channels."""
        self._log, self._names = log, list(names)
        self._strangers = 0
        self._speed, self._hurry, self._paused = speed, hurry, False
        self._pieces = pieces(map(self._renumbered, chunks))
        self._next: Piece | None = None
        self._clock_us = 0.0
        self._then_s: float | None = None
        self._begin_us: int | None = None
        self._now_us = 0
        self._finished = False
        self._trouble = ""
        self._step()

    def advance(self, bus: Bus, budget_s: float = BUDGET_S) -> bool:
        """Feed what is due; whether more is due already."""
        now_s = time.monotonic()
        passed_s = 0.0 if self._then_s is None else now_s - self._then_s
        self._then_s = now_s
        if self._paused:
            return False
        self._clock_us += passed_s * 1e6 * self._speed
        while self._next and (self._hurry or (self._next.tick_us or 0) <= self._clock_us):
            self._feed(bus)
            if time.monotonic() - now_s > budget_s:
                self._clock_us = min(self._clock_us, self._now_us + TICK_US)  # it can't keep that pace
                return True
        return False

    def run_to(self, bus: Bus, until_s: float | None) -> None:
        """Feed the log to that time of its own, or to its end."""
        while self._next and (until_s is None or self._elapsed_s() < until_s):
            self._feed(bus)

    def key(self, name: str) -> bool:
        """p pauses, + and - change the pace, > goes ten seconds on, e to the end."""
        if name == "p":
            self._paused, self._hurry = not self._paused, False
        elif name == "e":
            self._hurry, self._paused = not self._hurry, False
        elif name in "+=":
            self._speed = next((s for s in SPEEDS if s > self._speed), self._speed)
        elif name == "-":
            self._speed = next((s for s in reversed(SPEEDS) if s < self._speed), self._speed)
        elif name in (">", "right"):
            self._clock_us += 10e6
        else:
            return False
        return True

    def picture(self) -> FeedPicture:
        """How far the log is."""
        return FeedPicture(
            label=self._log.path.name,
            live=False,
            elapsed_s=self._elapsed_s(),
            speed=self._speed,
            paused=self._paused,
            hurrying=self._hurry and not self._finished,
            finished=self._finished,
            trouble=self._trouble,
            strangers=self._strangers,
        )

    def close(self) -> None:
        """A log needs no closing."""

    def _renumbered(self, frames: Frames) -> Frames:
        """With the bus's channel numbers: by name, else by order of appearance, as `ayaz replay` does it."""
        names = self._names
        known = [names.index(c) if c in names else n for n, c in enumerate(self._log.channels)]
        table = np.array(known + list(range(len(known), 256)), dtype=np.uint8)
        frames = frames.copy()
        frames["channel"] = table[frames["channel"]]
        ours = frames["channel"] < len(names)
        self._strangers += int(len(frames) - ours.sum())
        return frames[ours]

    def _elapsed_s(self) -> float:
        return (self._now_us - self._begin_us) / 1e6 if self._begin_us is not None else 0.0

    def _feed(self, bus: Bus) -> None:
        assert self._next is not None
        if len(self._next.frames):
            bus.feed(self._next.frames)
        if self._next.tick_us is not None:
            bus.tick(self._next.tick_us)
            self._now_us = self._next.tick_us
        self._step()

    def _step(self) -> None:
        try:
            self._next = next(self._pieces, None)
        except LogError as error:
            self._next, self._trouble = None, str(error)
        if self._next is None:
            self._finished = True
        elif self._begin_us is None and len(self._next.frames):
            first_us = int(self._next.frames["time_us"][0])
            self._begin_us = self._now_us = first_us // TICK_US * TICK_US
            self._clock_us = float(self._now_us)
