"""The driver: from standstill to standstill within limits of acceleration, braking and jerk; doors; layover.

Limits of a standing passenger's comfort: about 1 m/s2 and 1 m/s3 (Hoberock, J. Dyn. Sys. Meas. Control 99, 1977).
"""

from __future__ import annotations

from sim_bus.vehicle.route import Leg, Route

ACCELERATION = 1.0  # m/s2
BRAKING = 0.9
HARD_BRAKING = 3.0
JERK = 1.0  # m/s3
EAGER = 0.6  # 1/s: how fast a difference to the wanted speed is made good
REACTION_S = 0.8
STANDSTILL_MS = 0.3
CLOSING_S = 3.0  # doors, at the end of a dwell
BOARDING_S = 20.0  # doors open, at both ends of a layover
OPEN, CLOSING, CLOSED = 0, 1, 2  # PositionOfDoors


class Driver:
    """Where the bus is on its round and what its driver wants; `wanted` each step, then `moved`."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.acceleration = 0.0
        self.place_m = 0.0  # in the round
        self.slope = route.slopes[0]
        self.stop = 0  # the last one, or where it stands
        self.rounds = 0
        self.layover = False
        self.layover_left_s = 0.0
        self.doors = CLOSED
        self.waiting = True
        self.at_stop = True
        self.passengers = 0
        self._wait_s = 0.0
        self._board_s = 0.0  # the first part of a wait: doors open as long as more than this is left
        self._legs: list[Leg] = []
        self._left_m = 0.0
        self._braking = False
        self._piece = 0

    def wanted(self, dt_s: float, speed_ms: float) -> float:
        """The next speed wanted, m/s."""
        if self.waiting:
            return self._stand(dt_s)
        leg, left = self._legs[0], self._left_m
        room = left if left > 0.2 else 0.2
        if self._braking or speed_ms * speed_ms > 2 * BRAKING * (left - REACTION_S * speed_ms):
            if speed_ms < STANDSTILL_MS and (self._braking or left < 1.0):
                self._arrive(leg)
                return 0.0
            self._braking = speed_ms > 0.0
            aim = -speed_ms * speed_ms / (2 * room)
            aim = aim if aim > -HARD_BRAKING else -HARD_BRAKING
        else:
            limit = leg.slow_ms if leg.slow_from_m > left > leg.slow_to_m else leg.limit_ms
            aim = EAGER * (limit - speed_ms)
            aim = ACCELERATION if aim > ACCELERATION else -BRAKING if aim < -BRAKING else aim
        now = self.acceleration if speed_ms > 0.0 else 0.0
        change, most = aim - now, JERK * dt_s
        change = most if change > most else -most if change < -most else change
        speed = speed_ms + (now + change) * dt_s
        return speed if speed > 0.0 else 0.0

    def moved(self, distance_m: float, acceleration: float) -> None:
        """So far it really went, with this acceleration."""
        self.acceleration = acceleration
        self._left_m -= distance_m
        self.place_m += distance_m
        ends = self.route.ends_m
        while self.place_m >= ends[self._piece] and self._piece < len(ends) - 1:
            self._piece += 1
            self.slope = self.route.slopes[self._piece]

    def park(self) -> None:
        """The timetable has other plans: everyone out, doors shut."""
        self.doors, self.passengers, self.layover = CLOSED, 0, False

    def resume(self) -> None:
        """Drive: from a stop once those who wait are in, from anywhere else at once."""
        if self.at_stop:
            self.passengers, dwell_s = self.route.exchange(self.stop, self.passengers)
            self._wait_s = max(dwell_s, BOARDING_S)

    def _arrive(self, leg: Leg) -> None:
        """At the end of a leg: a red light, a stop, or the terminus with its layover."""
        self._braking, self.waiting, self.acceleration = False, True, 0.0
        self.at_stop = leg.stop >= 0
        self._wait_s, self._board_s = leg.wait_s, 0.0
        if not self.at_stop:
            return
        self.stop = leg.stop
        self.passengers, self._wait_s = self.route.exchange(leg.stop, self.passengers)
        if leg.stop == 0:
            self.rounds += 1
            self.place_m -= self.route.length_m
            self._piece, self.slope = 0, self.route.slopes[0]
            if self.route.plan.layover_s > 0:
                self.layover, self._wait_s = True, self.route.plan.layover_s
                self._board_s = self._wait_s - BOARDING_S

    def _stand(self, dt_s: float) -> float:
        """Wait with the doors as they should be; then the next leg begins."""
        self._wait_s -= dt_s
        wait = self._wait_s
        self.layover_left_s = wait if self.layover else 0.0
        if wait <= 0.0:
            self._depart()
        elif self.at_stop:
            board = wait < BOARDING_S or wait > self._board_s if self.layover else True
            self.doors = OPEN if board and wait > CLOSING_S else CLOSING if wait <= CLOSING_S else CLOSED
        return 0.0

    def _depart(self) -> None:
        self.waiting, self.layover, self.doors = False, False, CLOSED
        if self.at_stop:
            self._legs = self.route.legs(self.stop)
        else:
            self._legs.pop(0)
        self.at_stop = False
        self._left_m += self._legs[0].length_m  # what it stopped short or far is made good
