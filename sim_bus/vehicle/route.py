"""One round: hills and stops, which stay; and what changes each time: passengers, lights, slow stretches.

A round is a ring: it ends where, and as high as, it began. Its stops lie `stop_distance_m` apart on average.
Passengers come and go so that the bus is empty at the terminus, fullest in the middle, and carries the plan's mean.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from edge.errors import ScenarioError
from sim_bus.scenario.model import RoutePlan
from sim_bus.streams import Streams

ALIGHTING = 0.2  # of those aboard, at each stop
MOST_PASSENGERS = 95  # a 12 m bus, full
LIGHT_CHANCE = 0.7  # of a red light between two stops, at traffic 1
LIGHT_S = (5.0, 45.0)
SLOW_CHANCE = 0.6  # of a slow stretch between two stops, at traffic 1
SLOW_SHARE = (0.35, 0.75)  # of the top speed
SHORTEST_M = 40.0  # between two standstills


@dataclass
class Leg:
    """From one standstill to the next."""

    length_m: float
    limit_ms: float
    slow_ms: float = 0.0  # the limit while the distance left is between the next two
    slow_from_m: float = 0.0
    slow_to_m: float = 0.0
    wait_s: float = 0.0  # at its end; at a bus stop the dwell says
    stop: int = -1  # the bus stop at its end; -1: a red light


class Route:
    """The road and who waits beside it.

    Raises
    ------
    ScenarioError
        The profile leaves the round, or the round does not close.
    """

    def __init__(self, plan: RoutePlan, streams: Streams) -> None:
        self.plan = plan
        self.length_m = plan.length_km * 1000
        self.stops = max(round(self.length_m / plan.stop_distance_m), 1)
        gaps = streams("vehicle.stops").uniform(0.7, 1.3, self.stops)
        self._gaps_m: list[float] = (gaps / gaps.sum() * self.length_m).tolist()
        self._lights = streams("vehicle.lights")
        self._slow = streams("vehicle.slow")
        self._pace = streams("vehicle.pace")
        self._people = streams("vehicle.passengers")
        shape = [math.sqrt(math.sin(math.pi * (i + 0.5) / self.stops)) for i in range(self.stops)]
        self._aboard = [plan.passengers * y * self.stops / sum(shape) for y in shape]  # the mean on each leg
        self.ends_m, self.slopes = _ring(plan, self.length_m)

    def legs(self, stop: int) -> list[Leg]:
        """The way from a stop to the next, with the red light and the slow stretch of this time, if any."""
        traffic, top_ms = self.plan.traffic, self.plan.top_speed_kmh / 3.6
        length = self._gaps_m[stop]
        limit = top_ms * self._pace.uniform(0.88, 1.0)
        light, where, wait = self._lights.random(3).tolist()
        slow, share, begin = self._slow.random(3).tolist()
        last = Leg(length, limit, stop=(stop + 1) % self.stops)
        if slow < SLOW_CHANCE * traffic:
            last.slow_ms = limit * (SLOW_SHARE[0] + share * (SLOW_SHARE[1] - SLOW_SHARE[0]))
            last.slow_from_m = length * (0.6 + 0.3 * begin)
            last.slow_to_m = last.slow_from_m - 0.5 * length
        if light >= LIGHT_CHANCE * traffic or length < 2 * SHORTEST_M:
            return [last]
        first = SHORTEST_M + where * (length - 2 * SHORTEST_M)
        last.length_m -= first
        seconds = LIGHT_S[0] + wait * (LIGHT_S[1] - LIGHT_S[0])
        return [Leg(first, limit, wait_s=seconds), last]

    def exchange(self, stop: int, aboard: int) -> tuple[int, float]:
        """At a stop: how many are aboard afterwards, and the dwell in s, longer where many come and go."""
        mean_on = self._aboard[stop]
        mean_before = self._aboard[stop - 1] if stop else 0.0
        leave = aboard if stop == 0 else int(self._people.binomial(aboard, ALIGHTING))
        come = int(self._people.poisson(max(mean_on - mean_before * (1 - ALIGHTING), 0.0)))
        come = min(come, MOST_PASSENGERS - aboard + leave)
        usual = mean_before * ALIGHTING + max(mean_on - mean_before * (1 - ALIGHTING), 0.0)
        busy = (leave + come) / usual if usual > 0 and stop else 1.0
        return aboard - leave + come, self.plan.dwell_s * (0.5 + 0.5 * busy)


def _ring(plan: RoutePlan, length_m: float) -> tuple[list[float], list[float]]:
    """Where each piece of the road ends, m, and its slope; from the profile's last row straight back to the first."""
    rows = [(km * 1000, height) for km, height in plan.profile]
    if rows[0][0] < 0 or rows[-1][0] > length_m:
        raise ScenarioError(f"route: profile leaves the round of {plan.length_km} km")
    if rows[0][0] > 0:
        rows.insert(0, (0.0, rows[0][1]))
    if rows[-1][0] < length_m:
        rows.append((length_m, rows[0][1]))
    if rows[-1][1] != rows[0][1]:
        raise ScenarioError(
            f"route: profile ends {rows[-1][1] - rows[0][1]:+g} m from where it began: a round must close"
        )
    pieces = [(b[0], (b[1] - a[1]) / (b[0] - a[0])) for a, b in itertools.pairwise(rows) if b[0] > a[0]]
    return [end for end, _ in pieces], [slope for _, slope in pieces]
