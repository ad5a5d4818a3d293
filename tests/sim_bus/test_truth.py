"""The truth: CSV and Parquet say the same, a row each second or each step; the account adds up."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import ScenarioError
from sim_bus.truth import Account, Spans, TruthFile, steps_of
from tests.sim_bus.small_run import COLUMNS, FAULT, SmallRun

SECONDS = 12


def write(path: Path, every_s: float = 1.0) -> None:
    run = SmallRun(1)
    with TruthFile(path, run.columns, every_s) as file:
        file.first(run.first)
        for second in itertools.islice(run.seconds(), SECONDS):
            file.add(second.truth, second.labels)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("every_s", "rows"), [(1.0, 13), (0.1, 121), (0.5, 25), (5.0, 3)])
def test_rows_begin_at_0_and_come_in_time(tmp_path: Path, every_s: float, rows: int) -> None:
    write(tmp_path / "t.csv", every_s)
    found = read(tmp_path / "t.csv")
    assert list(found[0]) == [*COLUMNS, "faults"]
    np.testing.assert_allclose([float(r["t_s"]) for r in found], np.arange(rows) * every_s, atol=1e-9)
    labels = [r["faults"] for r in found if FAULT[1] < float(r["t_s"]) <= FAULT[2]]
    assert set(labels) == {FAULT[0]}
    assert sum(bool(r["faults"]) for r in found) == len(labels)


def test_parquet_says_what_csv_says(tmp_path: Path) -> None:
    import pyarrow.parquet

    write(tmp_path / "t.csv", 0.1)
    write(tmp_path / "t.parquet", 0.1)
    table: Any = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    rows = read(tmp_path / "t.csv")
    assert table.column_names == list(rows[0])
    for name in COLUMNS:
        np.testing.assert_allclose(table[name].to_numpy(), [float(r[name]) for r in rows], atol=5.1e-7)
    assert table["faults"].to_pylist() == [r["faults"] for r in rows]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_same_run_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.{suffix}", 0.1)
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_what_nobody_knows_is_empty_or_null(tmp_path: Path) -> None:
    import pyarrow.parquet

    row = np.array([1.0, np.nan])
    for name in ("t.csv", "t.parquet"):
        with TruthFile(tmp_path / name, ("t_s", "soc")) as file:
            file.first(row)
            file.add(row[None, :], ("a", "b,c"))
    assert [(r["soc"], r["faults"]) for r in read(tmp_path / "t.csv")] == [("", ""), ("", "a+b,c")]
    assert pyarrow.parquet.read_table(tmp_path / "t.parquet")["soc"].to_pylist() == [None, None]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    (tmp_path / f"t.{suffix}.part").symlink_to("/dev/full")
    with pytest.raises(ScenarioError, match=r"cannot be written: .*No space left") as caught:
        write(path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_without_pyarrow_one_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, package: str | None = None) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("sim_bus.truth.importlib.import_module", refuse)
    with pytest.raises(ScenarioError, match="pip install 'ayaz"):
        write(tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("every_s", [0.0, 0.05, 0.15, -1.0, float("nan")])
def test_every_is_whole_steps(every_s: float) -> None:
    with pytest.raises(ScenarioError, match=r"multiple of 0\.1 s"):
        steps_of(every_s)


def test_the_account_adds_up() -> None:
    columns = ("t_s", "soc", "bms_soc", "power_w", "speed_kmh", "charger_w")
    account = Account(columns)
    account.first(np.array([0.0, 0.9, 0.8, 0.0, 0.0, 0.0]))
    for n in range(3600):  # an hour at 36 km/h and 36 kW, half of it from a charger
        t = n + np.arange(1, 11) / 10
        one = np.ones(10)
        account.add(np.column_stack([t, 0.5 * one, 0.4 * one, 18e3 * one, 36 * one, 18e3 * one]), ())
    summary = account.summary()
    assert summary["distance_km"] == pytest.approx(36)
    assert summary["kwh_per_km"] == pytest.approx(1.0)
    assert (summary["seconds"], summary["soc"]) == (3600.0, {"first": 0.9, "last": 0.5})


def test_a_fault_that_comes_again_is_another_span() -> None:
    spans = Spans()
    for n, labels in enumerate([("a",), ("a", "b"), ("b",), (), ("a",)]):
        spans.add(n, n + 1, labels)
    assert spans.found == [("a", 0, 2), ("b", 1, 3), ("a", 4, 5)]
