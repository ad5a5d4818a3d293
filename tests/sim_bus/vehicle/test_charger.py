"""Chargers, alone and with the bus."""

import itertools

import pytest

from sim_bus.scenario.model import Entry, RoutePlan
from sim_bus.vehicle.charger import CHARGING, DONE, FAULT, KINDS, PLUGGED, UNPLUGGED, Charger


def charge(charger, orders, seconds, consumers_w=0.0, closed=True, voltage_v=560.0):
    return [charger.step(0.1, orders, closed, voltage_v, consumers_w) for _ in range(round(seconds * 10))]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_plug_in_ramp_and_full_power(kind, make_orders):
    charger, told = Charger(), make_orders(charge_a=900.0, charge_w=500e3)
    assert charge(charger, told, 1) == [0.0] * 10
    charger.plug(kind)
    assert max(charge(charger, told, KINDS[kind].plug_s - 1)) == 0
    assert charger.state == UNPLUGGED
    powers = charge(charger, told, 60)
    assert charger.state == CHARGING
    rises = [b - a for a, b in itertools.pairwise(powers)]
    assert min(rises) >= 0
    assert max(rises) <= KINDS[kind].ramp_kw_s * 100 + 1e-6
    assert powers[-1] == KINDS[kind].kw * 1000


def test_it_obeys_the_current_then_the_power(make_orders):
    charger = Charger()
    charger.plug("depot_dc")
    charge(charger, make_orders(charge_a=100.0), 100)
    assert charge(charger, make_orders(charge_a=100.0), 1)[-1] == 56e3
    assert charge(charger, make_orders(charge_a=100.0, charge_w=9e3), 1)[-1] == 9e3
    assert charge(charger, make_orders(charge_a=100.0), 12, consumers_w=5e3)[-1] == 61e3
    charger.plug("depot_dc", 40.0)
    assert charge(charger, make_orders(charge_a=100.0), 100)[-1] == 40e3


def test_full_and_again(make_orders):
    charger = Charger()
    charger.plug("depot_ac")
    charge(charger, make_orders(charge_a=20.0), 100)
    charge(charger, make_orders(charge_a=0.0), 10)
    assert charger.state == PLUGGED
    assert max(charge(charger, make_orders(charge_a=0.0), 60)[300:]) == 0
    assert charger.state == DONE
    charge(charger, make_orders(charge_a=5.0), 10)
    assert charger.state == DONE
    charge(charger, make_orders(charge_a=20.0), 10)
    assert charger.state == CHARGING
    charger.unplug()
    assert charger.state == UNPLUGGED


def test_a_battery_too_cold_to_charge_is_heated_from_the_plug(make_ride, make_orders):
    ride = make_ride(-25.0, timetable=(Entry(0.0, "charge", charger="depot_ac"),))
    vehicle = ride.vehicle
    ride.run(120, make_orders(heat=True, charge_w=0.0))
    assert vehicle.charger_state == PLUGGED
    assert vehicle.plugged
    assert not vehicle.ignition
    assert vehicle.heater_w > 7000
    assert vehicle.coolant_heat_w > 6000
    assert ride.power_w == pytest.approx(0, abs=1e-6)
    assert vehicle.hvac_w == 0
    ride.run(30, make_orders(heat=True, charge_a=200.0))
    assert vehicle.charger_w == 22e3
    assert ride.power_w == pytest.approx(vehicle.heater_w + vehicle.aux_w - 22e3)  # the consumers first


def test_a_fault_of_the_bms_and_open_contactors_stop_it(make_orders):
    charger = Charger()
    charger.plug("depot_dc")
    charge(charger, make_orders(charge_a=100.0), 100)
    assert charge(charger, make_orders(charge_a=100.0), 1, closed=False)[-1] == 0
    charge(charger, make_orders(charge_a=100.0, state=5), 1)
    assert charger.state == FAULT
    assert charge(charger, make_orders(charge_a=100.0, state=5), 1)[-1] == 0


def test_a_finished_bus_sleeps(make_ride, make_orders):
    ride = make_ride(timetable=(Entry(0.0, "charge"),))
    ride.run(100, make_orders(charge_a=100.0))
    ride.run(60, make_orders(charge_a=0.0))
    assert ride.vehicle.charger_state == DONE
    assert ride.power_w == 0


def test_the_pantograph_of_the_layover(make_ride, make_orders):
    route = RoutePlan(length_km=1.0, layover_s=90.0, layover_charger="pantograph")
    ride = make_ride(route=route)
    vehicle, told, charged = ride.vehicle, make_orders(charge_a=300.0), 0
    for _ in range(9000):
        ride.step(told)
        if vehicle.plugged:
            assert vehicle.speed_ms == 0
            assert vehicle.ignition
            charged += vehicle.charger_w > 100e3
    assert vehicle.rounds >= 2
    assert charged > 1000
    assert vehicle.energy.charger == pytest.approx(-charged * 0.1 * 169e3, rel=0.1)
