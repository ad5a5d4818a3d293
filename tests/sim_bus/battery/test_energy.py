"""Where the battery's energy goes: what the cells' chemistry releases is given at the terminals or becomes heat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_bus.battery.battery import ROW, Battery
from sim_bus.battery.cell import GRID_FIRST, GRID_PER_SOC, KELVIN
from sim_bus.doors import STEP_S, FaultEffects, Orders
from sim_bus.scenario.model import BatteryPlan
from sim_bus.streams import Streams

SEED = 5


def chemistry_w(b: Battery, drain_a: np.ndarray) -> float:
    """Enthalpy that the cells gave up in the last step: current times (U - T dU/dT)."""
    grid = b.cell.grid()
    soc = GRID_FIRST + np.arange(len(grid)) / GRID_PER_SOC
    entropy = np.interp(b.soc, soc, grid[:, 2])
    thermoneutral = b.cells.open_circuit_v - (b.cells.temp_degc + KELVIN) * entropy
    return float(((b.string_a[:, None] + drain_a) * thermoneutral).sum())


def faulty(shape: tuple[int, int]) -> FaultEffects:
    rng = np.random.default_rng(SEED)
    short = np.full(shape, np.inf)
    short[0, 0] = 0.8
    return FaultEffects(
        short_ohm=short,
        busbar_ohm=rng.uniform(0, 2e-4, shape),
        extra_heat_w=rng.uniform(0, 3, shape),
        resistance_factor=rng.uniform(0.9, 2.0, shape),
        coolant_flow=0.7,
    )


@settings(max_examples=12, deadline=None)
@given(
    watts=st.lists(st.floats(-40e3, 40e3), min_size=3, max_size=12),
    degc=st.floats(-30, 40),
    soc=st.floats(0.05, 0.95),
    shape=st.sampled_from([(1, 1), (2, 9), (3, 10)]),
)
def test_energy_balances(watts, degc, soc, shape):
    plan = BatteryPlan(soc, degc, strings=shape[0], cells=shape[1], leakage_a=0.0)
    b = Battery(plan, Streams(SEED), degc - 5)
    contactors = np.ones(shape[0], np.bool_)
    balancing = np.arange(shape[0] * shape[1]).reshape(shape) % 4 == 1
    orders = Orders(3, contactors, False, 1e6, 1e6, 0.0, False, False, balancing)
    effects = faulty(shape)
    bleed_s = balancing * plan.balancing_a / b.cell.voltage_max_v
    before = b.thermal.stored_j()
    released = given_j = added = size = 0.0
    for n, w in enumerate(watts):
        contactors[-1] = n % 3 != 2  # a string that opens and closes again
        for _ in range(10):
            drain = b.cells.cell_v * (1 / effects.short_ohm + bleed_s)
            b.step(STEP_S, w, degc - 5, 800.0, 0.9, orders, effects)
            assert b.power_w == pytest.approx((b.cell_v.sum(axis=1) * b.string_a).sum(), rel=1e-12, abs=1e-9)
            released += chemistry_w(b, drain) * STEP_S
            given_j += b.power_w * STEP_S
            added += (800.0 + float(effects.extra_heat_w.sum())) * STEP_S
            size += (abs(b.power_w) + 800.0) * STEP_S
    heat = b.thermal.stored_j() - before + b.thermal.ambient_j - added
    assert released == pytest.approx(given_j + heat, abs=1e-9 * (size + abs(before)))


def test_the_same_seed_gives_the_same_run_to_the_byte():
    def run() -> bytes:
        b = Battery(BatteryPlan(0.6, -10.0, cells=20), Streams(SEED), -20.0)
        orders = Orders(
            3, np.ones(2, np.bool_), False, 1e6, 1e6, 0.0, False, False, np.zeros(b.shape, np.bool_)
        )
        rng = np.random.default_rng(SEED)
        out = b""
        for _ in range(60):
            watts = float(rng.normal(3e3, 1e4))
            for _ in range(10):
                b.step(STEP_S, watts, -20.0, 500.0, 1.0, orders, faulty(b.shape))
            assert len(b.row()) == len(ROW)
            out += b.cell_v.tobytes() + b.surface_degc.tobytes() + np.array(b.row()).tobytes()
        return out

    assert run() == run()


def test_insulation_breathes_and_a_fault_is_shown_as_it_is():
    b = Battery(BatteryPlan(0.6, 20.0, strings=1, cells=1), Streams(SEED), 20.0)
    orders = Orders(1, np.zeros(1, np.bool_), False, 0, 0, 0, False, False, np.zeros((1, 1), np.bool_))
    seen = []
    for _ in range(3600):
        b.step(1.0, 0.0, 20.0, 0.0, 0.0, orders, FaultEffects())
        seen.append(b.insulation_ohm)
    assert 1e6 < min(seen) < np.median(seen) < max(seen) < 4e6
    assert np.abs(np.diff(np.log(seen))).max() < 0.05
    assert np.std(seen) > 0
    b.step(1.0, 0.0, 20.0, 0.0, 0.0, orders, FaultEffects(insulation_ohm=70e3))
    assert b.insulation_ohm == 70e3
