"""Scenarios: ours are right, and every mistake of other people's is named with its place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edge.errors import ScenarioError
from sim_bus.scenario import RANGES, Scenario, load_scenario, names
from sim_bus.simulation import Simulation

GOOD = 'about = "x"\nambient_degc = -20\nbattery_degc = -12\nsoc = 0.8\n'


def problems(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "s.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(str(path))
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(path), "s.toml")


@pytest.mark.parametrize("name", names())
def test_ours_load_and_run(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.about
    frames = next(iter(Simulation(scenario, 1).steps()))
    assert len(frames) > 10


def test_a_path_is_a_scenario_too_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD + "passengers = 7\n")
    assert load_scenario(str(path)) == Scenario("x", -20, -12, 0.8, passengers=7)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("colour = 1", "s.toml:5: unknown key 'colour'; there are about, "),
        ("[weather]\nwind = 3", "s.toml:5: unknown key 'weather'"),
        ('"odd key" = 3', "s.toml:5: unknown key 'odd key'"),
        ("passengers = 1.5", "s.toml:5: passengers must be a whole number, not 1.5"),
        ("passengers = true", "s.toml:5: passengers must be a whole number, not True"),
        ('dwell_s = "long"', "s.toml:5: dwell_s must be a number, not 'long'"),
        ("dwell_s = 1979-05-27", "s.toml:5: dwell_s must be a number"),
        ("dwell_s = nan", "s.toml:5: dwell_s must lie between 0 and 3600, not nan"),
        ("dwell_s = -inf", "s.toml:5: dwell_s must lie between 0 and 3600, not -inf"),
        ("activity = 3", "s.toml:5: activity must be a text, not 3"),
        ("activity = []", "s.toml:5: activity must be a text, not []"),
        ('activity = "fly"', "s.toml:5: activity must be one of drive, charge, not 'fly'"),
        ("passengers = 999999999999999999999999", "s.toml:5: passengers must lie between 0 and 200"),
    ],
)
def test_a_mistake_is_named_once_with_its_line(tmp_path: Path, line: str, expected: str) -> None:
    message = problems(tmp_path, GOOD + line + "\n")
    assert message.startswith(expected)
    assert message.count("s.toml") == 1


@pytest.mark.parametrize("name", RANGES)
def test_each_range_holds_at_both_ends(tmp_path: Path, name: str) -> None:
    path = tmp_path / "s.toml"
    base = "".join(line + "\n" for line in GOOD.splitlines() if not line.startswith(name))
    kind = int if name == "passengers" else float
    for value, beyond in ((RANGES[name][0], -1), (RANGES[name][1], 1)):
        path.write_text(f"{base}{name} = {kind(value)}\n")
        assert getattr(load_scenario(str(path)), name) == value
        assert f"{name} must lie between" in problems(tmp_path, f"{base}{name} = {kind(value + beyond)}\n")


def test_every_number_has_a_range() -> None:
    numbers = {f.name for f in dataclasses.fields(Scenario) if f.type in ("float", "int")}
    assert numbers == set(RANGES)


def test_all_mistakes_come_at_once_in_order(tmp_path: Path) -> None:
    message = problems(tmp_path, 'wheels = 6\nsoc = 2\nabout = "x"\nbattery_degc = "cold"\n')
    assert message.split("; there")[0] == "s.toml: ambient_degc is missing; s.toml:1: unknown key 'wheels'"
    assert message.index(":1:") < message.index(":2: soc must") < message.index(":4: battery_degc must")


@pytest.mark.parametrize(
    "garbage", [b"\x00\x01\x02", b"\xff\xfe", b"soc = ", b"[" * 5000, b"soc = 1\nsoc = 2\n", b"<html>"]
)
def test_garbage_is_one_line(tmp_path: Path, garbage: bytes) -> None:
    assert problems(tmp_path, garbage).startswith("s.toml: ")


def test_an_empty_file_misses_what_is_needed(tmp_path: Path) -> None:
    message = problems(tmp_path, "")
    assert all(f"{name} is missing" in message for name in ("about", "ambient_degc", "battery_degc", "soc"))


def test_no_such_scenario_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"no scenario 'winter'; ayaz sim --list .*winter_day"):
        load_scenario("winter")
    with pytest.raises(ScenarioError, match="No such file"):
        load_scenario(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ScenarioError, match="Is a directory"):
        load_scenario(str(tmp_path / "folder.toml"))


def test_the_corners_of_all_ranges_run() -> None:
    """No scenario that we accept may break the physics."""
    for activity in ("drive", "charge"):
        for end in (0, 1):
            values = {n: (round(r[end]) if n == "passengers" else r[end]) for n, r in RANGES.items()}
            steps = Simulation(Scenario("corner", activity=activity, **values), 1)
            for _, frames in zip(range(300), steps.steps(), strict=False):
                assert len(frames)
            assert abs(steps.truth.power_w) < 500_000
            assert 2.0 < steps.truth.voltage_v / 176 < 3.65
