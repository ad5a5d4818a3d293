"""Measured battery data from files: CSV (plain or gzip) or Parquet, of one cell.

Two sets of column names are read:

    time_s, current_A, voltage_V, temperature_C [, soc]       current positive = discharge
    Battery Data Format (https://battery-data-alliance.github.io/battery-data-format): `Test Time / s`,
    `Current / A`, `Voltage / V`, a temperature in degC       current positive = charge: turned on reading

What is wrong with all of a file is one error: a column that lacks or is in another unit, text, time that runs
backwards, a current that counts the other way round. What is wrong with some rows is flagged and counted, and
the values become NaN, which the estimator takes for unknown (`FLAGS`). No row is dropped: a row without a usable
time bears that of the row before it, and knows nothing.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from edge.errors import DataError
from edge.measured.current_sign import FloatArray, current_sign

BoolArray = npt.NDArray[np.bool_]

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
WANTED = {name for table in (OURS, BATTERY_DATA_FORMAT) for found in table.values() for name in found}
NEEDED = ("time_s", "current_a", "voltage_v")
SIGNS = {"discharge-positive": 1.0, "charge-positive": -1.0}
UNKNOWN_WORDS = {"", "-", "na", "n/a", "nan", "null", "none", "#n/a"}

FLAGS = {
    "time_unknown": "rows without a time",
    "time_backwards": "rows whose time lies before that of an earlier row",
    "time_repeated": "rows with the time of the row before them",
    "gaps": "gaps, over which the current is unknown",
    "current_unknown": "rows without a current",
    "current_impossible": "rows with a current that cannot be",
    "voltage_unknown": "rows without a voltage",
    "voltage_impossible": "rows with a voltage that cannot be",
    "temperature_unknown": "rows without a temperature",
    "temperature_impossible": "rows with a temperature that cannot be",
    "soc_impossible": "rows with a soc that cannot be",
    "current_sign_doubtful": "the data speak against the --current-sign that was given",
}
# What one cell can show. Where most rows are beyond, the first unit whose window holds their median is meant.
POSSIBLE = {
    "current_a": (-1e5, 1e5),
    "voltage_v": (0.2, 6.0),
    "temp_degc": (-80.0, 150.0),
    "soc": (-0.05, 1.05),  # one that was counted may end a little beyond 0 or 1
}
OTHER_UNITS = {
    "current_a": (),
    "voltage_v": (
        (1000.0, 6000.0, "is it in mV? divide by 1000"),
        (6.0, 2000.0, "is it a pack's? give that of one cell"),
    ),
    "temp_degc": ((150.0, 400.0, "is it in kelvin? subtract 273.15"),),
    "soc": ((-5.0, 105.0, "is it in percent? divide by 100"),),
}
MOST_BACKWARDS = 0.01  # of the rows; more is another mistake than a glitch of the clock
LONGEST_STEP_S = 1e8  # three years: a broken clock
GAP_S = 900.0
GAP_STEPS = 20.0  # and so many times the usual step
WRONG_SOC = 0.05  # of the rows
ROWS_AT_A_TIME = 65536
LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Measured:
    """Rows of one test of one cell. All arrays have one length; NaN is unknown.

    time_s      never falls, finite
    current_a   positive = discharge
    voltage_v
    temp_degc   NaN where it was not measured
    soc         0 to 1 (a little beyond is possible), NaN where unknown; None where the file has none
    flags       kind -> how many rows (or gaps): the kinds of FLAGS that occur
    """

    time_s: FloatArray
    current_a: FloatArray
    voltage_v: FloatArray
    temp_degc: FloatArray
    soc: FloatArray | None
    flags: dict[str, int] = field(default_factory=dict)

    def since(self, start_s: float) -> Measured:
        """The rows from `start_s` on; the flags stay those of the whole file.

        Raises
        ------
        DataError
            There are none.
        """
        first = int(np.searchsorted(self.time_s, start_s))
        if first >= len(self.time_s):
            raise DataError(f"the data end at {self.time_s[-1]:g} s, before --start-s {start_s:g}")
        return Measured(
            self.time_s[first:],
            self.current_a[first:],
            self.voltage_v[first:],
            self.temp_degc[first:],
            None if self.soc is None else self.soc[first:],
            self.flags,
        )

    @property
    def after_gap(self) -> BoolArray:
        """[rows] where the time since the row before is a gap: what flowed meanwhile is unknown."""
        return _gaps(self.time_s)


def load_measured(path: str | Path, sign: str | None = None) -> Measured:
    """Read a file of measurements.

    `sign` is one of SIGNS: which way the file counts its current. None: as its column names say, if the data do not
    speak against it.

    Raises
    ------
    DataError
        The file cannot be read, lacks a column, or holds what is no measurement; the text names the row where there is one,
        and what to do.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            head = file.read(4)
        table = _parquet(path) if head == b"PAR1" else _csv(path, head[:2] == b"\x1f\x8b")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV or Parquet: {str(error)[:80]!r}") from None
    return _measured(table, sign)


