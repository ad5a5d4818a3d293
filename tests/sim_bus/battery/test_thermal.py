"""The battery's heat: nothing is lost, it flows the right way, and as fast as the docs say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_bus.battery.thermal import Thermal

HEAT_J_PER_K = 5400.0


def pack(degc: float, ambient_degc: float, strings: int = 2, cells: int = 24, coolant: float | None = None):
    first = np.full((strings, cells), degc)
    return Thermal(first, ambient_degc, degc if coolant is None else coolant, HEAT_J_PER_K)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 30)),
    dt_s=st.floats(0.1, 10),
    flow=st.floats(0, 1),
    tank_w=st.floats(-5e3, 10e3),
)
def test_heat_balances(seed, shape, dt_s, flow, tank_w):
    rng = np.random.default_rng(seed)
    thermal = Thermal(rng.uniform(-30, 40, shape), -25.0, 10.0, HEAT_J_PER_K)
    before, came = thermal.stored_j(), 0.0
    for _ in range(20):
        for heat in (thermal.core_j, thermal.surface_j, thermal.case_j):
            heat += rng.uniform(0, 50, heat.shape)
            came += float(heat.sum())
        came += tank_w * dt_s
        thermal.step(dt_s, -25.0, tank_w, flow)
    size = abs(before) + abs(came) + abs(thermal.ambient_j) + HEAT_J_PER_K
    assert thermal.stored_j() - before == pytest.approx(came - thermal.ambient_j, abs=1e-11 * size)


def test_warm_coolant_leaves_a_gradient_along_the_string():
    thermal = pack(-20.0, -20.0)
    for _ in range(1200):
        thermal.step(1.0, -20.0, 1000.0, 1.0)
    inner = thermal.surface_degc[0, 2:-2]
    assert (np.diff(inner) < 0).all()
    assert thermal.tank_degc > thermal.outlet_degc > thermal.surface_degc[0, -1] > -20
    assert (thermal.surface_degc > thermal.core_degc).all()  # it comes from outside


def test_the_heat_of_a_load_is_felt_by_the_core_first():
    thermal = pack(20.0, 20.0)
    for _ in range(60):
        thermal.core_j += 30.0
        thermal.step(1.0, 20.0, 0.0, 0.0)
    lag = thermal.core_degc - thermal.surface_degc
    assert (lag > 0.15).all()
    assert (lag < 30 / (1.5e-3 * HEAT_J_PER_K)).all()  # where it would come to rest


def test_end_cells_are_colder_in_the_cold():
    thermal = pack(20.0, -30.0)
    for _ in range(3 * 3600):
        thermal.step(1.0, -30.0, 0.0, 0.0)
    surface = thermal.surface_degc
    middle = surface[:, 12]
    assert (middle - surface[:, 0] > 0.5).all()
    assert (middle - surface[:, -1] > 0.5).all()


def test_stagnant_coolant_keeps_its_heat():
    flowing, standing = pack(0.0, 0.0), pack(0.0, 0.0)
    for _ in range(600):
        flowing.step(1.0, 0.0, 500.0, 1.0)
        standing.step(1.0, 0.0, 500.0, 0.0)
    assert flowing.core_degc.mean() > 0.5
    assert abs(standing.core_degc).max() < 1e-9
    assert standing.tank_degc > 40


def test_a_pack_left_alone_cools_in_half_a_day_or_so():
    thermal = pack(20.0, -10.0, cells=176)
    hours = 0
    while thermal.core_degc.mean() > -10 + 30 / np.e:
        thermal.step(3600.0, -10.0, 0.0, 0.0)
        hours += 1
    assert 12 <= hours <= 20


def test_everything_comes_to_the_ambients_temperature():
    thermal = pack(35.0, 5.0, strings=1, cells=1)
    for _ in range(80):
        thermal.step(3600.0, 5.0, 0.0, 1.0)
    assert thermal.core_degc == pytest.approx(5.0, abs=0.05)
    assert thermal.case_degc == pytest.approx(5.0, abs=0.05)
    assert thermal.tank_degc == pytest.approx(5.0, abs=0.05)


def test_a_long_step_is_many_short_ones():
    one, many = pack(10.0, -10.0), pack(10.0, -10.0)
    one.core_j += 6000.0
    one.step(60.0, -10.0, 700.0, 0.5)
    for _ in range(60):
        many.core_j += 100.0
        many.step(1.0, -10.0, 700.0, 0.5)
    np.testing.assert_allclose(one.core_degc, many.core_degc, rtol=1e-12)
    np.testing.assert_allclose(one.coolant_degc, many.coolant_degc, rtol=1e-12)
