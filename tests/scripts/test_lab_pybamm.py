"""The simulated cells of scripts/lab_pybamm.py. PyBaMM is in the [lab] extra and not needed elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pybamm", reason="PyBaMM is in the [lab] extra")
pytestmark = pytest.mark.filterwarnings("ignore")  # PyBaMM's own


def test_the_resistance_rises_more_with_the_extra_factor() -> None:
    from scripts.lab_pybamm import CELLS, rise

    as_it_is, scaled = rise(CELLS["nmc"], 0.0), rise(CELLS["nmc"], 1.0)
    assert 2 < as_it_is < 4
    assert scaled > 1.5 * as_it_is


def test_a_file_is_what_a_laboratory_would_write(tmp_path: Path) -> None:
    from edge.measured import load_measured
    from scripts.lab_pybamm import CELLS, Job, at, check, parameters, run, write

    values = at(parameters(CELLS["lfp"], 0.5), -20)
    times = np.arange(0.0, 301.0)
    current = np.where((times % 60) < 20, 1.0, 0.0)
    rows = run(values, times, current, 2.0)
    job = Job("lfp", "US06", -20, "fit")
    check(job, rows, 2.3)
    write(tmp_path / "x.csv.gz", rows, 2.3)
    data = load_measured(tmp_path / "x.csv.gz")
    assert data.soc is not None
    counted = np.sum(data.current_a[:-1] * np.diff(data.time_s)) / 3600
    assert 1 - data.soc[-1] == pytest.approx(counted / 2.3, abs=0.001)
    with pytest.raises(RuntimeError, match="off"):
        check(job, rows * np.array([1, 1.5, 1, 1, 1]), 2.3)
