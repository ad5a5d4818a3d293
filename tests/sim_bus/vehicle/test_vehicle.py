"""The whole bus: what it consumes, where the energy goes, who goes without."""

from dataclasses import replace

import numpy as np
import pytest

from edge.errors import ScenarioError
from sim_bus.doors import STEP_S, FaultEffects
from sim_bus.scenario.model import BatteryPlan, BusPlan, Entry, RoutePlan, Scenario, Weather
from sim_bus.streams import Streams
from sim_bus.vehicle import DOING, ROW, Vehicle

DAY_H = 8


def per_km(hour):
    return hour.kwh / hour.km


def test_a_mild_day_takes_what_12_m_buses_take(days):
    _, reached = days(17.0, "electric", DAY_H)
    assert 0.9 <= per_km(reached[-1]) <= 1.4
    assert reached[-1].km > 100


def test_around_freezing_it_takes_half_as_much_again(days):
    mild, cold = days(17.0, "electric", DAY_H)[1][-1], days(-2.0, "electric", DAY_H)[1][-1]
    assert 1.4 <= per_km(cold) / per_km(mild) <= 1.6
    more = per_km(cold) - per_km(mild)
    heating = cold.battery_heat_kwh / cold.km
    assert 0.15 * more < heating < 0.6 * more


def test_a_day_at_minus_30(days):
    _, reached = days(-30.0, "electric", DAY_H)
    assert 1.8 <= per_km(reached[-1]) <= 3.0


def test_fuel_saves_electricity_and_is_counted(days):
    hours = 2
    fuel = days(-30.0, "fuel", hours)[1][-1]
    electric = days(-30.0, "electric", DAY_H)[1][hours - 1]
    assert per_km(fuel) < 0.6 * per_km(electric)
    assert electric.fuel_l == 0
    assert 2.0 < fuel.fuel_l / hours < 4.0  # a 30 kW burner's full load is 3.5 l/h


def test_regeneration_falls_with_the_cold(days):
    regen = [days(degc, "electric", DAY_H)[1][-1] for degc in (-30.0, -2.0, 17.0)]
    shares = [h.regen_kwh / h.km for h in regen]
    assert shares[0] < 0.9 * shares[2]
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.parametrize("degc", [-30.0, -2.0, 17.0])
def test_the_terms_sum_to_what_the_battery_gave(days, degc):
    ride, _ = days(degc, "electric", DAY_H)
    energy = ride.vehicle.energy
    assert energy.total() == pytest.approx(ride.power_j, rel=1e-9)
    for name in ("rolling", "air", "friction_brakes", "drivetrain", "cabin", "battery_heat", "auxiliaries"):
        assert getattr(energy, name) > 0, name


def test_kinetic_and_height_return_over_a_round(make_ride, make_orders, winter_route):
    empty = replace(winter_route, passengers=0.0)
    ride = make_ride(route=empty)
    vehicle, told = ride.vehicle, make_orders()
    highest = 0.0
    while vehicle.rounds < 2:
        ride.step(told)
        highest = max(highest, vehicle.energy.height)
    mass = BusPlan().empty_kg
    assert highest == pytest.approx(mass * 9.81 * 30, rel=0.02)  # the profile's top over its beginning
    assert abs(vehicle.energy.height) < 0.01 * highest
    assert vehicle.energy.kinetic == pytest.approx(0.0, abs=1.0)


def test_nobody_boards_a_moving_bus(make_ride, make_orders):
    """Else motion would come and go with the passengers."""
    ride = make_ride(route=RoutePlan(dwell_s=0.0, layover_s=0.0, length_km=3.0, passengers=60.0, traffic=0.0))
    told = make_orders()
    while ride.vehicle.rounds < 3 or ride.vehicle.speed_ms > 0:
        ride.step(told)
    assert ride.vehicle.energy.kinetic == pytest.approx(0.0, abs=1.0)


def test_the_sun_of_the_timetables_clock(make_ride, make_orders):
    degc = []
    for clock_s in (0.0, 11 * 3600.0):
        weather = Weather(((0.0, 15.0),), sun_w_m2=800.0)
        ride = make_ride(15.0, weather=weather, clock_s=clock_s, timetable=(Entry(0.0, "off"),))
        ride.run(1800, make_orders())
        degc.append(ride.vehicle.cabin_degc)
    assert degc[0] == pytest.approx(15.0)
    assert degc[1] > 18


