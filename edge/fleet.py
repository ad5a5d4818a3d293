"""Many agents in one process: one loop takes the turns of all, each when its tick is due.

An agent alone sleeps milliseconds between looks at its interfaces. Agents here are fed from within the process
(`Paced`), so a turn at each tick, ten a second, is all that they need; between the turns the process sleeps.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from edge import clock
from edge.agent import Agent
from edge.can.frames import FRAME, Frames
from edge.core import TICK_US

log = logging.getLogger("ayaz")

TICK_S = TICK_US / 1e6
JOIN_S = 0.2  # between one bus's joining and the next's: an estimator's first seconds cost it the most
SECOND_US = 1_000_000
LATE_US = 1_000_000


class Paced:
    """An `edge.agent.Input` of simulated seconds, handed over as time passes, as on a live bus.

    Parameters
    ----------
    seconds: FRAME arrays, each of one second, sorted by time, times in us from 0. A second is asked for when it
        begins, the first at the first `read`; after the last, nothing comes any more.

    Where the process can't keep up, the simulated time stands still while it is more than a second late: so what is
    handed over is never older than that.
    """

    def __init__(self, seconds: Iterator[Frames]) -> None:
        self._seconds = seconds
        self._left = np.zeros(0, FRAME)  # of the second under way, in live time
        self._made = 0
        self._begin_us: int | None = None  # live time of the simulation's 0
        self.late_us = 0  # for how long the simulated time stood still

    def read(self) -> Frames:
        """What has been sent until now; see Input."""
        now_us = clock.monotonic_us()
        if self._begin_us is None:
            self._begin_us = now_us
        parts = [self._due(now_us)]
        while (late_us := now_us - self._begin_us - self._made * SECOND_US) >= 0:
            frames = next(self._seconds, None)
            if frames is None:
                break
            stood_us = max(late_us - LATE_US, 0)
            self.late_us += stood_us
            self._begin_us += stood_us
            self._made += 1
            self._left = frames.copy()
            self._left["time_us"] += self._begin_us
            parts.append(self._due(now_us))
        return np.concatenate(parts)

    def _due(self, now_us: int) -> Frames:
        count = int(np.searchsorted(self._left["time_us"], now_us, side="right"))
        due, self._left = self._left[:count], self._left[count:]
        return due

    def losses(self) -> dict[str, int]:
        """None: nothing is lost on the way."""
        return {}

    def close(self) -> None:
        """What was not sent yet never is."""
        self._left, self._seconds = self._left[:0], iter(())


class Fleet:
    """Takes the turns of many agents, by name, until it is told to stop; then all seal, drain and close.

    An agent whose turn fails is told, stands in `failed` and leaves the loop: it seals what it has, and its uplink
    sends what was spooled. The others go on.
    """

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self.agents = dict(agents)
        self.failed: dict[str, str] = {}
        self.late_s = 0.0  # the latest that a turn ever was

    def run(self, stop: threading.Event, drain_s: float) -> None:
        """Until `stop`; `drain_s` is what each uplink has, at its end, for what still waits."""
        self._take_turns(stop, drain_s)
        for name in self.agents:
            if name not in self.failed:
                self._finish(name, drain_s)
        for name in self.agents:
            self._try(name, Agent.close)

    def _take_turns(self, stop: threading.Event, drain_s: float) -> None:
        """The loop. The buses join one after the other, so that their ticks and seconds lie side by side."""
        begin, apart = time.monotonic(), JOIN_S + TICK_S / max(len(self.agents), 1)
        due = [(begin + n * apart, n, name) for n, name in enumerate(self.agents)]
        new = set(self.agents)
        while due and not stop.wait(max(due[0][0] - time.monotonic(), 0)):
            at_s, n, name = due[0]
            self.late_s = max(self.late_s, time.monotonic() - at_s)
            if name in new:
                new.remove(name)
                self._try(name, Agent.open)
            if self._try(name, Agent.turn):
                heapq.heapreplace(due, (self.agents[name].due_s, n, name))
            else:
                heapq.heappop(due)
                self._finish(name, drain_s)

    def _finish(self, name: str, drain_s: float) -> None:
        if not self._try(name, lambda agent: agent.finish(drain_s)):
            self.agents[name].uplink.drain(drain_s)

    def _try(self, name: str, what: Callable[[Agent], object]) -> bool:
        """Whether it went well. One bus's trouble, of whatever kind, must not reach another's."""
        try:
            what(self.agents[name])
        except Exception as error:
            self.failed.setdefault(name, f"{type(error).__name__}: {error}")
            log.exception("%s failed and leaves the fleet; the other buses go on", name)
            return False
        return True
