"""A fleet: every bus another, each in its own files, the same again for the same seed."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from edge.errors import ScenarioError
from sim_bus.fleet import fleet_jobs, vary
from sim_bus.job import Job
from sim_bus.scenario import load_scenario, names
from sim_bus.scenario.model import Key
from sim_bus.sinks import CandumpSink
from tests.conftest import ROOT
from tests.sim_bus.small_run import SmallRun

SEED = 3
SMALL_AYAZ = [sys.executable, "-m", "tests.sim_bus.small_run"]


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


def fleet(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`ayaz sim --fleet` with the small bus."""
    command = [
        *SMALL_AYAZ,
        "sim",
        names()[0],
        "--to",
        f"{folder}/{{bus}}.log",
        "--seed",
        str(SEED),
        *arguments,
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_fleet_lives_over_processes(tmp_path: Path) -> None:
    with fleet(tmp_path, "--fleet", "3", "--duration", "5", "--json") as process:
        out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    buses = json.loads(out)["buses"]
    assert [(b["bus"], b["seed"], b["frames"]) for b in buses] == [
        (f"bus-00{n}", 2 + n, 750) for n in (1, 2, 3)
    ]
    logs = [(tmp_path / f"bus-00{n}.log").read_bytes() for n in (1, 2, 3)]
    assert len(set(logs)) == 3
    alone = tmp_path / "alone.log"
    with CandumpSink(alone) as sink:
        sink.write(np.concatenate([s.frames for s in itertools.islice(SmallRun(SEED + 1).seconds(), 5)]))
    assert alone.read_bytes() == logs[1], "as the bus of that seed alone"


def test_ctrl_c_ends_a_fleet_with_whole_files(tmp_path: Path) -> None:
    with fleet(tmp_path, "--fleet", "9", "--duration", "1e9") as process:
        deadline = time.monotonic() + 30
        while (
            not any(p.stat().st_size > 100_000 for p in tmp_path.glob("*.part"))
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, "")
    lived = sorted(p.name for p in tmp_path.iterdir())
    assert lived
    assert len(lived) < 9, "not all had begun"
    assert [f"{line.split(':')[0]}.log" for line in out.splitlines()] == lived
    assert all("stopped" in line for line in out.splitlines())


def test_an_error_of_one_bus_is_the_fleets(tmp_path: Path) -> None:
    (tmp_path / "bus-002.log.part").symlink_to("/dev/full")
    with fleet(tmp_path, "--fleet", "2", "--duration", "400") as process:
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert error.startswith("ayaz: ")
    assert error.count("\n") == 1
    assert "bus-002.log: cannot be written: No space left" in error
    assert not list(tmp_path.glob("*.part"))
