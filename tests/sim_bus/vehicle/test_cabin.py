"""Heat of the cabin."""

import pytest

from sim_bus.scenario.model import BusPlan
from sim_bus.vehicle.cabin import HEATINGS, RESISTANCE_W, Cabin, cooling_cop, heating_cop, sun_share


def settle(ambient_degc, hours=3, people=20, doors_open=0.2, share=1.0, on=True, sun=0.0, **plan):
    cabin = Cabin(BusPlan(**plan), ambient_degc)
    wanted = 0.0
    seconds = round(hours * 3600)
    for k in range(seconds):
        cabin.second(1.0, ambient_degc, sun, people, 5.0, doors_open, share, on)
        if k >= seconds - 600:
            wanted += cabin.want_w / 600
    return cabin, wanted


def test_it_holds_its_temperature():
    cabin, _ = settle(-2.0)
    assert 16 < cabin.air_degc < 18
    cabin, _ = settle(36.0, sun=600.0)
    assert 24 < cabin.air_degc < 26.5


def test_at_minus_30_resistance_is_not_enough():
    cabin, wanted = settle(-30.0, first_cabin_degc=18.0)
    assert wanted > RESISTANCE_W
    assert cabin.air_degc < 12


@pytest.mark.parametrize("degc", [-10.0, 0.0, 8.0])
def test_a_heat_pump_for_the_cold_saves(degc):
    cold, usual = settle(degc, heating="heat_pump")[1], settle(degc)[1]
    if degc < -5:
        assert cold < 0.7 * usual
    else:
        assert cold == pytest.approx(usual)


def test_fuel_warms_below_its_heat_pumps_range_and_only_there():
    cabin, wanted = settle(-15.0, heating="fuel")
    assert cabin.fuel_heat_w > 5000
    assert wanted < 1200
    cabin, _ = settle(8.0, heating="fuel")
    assert cabin.fuel_heat_w == 0


@pytest.mark.parametrize("heating", sorted(HEATINGS))
def test_heat_is_what_it_is_paid_for(heating):
    """At any share of the heaters' power, round or not: no more heat than electricity, heat pump and burner give."""
    for degc in (-25.0, -12.3, -1.7, 6.1, 11.0):
        for k in range(200):
            cabin = Cabin(BusPlan(heating=heating, first_cabin_degc=18.0 - 0.0137 * k), degc)
            cabin.second(0.0, degc, 0.0, 0, 0.0, 0.0, 1.0, True)
            heat = cabin._electric_heat_w
            assert 0 <= heat <= (cabin.want_w - 300) * heating_cop(degc)
            assert 0 <= cabin.fuel_heat_w <= 23_000
            assert heat == 0 or cabin.fuel_heat_w == 0


def test_open_doors_let_the_heat_out():
    assert settle(-2.0, doors_open=0.4)[1] > 1.1 * settle(-2.0, doors_open=0.0)[1]


def test_without_power_it_cools_and_people_and_sun_warm_it():
    assert settle(-10.0, 6, share=0.0, people=0, first_cabin_degc=18.0, doors_open=0)[0].air_degc < -7
    empty = settle(10.0, on=False, people=0, hours=12)[0].air_degc
    assert empty == pytest.approx(10, abs=0.1)
    assert settle(10.0, on=False, people=30)[0].air_degc > 13
    assert settle(10.0, on=False, people=0, sun=800.0)[0].air_degc > 15


def test_the_balance_closes_over_an_hour():
    """What came in less what the two nodes hold is what went out: at rest with shut doors, k A times the difference."""
    cabin, _ = settle(0.0, hours=20, people=0, doors_open=0.0)
    heat = cabin.want_w
    assert heat > 0
    walls = 170 * cabin.inside_degc + (160 + 6 * 5.0) * cabin.air_degc
    assert (heat - 300) / (1 / heating_cop(0.0)) == pytest.approx(walls, rel=0.1)


def test_a_machine_works_harder_over_a_larger_difference():
    assert heating_cop(10) > heating_cop(-5) > heating_cop(-20) > 1.4
    assert 1.8 < heating_cop(-5) < 2.6
    assert cooling_cop(25) > cooling_cop(40) > 1.5


def test_the_sun_stands_highest_at_noon_and_sets():
    assert sun_share(12 * 3600) == pytest.approx(1)
    assert sun_share(9 * 3600) == pytest.approx(sun_share(15 * 3600))
    assert sun_share(0) == sun_share(22 * 3600) == 0
    assert sun_share(36 * 3600) == pytest.approx(1)