class _Table:
    """Columns by name, and where each row of them is in the file."""

    def __init__(
        self,
        path: Path,
        names: list[str],
        columns: dict[str, FloatArray],
        line_of: Callable[[int], int] | None,
    ) -> None:
        self.path, self.names, self.columns, self._line_of = path, names, columns, line_of

    def place(self, row: int) -> str:
        if self._line_of is None:
            return f"{self.path}: row {row + 1}"
        return f"{self.path}:{self._line_of(row)}"


# Reading


def _csv(path: Path, packed: bool) -> _Table:
    """The wanted columns, a stretch of rows at a time: what is in memory as text has a bound."""
    with _rows(path, packed) as rows:
        names = [name.strip() for name in _header(rows)]
        for name in sorted(WANTED):
            if names.count(name) > 1:
                raise DataError(f"{path}:1: the column {name} twice")
        places = {name: k for k, name in enumerate(names) if name in WANTED}
        parts: dict[str, list[FloatArray]] = {name: [] for name in places}
        done = 0
        table = _Table(path, names, {}, lambda row: _line_of(path, packed, row))
        while stretch := list(itertools.islice(rows, ROWS_AT_A_TIME)):
            block = [row for row in stretch if row]
            _check_widths(table, done, block, len(names))
            for name, k in places.items():
                parts[name].append(_numbers(table, done, name, [row[k] for row in block]))
            done += len(block)
    table.columns = {name: np.concatenate([np.empty(0), *found]) for name, found in parts.items()}
    return table


@contextmanager
def _rows(path: Path, packed: bool) -> Iterator[Any]:
    with (
        path.open("rb") as plain,
        gzip.open(plain) if packed else plain as data,
        io.TextIOWrapper(cast(IO[bytes], data), encoding="utf-8-sig") as file,
    ):
        yield csv.reader(itertools.chain.from_iterable(_lines(file)))


def _header(rows: Iterator[list[str]]) -> list[str]:
    """The first row that is not empty."""
    return next((row for row in rows if row), [])


def _lines(file: IO[str]) -> Iterator[list[str]]:
    """Lines, many at a time, each of a length that can be: what has no end of line does not fill the memory."""
    rest = ""
    while block := file.read(LONGEST_LINE):
        lines = (rest + block).split("\n")
        rest = lines.pop()
        if len(rest) >= LONGEST_LINE:
            raise csv.Error("a line without an end")
        yield lines
    yield [rest] if rest else []


def _line_of(path: Path, packed: bool, row: int) -> int:
    """The line of a row, for an error: read again, since no other row needs it."""
    with _rows(path, packed) as rows:
        _header(rows)
        for _ in itertools.islice((found for found in rows if found), row + 1):
            pass
        return int(rows.line_num)


def _check_widths(table: _Table, done: int, block: list[list[str]], width: int) -> None:
    if set(map(len, block)) <= {width}:
        return
    row = next(k for k, found in enumerate(block) if len(found) != width)
    raise DataError(f"{table.place(done + row)}: {len(block[row])} columns where the header has {width}")


def _numbers(table: _Table, done: int, name: str, texts: list[str]) -> FloatArray:
    try:
        return np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        return np.array([_number(table, done + k, name, text) for k, text in enumerate(texts)])


