"""The fit, the figures and the table of scripts/validate_sim_cells.py; PyBaMM itself is in the [lab] extra."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts.fit_sim_cells import SOC, File, Model, Task, chen, first_x, fit
from scripts.validate_sim_cells import (
    FITTED,
    JUDGED,
    KINDS,
    TEMPS,
    beside,
    capacity_of,
    far_off,
    first_model,
    lines,
    our_step,
    place,
    score,
    simulate,
    table,
    tasks,
)
from sim_bus.battery.cells import run_cell

ROOT = Path(__file__).parent.parent.parent


def write(path: Path, time: np.ndarray, current: np.ndarray, volts: np.ndarray) -> None:
    soc = 1 - np.cumsum(current * np.diff(time, prepend=time[0])) / 3600 / 5.0
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.write("time_s,current_A,voltage_V,temperature_C,soc\n")
        for row in zip(time, current, volts, np.full(time.size, 25.0), soc, strict=True):
            file.write(",".join(f"{v:.6f}" for v in row) + "\n")


def slow_file(folder: Path) -> None:
    """20 h out and back at a twentieth of 5 Ah; a volt of open circuit and 10 mV of resistance."""
    time = np.arange(0, 40 * 3600 + 1, 60.0)
    current = np.where(time <= 20 * 3600, 0.25, -0.25)
    soc = 1 - np.cumsum(current * np.diff(time, prepend=0.0)) / 3600 / 5.0
    write(place(folder, "fit", "slow", 25), time, current, 3.2 + soc - 0.04 * current)


def test_scores_are_in_mv_and_leave_out_the_knee() -> None:
    found = score(np.array([0.003, -0.004, 0.2]), np.array([0.9, 0.5, 0.05]))
    assert found.largest == pytest.approx(200)
    assert found.rms == pytest.approx(np.sqrt((9 + 16 + 40000) / 3))
    assert found.rms_above == pytest.approx(np.sqrt(12.5))
    assert found.largest_above == pytest.approx(4)
    assert found.last_soc == 0.05
    assert str(found) == "115.5, 200"
    assert found.above() == "3.5, 4"


def test_two_models_are_compared_while_both_run() -> None:
    def file(rows: int, volts: float, first: float = 0.0) -> File:
        time = first + np.arange(float(rows))
        return File("x", time, time * 0, time * 0 + volts, time * 0, 1 - time / 100)

    error, soc = beside(file(10, 3.5), file(6, 3.4))
    assert error == pytest.approx(np.full(6, 0.1))
    assert soc[-1] == pytest.approx(0.95)
    with pytest.raises(ValueError, match="not at the same times"):
        beside(file(10, 3.5), file(6, 3.4, 1.0))


def test_a_table_has_a_column_for_each_temperature() -> None:
    made = table("x", [("a", ["1", "2", "3"])]).splitlines()
    assert made[0] == "| x | 25 °C | 0 °C | −20 °C |"
    assert made[1].count("|") == len(TEMPS) + 2
    assert made[2] == "| a | 1 | 2 | 3 |"


def test_what_is_judged_is_not_fitted() -> None:
    assert not set(FITTED) & set(JUDGED)


def test_the_open_circuit_is_the_middle_of_the_slow_test(tmp_path: Path) -> None:
    slow_file(tmp_path)
    assert capacity_of(tmp_path) == pytest.approx(5.0)
    model = first_model(KINDS["nmc"].assumed, (0.0, 1.0), tmp_path)
    cell = model.cell()
    assert cell.open_circuit_v(np.array([0.3, 0.6])) == pytest.approx([3.5, 3.8], abs=0.002)
    assert cell.potential["hysteresis_v"].max() == 0


def test_a_fit_finds_the_cell_that_it_was_made_from() -> None:
    """A cell of our own kind with half of the resistance: what is left is far below what was there."""
    temps, socs = np.array([0.0, 25.0]), np.array([0.0, 1.0])
    first = Model(3 + 1.1 * SOC, 0 * SOC, chen, (0.03, 0.9), (0.91, 0.27), np.full(4, 0.01),
                  temps, socs, first_x(temps, socs, 5.0))  # fmt: skip
    ln, *_ = first.split(np.arange(first.x.size, dtype=float))
    x = first.x.copy()
    x[ln["ohmic_ohm"].astype(int).ravel()] += np.log(0.5)
    truth = first.cell(x)
    time = np.arange(0.0, 600.0, 2.0)
    current = np.where(time % 60 < 20, 5.0, -1.0)
    made = []
    for temp in temps:
        volts = run_cell(truth, time, current, temp, 0.8, 2.0, capacity_ah=5.0)
        file = File("x", time, current, volts, np.full(time.size, temp), time * 0)
        made.append(Task(file, 0.8, 5.0, 0.0, 2.0))
    found = fit(first, made, loud=False).cell()
    for task in made:
        assert np.abs(task.error(found)).max() < 0.1 * np.abs(task.error(first.cell())).max()


def all_files(folder: Path) -> None:
    slow_file(folder)
    for temp in TEMPS[1:]:
        place(folder, "fit", "slow", temp).write_bytes(place(folder, "fit", "slow", 25).read_bytes())
    time = np.arange(0.0, 200.0)
    for use, kinds in (("fit", FITTED[1:]), ("judge", JUDGED), ("spme", JUDGED)):
        rows = 200 if use != "spme" else 100
        for kind in kinds:
            for temp in TEMPS:
                flowing = np.full(rows, 60.0 if kind == "Mixed1" else 1.0)
                write(place(folder, use, kind, temp), time[:rows], flowing, np.full(rows, 4.0))


def test_drives_begin_full_and_slow_tests_end_before_the_charge(tmp_path: Path) -> None:
    all_files(tmp_path)
    found = tasks(tmp_path, "fit", FITTED)
    assert len(found) == len(FITTED) * len(TEMPS)
    assert {t.soc0 for t in found} == {1.0}
    assert all(t.file.current.min() >= 0 for t in found)


def test_every_line_has_all_temperatures(tmp_path: Path) -> None:
    all_files(tmp_path)
    found = lines(tmp_path, first_model(KINDS["nmc"].assumed, (0.0, 1.0), tmp_path).cell())
    far = far_off(tmp_path, first_model(KINDS["nmc"].assumed, (0.0, 1.0), tmp_path).cell())
    assert len(far) == len(JUDGED) * len(TEMPS), "the files' voltage has nothing to do with the cell's"
    assert far[0].startswith("Mixed1_+25: ")
    titles = [title for title, _ in found]
    assert len(titles) == len(set(titles)) == len(FITTED) + 2 * len(JUDGED)
    assert all(len(texts) == len(TEMPS) for _, texts in found)
    ended = {title: "(ends at" in texts[0] for title, texts in found}
    assert ended["Mixed1, PyBaMM's SPMe above 10 %"], (
        "from 100 % it comes to two thirds, the other to a third"
    )
    assert not ended["UDDS, PyBaMM's SPMe above 10 %"]


def test_the_modes_are_a_sphere_s() -> None:
    """Crank, The Mathematics of Diffusion, 6.3: constant flux; the first roots of tan(q) = q, and soon one is enough."""
    q = 4.493409458
    late = np.array([0.2, 0.5])
    assert our_step(late) == pytest.approx(1 - 10 * np.exp(-(q**2) * late) / q**2, abs=0.001)
    assert our_step(np.array([0.0])) == pytest.approx([0.0], abs=1e-9)


@pytest.mark.filterwarnings("ignore")  # PyBaMM's own
def test_the_modes_are_pybamm_s_particle() -> None:
    pytest.importorskip("pybamm", reason="PyBaMM is in the [lab] extra")
    from scripts.validate_sim_cells import pybamm_step

    since = np.array([0.003, 0.01, 0.1])
    assert our_step(since) == pytest.approx(pybamm_step(since), rel=0.01)


def test_without_pybamm_it_says_what_is_missing(tmp_path: Path) -> None:
    code = (
        "import importlib.util; importlib.util.find_spec = lambda name: None\n"
        "from pathlib import Path\n"
        "from scripts.validate_sim_cells import simulate\n"
        f"simulate('nmc', Path({str(tmp_path)!r}), Path({str(tmp_path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "[lab]" in done.stderr


@pytest.mark.filterwarnings("ignore")  # PyBaMM's own
def test_a_pybamm_cell_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pybamm", reason="PyBaMM is in the [lab] extra")
    from scripts import lab_pybamm, validate_sim_cells

    monkeypatch.setattr(lab_pybamm, "scale_for", lambda cell: 1.0)
    monkeypatch.setattr(validate_sim_cells, "FITTED", ("slow",))
    monkeypatch.setattr(validate_sim_cells, "JUDGED", ())
    simulate("nmc", tmp_path, tmp_path)
    assert 4.9 < capacity_of(tmp_path / "nmc") < 5.4
    made = tasks(tmp_path / "nmc", "fit", ("slow",))
    first = first_model(KINDS["nmc"].own, (0.0, 1.0), tmp_path / "nmc").cell()
    assert np.sqrt((made[0].error(first) ** 2).mean()) < 0.05, "before any fit"
