"""Measured battery data from files: CSV (plain or gzip) or Parquet.

Two sets of column names are read:

    time_s, current_A, voltage_V, temperature_C [, soc]       current positive = discharge
    Battery Data Format (https://battery-data-alliance.github.io/battery-data-format): `Test Time / s`,
    `Current / A`, `Voltage / V`, a temperature in degC       current positive = charge: turned on reading
"""

from __future__ import annotations

import csv
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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
SOC_BEYOND = 0.05  # a soc that was counted may end a little beyond 0 or 1


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
        with path.open("rb") as file:
            head = file.read(4)
        columns = _parquet(path) if head == b"PAR1" else _csv(path, head[:2] == b"\x1f\x8b")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV or Parquet: {str(error)[:80]!r}") from None
    return _measured(columns)


class _Columns:
    """Columns by name, and where each row of them is in the file."""

    def __init__(self, path: Path, columns: dict[str, FloatArray], lines: list[int] | None) -> None:
        self.path, self.columns, self.lines = path, columns, lines

    def place(self, row: int) -> str:
        return f"{self.path}: row {row + 1}" if self.lines is None else f"{self.path}:{self.lines[row]}"

    def refuse(self, wrong: npt.NDArray[np.bool_], problem: str, values: FloatArray | None = None) -> None:
        """Name the first row that is wrong, if there is one."""
        for row in np.flatnonzero(wrong)[:1].tolist():
            found = "" if values is None else f", not {values[row]:g}"
            raise DataError(f"{self.place(row)}: {problem}{found}")


def _csv(path: Path, packed: bool) -> _Columns:
    with gzip.open(path, "rt", encoding="utf-8-sig") if packed else path.open(encoding="utf-8-sig") as file:
        header = next(csv.reader([file.readline()]), [])
        names = [name.strip() for name in header]
        wanted = {n for table in (OURS, BATTERY_DATA_FORMAT) for found in table.values() for n in found}
        for name in sorted(wanted):
            if names.count(name) > 1:
                raise DataError(f"{path}:1: the column {name} twice")
        places = {name: k for k, name in enumerate(names) if name in wanted}
        values: dict[str, list[float]] = {name: [] for name in places}
        lines: list[int] = []
        reader = csv.reader(file)
        for row in reader:
            if not row:
                continue
            lines.append(reader.line_num + 1)
            if len(row) != len(names):
                where = f"{path}:{lines[-1]}"
                raise DataError(f"{where}: {len(row)} columns where the header has {len(names)}")
            for name, k in places.items():
                values[name].append(_number(path, lines[-1], name, row[k]))
    return _Columns(path, {name: np.array(column) for name, column in values.items()}, lines)


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        return float(text) if text.strip() else float("nan")
    except ValueError:
        raise DataError(f"{path}:{line}: {name} is not a number: {text[:40]!r}") from None


def _parquet(path: Path) -> _Columns:
    import pyarrow
    import pyarrow.parquet

    try:
        with path.open("rb") as file:
            table: Any = pyarrow.parquet.read_table(file)
        numbers = {
            name: np.asarray(table[name].to_numpy(), dtype=np.float64)
            for name in table.column_names
            if pyarrow.types.is_floating(table[name].type) or pyarrow.types.is_integer(table[name].type)
        }
    except (pyarrow.ArrowException, ValueError) as error:
        raise OSError(error) from None
    return _Columns(path, numbers, None)


def _measured(file: _Columns) -> Measured:
    columns = file.columns
    ours = not any(name in columns for name in BATTERY_DATA_FORMAT["time_s"])
    table = OURS if ours else BATTERY_DATA_FORMAT
    name_of = {key: next((n for n in names if n in columns), "") for key, names in table.items()}
    missing = [table[key][0] for key in NEEDED if not name_of[key]]
    if missing:
        raise DataError(f"{file.path}: no column {', '.join(missing)}")
    for key in NEEDED:
        file.refuse(~np.isfinite(columns[name_of[key]]), f"{name_of[key]} is missing or not finite")
    time, current, voltage = (columns[name_of[key]] for key in NEEDED)
    if not len(time):
        raise DataError(f"{file.path}: no rows")
    file.refuse(np.diff(time, prepend=time[0]) < 0, "time runs backwards")
    unknown = np.full(len(time), np.nan)
    temp, soc = columns.get(name_of["temp_degc"], unknown), columns.get(name_of["soc"], unknown)
    file.refuse(np.isinf(temp), f"{name_of['temp_degc']} is infinite")
    file.refuse((soc < -SOC_BEYOND) | (soc > 1 + SOC_BEYOND), "soc must be 0 to 1", soc)
    return Measured(
        time_s=time,
        current_a=current if ours else -current,
        voltage_v=voltage,
        temp_degc=temp,
        soc=None if np.isnan(soc).all() else soc,
    )
