"""The catalogue is whole, right in itself, and what its page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.errors import ScenarioError
from scripts.make_fault_docs import PAGE, written
from sim_bus.faults import battery, sensors, wire
from sim_bus.faults.catalogue import AREAS, CATALOGUE
from sim_bus.scenario import load_scenario
from sim_bus.scenario.loading import KEYS
from sim_bus.scenario.model import FaultPlan

ASKED = {
    "battery": "internal_short weak_cell loose_busbar blocked_coolant heater_failed insulation_drop thermal_runaway_precursor",
    "sensor": "sensor_offset sensor_gain sensor_noise sensor_stuck sensor_dropout swapped_harness",
    "can": "lost_frames repeated_frames bad_checksum stuck_counter wrong_length flood error_frames bus_off ecu_reset unknown_ids",
    "platform": "clock_step power_cut ignition_games serial_noise",
    "network": "outage slow_link broker_restart",
}


def test_every_fault_that_a_bus_has() -> None:
    assert {a: {k.name for k in CATALOGUE.values() if k.area == a} for a in AREAS} == {
        area: set(names.split()) for area, names in ASKED.items()
    }
    assert all(name == kind.name for name, kind in CATALOGUE.items())


def test_each_is_done_by_somebody() -> None:
    """What neither acts here nor is told by `Faults.restarts` is the platform's or the network's."""
    done = {**battery.ACTIONS, **sensors.ACTIONS, **wire.ACTIONS}.keys() | {"swapped_harness", "ecu_reset"}
    hooks = set(CATALOGUE) - done
    assert hooks == {k.name for k in CATALOGUE.values() if k.area in ("platform", "network")} - {
        "ignition_games"
    }
    assert done <= set(CATALOGUE)


@pytest.mark.parametrize("name", CATALOGUE)
def test_parameters_are_sound(name: str) -> None:
    for key, known in CATALOGUE[name].parameters.items():
        assert key not in KEYS[FaultPlan], "a key of every fault"
        assert known.about
        if isinstance(known.default, str):
            assert known.default in (known.choices or (known.default,))
        else:
            assert known.low <= known.default <= known.high


def test_the_page_has_its_tables() -> None:
    text = PAGE.read_text("utf-8")
    assert written(text) == text, "run scripts/make_fault_docs.py"


def test_the_agents_page_tells_what_is_noticed_of_each() -> None:
    page = (PAGE.parent / "agent.md").read_text("utf-8")
    assert sorted(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == sorted(CATALOGUE)


@pytest.mark.parametrize(
    "example", re.findall(r"^```toml\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
)
def test_its_examples_load(tmp_path: Path, example: str) -> None:
    path = tmp_path / "example.toml"
    path.write_text('based_on = "spring_day"\nabout = "x"\n' + example, "utf-8")
    assert load_scenario(str(path)).faults


def test_a_choice_that_is_none_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(
        'based_on = "spring_day"\nabout = "x"\n[[faults]]\nkind = "flood"\nbus = "bmss"\n', "utf-8"
    )
    with pytest.raises(
        ScenarioError, match=r"one\.toml:5: faults\.bus must be one of all, bms, inverter, vehicle"
    ):
        load_scenario(str(path))
