"""A fleet: every bus another, each in its own files, the same again for the same seed."""

from __future__ import annotations

import threading
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from edge.errors import ScenarioError
from sim_bus.fleet import fleet_jobs, live_fleet, vary
from sim_bus.job import Job
from sim_bus.scenario import load_scenario, names
from sim_bus.scenario.model import Key

SEED = 3


def limits(of: Any) -> list[tuple[str, Any, Key]]:
    """Each number of a plan with its Key."""
    found = []
    hints = get_type_hints(type(of), include_extras=True)
    for one in fields(of):
        value = getattr(of, one.name)
        if is_dataclass(value):
            found += limits(value)
        for key in getattr(hints[one.name], "__metadata__", ()):
            if isinstance(value, float | int) and isinstance(key, Key):
                found.append((one.name, value, key))
    return found


@pytest.mark.parametrize("name", names())
def test_what_is_drawn_is_a_scenario(name: str) -> None:
    scenario = load_scenario(name)
    for seed in range(40):
        varied = vary(scenario, seed)
        for field, value, key in limits(varied):
            assert key.low is None or value >= key.low, (field, value)
            assert key.high is None or value <= key.high, (field, value)
        assert (varied.timetable, varied.faults, varied.route.profile) == (
            scenario.timetable, scenario.faults, scenario.route.profile,
        )  # fmt: skip


def test_buses_differ_and_are_the_same_again() -> None:
    print("seed", SEED)
    scenario = load_scenario(names()[0])
    buses = [vary(scenario, SEED + n) for n in range(30)]
    assert buses == [vary(scenario, SEED + n) for n in range(30)]
    for values in (
        [b.battery.soc for b in buses], [b.battery.age_years for b in buses], [b.route.passengers for b in buses],
        [b.weather.ambient_degc[0][1] for b in buses], [b.bms.soc_error for b in buses],
    ):  # fmt: skip
        assert np.std(values) > 0
    assert len({b.battery.age_years for b in buses}) == 30


def test_names_and_seeds(tmp_path: Path) -> None:
    job = Job(names()[0], str(tmp_path / "{bus}.log"), SEED, truth_path=tmp_path / "{bus}.csv")
    jobs = fleet_jobs(job, 3)
    assert [name for name, _ in jobs] == ["bus-001", "bus-002", "bus-003"]
    assert [j.seed for _, j in jobs] == [3, 4, 5]
    assert jobs[2][1].to == str(tmp_path / "bus-003.log")
    assert jobs[0][1].truth_path == tmp_path / "bus-001.csv"


def test_one_name_for_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"put \{bus\} into the name: .*all-\{bus\}.log"):
        fleet_jobs(Job(names()[0], str(tmp_path / "all.log")), 2)


def test_a_fleet_lives_over_processes(tmp_path: Path) -> None:
    """Real buses; those that were not waited for say so, and leave nothing."""
    job = Job(names()[0], str(tmp_path / "{bus}.log"), SEED, duration_s=5)
    counts: list[int] = []
    summaries = live_fleet(fleet_jobs(job, 3), threading.Event(), counts.append)
    assert [s["bus"] for s in summaries] == ["bus-001", "bus-002", "bus-003"]
    assert counts[-1] == 3
    assert len({(tmp_path / f"bus-00{n}.log").read_bytes() for n in (1, 2, 3)}) == 3
    first = (tmp_path / "bus-001.log").read_bytes()
    live_fleet(fleet_jobs(job, 1), threading.Event())
    assert (tmp_path / "bus-001.log").read_bytes() == first
    stop = threading.Event()
    stop.set()
    live_fleet(fleet_jobs(Job(names()[0], str(tmp_path / "s-{bus}.log"), duration_s=1e5), 4), stop)
    assert not list(tmp_path.glob("*.part"))


def test_an_error_of_one_bus_is_the_fleets(tmp_path: Path) -> None:
    jobs = fleet_jobs(Job(names()[0], str(tmp_path / "{bus}.log"), duration_s=1), 2)
    (tmp_path / "bus-002.log.part").symlink_to("/dev/full")
    with pytest.raises(Exception, match="No space left"):
        live_fleet(jobs, threading.Event(), workers=1)
    assert not list(tmp_path.glob("*.part"))
