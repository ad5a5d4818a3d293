"""A bus to drive in tests: healthy orders, and a battery of one lump for what its heating takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from sim_bus.doors import STEP_S, FaultEffects, Orders
from sim_bus.scenario.model import BatteryPlan, BusPlan, RoutePlan, Scenario, Weather
from sim_bus.streams import Streams
from sim_bus.vehicle import Vehicle

VOLTAGE_V = 563.0
BATTERY_J_PER_K = 2.0e6  # 1.9 t of LFP cells
BATTERY_W_PER_K = 60.0  # of its cases to the air
BATTERY_OHM = 0.05
HEAT_DEGC = (15.0, 18.0)  # heated below the first until the second


def scenario(ambient_degc: float = 15.0, **tables: Any) -> Scenario:
    """One of constant weather; bus, route, timetable and so on as keyword arguments."""
    plan = Scenario("test", Weather(((0.0, ambient_degc),)), BatteryPlan(0.8, ambient_degc))
    return replace(plan, **tables)


def orders(**changed: Any) -> Orders:
    """Of a healthy BMS that closed its contactors."""
    healthy = Orders(
        state=3,
        contactors=np.array([True, True]),
        precharge=False,
        discharge_w=300e3,
        charge_w=200e3,
        charge_a=0.0,
        heat=False,
        cool=False,
        balancing=np.zeros((2, 176), dtype=bool),
    )
    return replace(healthy, **changed)


class Ride:
    """A vehicle and its clock; `power_j` is the integral of what it asked of the battery."""

    def __init__(self, plan: Scenario, seed: int = 1) -> None:
        self.vehicle = Vehicle(plan, Streams(seed))
        self.power_j = self.regen_j = 0.0
        self.power_w = 0.0
        self._steps = itertools.count()
        self.t_s = 0.0

    def step(self, told: Orders, effects: FaultEffects | None = None, voltage_v: float = VOLTAGE_V) -> float:
        self.t_s = next(self._steps) * STEP_S
        self.power_w = self.vehicle.step(STEP_S, self.t_s, told, voltage_v, effects or FaultEffects())
        self.power_j += self.power_w * STEP_S
        self.regen_j += self.vehicle.regen_w * STEP_S
        return self.power_w

    def run(self, seconds: float, told: Orders, effects: FaultEffects | None = None) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.step(told, effects)


@dataclass
class Hour:
    """What was reached at the end of an hour."""

    km: float
    kwh: float
    battery_heat_kwh: float
    regen_kwh: float
    fuel_l: float


def day(
    ambient_degc: float,
    heating: str,
    hours: int,
    seed: int = 1,
    *,
    heat_degc: tuple[float, float] = HEAT_DEGC,
    case_w_per_k: float = BATTERY_W_PER_K,
) -> tuple[Ride, list[Hour]]:
    """Rounds with a battery that was soaked in the cold, takes little charge there, and is heated by a thermostat."""
    ride = Ride(scenario(ambient_degc, bus=BusPlan(heating=heating)), seed)
    vehicle, told = ride.vehicle, orders()
    degc, reached = ambient_degc, []
    for _ in range(hours):
        for k in range(round(3600 / STEP_S)):
            if k % 10 == 0:
                told.heat = degc < heat_degc[1] if told.heat else degc < heat_degc[0]
                told.charge_w = 200e3 * min(max((degc + 5) / 20, 0.0), 1.0)
            loss_w = (ride.step(told) / VOLTAGE_V) ** 2 * BATTERY_OHM
            out_w = case_w_per_k * (degc - ambient_degc)
            degc += (vehicle.coolant_heat_w + loss_w - out_w) * STEP_S / BATTERY_J_PER_K
        kwh = (ride.power_j, vehicle.energy.battery_heat, ride.regen_j)
        reached.append(Hour(vehicle.distance_m / 1000, *(j / 3.6e6 for j in kwh), vehicle.fuel_l))
    return ride, reached


@pytest.fixture(scope="session")
def days() -> Callable[[float, str, int], tuple[Ride, list[Hour]]]:
    """Days by ambient, heating and hours, each driven once."""
    driven: dict[tuple[float, str, int], tuple[Ride, list[Hour]]] = {}

    def get(ambient_degc: float, heating: str, hours: int) -> tuple[Ride, list[Hour]]:
        key = (ambient_degc, heating, hours)
        if key not in driven:
            driven[key] = day(*key)
        return driven[key]

    return get


@pytest.fixture
def drive_day() -> Callable[..., tuple[Ride, list[Hour]]]:
    return day


@pytest.fixture
def make_ride() -> Callable[..., Ride]:
    return lambda ambient_degc=15.0, seed=1, **tables: Ride(scenario(ambient_degc, **tables), seed)


@pytest.fixture
def make_orders() -> Callable[..., Orders]:
    return orders


@pytest.fixture
def winter_route() -> RoutePlan:
    """Hilly and short, so that a round is soon over."""
    return RoutePlan(length_km=3.0, profile=((0.0, 800.0), (1.0, 830.0), (2.2, 790.0)), layover_s=60.0)
