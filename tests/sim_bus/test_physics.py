"""The simulated battery and bus keep the conservation laws and their own limits."""

import dataclasses
import itertools

import numpy as np
import pytest

from sim_bus.battery import HEAT_J_PER_K, Battery
from sim_bus.scenario import Scenario, load_scenario
from sim_bus.simulation import STEP_S, Simulation
from sim_bus.vehicle import HEATER_DEGC, Vehicle

DAY_STEP_S = 0.5  # of long runs, which look at the physics only


@dataclasses.dataclass
class Day:
    """What a stretch of a scenario left behind, a row a step."""

    battery: Battery
    vehicle: Vehicle
    rows: np.ndarray  # power asked, bus V, total A, least cell V, most cell V, string difference V
    temp_degc: np.ndarray
    charge_limit_w: np.ndarray


def live(scenario: Scenario, duration_s: float, step_s: float = DAY_STEP_S) -> Day:
    rng = np.random.default_rng(3)
    battery = Battery(rng, scenario.soc, scenario.battery_degc)
    vehicle = Vehicle(scenario, rng)
    rows, temps, limits = [], [], []
    for _ in range(round(duration_s / step_s)):
        limit = battery.limits()
        power = vehicle.step(step_s, float(battery.temp_degc.mean()), limit)
        battery.step(step_s, power, scenario.ambient_degc, vehicle.heater_w)
        strings = battery.cell_v.sum(axis=1)
        rows.append(
            (power, strings.mean(), battery.string_a.sum(), battery.cell_v.min(), battery.cell_v.max(), np.ptp(strings))
        )  # fmt: skip
        temps.append(battery.temp_degc.mean())
        limits.append(limit.charge_w)
    return Day(battery, vehicle, np.array(rows), np.array(temps), np.array(limits))


WINTER = load_scenario("winter_day")
DAYS = {
    "winter": WINTER,
    "deep frost": dataclasses.replace(WINTER, ambient_degc=-40, battery_degc=-35),
    "empty": dataclasses.replace(WINTER, soc=0.05),
    "full": dataclasses.replace(WINTER, soc=1.0, battery_degc=25),
    "spring": load_scenario("spring_day"),
    "charge": load_scenario("night_charge"),
    "charge to full": dataclasses.replace(load_scenario("night_charge"), soc=0.93, battery_degc=20),
    "charge from frost": dataclasses.replace(load_scenario("night_charge"), ambient_degc=-30, battery_degc=-25),
}  # fmt: skip


@pytest.mark.parametrize("name", DAYS)
def test_the_strings_share_one_voltage_and_give_the_power(name: str) -> None:
    rows = live(DAYS[name], 1800, 0.1 if name == "deep frost" else DAY_STEP_S).rows
    power, volts, amps, *_, apart = rows.T
    assert apart.max() < 1e-3
    assert np.abs(volts * amps - power).max() < 1.0


@pytest.mark.parametrize("name", DAYS)
def test_cell_voltages_stay_within_their_limits(name: str) -> None:
    day = live(DAYS[name], 3600)
    assert day.rows[:, 3].min() > 2.0
    assert day.rows[:, 4].max() < 3.65
    assert 0 < day.battery.soc.min() < day.battery.soc.max() <= 1


def test_strings_drive_no_current_through_each_other_in_the_cold() -> None:
    """The kinetics' resistance outweighs the ohmic one there; coupled with a step's lag, that oscillates."""
    battery = Battery(np.random.default_rng(1), 0.8, -30)
    for _ in range(300):
        battery.step(0.1, 26_000, -30)
        assert np.ptp(battery.string_a) < 3


@pytest.mark.parametrize("temp_degc", [-30, 0, 25])
def test_charge_is_conserved(temp_degc: float) -> None:
    battery = Battery(np.random.default_rng(4), 0.6, temp_degc)
    before, moved_ah = battery.soc.copy(), np.zeros(2)
    for n in range(2000):
        battery.step(1.0, 60_000 * np.sin(n / 60) + 20_000, temp_degc)
        moved_ah += battery.string_a / 3600
    np.testing.assert_allclose(
        (before - battery.soc) * battery.capacity_ah, np.tile(moved_ah[:, None], 176), rtol=1e-9
    )
    assert moved_ah.min() > 3


@pytest.mark.parametrize("temp_degc", [-30, 25])
def test_energy_is_conserved(temp_degc: float) -> None:
    """What leaves the terminals is what the charge held at the open circuit, less the heat."""
    battery = Battery(np.random.default_rng(4), 0.6, temp_degc)
    out_j = chemical_j = heat_j = 0.0
    for n in range(2000):
        open_v = battery._open_circuit()
        power = 60_000 * np.sin(n / 60) + 20_000
        battery.step(1.0, power, temp_degc)
        out_j += power
        chemical_j += float((open_v * battery.string_a[:, None]).sum())
        heat_j += battery.heat_w
    assert out_j == pytest.approx(chemical_j - heat_j, rel=1e-6)
    assert 0.002 * out_j < heat_j < 0.2 * out_j