def test_the_wind_turns_with_the_round(make_ride, make_orders):
    weather = Weather(((0.0, 10.0),), wind_ms=8.0)
    ride = make_ride(10.0, weather=weather, route=RoutePlan(length_km=4.0, traffic=0.0))
    vehicle, told = ride.vehicle, make_orders()
    air = []
    for goal in (800.0, 1600.0, 2400.0):
        while vehicle.distance_m < goal:
            ride.step(told)
        air.append(vehicle.energy.air)
    assert air[0] > 3 * abs(air[2] - air[1])


@pytest.mark.parametrize("seed", [3, 4])
def test_power_stays_within_the_orders_whatever_they_are(make_ride, make_orders, seed):
    rng = np.random.default_rng(seed)
    ride = make_ride(
        -12.0, seed, route=RoutePlan(length_km=2.0, layover_s=30.0, layover_charger="pantograph")
    )
    print("seed", seed)
    for _ in range(600):
        told = make_orders(
            discharge_w=float(rng.choice([0.0, 1e3, 9e3, 40e3, 300e3])),
            charge_w=float(rng.choice([0.0, 5e3, 200e3])),
            charge_a=float(rng.choice([0.0, 50.0])),
            heat=bool(rng.integers(2)),
            cool=bool(rng.integers(2)),
            contactors=rng.random(2) < 0.9,
        )
        for _ in range(10):
            power_w = ride.step(told)
            if not told.contactors.any():
                assert power_w == 0
            assert -told.charge_w - 1e-6 <= power_w <= told.discharge_w + 1e-6
            assert ride.vehicle.friction_w >= -1e-6
    assert ride.vehicle.energy.total() == pytest.approx(ride.power_j, rel=1e-9, abs=1.0)


def test_the_cabin_goes_without_first_and_the_auxiliaries_last(make_ride, make_orders):
    ride = make_ride(-20.0, timetable=(Entry(0.0, "stand"),))
    vehicle = ride.vehicle
    wanted = {}
    ride.run(30, make_orders(heat=True))
    wanted = {"aux": vehicle.aux_w, "heater": vehicle.heater_w, "hvac": vehicle.hvac_w}
    assert min(wanted.values()) > 1000
    got = []
    for left in (wanted["aux"] + wanted["heater"] + 1000, wanted["aux"] + 1000, wanted["aux"] - 500, 0.0):
        ride.run(2, make_orders(heat=True, discharge_w=left))
        got.append((vehicle.aux_w, vehicle.heater_w, vehicle.hvac_w))
        assert ride.power_w == pytest.approx(left)
    aux, heater = wanted["aux"], wanted["heater"]
    assert np.allclose(got, [(aux, heater, 1000), (aux, 1000, 0), (aux - 500, 0, 0), (0, 0, 0)])


def test_a_weak_battery_makes_it_slow_not_cold_first(make_ride, make_orders):
    strong, weak = make_ride(0.0), make_ride(0.0)
    strong.run(300, make_orders())
    derated = 0
    for _ in range(3000):
        weak.step(make_orders(discharge_w=40e3))
        derated += weak.vehicle.derated
    assert derated > 100
    assert 0 < weak.vehicle.distance_m < 0.95 * strong.vehicle.distance_m
    assert strong.vehicle.derated == 0


def test_an_empty_battery_strands_the_bus_and_the_timetable_goes_on(make_ride, make_orders):
    ride = make_ride(timetable=(Entry(0.0, "drive"), Entry(90.0, "off")))
    ride.run(60, make_orders())
    ride.run(300, make_orders(discharge_w=0.0))
    assert ride.vehicle.speed_ms == 0
    assert ride.vehicle.doing == "off"
    ride.run(1, make_orders())
    assert ride.power_w == 0


def test_a_timetable(make_ride, make_orders):
    lines = ("stand", "drive", "stand", "charge", "drive", "off")
    ride = make_ride(timetable=tuple(Entry(600.0 * i, do) for i, do in enumerate(lines)))
    vehicle, seen = ride.vehicle, []
    for _ in range(3600 + 240):
        ride.run(1, make_orders(charge_a=100.0))
        if vehicle.doing not in seen[-1:]:
            seen.append(vehicle.doing)
        assert vehicle.doing_number == DOING.index(vehicle.doing)
        assert vehicle.ignition == (vehicle.doing in ("stand", "drive"))
        if vehicle.doing != "drive":
            assert vehicle.speed_ms == 0
        assert vehicle.doing == "charge" or not vehicle.plugged
    assert tuple(seen) == lines
    assert ride.power_w == 0
    assert vehicle.energy.charger < 0


