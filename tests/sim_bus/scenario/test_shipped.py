"""Our scenarios: each loads, says what it is for, and could happen."""

from __future__ import annotations

import pytest

from sim_bus.faults.catalogue import CATALOGUE
from sim_bus.scenario import Scenario, load_scenario, names, summaries

# What the one line of each must speak of.
PURPOSE = {
    "ageing_year": "year in fast time",
    "depot_ac_night": "AC charger",
    "frost_day": "between -4 and 0 degC",
    "frost_heat_pump": "heat pump",
    "night_charge": "DC charger at -5 degC",
    "opportunity_line": "pantograph at the terminal",
    "spring_day": "mild spring day",
    "spring_rain": "wet roads",
    "summer_day": "+40 degC",
    "winter_day": "-30 degC, cold-soaked",
    "winter_fuel": "fuel-fired heater",
    "winter_preheated": "plugged in from 03:40",
    "everything_at_once": "every fault",
}
ALONE = {f"fault_{kind}": kind for kind in CATALOGUE}
RECORD_DEGC = (-37.7, 43.5)  # of Almaty, 1951 and 1983
FAULT_BEGINS_S = 120.0


def test_there_are_those_of_the_list_and_one_for_each_fault() -> None:
    assert set(names()) == {*PURPOSE, *ALONE}
    assert names() == sorted(names())


@pytest.mark.parametrize("name", names())
def test_each_says_what_it_is_for(name: str) -> None:
    about, group = summaries()[name]
    assert group == ("faults" if load_scenario(name).faults else "days")
    assert 40 <= len(about) <= 130
    assert PURPOSE[name] in about if name in PURPOSE else ALONE[name].replace("_", " ") in about.lower()


def test_no_two_are_for_the_same() -> None:
    loaded = {load_scenario(name).about for name in names()}
    assert len(loaded) == len(names())


@pytest.mark.parametrize("name", names())
def test_each_could_happen(name: str) -> None:
    one = load_scenario(name)
    degc = [y for _, y in one.weather.ambient_degc]
    assert RECORD_DEGC[0] <= min(degc) <= max(degc) <= RECORD_DEGC[1]
    assert min(degc) - 1 <= one.battery.temp_degc <= max(degc) + 15
    assert 0.05 <= one.battery.soc <= 0.95
    assert one.clock_s <= 86_400
    if not one.faults:
        assert one.timetable[-1].at_s < one.duration_s


@pytest.mark.parametrize("name", ["winter_day", "spring_day", "night_charge"])
def test_their_bms_is_off_by_what_a_count_drifts(name: str) -> None:
    bms = load_scenario(name).bms
    assert (bms.soc_error, bms.current_bias_a) == {
        "winter_day": (-0.05, 0.8),
        "spring_day": (0.04, -0.7),
        "night_charge": (0.03, 0.8),
    }[name]


def test_the_days_are_what_they_are_named_for() -> None:
    day: dict[str, Scenario] = {name: load_scenario(name) for name in names()}
    assert day["winter_day"].battery.temp_degc == -24
    assert min(y for _, y in day["winter_day"].weather.ambient_degc) == -30
    assert max(y for _, y in day["summer_day"].weather.ambient_degc) == 40
    assert day["winter_fuel"].bus.heating == "fuel"
    assert day["winter_fuel"].weather == day["winter_day"].weather
    assert day["spring_rain"].weather.wet > 0.5
    assert day["opportunity_line"].route.layover_charger == "pantograph"
    assert [e.charger for e in day["depot_ac_night"].timetable if e.do == "charge"] == ["depot_ac"]
    year = day["ageing_year"]
    assert year.duration_s * year.battery.ageing_factor == 365 * 86_400


@pytest.mark.parametrize(("name", "kind"), ALONE.items())
def test_a_fault_alone_can_be_seen_in_minutes(name: str, kind: str) -> None:
    one = load_scenario(name)
    assert [fault.kind for fault in one.faults] == [kind]
    assert one.faults[0].at_s == FAULT_BEGINS_S
    assert FAULT_BEGINS_S + 60 <= one.duration_s <= 1800


def test_everything_at_once_is_everything() -> None:
    one = load_scenario("everything_at_once")
    assert {fault.kind for fault in one.faults} == set(CATALOGUE)
    assert len({fault.at_s for fault in one.faults}) == len(one.faults)
