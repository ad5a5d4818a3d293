"""Measured battery data from files: CSV (plain or gzip) or Parquet.

Two sets of column names are read:

    time_s, current_A, voltage_V, temperature_C [, soc]       current positive = discharge
    Battery Data Format (https://battery-data-alliance.github.io/battery-data-format): `Test Time / s`,
    `Current / A`, `Voltage / V`, a temperature in degC       current positive = charge: turned on reading
"""

from __future__ import annotations

import csv
import gzip
import itertools
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.battery.model import FloatArray
from edge.errors import DataError

# what -> its names, the best first; those of the Battery Data Format as label and as machine name
OURS = {
    "time_s": ("time_s",),
    "current_a": ("current_A", "current_a"),
    "voltage_v": ("voltage_V", "voltage_v"),
    "temp_degc": ("temperature_C", "temp_degc"),
    "soc": ("soc",),
}
BATTERY_DATA_FORMAT = {
    "time_s": ("Test Time / s", "test_time_second"),
    "current_a": ("Current / A", "current_ampere"),
    "voltage_v": ("Voltage / V", "voltage_volt"),
    "temp_degc": (
        "Surface Temperature / degC",
        "surface_temperature_celsius",
        "Temperature T1 / degC",
        "temperature_t1_celsius",
        "Ambient Temperature / degC",
        "ambient_temperature_celsius",
    ),
    "soc": ("soc",),
}
NEEDED = ("time_s", "current_a", "voltage_v")


@dataclass(frozen=True)
class Measured:
    """Rows of one test of one cell. All arrays have one length.

    time_s      rising
    current_a   positive = discharge
    voltage_v
    temp_degc   NaN where it was not measured
    soc         0 to 1 (a little beyond is possible), NaN where unknown; None where the file has none
    """

    time_s: FloatArray
    current_a: FloatArray
    voltage_v: FloatArray
    temp_degc: FloatArray
    soc: FloatArray | None


def load_measured(path: str | Path) -> Measured:
    """Read a file of measurements.

    Raises
    ------
    DataError
        The file cannot be read, lacks a column, or holds what is no measurement; the text names the row.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        head = path.open("rb").read(4)
        columns = _parquet(path) if head == b"PAR1" else _csv(path, head[:2] == b"\x1f\x8b")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV or Parquet: {error}") from None
    return _measured(path, columns)


def _csv(path: Path, packed: bool) -> dict[str, FloatArray]:
    with gzip.open(path, "rt", encoding="utf-8-sig") if packed else path.open(encoding="utf-8-sig") as file:
        header = next(csv.reader([file.readline()]), [])
        names = [name.strip() for name in header]
        wanted = {n for table in (OURS, BATTERY_DATA_FORMAT) for found in table.values() for n in found}
        places = {name: k for k, name in enumerate(names) if name in wanted}
        values: dict[str, list[float]] = {name: [] for name in places}
        for number, row in enumerate(csv.reader(file), start=2):
            if not row:
                continue
            if len(row) != len(names):
                raise DataError(f"{path}:{number}: {len(row)} columns where the header has {len(names)}")
            for name, k in places.items():
                values[name].append(_number(path, number, name, row[k]))
    return {name: np.array(column) for name, column in values.items()}


def _number(path: Path, row: int, name: str, text: str) -> float:
    try:
        return float(text) if text.strip() else float("nan")
    except ValueError:
        raise DataError(f"{path}:{row}: {name} is not a number: {text[:40]!r}") from None


def _parquet(path: Path) -> dict[str, FloatArray]:
    import pyarrow
    import pyarrow.parquet

    try:
        table: Any = pyarrow.parquet.read_table(path)
        return {
            name: np.asarray(table[name].to_numpy(), dtype=np.float64)
            for name in table.column_names
            if pyarrow.types.is_floating(table[name].type) or pyarrow.types.is_integer(table[name].type)
        }
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not a Parquet file that can be read: {error}") from None


def _measured(path: Path, columns: dict[str, FloatArray]) -> Measured:
    table = BATTERY_DATA_FORMAT if BATTERY_DATA_FORMAT["time_s"][0] in columns else OURS
    table = BATTERY_DATA_FORMAT if BATTERY_DATA_FORMAT["time_s"][1] in columns else table
    found = {key: next((columns[n] for n in names if n in columns), None) for key, names in table.items()}
    missing = [table[key][0] for key in NEEDED if found[key] is None]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}")
    time, current, voltage = (_finite(path, table[key][0], found[key]) for key in NEEDED)
    if not len(time):
        raise DataError(f"{path}: no rows")
    if (np.diff(time) < 0).any():
        row = int(np.flatnonzero(np.diff(time) < 0)[0]) + 3
        raise DataError(f"{path}:{row}: time runs backwards")
    temp, soc = found["temp_degc"], found["soc"]
    return Measured(
        time_s=time,
        current_a=-current if table is BATTERY_DATA_FORMAT else current,
        voltage_v=voltage,
        temp_degc=np.full(len(time), np.nan) if temp is None else temp,
        soc=None if soc is None or np.isnan(soc).all() else soc,
    )


def _finite(path: Path, name: str, values: FloatArray | None) -> FloatArray:
    assert values is not None
    bad = itertools.islice(np.flatnonzero(~np.isfinite(values)).tolist(), 1)
    for row in bad:
        raise DataError(f"{path}:{row + 2}: {name} is missing or not finite")
    return values