def _number(table: _Table, row: int, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        if text.strip().lower() in UNKNOWN_WORDS:
            return float("nan")
        raise DataError(f"{table.place(row)}: {name} is not a number: {text[:40]!r}") from None


def _parquet(path: Path) -> _Table:
    import pyarrow
    import pyarrow.parquet

    try:
        with path.open("rb") as file:
            table: Any = pyarrow.parquet.read_table(file)
        for name in WANTED:
            if table.column_names.count(name) > 1:
                raise DataError(f"{path}: the column {name} twice")
        numbers = {
            name: np.asarray(table[name].to_numpy(), dtype=np.float64)
            for name in table.column_names
            if name in WANTED
            and (pyarrow.types.is_floating(table[name].type) or pyarrow.types.is_integer(table[name].type))
        }
    except (pyarrow.ArrowException, ValueError) as error:
        raise OSError(error) from None
    return _Table(path, table.column_names, numbers, None)


# What was read, made fit to use


def _measured(table: _Table, sign: str | None) -> Measured:
    ours = not any(name in table.columns for name in BATTERY_DATA_FORMAT["time_s"])
    names = {
        key: next((n for n in found if n in table.columns), "")
        for key, found in (OURS if ours else BATTERY_DATA_FORMAT).items()
    }
    _check_columns(table, names, OURS if ours else BATTERY_DATA_FORMAT)
    flags: dict[str, int] = {}
    time, lost = _time(table, names["time_s"], flags)
    values = {key: _values(table, key, names[key], lost, flags) for key in POSSIBLE}
    for key in ("current_a", "voltage_v"):
        if np.isnan(values[key]).all():
            raise DataError(f"{table.path}: no row has a {names[key]} that can be used")
    soc = None if np.isnan(values["soc"]).all() else values["soc"]
    if gaps := int(_gaps(time).sum()):
        flags["gaps"] = gaps
    current = values["current_a"] * (SIGNS[sign] if sign else 1.0 if ours else -1.0)
    _check_sign(table.path, names["current_a"], sign, (time, current, values["voltage_v"], soc), flags)
    ordered = {kind: flags[kind] for kind in FLAGS if flags.get(kind)}
    return Measured(time, current, values["voltage_v"], values["temp_degc"], soc, ordered)


def _check_columns(table: _Table, names: dict[str, str], wanted: dict[str, tuple[str, ...]]) -> None:
    missing = [wanted[key][0] for key in NEEDED if not names[key]]
    if missing:
        found = ", ".join(map(repr, table.names[:8]))[:150]
        text = f"{table.path}: no column {', '.join(missing)}"
        raise DataError(f"{text} (it has {found}; the name says the unit)" if found else text)
    if not len(table.columns[names["time_s"]]):
        raise DataError(f"{table.path}: no rows")


def _time(table: _Table, name: str, flags: dict[str, int]) -> tuple[FloatArray, BoolArray]:
    """The time, made to never fall, and the rows whose own time is of no use."""
    time = table.columns[name]
    known = np.isfinite(time)
    if not known.any():
        raise DataError(f"{table.path}: no row has a {name} that can be used")
    latest = np.maximum.accumulate(np.where(known, time, -np.inf))
    latest[np.isneginf(latest)] = time[known][0]
    back = known & (time < latest)
    if back.sum() > MOST_BACKWARDS * len(time):
        row = int(np.flatnonzero(back)[0])
        raise DataError(
            f"{table.place(row)}: time runs backwards, from {latest[row]:.10g} to {time[row]:.10g} s, "
            f"and {int(back.sum())} rows lie before an earlier one: split or sort the file"
        )
    step = np.diff(latest, prepend=latest[0])
    if (step > LONGEST_STEP_S).any():
        row = int(np.argmax(step))
        raise DataError(
            f"{table.place(row)}: time leaps by {step[row]:.3g} s, from {latest[row - 1]:.10g} to {latest[row]:.10g} s"
        )
    if len(time) > 1 and latest[-1] == latest[0]:
        raise DataError(f"{table.path}: {name} stands still at {latest[0]:g}")
    repeated = known & ~back & (step == 0)
    repeated[np.argmax(known)] = False
    counts = {"time_unknown": ~known, "time_backwards": back, "time_repeated": repeated}
    flags.update({kind: int(rows.sum()) for kind, rows in counts.items()})
    return latest, ~known | back


def _values(table: _Table, key: str, name: str, lost: BoolArray, flags: dict[str, int]) -> FloatArray:
    """A column with NaN for what is not known or cannot be."""
    values = table.columns.get(name)
    kind = {"current_a": "current", "voltage_v": "voltage", "temp_degc": "temperature", "soc": "soc"}[key]
    if values is None:
        flags["temperature_unknown"] = flags.get("temperature_unknown", 0) + (
            len(lost) if key == "temp_degc" else 0
        )
        return np.full(len(lost), np.nan)
    low, high = POSSIBLE[key]
    unknown = np.isnan(values)
    beyond = (values < low) | (values > high)
    share = beyond.sum() / max(1, (~unknown).sum())
    if share > (WRONG_SOC if key == "soc" else 0.5):
        row = int(np.flatnonzero(beyond)[0])
        usual = float(np.sort(values[beyond])[beyond.sum() // 2])  # infinities have no mean
        unit = next((f"; {text}" for a, b, text in OTHER_UNITS[key] if a <= usual <= b), "")
        what = "soc must be 0 to 1" if key == "soc" else f"{name} must be {low:g} to {high:g}"
        raise DataError(
            f"{table.place(row)}: {what}, not {values[row]:g} (so are {100 * share:.0f} % of the rows{unit})"
        )
    if key != "soc":
        flags[f"{kind}_unknown"] = int((unknown & ~lost).sum())
    flags[f"{kind}_impossible"] = int(beyond.sum())
    return np.where(beyond | lost, np.nan, values)


def _gaps(time_s: FloatArray) -> BoolArray:
    step = np.diff(time_s, prepend=time_s[0])
    moving = step[step > 0]
    usual = float(np.median(moving)) if len(moving) else 0.0
    return np.asarray(step > max(GAP_S, GAP_STEPS * usual))


def _check_sign(
    path: Path,
    name: str,
    sign: str | None,
    data: tuple[FloatArray, FloatArray, FloatArray, FloatArray | None],
    flags: dict[str, int],
) -> None:
    """The current must count as it is said to.

    Raises
    ------
    DataError
        Nothing was said, and the data speak against the column's name; or soc is a depth of discharge.
    """
    evidence = current_sign(*data)
    if evidence.verdict < 0 and sign is not None:
        flags["current_sign_doubtful"] = 1
    elif evidence.verdict < 0:
        file_has = "charge-positive" if name in OURS["current_a"] else "discharge-positive"
        raise DataError(
            f"{path}: {name} has its sign reversed: counted as its name says, {evidence.because}; "
            f"turn it with --current-sign {file_has}"
        )
    elif evidence.soc_runs_backwards:
        raise DataError(
            f"{path}: soc rises as the cell is discharged ({evidence.because}): is it a depth of discharge? Give 1 - soc"
        )
