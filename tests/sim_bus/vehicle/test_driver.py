"""The driver and the road before it."""

import itertools

import pytest

from sim_bus.scenario.model import RoutePlan
from sim_bus.streams import Streams
from sim_bus.vehicle.driver import ACCELERATION, CLOSED, CLOSING, JERK, OPEN, Driver
from sim_bus.vehicle.route import MOST_PASSENGERS, Route


@pytest.mark.parametrize("seed", [1, 2])
def test_within_comfort_and_the_speed_limit(make_ride, make_orders, seed):
    ride = make_ride(seed=seed, route=RoutePlan(traffic=1.0))
    vehicle, told = ride.vehicle, make_orders()
    before, hard = 0.0, 0
    for _ in range(20_000):
        was = vehicle.speed_ms
        ride.step(told)
        assert vehicle.speed_ms <= 45 / 3.6 + 0.05
        assert vehicle.acceleration <= ACCELERATION + 1e-9
        assert vehicle.acceleration >= -3.1
        hard += vehicle.acceleration < -1.6 and was > 1.0
        if vehicle.speed_ms > 0 and was > 0:
            assert abs(vehicle.acceleration - before) <= JERK * 0.1 + 1e-6
        before = vehicle.acceleration
    assert hard < 40


def test_doors_open_only_while_it_stands_at_stops(make_ride, make_orders):
    ride = make_ride(route=RoutePlan(traffic=1.0))
    vehicle, told, seen = ride.vehicle, make_orders(), [CLOSED]
    for _ in range(10_000):
        ride.step(told)
        if vehicle.doors != CLOSED:
            assert vehicle.speed_ms == 0
        if vehicle.doors != seen[-1]:
            seen.append(vehicle.doors)
    assert seen[1:4] == [OPEN, CLOSING, CLOSED]
    assert seen.count(OPEN) > 5
    assert all(after == (before + 1) % 3 for before, after in itertools.pairwise(seen[1:]))


def test_a_round_is_as_long_as_planned_and_stops_where_it_should(make_ride, make_orders):
    ride = make_ride(route=RoutePlan(length_km=5.0, layover_s=60.0, traffic=1.0))
    vehicle, told, ends, stops = ride.vehicle, make_orders(), [], set()
    while len(ends) < 3:
        ride.step(told)
        stops.add(vehicle.stop)
        if vehicle.rounds > len(ends):
            ends.append(vehicle.distance_m)
    assert ends == pytest.approx([5000, 10_000, 15_000], abs=2)
    assert stops == set(range(round(5000 / 380)))
    assert vehicle.stop_name == "Terminus"


def test_traffic_makes_it_slower(make_ride, make_orders):
    speeds = []
    for traffic in (0.0, 0.5, 1.0):
        ride = make_ride(route=RoutePlan(traffic=traffic))
        ride.run(1800, make_orders())
        speeds.append(ride.vehicle.distance_m)
    assert speeds[0] > 1.05 * speeds[1] > 1.05 * 1.05 * speeds[2]


def test_passengers_come_and_go_around_the_plans_mean():
    plan = RoutePlan(passengers=30.0)
    route = Route(plan, Streams(1))
    aboard, seen, dwells = 0, [], []
    for _ in range(60):
        for stop in range(route.stops):
            aboard, dwell_s = route.exchange(stop, aboard)
            assert 0 <= aboard <= MOST_PASSENGERS
            seen.append(aboard)
            dwells.append(dwell_s)
    assert sum(seen) / len(seen) == pytest.approx(30, rel=0.1)
    assert sum(dwells) / len(dwells) == pytest.approx(plan.dwell_s, rel=0.1)
    assert min(dwells) >= plan.dwell_s / 2


def test_everyone_leaves_at_the_terminus():
    route = Route(RoutePlan(passengers=0.0), Streams(1))
    assert route.exchange(0, 50)[0] == 0
    assert 20 < route.exchange(1, 50)[0] < 50


def test_slow_stretches_are_driven_slowly():
    route = Route(RoutePlan(traffic=1.0), Streams(1))
    slow = next(leg for stop in range(route.stops) for leg in route.legs(stop) if leg.slow_ms)
    driver, speed, seen = Driver(route), 0.0, []
    driver._legs, driver._left_m, driver.waiting = [slow], slow.length_m, False
    while not driver.waiting:
        before, speed = speed, driver.wanted(0.1, speed)
        driver.moved((before + speed) / 2 * 0.1, (speed - before) / 0.1)
        seen.append((driver._left_m, speed))
    middle = (slow.slow_from_m + slow.slow_to_m) / 2
    inside = [speed for left, speed in seen if middle > left > slow.slow_to_m]
    outside = [speed for left, speed in seen if left < slow.slow_to_m]
    assert max(inside) < slow.slow_ms * 1.15
    assert max(seen, key=lambda row: row[1])[1] <= slow.limit_ms
    assert outside


def test_what_it_stops_short_does_not_add_up(make_ride, make_orders):
    ride = make_ride(
        route=RoutePlan(length_km=0.4, stop_distance_m=100.0, dwell_s=0.0, layover_s=0.0, traffic=0.0)
    )
    vehicle, told = ride.vehicle, make_orders()
    while vehicle.rounds < 40:
        ride.step(told)
    assert vehicle.distance_m == pytest.approx(40 * 400, abs=0.3)
    assert ride.vehicle._driver.place_m == pytest.approx(vehicle.distance_m - 40 * 400, abs=1e-6)


def test_an_overfull_plan_fills_the_bus_only(make_ride):
    route = Route(RoutePlan(passengers=400.0), Streams(1))
    aboard = 0
    for stop in range(route.stops):
        aboard, _ = route.exchange(stop, aboard)
        assert aboard <= MOST_PASSENGERS


def test_no_dwell_no_layover_one_stop(make_ride, make_orders):
    route = RoutePlan(length_km=0.3, dwell_s=0.0, layover_s=0.0, passengers=0.0, traffic=0.0)
    ride = make_ride(route=route)
    ride.run(600, make_orders())
    assert ride.vehicle.rounds >= 8
    assert ride.vehicle.distance_m == pytest.approx(300 * ride.vehicle.rounds, abs=310)


def test_a_steep_hill_slows_a_weak_battery_and_is_given_back(make_ride, make_orders):
    hill = RoutePlan(
        length_km=2.0, profile=((0.0, 0.0), (1.0, 80.0), (2.0, 0.0)), layover_s=30.0, passengers=0
    )
    ride = make_ride(route=hill)
    ride.run(600, make_orders(discharge_w=60e3))
    assert ride.vehicle.rounds >= 1
    assert ride.regen_j > 0.3 * 13_500 * 9.81 * 80
    assert ride.vehicle.energy.total() == pytest.approx(ride.power_j, rel=1e-9)
