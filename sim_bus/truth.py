"""The truth beside the frames: into a file, and summed up.

All recorders have `first(row)` for t = 0 and `add(rows, labels)` for the rows of one second: rows (n, columns), labels
of the faults that acted in it. So the row of t has the labels of the time up to t.
"""

from __future__ import annotations

import csv
import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from edge.errors import ScenarioError
from sim_bus.doors import STEP_S, FloatArray
from sim_bus.files import WholeFile

LABELS = "faults"  # the last column, a text: labels with "+" between them
ROW_GROUP = 50_000  # of Parquet
LEAST_KM = 0.1  # a shorter way has no consumption


class Recorder(Protocol):
    """What looks on."""

    def first(self, row: FloatArray) -> None: ...
    def add(self, rows: FloatArray, labels: tuple[str, ...]) -> None: ...


class Rows(Protocol):
    """A format of the truth."""

    def write(self, rows: FloatArray, labels: str) -> None: ...
    def close(self) -> None: ...


class CsvRows:
    """Six digits after the point; empty where nobody knows."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._file: IO[str] = path.open("w", newline="", encoding="utf-8", buffering=1)
        self._rows = csv.writer(self._file)
        self._head = [[*columns, LABELS]]

    def write(self, rows: FloatArray, labels: str) -> None:
        self._rows.writerows(self._head)
        self._head = []
        self._rows.writerows([*map(_text, row), labels] for row in rows.tolist())

    def close(self) -> None:
        self._file.close()


def _text(value: float) -> str:
    return "" if value != value else f"{value:.6f}".rstrip("0").rstrip(".")


class ParquetRows:
    """Doubles, null where nobody knows."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        try:
            self._arrow: Any = importlib.import_module("pyarrow")
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ModuleNotFoundError:
            raise ScenarioError(
                "a truth in Parquet needs pyarrow; install it with: pip install 'ayaz[files]', or write a .csv"
            ) from None
        number, text = self._arrow.float64(), self._arrow.string()
        self._schema = self._arrow.schema([*((name, number) for name in columns), (LABELS, text)])
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._parts: list[FloatArray] = []
        self._labels: list[str] = []

    def write(self, rows: FloatArray, labels: str) -> None:
        self._parts.append(np.array(rows))
        self._labels += [labels] * len(rows)
        if len(self._labels) >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        try:
            self._flush()
            self._writer.close()
        finally:
            self._writer.is_open = False  # else it would write once more when it is collected

    def _flush(self) -> None:
        if not self._labels:
            return
        table = np.concatenate(self._parts)
        columns = [self._arrow.array(values, from_pandas=True) for values in table.T]
        columns.append(self._arrow.array(self._labels))
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))
        self._parts, self._labels = [], []


class TruthFile(WholeFile):
    """The truth as CSV, or Parquet where the name ends in .parquet: a row at 0 and every `every_s` from then on.

    Raises
    ------
    ScenarioError
        The file can't be written, pyarrow is missing, or `every_s` is no multiple of a step.
    """

    def __init__(self, path: Path, columns: Sequence[str], every_s: float = 1.0) -> None:
        self._every = steps_of(every_s)
        kind = ParquetRows if path.suffix.lower() == ".parquet" else CsvRows
        self._rows: Rows | None = None
        super().__init__(path, ScenarioError)
        with self.opening():
            self._rows = kind(self.part, columns)

    def first(self, row: FloatArray) -> None:
        """The row of t = 0.

        Raises
        ------
        ScenarioError
        """
        self._write(row[None, :], "")

    def add(self, rows: FloatArray, labels: tuple[str, ...]) -> None:
        """The rows of one second.

        Raises
        ------
        ScenarioError
        """
        steps = np.rint(rows[:, 0] / STEP_S).astype(np.int64)
        self._write(rows[steps % self._every == 0], "+".join(labels))

    def _write(self, rows: FloatArray, labels: str) -> None:
        assert self._rows is not None
        with self.guard():
            self._rows.write(rows, labels)

    def close(self) -> None:
        if self._rows is not None:
            self._rows.close()


def steps_of(every_s: float) -> int:
    """How many steps that is.

    Raises
    ------
    ScenarioError
        It is no multiple of a step.
    """
    steps = round(every_s / STEP_S) if math.isfinite(every_s) else 0
    if steps < 1 or not math.isclose(steps * STEP_S, every_s, rel_tol=1e-9):
        raise ScenarioError(f"--truth-every {every_s:g}: must be a multiple of {STEP_S:g} s")
    return steps


class Spans:
    """When each fault acted: [label, from_s, to_s], in the order of their beginnings."""

    def __init__(self) -> None:
        self.found: list[tuple[str, float, float]] = []
        self._open: dict[str, int] = {}

    def add(self, begin_s: float, end_s: float, labels: tuple[str, ...]) -> None:
        """The labels that acted in this time, which follows the time before it."""
        for label in labels:
            at = self._open.get(label)
            if at is None:
                self._open[label] = len(self.found)
                self.found.append((label, begin_s, end_s))
            else:
                self.found[at] = (label, self.found[at][1], end_s)
        self._open = {label: self._open[label] for label in labels}


class Account:
    """What a run comes to."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._at = {name: n for n, name in enumerate(columns)}
        self._used_j = self._way_km = 0.0
        self._first = self._last = np.full(len(columns), np.nan)
        self.frames = 0
        self.spans = Spans()

    def first(self, row: FloatArray) -> None:
        """The row of t = 0."""
        self._first = self._last = row

    def add(self, rows: FloatArray, labels: tuple[str, ...]) -> None:
        """The rows of one second."""
        before = float(self._last[0])
        power = rows[:, self._at["power_w"]].sum()
        charger = rows[:, self._at["charger_w"]].sum() if "charger_w" in self._at else 0.0
        self._used_j += float(power + charger) * STEP_S
        self._way_km += float(rows[:, self._at["speed_kmh"]].sum()) * STEP_S / 3600
        self._last = rows[-1]
        self.spans.add(before, float(self._last[0]), labels)

    def value(self, name: str) -> float:
        """The last value of a column; NaN where there is none."""
        return float(self._last[self._at[name]]) if name in self._at else math.nan

    def summary(self) -> dict[str, Any]:
        """For people and JSON; None where it can't be told.

        seconds, frames, distance_km, kwh_per_km (what battery and charger gave together), soc and bms_soc
        {first, last}, faults [{label, from_s, to_s}]
        """
        ends = {
            name: {"first": _known(self._first[self._at[name]], 4), "last": _known(self.value(name), 4)}
            for name in ("soc", "bms_soc")
        }
        used = self._used_j / 3.6e6 / self._way_km if self._way_km >= LEAST_KM else math.nan
        return {
            "seconds": _known(self._last[0], 1),
            "frames": self.frames,
            "distance_km": _known(self._way_km, 3),
            "kwh_per_km": _known(used, 3),
            **ends,
            "faults": [
                {"label": label, "from_s": round(begin, 1), "to_s": round(end, 1)}
                for label, begin, end in self.spans.found
            ],
        }


def _known(value: float, digits: int) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None
