"""The simulated bus on its route: a driver, the road, the motor, and what else draws power.

Longitudinal dynamics after Guzzella and Sciarretta, "Vehicle Propulsion Systems" (2013), chapter 2; the
numbers are those of a 12 m city bus.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sim_bus.battery import Limits
from sim_bus.scenario import Scenario

EMPTY_KG = 13_500.0
PASSENGER_KG = 70.0
ROLLING = 0.0085
DRAG_AREA_M2 = 0.65 * 8.2
GRAVITY = 9.81
AIR_KG_M3 = 1.25
ROTATING = 1.05  # the turning parts' share of the inertia
WHEEL_RADIUS_M = 0.48
GEAR = 22.0
DRIVE_EFFICIENCY = 0.87
REGEN_EFFICIENCY = 0.62
ACCELERATION = 0.95
BRAKING = 1.0
MAX_POWER_W = 240_000.0
MAX_REGEN_W = 160_000.0
HEAT_LOSS_W_PER_K = 420.0  # cabin, doors included
HEAT_PUMP_COP = 1.6
HEAT_PUMP_DEGC = -5.0  # below, the cabin is heated by resistance
MAX_HVAC_W = 24_000.0
CABIN_DEGC = 18.0
HEATER_W = 7_000.0
HEATER_DEGC = (5.0, 8.0)  # of the battery: the heater goes on below the first and off above the second


@dataclass
class Vehicle:
    """State of the bus; step with dt_s, read the fields."""

    scenario: Scenario
    rng: np.random.Generator
    speed_ms: float = 0.0
    distance_m: float = 0.0
    odometer_m: float = 84_211_000.0
    torque_nm: float = 0.0
    motor_w: float = 0.0  # electrical; negative: regenerated
    derated: bool = False
    hvac_w: float = 0.0
    heater_w: float = 0.0
    charger_w: float = 0.0
    cabin_degc: float = CABIN_DEGC
    doors_open: bool = False
    _left_m: float = 0.0
    _dwell_s: float = 4.0
    _target_ms: float = 0.0
    _braking: bool = False

    def step(self, dt_s: float, battery_degc: float, limits: Limits) -> float:
        """Advance; the electrical power in W that the battery must give (negative: charging)."""
        driving = self.scenario.activity == "drive"
        below, above = HEATER_DEGC
        self.heater_w = HEATER_W if battery_degc < (above if self.heater_w else below) else 0.0
        self.hvac_w = self._hvac() if driving else 0.0
        consumers = self.hvac_w + self.heater_w + self.scenario.aux_kw * 1000
        if driving:
            self._drive(dt_s, limits.discharge_w - consumers, limits.charge_w + consumers)
        else:
            self.charger_w = min(self.scenario.charger_kw * 1000, limits.charge_w + consumers)
        # An empty battery gives nothing; the consumers go without.
        return min(self.motor_w + consumers - self.charger_w, limits.discharge_w)

    def _hvac(self) -> float:
        ambient = self.scenario.ambient_degc
        need = abs(HEAT_LOSS_W_PER_K * (CABIN_DEGC - ambient))
        return min(need / (HEAT_PUMP_COP if ambient > HEAT_PUMP_DEGC else 1.0), MAX_HVAC_W)

    def _drive(self, dt_s: float, most_w: float, least_w: float) -> None:
        """One step of the road; the motor may draw most_w and give back least_w."""
        mass = EMPTY_KG + PASSENGER_KG * self.scenario.passengers
        grade = 0.012 * math.sin(self.distance_m / 900)
        road = mass * GRAVITY * (ROLLING + grade) + 0.5 * AIR_KG_M3 * DRAG_AREA_M2 * self.speed_ms**2
        inertia = mass * ROTATING
        before, wanted = self.speed_ms, self._wanted(dt_s)
        most_w = min(max(most_w, 0.0), MAX_POWER_W)
        force = most_w * DRIVE_EFFICIENCY / max(before + ACCELERATION * dt_s, 1.0)
        reachable = max(before + (force - road) / inertia * dt_s, 0.0)
        self.derated = wanted > reachable
        self.speed_ms = min(wanted, reachable)
        middle = (before + self.speed_ms) / 2
        wheel_w = (inertia * (self.speed_ms - before) / dt_s + road) * middle
        if wheel_w >= 0:
            self.motor_w = wheel_w / DRIVE_EFFICIENCY
        else:  # a cold or full battery takes little back; the rest goes into the friction brakes
            self.motor_w = -min(-wheel_w * REGEN_EFFICIENCY, least_w, MAX_REGEN_W)
        efficiency = DRIVE_EFFICIENCY if self.motor_w > 0 else 1 / REGEN_EFFICIENCY
        self.torque_nm = self.motor_w * efficiency / max(self.motor_rad_s, 20.0)
        self.distance_m += middle * dt_s
        self.odometer_m += middle * dt_s
        self._left_m -= middle * dt_s

    def _wanted(self, dt_s: float) -> float:
        """The driver, from stop to stop: speed up, roll, brake, dwell with open doors. The next speed."""
        if self._dwell_s > 0:
            self._dwell_s -= dt_s
            self.doors_open = self._dwell_s > 1.5
            if self._dwell_s <= 0:
                self._left_m = self.scenario.stop_distance_m * self.rng.uniform(0.7, 1.4)
                self._target_ms = self.scenario.top_speed_kmh / 3.6 * self.rng.uniform(0.75, 1.0)
            return 0.0
        self._braking |= self._left_m <= self.speed_ms**2 / (2 * BRAKING) + self.speed_ms * dt_s
        if not self._braking:
            return min(self.speed_ms + ACCELERATION * dt_s, self._target_ms)
        speed = max(self.speed_ms - BRAKING * dt_s, 0.0)
        if speed == 0:
            self._braking = False
            self._dwell_s = max(self.scenario.dwell_s * self.rng.uniform(0.6, 1.5), 2 * dt_s)
        return speed

    @property
    def motor_rad_s(self) -> float:
        return self.speed_ms / WHEEL_RADIUS_M * GEAR
