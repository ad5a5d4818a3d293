"""The simulated bus on its route: a driver, the road, the motor, and what else draws power.

Longitudinal dynamics after Guzzella and Sciarretta, "Vehicle Propulsion Systems" (2013), chapter 2; the
numbers are those of a 12 m city bus.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sim_bus.scenario import Scenario

EMPTY_KG = 13_500.0
PASSENGER_KG = 70.0
ROLLING = 0.0085
DRAG_AREA_M2 = 0.65 * 8.2
GRAVITY = 9.81
WHEEL_RADIUS_M = 0.48
GEAR = 22.0
DRIVE_EFFICIENCY = 0.87
REGEN_EFFICIENCY = 0.62
ACCELERATION = 0.95
BRAKING = 1.0
MAX_POWER_W = 240_000.0
HEAT_LOSS_W_PER_K = 420.0  # cabin, doors included
CABIN_DEGC = 18.0


@dataclass
class Vehicle:
    """State of the bus; step with dt_s, read the fields."""

    scenario: Scenario
    rng: np.random.Generator
    speed_ms: float = 0.0
    distance_m: float = 0.0
    odometer_m: float = 84_211_000.0
    torque_nm: float = 0.0
    motor_w: float = 0.0
    hvac_w: float = 0.0
    heater_w: float = 0.0
    charger_w: float = 0.0
    cabin_degc: float = CABIN_DEGC
    doors_open: bool = False
    _left_m: float = 0.0
    _dwell_s: float = 4.0
    _target_ms: float = 0.0

    def step(self, dt_s: float, battery_degc: float, soc: float) -> float:
        """Advance; the electrical power in W that the battery must give (negative: charging)."""
        scenario = self.scenario
        if scenario.activity == "drive":
            self._drive(dt_s, battery_degc, soc)
        else:
            # CC, then a taper as the battery fills
            self.charger_w = scenario.charger_kw * 1000 * min(1.0, max(0.0, (0.99 - soc) / 0.04))
        heating = (
            HEAT_LOSS_W_PER_K
            * (CABIN_DEGC - scenario.ambient_degc)
            / (1.6 if scenario.ambient_degc > -5 else 1.0)
        )
        self.hvac_w = min(abs(heating), 24_000.0) if scenario.activity == "drive" else 0.0
        self.heater_w = 7_000.0 if battery_degc < 5 else 0.0
        return self.motor_w + self.hvac_w + self.heater_w + scenario.aux_kw * 1000 - self.charger_w

    def _drive(self, dt_s: float, battery_degc: float, soc: float) -> None:
        acceleration = self._driver(dt_s)
        mass = EMPTY_KG + PASSENGER_KG * self.scenario.passengers
        grade = 0.012 * math.sin(self.distance_m / 900)
        air = 0.5 * 1.25 * DRAG_AREA_M2 * self.speed_ms**2
        road = mass * GRAVITY * (ROLLING + grade) + air if self.speed_ms > 0.1 else 0.0
        force = mass * 1.05 * acceleration + road
        power = force * self.speed_ms
        if power >= 0:
            self.motor_w = min(power / DRIVE_EFFICIENCY, MAX_POWER_W)
        else:
            # A cold or full battery takes little back; the rest goes into the friction brakes.
            take = float(np.interp(battery_degc, [-20, 10], [0.1, 1])) * float(
                np.interp(soc, [0.9, 1], [1, 0])
            )
            self.motor_w = max(power * REGEN_EFFICIENCY * take, -160_000.0)
        self.torque_nm = self.motor_w / max(self.motor_rad_s, 20.0)
        self.distance_m += self.speed_ms * dt_s
        self.odometer_m += self.speed_ms * dt_s

    def _driver(self, dt_s: float) -> float:
        """Stop to stop: speed up, roll, brake, dwell with open doors."""
        if self._dwell_s > 0:
            self._dwell_s -= dt_s
            self.doors_open = self._dwell_s > 1.5
            if self._dwell_s <= 0:
                self._left_m = self.scenario.stop_distance_m * self.rng.uniform(0.7, 1.4)
                self._target_ms = self.scenario.top_speed_kmh / 3.6 * self.rng.uniform(0.75, 1.0)
            return 0.0
        before = self.speed_ms
        if self._left_m <= self.speed_ms**2 / (2 * BRAKING) + self.speed_ms * dt_s:
            self.speed_ms = max(self.speed_ms - BRAKING * dt_s, 0.0)
            if self.speed_ms == 0:
                self._dwell_s = max(self.scenario.dwell_s * self.rng.uniform(0.6, 1.5), 2 * dt_s)
        else:
            self.speed_ms = min(self.speed_ms + ACCELERATION * dt_s, self._target_ms)
        self._left_m -= self.speed_ms * dt_s
        return (self.speed_ms - before) / dt_s

    @property
    def motor_rad_s(self) -> float:
        return self.speed_ms / WHEEL_RADIUS_M * GEAR
