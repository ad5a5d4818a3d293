"""Resistance of road and air."""

import pytest

from sim_bus.vehicle.road import C_R25, K_TYRE, SETTLED_W, TYRE_RISE_K, Road


def settled(ambient_degc, wet=0.0, watt=SETTLED_W):
    road = Road(ambient_degc, wet)
    for _ in range(6 * 3600):
        road.rolled(watt)
        road.second(1.0, ambient_degc, 101.325, 0.0, 0.0)
    return road


def test_warm_tyres_at_25_degc_roll_as_measured_there():
    road = settled(25.0)
    assert road.tyre_degc == pytest.approx(25 + TYRE_RISE_K, abs=0.1)
    assert road.rolling == pytest.approx(C_R25, rel=0.001)


def test_the_cold_follows_the_law_of_iso_28580():
    assert settled(5.0).rolling == pytest.approx(C_R25 / (1 - 20 * K_TYRE), rel=0.002)


def test_a_bus_that_stood_outside_rolls_heavily_first():
    soaked = Road(-20.0, 0.0)
    soaked.second(0.0, -20.0, 101.325, 0.0, 0.0)
    assert soaked.rolling > 1.08 * settled(-20.0).rolling


def test_wet_roads_hold_back():
    assert settled(10.0, wet=1.0).rolling > 1.2 * settled(10.0).rolling


def test_air_is_as_dense_as_the_standard_atmosphere():
    road = settled(15.0)
    assert road.drag / (0.5 * 0.65 * 8.2) == pytest.approx(1.225, rel=0.001)
    assert settled(-30.0).drag > 1.15 * road.drag
    assert road.air_n(10.0) == pytest.approx(4 * road.air_n(5.0))


def test_wind_helps_where_it_comes_from_behind():
    road = Road(15.0, 0.0)
    forces = []
    for heading in (0.0, 0.25, 0.5):
        road.second(1.0, 15.0, 93.0, 4.0, heading)
        forces.append(road.air_n(8.0))
    assert forces[0] > forces[1] > forces[2] > 0
    assert road.air_n(2.0) < 0  # blown along
