"""Measured battery data: CSV (plain or gzip) or Parquet.

Columns `time_s,current_A,voltage_V,temperature_C` and, where known, `soc` (0 to 1); current positive on
discharge. The Battery Data Format's names are taken too (`Test Time / s`, `Current / A`, `Voltage / V`,
`Ambient Temperature / degC` or `Surface Temperature / degC`), with that format's sign (positive on charge).
"""

from __future__ import annotations

import csv
import gzip
import importlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.errors import DataError

FloatArray = npt.NDArray[np.float64]
OURS = {"time_s": "time_s", "current_a": "current_A", "voltage_v": "voltage_V", "temp_degc": "temperature_C"}
BDF = {
    "time_s": ("Test Time / s",),
    "current_a": ("Current / A",),
    "voltage_v": ("Voltage / V",),
    "temp_degc": ("Surface Temperature / degC", "Temperature T1 / degC", "Ambient Temperature / degC"),
}


@dataclass(frozen=True)
class Measured:
    """Arrays of shape (n,): s, A (positive on discharge), V, °C; soc 0 to 1, or None where not known."""

    time_s: FloatArray
    current_a: FloatArray
    voltage_v: FloatArray
    temp_degc: FloatArray
    soc: FloatArray | None


def load_measured(path: Path) -> Measured:
    """Read a file of measured data.

    Raises
    ------
    DataError
        The file can't be read, lacks a column, or holds what is no number; says where.
    """
    columns = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    if OURS["time_s"] in columns:
        names, sign = {ours: name for ours, name in OURS.items()}, 1.0
    else:
        names, sign = {ours: next((n for n in b if n in columns), b[0]) for ours, b in BDF.items()}, -1.0
    missing = [n for n in names.values() if n not in columns]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; it has {', '.join(list(columns)[:12])}")
    values = {ours: columns[name] for ours, name in names.items()}
    soc = columns.get("soc")
    if soc is not None and not np.isfinite(soc).any():
        soc = None
    _check(path, values)
    return Measured(values["time_s"], sign * values["current_a"], values["voltage_v"], values["temp_degc"], soc)


def _check(path: Path, values: Mapping[str, FloatArray]) -> None:
    if not len(values["time_s"]):
        raise DataError(f"{path}: holds no rows")
    for name, column in values.items():
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            raise DataError(f"{path}: row {bad[0] + 2}: {name} is no number")
    back = np.flatnonzero(np.diff(values["time_s"]) < 0)
    if len(back):
        raise DataError(f"{path}: row {back[0] + 3}: time runs backwards")


def _csv(path: Path) -> dict[str, FloatArray]:
    try:
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") if path.suffix == ".gz" else path.open(
            encoding="utf-8-sig", newline=""
        ) as file:
            rows = csv.reader(file)
            header = [name.strip() for name in next(rows, [])]
            return _columns(path, header, list(rows))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file: {error}") from None


def _columns(path: Path, header: Sequence[str], rows: list[list[str]]) -> dict[str, FloatArray]:
    while rows and not rows[-1]:
        rows.pop()
    wrong = next((n for n, row in enumerate(rows, 2) if len(row) != len(header)), None)
    if wrong is not None:
        raise DataError(f"{path}: row {wrong} has not the {len(header)} columns of the header")
    return {name: np.array([_number(row[n]) for row in rows]) for n, name in enumerate(header)}


def _number(text: str) -> float:
    try:
        return float(text) if text else float("nan")
    except ValueError:
        return float("nan")


def _parquet(path: Path) -> dict[str, FloatArray]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise DataError(f"{path}: Parquet needs pyarrow; install it with: pip install 'ayaz[lab]'") from None
    try:
        table = parquet.read_table(path)
        return {
            name: np.asarray(table[name].to_numpy(), dtype=np.float64)
            for name in table.column_names
            if str(table.schema.field(name).type) in ("double", "float", "int64", "int32")
        }
    except (OSError, ValueError, TypeError) as error:  # pyarrow's own errors are ValueErrors
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from None
