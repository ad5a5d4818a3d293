"""The figures and the tables of scripts/validate_soc.py, from made-up runs."""

from __future__ import annotations

import gzip
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.measured import Measured
from scripts.validate_soc import (
    ROWS,
    Case,
    Drive,
    begins,
    beside,
    cases,
    composed,
    counted_ah,
    detail,
    put,
    scored,
    second_by_second,
    settling,
    summary,
    verdict,
)

ROOT = Path(__file__).parent.parent.parent


def drive(rows: int = 2001, current_a: float = 2.7) -> Measured:
    """From full, one capacity an hour."""
    time = np.arange(rows, dtype=float)
    soc = 1 - current_a * time / 3600 / 2.7
    return Measured(time, np.full(rows, current_a), 3.0 + soc, np.full(rows, 25.0), soc)


def case(**changed: object) -> Case:
    fields: dict[str, object] = {
        "row": "nmc_0",
        "drive": "d",
        "temp_degc": 0,
        "start": "right",
        "sign": 1,
        "place": 0.0,
    }
    fields |= {
        "given_soc": 1.0,
        "rmse": 1.0,
        "worst": 2.0,
        "inside": 0.95,
        "half_width": 2.0,
        "inside_all": 0.9,
    }
    fields |= {"half_width_all": 3.0, "settled_s": 0.0, "counting_rmse": 4.0, "counting_worst": 5.0}
    return Case(**(fields | changed))  # type: ignore[arg-type]


def test_mid_drive_is_scored_from_600_s_on() -> None:
    time = np.arange(1200.0)
    truth = np.full(1200, 0.5)
    soc = np.where(time < 300, 0.9, 0.52)
    right, wrong = (scored(s, time, soc, np.full(1200, 0.02), truth, truth + 0.1) for s in ("right", "wrong"))
    assert wrong["rmse"] == pytest.approx(2.0)
    assert wrong["worst"] == pytest.approx(2.0)
    assert right["worst"] == pytest.approx(40.0)
    assert wrong["inside"] == 1.0
    assert wrong["inside_all"] == pytest.approx(0.75)
    assert wrong["settled_s"] == 300.0
    assert wrong["half_width"] == pytest.approx(3.92)
    assert wrong["counting_rmse"] == pytest.approx(10.0)


def test_what_never_settles_is_never() -> None:
    time = np.arange(700.0)
    made = scored("wrong", time, np.full(700, 0.9), np.full(700, 0.1), np.full(700, 0.5), np.full(700, 0.5))
    assert made["settled_s"] == math.inf


def test_starts_are_30_to_50_percent_wrong_both_ways_where_there_is_room() -> None:
    found = list(begins(drive(3241), ("right", "wrong", "unknown")))  # down to 0.1
    assert found[0] == ("right", 0.0, 1.0)
    by_place: dict[float, list[float]] = {}
    for start, place, given in found:
        if start == "wrong":
            assert given is not None
            true = 1 - 0.9 * place
            assert 0.299 < abs(given - true) < 0.501
            assert 0 <= given <= 1
            by_place.setdefault(place, []).append(given - true)
    assert {p: len(v) for p, v in by_place.items()} == {0.25: 1, 0.5: 2, 0.75: 2}
    assert sum(start == "unknown" and given is None for start, _, given in found) == 3
    assert {place for _, place, _ in begins(drive(2001), ("wrong",))} == {0.25, 0.5}, (
        "too little would be left"
    )


def test_the_capacity_is_that_of_the_reference() -> None:
    assert counted_ah(drive()) == pytest.approx(2.7)


def test_rows_are_joined_to_seconds() -> None:
    data = drive()
    fast = Measured(
        data.time_s / 10, *(np.asarray(c) for c in (data.current_a, data.voltage_v, data.temp_degc, data.soc))
    )
    slow = second_by_second(fast)
    assert len(slow.time_s) == 201
    assert slow.current_a.mean() == pytest.approx(2.7)


def test_a_composed_drive_goes_on_in_soc_and_time() -> None:
    parts = [drive(3000), drive(3000), drive(3000)]
    whole = composed(parts, [1.0, 0.8, 0.5])
    assert whole.soc is not None
    assert np.diff(whole.time_s).min() > 0
    assert np.abs(np.diff(whole.soc)).max() < 0.001
    assert whole.soc[0] == 1.0
    assert whole.soc[-1] < 0.2


def test_verdicts_and_rows() -> None:
    assert [verdict(v, 1.2, 0.6) for v in (0.5, 0.6, 1.0, 1.2, 1.3)] == ["aim", "aim", "must", "must", "NO"]
    found = [case(), case(start="wrong", rmse=1.5, worst=2.9, sign=-1), case(start="unknown", rmse=50.0)]
    line = summary(found).splitlines()[2]
    assert ROWS["nmc_0"].title in line
    assert f"{math.sqrt((1 + 1.5**2) / 2):.2f} / 2.9" in line, (
        "RMSE over all cases, unknown starts not among them"
    )
    assert "better than us in 0 of 1" in line
    assert "| NO " in line, "the RMSE is above the limit"


def test_time_to_5_percent_is_the_90th_percentile_and_never_counts() -> None:
    found = [case(row="nmc_-10", temp_degc=-10, start="wrong", settled_s=float(s)) for s in range(10)]
    assert "| 9 s" in settling(found)
    found[0] = case(row="nmc_-10", temp_degc=-10, start="wrong", settled_s=math.inf)
    found[1] = found[0]
    assert "| never" in settling(found)


def test_tables_stand_where_the_markers_are(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n", "utf-8")
    put(page, "x", "new")
    assert page.read_text("utf-8") == "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n"
    with pytest.raises(SystemExit, match="no markers"):
        put(page, "y", "new")


def test_every_table_is_made_of_estimates_of_a_file(tmp_path: Path) -> None:
    data = drive(3000)
    path = tmp_path / "x_+25.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("time_s,current_A,voltage_V,temperature_C,soc\n")
        assert data.soc is not None
        for row in zip(data.time_s, data.current_a, data.voltage_v, data.temp_degc, data.soc, strict=True):
            file.write(",".join(f"{v:.5f}" for v in row) + "\n")

    def half(
        seen: Measured, cell: str, given: float | None, capacity: float, start_s: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first = int(np.searchsorted(seen.time_s, start_s))
        rows = len(seen.time_s) - first
        return seen.time_s[first:], np.full(rows, 0.5), np.full(rows, 0.3)

    found = cases(Drive("nmc_warm", 25, (path,), "-", (0.05, 0.01, -0.03)), False, ("right", "wrong"), half)
    assert {c.sign for c in found} == {1, -1}
    assert {c.start for c in found} == {"right", "wrong"}
    more = [c for c in found if c.start == "right"]
    assert more[0].counting_rmse == pytest.approx(more[1].counting_rmse, rel=0.2), "errors add up both ways"
    assert more[0].counting_rmse > 1
    for text in (summary(found), settling(found), detail(found), beside({"Ayaz": found, "other": found})):
        assert text.count("\n") >= 2


def test_without_data_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/validate_soc.py", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no drives" in done.stderr


def test_one_measured_row_by_the_command(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "cases.json"
    command = [sys.executable, "scripts/validate_soc.py", str(shared_data / "battery"), "--quick", "--brief"]
    more = ["--row", "nmc_0", "--only", "Mixed1", "--start", "right", "--json", str(out), "--jobs", "1"]
    done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = json.loads(out.read_text("utf-8"))
    assert len(made) == 2
    assert all(c["rmse"] < c["counting_rmse"] for c in made)