def test_the_battery_is_warmed_by_what_it_gets_and_no_more() -> None:
    """Heat of the cells + heater - loss through the case = what they hold."""
    battery = Battery(np.random.default_rng(4), 0.6, -15)
    before, gained_j = battery.temp_degc.sum() * HEAT_J_PER_K, 0.0
    for _ in range(3600):
        loss = 0.1 * float((battery.temp_degc + 20).sum())
        battery.step(1.0, 80_000, -20, 7000)
        gained_j += battery.heat_w + 0.9 * 7000 - loss
    assert battery.temp_degc.sum() * HEAT_J_PER_K - before == pytest.approx(gained_j, rel=1e-9)
    assert 5 < battery.temp_degc.mean() + 15 < 25


def test_a_cold_battery_takes_no_regen() -> None:
    cold = live(dataclasses.replace(WINTER, ambient_degc=-30, battery_degc=-25), 1200)
    mild = live(load_scenario("spring_day"), 1200)
    for day in (cold, mild):
        assert (-day.rows[:, 0] <= day.charge_limit_w + 1e-6).all()
    assert cold.rows[:, 0].min() >= 0
    assert mild.rows[:, 0].min() < -30_000


def test_a_full_battery_takes_no_regen() -> None:
    assert live(DAYS["full"], 300).rows[:, 0].min() >= 0


def test_the_frost_costs_range() -> None:
    def per_km(ambient_degc: float) -> float:
        day = live(dataclasses.replace(WINTER, ambient_degc=ambient_degc, battery_degc=ambient_degc), 3600)
        return (day.rows[:, 0].sum() * DAY_STEP_S / 3.6e6) / (day.vehicle.distance_m / 1000)

    frost, warm = per_km(-30), per_km(20)
    assert 0.7 < warm < 1.5, "kWh/km of a 12 m bus in mild weather"
    assert 1.6 * warm < frost < 4


def test_an_empty_battery_stops_the_bus() -> None:
    day = live(dataclasses.replace(WINTER, soc=0.01, battery_degc=10), 300)
    assert np.abs(day.rows[:, 0]).max() == 0
    assert day.vehicle.distance_m < 1
    assert day.vehicle.derated


def test_the_bus_drives_from_stop_to_stop() -> None:
    scenario = load_scenario("spring_day")
    vehicle = Vehicle(scenario, np.random.default_rng(1))
    battery = Battery(np.random.default_rng(2), 0.6, 25)
    speeds = []
    for _ in range(6000):
        vehicle.step(STEP_S, 25, battery.limits())
        speeds.append(vehicle.speed_ms)
    steps = np.diff(speeds) / STEP_S
    assert steps.max() <= 0.95 + 1e-9
    assert steps.min() >= -1.2
    assert max(speeds) * 3.6 <= scenario.top_speed_kmh
    assert vehicle.distance_m == pytest.approx(np.sum(speeds) * STEP_S, rel=0.01)
    stops = np.flatnonzero(np.diff((np.array(speeds) == 0).astype(int)) == 1)
    assert len(stops) >= 6


def test_the_driver_brakes_once_for_each_stop() -> None:
    vehicle = Vehicle(load_scenario("spring_day"), np.random.default_rng(1))
    limits = Battery(np.random.default_rng(2), 0.6, 25).limits()
    braking = False
    for _ in range(20_000):
        before = vehicle.speed_ms
        vehicle.step(STEP_S, 25, limits)
        assert not (braking and vehicle.speed_ms > before), "speeds up while braking for a stop"
        braking = vehicle.speed_ms < before - 0.05 and vehicle.speed_ms > 0


def test_the_heater_warms_the_battery_and_does_not_chatter() -> None:
    vehicle = Vehicle(WINTER, np.random.default_rng(1))
    limits = Battery(np.random.default_rng(2), 0.6, 25).limits()
    on = []
    for degc in (*np.linspace(-10, 12, 100), *np.linspace(12, 0, 100)):
        vehicle.step(STEP_S, float(degc), limits)
        on.append((float(degc), vehicle.heater_w > 0))
    switched = [after[0] for before, after in itertools.pairwise(on) if before[1] != after[1]]
    assert len(switched) == 2
    assert switched[0] == pytest.approx(HEATER_DEGC[1], abs=0.3)
    assert switched[1] == pytest.approx(HEATER_DEGC[0], abs=0.3)


def test_the_charger_fills_the_battery_and_obeys_its_limit() -> None:
    day = live(dataclasses.replace(load_scenario("night_charge"), soc=0.85, battery_degc=20), 3 * 3600)
    assert day.battery.pack_soc() > 0.96
    assert (-day.rows[:, 0] <= day.charge_limit_w + 1e-6).all()


def test_truth_is_the_batterys() -> None:
    simulation = Simulation(WINTER, 1)
    for _, _ in zip(range(200), simulation.steps(), strict=False):
        truth, battery = simulation.truth, simulation.battery
        assert truth.soc == battery.pack_soc()
        assert truth.power_w == pytest.approx(truth.voltage_v * truth.current_a)
        assert (
            min(truth.string1_soc, truth.string2_soc)
            <= truth.soc
            <= max(truth.string1_soc, truth.string2_soc)
        )