def test_ignition_lost_on_the_way_stops_it_and_back_again_it_goes_on(make_ride, make_orders):
    ride = make_ride()
    while ride.vehicle.speed_ms < 9:
        ride.step(make_orders())
    ride.run(20, make_orders(), FaultEffects(ignition=False))
    assert ride.vehicle.speed_ms == 0
    assert not ride.vehicle.ignition
    assert ride.power_w == 0
    before = ride.vehicle.distance_m
    ride.run(30, make_orders())
    assert ride.vehicle.distance_m > before + 50


def test_the_heaters_faults(make_ride, make_orders):
    ride = make_ride(-20.0, timetable=(Entry(0.0, "stand"),))
    vehicle, told = ride.vehicle, make_orders(heat=True)
    ride.run(2, told)
    assert vehicle.coolant_flow == 1
    assert vehicle.coolant_heat_w == pytest.approx(0.92 * 7000)
    assert vehicle.heater_w == pytest.approx(7000 + 180)
    ride.run(2, told, FaultEffects(heater_failed=True))
    assert vehicle.coolant_heat_w == 0
    assert 0 < vehicle.heater_w < 300  # its pump
    ride.run(2, told, FaultEffects(coolant_flow=0.1))
    assert vehicle.coolant_flow == pytest.approx(0.1)
    assert 0 < vehicle.coolant_heat_w < 4000
    ride.run(2, make_orders(cool=True))
    assert vehicle.coolant_heat_w < -3000


def test_same_seed_same_numbers_another_seed_others(make_ride, make_orders):
    rows = []
    for seed in (5, 5, 6):
        ride = make_ride(seed=seed)
        ride.run(400, make_orders())
        rows.append(ride.vehicle.row())
    assert rows[0] == rows[1] != rows[2]


def test_a_row_has_the_named_fields(make_ride, make_orders):
    ride = make_ride()
    ride.run(60, make_orders())
    row = dict(zip(ROW, ride.vehicle.row(), strict=True))
    assert np.isfinite(np.array(ride.vehicle.row(), dtype=float)).all()
    assert row["speed_ms"] == ride.vehicle.speed_ms
    assert row["odometer_m"] == pytest.approx(BusPlan().odometer_km * 1000 + row["distance_m"])


def test_torque_and_power_agree(make_ride, make_orders):
    ride = make_ride()
    for _ in range(3000):
        ride.step(make_orders())
        v = ride.vehicle
        assert v.torque_nm * v.motor_rad_s <= v.motor_w + v.speed_ms * 1000 + 3000
        assert (v.torque_nm < 0) <= (v.torque_demand_nm < 0)
        assert abs(v.torque_nm) <= abs(v.torque_demand_nm) + 1e-9
        assert not (v.regen_w and v.motor_w > 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bus": BusPlan(heating="wood")}, "heating 'wood'"),
        ({"route": RoutePlan(layover_charger="sun")}, "layover_charger 'sun'"),
        ({"timetable": (Entry(0.0, "fly"),)}, "do 'fly'"),
        ({"timetable": (Entry(0.0, "charge", charger="sun"),)}, "charger 'sun'"),
        ({"timetable": (Entry(9.0, "drive"), Entry(3.0, "off"))}, "order of time"),
        ({"timetable": ()}, "at least one"),
        ({"route": RoutePlan(profile=((0.0, 0.0), (20.0, 0.0)))}, "leaves the round"),
        ({"route": RoutePlan(profile=((0.0, 0.0), (14.0, 5.0)))}, "a round must close"),
    ],
)
def test_a_scenario_that_no_bus_can_live(make_ride, change, words):
    with pytest.raises(ScenarioError, match=words):
        make_ride(**change)


def test_every_mistake_is_told_at_once():
    plan = Scenario(
        "x", Weather(((0.0, 0.0),)), BatteryPlan(0.5, 0.0), (Entry(0.0, "fly"),), BusPlan(heating="wood")
    )
    with pytest.raises(ScenarioError) as caught:
        Vehicle(plan, Streams(1))
    assert len(caught.value.problems) == 2


def test_steps_of_another_length_live_the_same_day(make_ride, make_orders):
    """The energies of a leg do not hang on the step."""
    totals = []
    for dt_s in (STEP_S, STEP_S / 4):
        vehicle = make_ride().vehicle
        told, effects = make_orders(), FaultEffects()
        joule = 0.0
        for k in range(round(60 / dt_s)):
            joule += vehicle.step(dt_s, k * dt_s, told, 563.0, effects) * dt_s
        totals.append((joule, vehicle.distance_m))
    assert totals[0] == pytest.approx(totals[1], rel=0.03)
