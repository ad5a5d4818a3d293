"""The battery as a whole: strings that share a voltage, energy that adds up, contactors, faults, cold, empty and full."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ScenarioError
from sim_bus.battery.ageing import Ageing
from sim_bus.battery.battery import BLEEDER_OHM, LETS_GO, LINK_F, Battery
from sim_bus.doors import STEP_S, FaultEffects, Orders
from sim_bus.scenario.model import BatteryPlan
from sim_bus.streams import Streams

SEED = 20_266
NONE = FaultEffects()


def battery(
    soc: float = 0.6, degc: float = 20.0, strings: int = 2, cells: int = 12, **plan: Any
) -> tuple[Battery, Orders]:
    """One with closed contactors."""
    made = Battery(BatteryPlan(soc, degc, strings=strings, cells=cells, **plan), Streams(SEED), degc)
    orders = Orders(
        3, np.ones(strings, np.bool_), False, 1e6, 1e6, 0.0, False, False, np.zeros(made.shape, np.bool_)
    )
    return made, orders


def drive(b: Battery, orders: Orders, power_w: float, seconds: float, effects: FaultEffects = NONE) -> None:
    for _ in range(round(seconds / STEP_S)):
        b.step(STEP_S, power_w, 20.0, 0.0, 1.0, orders, effects)


def test_the_power_asked_is_given_at_one_voltage() -> None:
    b, orders = battery()
    for watts in (0.0, 5e3, -4e3, 12e3, 1.0):
        drive(b, orders, watts, 1)
        assert b.power_w == pytest.approx(watts, abs=0.5)
        assert np.ptp(b.string_v) < 1e-3
        assert b.voltage_v * b.string_a.sum() == pytest.approx(b.power_w, abs=0.5)
    assert b.unsolved == 0


def test_charge_is_counted() -> None:
    b, orders = battery(leakage_a=0.0)
    before = b.soc * b.capacity_ah
    moved = np.zeros(2)
    for _ in range(600):
        drive(b, orders, 9e3, STEP_S)
        moved += b.string_a * STEP_S / 3600
    assert (before - b.soc * b.capacity_ah).mean(axis=1) == pytest.approx(moved, rel=1e-4), (
        "ageing takes a little"
    )


def test_strings_of_different_charge_equalise() -> None:
    b, orders = battery(soc_sd=0.0)
    b.cells.soc[0] -= 0.45
    drive(b, orders, 0.0, 1)
    assert b.string_a[0] < -1 < 1 < b.string_a[1]
    assert b.string_a.sum() == pytest.approx(0, abs=0.05)
    apart = np.ptp(b.soc.mean(axis=1))
    drive(b, orders, 0.0, 120)
    assert np.ptp(b.soc.mean(axis=1)) < apart


@pytest.mark.parametrize("degc", [-30.0, 25.0, 45.0])
@pytest.mark.parametrize("soc", [0.02, 0.5, 0.98])
def test_more_than_there_is_gives_the_most_and_no_nonsense(soc: float, degc: float) -> None:
    b, orders = battery(soc, degc)
    for watts in (1e9, -1e9):
        drive(b, orders, watts, 5)
        assert np.isfinite(b.cell_v).all()
        assert np.isfinite(b.string_a).all()
        assert 0 < abs(b.power_w) < 1e9
        assert np.sign(b.power_w) == np.sign(watts)


@pytest.mark.parametrize(("strings", "cells"), [(1, 1), (3, 10)])
def test_any_number_of_strings_and_cells(strings: int, cells: int) -> None:
    b, orders = battery(strings=strings, cells=cells)
    drive(b, orders, 100.0 * cells, 10)
    assert b.power_w == pytest.approx(100.0 * cells, rel=1e-4)
    assert b.cell_v.shape == (strings, cells)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-60e3, 60e3), min_size=1, max_size=20), st.floats(-30, 45), st.floats(0.02, 0.98))
def test_whatever_is_asked(watts: list[float], degc: float, soc: float) -> None:
    b, orders = battery(soc, degc)
    for w in watts:
        drive(b, orders, w, 0.5)
        assert np.isfinite(b.cell_v).all()
        assert abs(b.power_w) <= abs(w) + 1
        assert np.ptp(b.string_v) < 0.05


def test_open_contactors_carry_nothing_and_the_link_precharges_and_bleeds() -> None:
    b, orders = battery(soc_sd=0.0)
    orders.contactors[:] = False
    drive(b, orders, 5e3, 2)
    assert b.string_a.tolist() == [0, 0]
    assert (b.power_w, b.link_v) == (0.0, 0.0)
    drive(b, dataclasses.replace(orders, precharge=True), 0.0, 0.3)
    assert 0.5 * b.voltage_v < b.link_v < b.voltage_v
    drive(b, dataclasses.replace(orders, precharge=True), 0.0, 2)
    assert b.link_v == pytest.approx(b.voltage_v, rel=1e-3)
    full = b.link_v
    drive(b, orders, 0.0, 10)
    assert b.link_v == pytest.approx(full * np.exp(-10 / (BLEEDER_OHM * LINK_F)), rel=1e-3)
    orders.contactors[0] = True
    drive(b, orders, 3e3, 1)
    assert b.string_a[1] == 0
    assert b.string_a[0] * b.string_v[0] == pytest.approx(3e3, abs=1)


def test_balancing_and_shorts_empty_their_cells() -> None:
    b, orders = battery(soc_sd=0.0, leakage_a=0.0, capacity_sd=0.0)
    orders.contactors[:] = False  # or the other string would fill it up again
    orders.balancing[0, 3] = True
    short = np.full(b.shape, np.inf)
    short[1, 5] = 0.5
    drive(b, orders, 0.0, 1800, FaultEffects(short_ohm=short))
    lost = (b.soc.max() - b.soc) * b.capacity_ah
    volts = float(b.cell_v[0, 3])
    assert lost[0, 3] == pytest.approx(0.5 * 0.2 * volts / b.cell.voltage_max_v, rel=0.03)
    assert lost[1, 5] == pytest.approx(0.5 * volts / 0.5, rel=0.03)
    assert np.sort(lost.ravel())[-3] < 0.02
    assert b.temp_degc[1, 5] > b.temp_degc[1, 0]


def test_a_loose_busbar_shows_in_its_cell_and_heats_nobody_else() -> None:
    b, orders = battery(soc_sd=0.0, resistance_sd=0.0)
    busbar = np.zeros(b.shape)
    busbar[0, 4] = 1e-3
    drive(b, orders, 20e3, 2, FaultEffects(busbar_ohm=busbar))
    neighbour = b.cell_v[0, 3]
    assert neighbour - b.cell_v[0, 4] == pytest.approx(1e-3 * b.string_a[0], rel=0.05)


def test_a_weak_cell_dips_first() -> None:
    b, orders = battery(soc_sd=0.0, resistance_sd=0.0)
    worse = np.ones(b.shape)
    worse[1, 2] = 2.0
    drive(b, orders, 20e3, 3, FaultEffects(resistance_factor=worse, capacity_factor=1 / worse))
    assert b.cell_v.argmin() == 12 + 2


def test_heat_in_is_heat_stored_and_heat_out() -> None:
    """Warmer by what was made inside, over the heat capacity, where nothing leaves."""
    b, orders = battery(soc_sd=0.0)
    hot = np.full(b.shape, 10.0)
    before = b.temp_degc.mean()
    drive(b, orders, 0.0, 300, FaultEffects(extra_heat_w=hot))
    drive(b, orders, 0.0, 600)  # core and surface are level now
    gained = (b.temp_degc.mean() - before) * b.cell.heat_j_per_k
    assert 0.8 * 3000 < gained < 3000, "the rest is in plate, case and tank"
    cold, heated = battery(degc=-20.0, cells=176)
    for _ in range(6000):
        cold.step(STEP_S, 0.0, -20.0, 6000.0, 1.0, heated, NONE)
    assert cold.coolant_in_degc > cold.coolant_out_degc > -20
    warmed = cold.temp_degc.mean() + 20
    assert 0.4 * 3.6e6 / (352 * cold.cell.heat_j_per_k) < warmed < 3.6e6 / (352 * cold.cell.heat_j_per_k)
    along = cold.temp_degc.mean(axis=0)
    assert along[10] > along[-10], "the coolant is warmest where it comes in"


def test_blocked_coolant_warms_little() -> None:
    b, orders = battery(degc=-20.0)
    free, blocked = (battery(degc=-20.0)[0] for _ in range(2))
    for _ in range(3000):
        free.step(STEP_S, 0.0, -20.0, 500.0, 1.0, orders, NONE)
        blocked.step(STEP_S, 0.0, -20.0, 500.0, 1.0, orders, FaultEffects(coolant_flow=0.0))
    assert free.temp_degc.mean() > blocked.temp_degc.mean() + 0.2
    assert b.temp_degc.mean() == pytest.approx(-20, abs=0.3)


def test_ageing_takes_capacity_and_adds_resistance() -> None:
    new, orders = battery(age_years=0.0, soc_sd=0.0)
    old, _ = battery(age_years=8.0, soc_sd=0.0)
    assert np.all(old.capacity_ah < new.capacity_ah)
    loss = 1 - (old.capacity_ah / new.capacity_ah).mean()
    print(f"capacity lost in 8 years: {100 * loss:.1f} %")
    assert 0.08 < loss < 0.3
    assert (old.resistance / new.resistance).mean() > 1.05
    fast, _ = battery(age_years=0.0, soc_sd=0.0, ageing_factor=365.25 * 24 * 3600 / 60)
    before = fast.capacity_ah.mean()
    drive(fast, orders, 2e3, 60)
    assert 0.97 > fast.capacity_ah.mean() / before > 0.85, "a year in a minute"


def test_the_same_seed_gives_the_same_battery() -> None:
    one, two = battery()[0], battery()[0]
    assert one.capacity_ah.tobytes() == two.capacity_ah.tobytes()
    other = Battery(BatteryPlan(0.6, 20.0, cells=12), Streams(SEED + 1), 20.0)
    assert one.capacity_ah.tobytes() != other.capacity_ah.tobytes()
    assert np.std(battery(cells=176)[0].capacity_ah) / 280 == pytest.approx(0.006, rel=0.15)


@pytest.mark.parametrize(
    "plan", [{"soc": 1.5}, {"cells": 0}, {"capacity_sd": -1.0}, {"cell": "no_such"}, {"soc": float("nan")}]
)
def test_impossible_plans(plan: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError):
        Battery(BatteryPlan(**({"soc": 0.5, "temp_degc": 20.0} | plan)), Streams(1), 20.0)


def test_impossible_orders() -> None:
    b, orders = battery()
    with pytest.raises(ScenarioError, match="no power"):
        drive(b, orders, float("nan"), 1)
    with pytest.raises(ScenarioError, match="short_ohm"):
        drive(battery()[0], orders, 0.0, 1, FaultEffects(short_ohm=np.ones((1, 1))))


def test_inverter_and_charger_let_go_at_their_limits() -> None:
    """Frozen, half the voltage would give the most; warm and full, there would be no end of it."""
    frozen, orders = battery(0.5, -30.0)
    drive(frozen, orders, 1e9, 2)
    lowest = LETS_GO[0] * frozen.cell.voltage_min_v * 12
    assert frozen.voltage_v == pytest.approx(lowest, rel=1e-3)
    full, orders = battery(0.98, 25.0)
    drive(full, orders, -1e9, 2)
    assert full.voltage_v == pytest.approx(LETS_GO[1] * full.cell.voltage_max_v * 12, rel=1e-3)


def test_a_string_that_opens_under_load_carries_nothing_more() -> None:
    b, orders = battery()
    drive(b, orders, 10e3, 2)
    assert (b.string_a > 10).all()
    orders.contactors[0] = False
    drive(b, orders, 5e3, 1)
    assert b.string_a[0] == 0
    assert b.closed.tolist() == [False, True]
    soc = b.soc[0].copy()
    drive(b, orders, 5e3, 60)
    assert b.soc[0] == pytest.approx(soc, abs=1e-5), "its leakage only"


def test_the_link_is_charged_from_the_highest_string() -> None:
    b, orders = battery(soc_sd=0.0)
    b.cells.soc[0] -= 0.45
    orders.contactors[:] = False
    drive(b, orders, 0.0, STEP_S)
    assert b.string_v[0] < b.string_v[1]
    drive(b, dataclasses.replace(orders, precharge=True), 0.0, STEP_S)
    assert b.string_a[0] == 0 < b.string_a[1]
    before = b.link_v
    drive(b, dataclasses.replace(orders, precharge=True), 0.0, STEP_S)
    assert b.string_a[1] * STEP_S == pytest.approx(LINK_F * (b.link_v - before), rel=1e-9)


def test_cells_leak_each_its_own() -> None:
    b, orders = battery(leakage_a=0.2, cells=176, soc_sd=0.0)
    orders.contactors[:] = False
    before = b.soc * b.capacity_ah
    drive(b, orders, 0.0, 600)
    leak_a = (before - b.soc * b.capacity_ah) * 6
    assert leak_a.min() > 0
    assert leak_a.mean() == pytest.approx(0.2, rel=0.15)
    assert 0.3 < leak_a.std() / leak_a.mean() < 0.7, "a gamma distribution of shape 4 has 0.5"


def test_what_is_drawn_for_one_thing_is_not_drawn_again_for_another() -> None:
    b, _ = battery(cells=176, soc_sd=0.01)
    drawn = [b.capacity_ah, b.resistance, b.soc, b.temp_degc]
    off_diagonal = np.corrcoef([d.ravel() for d in drawn]) - np.eye(4)
    assert np.abs(off_diagonal).max() < 0.3


def test_a_fault_that_ends_leaves_the_cells_as_they_were() -> None:
    b, orders = battery()
    capacity, resistance = b.capacity_ah.copy(), b.resistance.copy()
    half = np.full(b.shape, 0.5)
    drive(b, orders, 0.0, 1, FaultEffects(capacity_factor=half, resistance_factor=1 / half))
    assert b.capacity_ah == pytest.approx(capacity / 2)
    assert b.resistance == pytest.approx(resistance * 2)
    drive(b, orders, 0.0, 1)
    assert b.capacity_ah == pytest.approx(capacity)
    assert b.resistance == pytest.approx(resistance)


def test_longer_steps_give_nearly_the_same() -> None:
    short, orders = battery()
    long, _ = battery()
    drive(short, orders, 8e3, 120)
    for _ in range(120):
        long.step(1.0, 8e3, 20.0, 0.0, 1.0, orders, NONE)
    assert long.cell_v == pytest.approx(short.cell_v, abs=5e-4)
    assert long.soc == pytest.approx(short.soc, abs=1e-5)


def test_age_follows_what_passed_through_the_strings() -> None:
    """Three times ten seconds, out and in, against the laws fed by hand."""
    factor = 1e5
    b, orders = battery(age_years=0.0, ageing_factor=factor)
    plain = Ageing(b.soc.copy(), b.cell.capacity_ah)
    for watts in (9e3, -5e3, 4e3):
        amps = []
        for k in range(100):
            drive(b, orders, watts if k % 10 < 7 else -watts / 3, STEP_S)
            amps.append(b.string_a.copy())
        a = np.array(amps)[:, :, None]
        rate = (a * a).sum(axis=0) / np.abs(a).sum(axis=0) / b.cell.capacity_ah
        out_ah, in_ah = (np.maximum(sign * a, 0).sum(axis=0) * STEP_S / 3600 for sign in (1, -1))
        plain.step(10.0, b.soc, b.temp_degc, out_ah, in_ah, rate, factor)
        assert b.ageing.loss == pytest.approx(plain.loss, rel=1e-9)
        assert b.ageing.gain == pytest.approx(plain.gain, rel=1e-9)
