"""Measured data of one cell, played back as a pack by the same ECUs as the simulation's.

The cells say what was measured, and so does the truth; the current sensors have a gain and a bias, as on the road, so
the BMS, which counts with them from a wrong start, drifts.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np

from edge.can.frames import Frames
from edge.errors import ScenarioError
from sim_bus.battery import FloatArray, power_limits
from sim_bus.ecus import Ecus, Readings
from sim_bus.simulation import (
    CELL_NOISE_V,
    CURRENT_NOISE_A,
    STEP_S,
    BmsSoc,
    Truth,
    pack_values,
)

NEEDED = ("time_s", "current_A", "voltage_V", "temperature_C")
CELL_SPREAD_V = 0.002
SENSOR_SPREAD_DEGC = 0.3
BMS_SOC_ERROR = -0.06
SENSOR_GAIN = 1.01  # of the BMS's current sensors: what it counts with, and what the bus says
SENSOR_BIAS_C = 1 / 60  # the same, in capacities per hour: 50 mA for each 3 Ah cell


class Playback:
    """Measured data of one cell as a pack: `parallel` such cells in each place, all a little different.

    Raises
    ------
    ScenarioError
        The file can't be read, lacks a column, holds what is no number, or its time does not rise.
    """

    def __init__(self, path: Path, seed: int, parallel: int = 80) -> None:
        self._columns = read_measured(path)
        self._parallel = parallel
        self._rng = np.random.default_rng(seed)
        self._ecus = Ecus(self._rng)
        self._offset_v = self._rng.normal(0, CELL_SPREAD_V, (2, 176))
        self._offset_degc = self._rng.normal(0, SENSOR_SPREAD_DEGC, (2, 44))
        self.duration_s = float(np.ptp(self._columns["time_s"]))
        start = self._at("soc", 0.0) + BMS_SOC_ERROR
        string_ah = parallel * _capacity_ah(self._columns)
        self._bms = BmsSoc(start, 2 * string_ah)
        self._bias_a = 0.0 if np.isnan(string_ah) else SENSOR_BIAS_C * string_ah
        self.truth = self._row(0.0)

    def steps(self) -> Iterator[Frames]:
        """See Run; ends with the data."""
        for n in range(1, int(self.duration_s / STEP_S + 1e-6) + 1):
            t = n * STEP_S
            self.truth = truth = self._row(t)
            measured = SENSOR_GAIN * truth.current_a / 2 + self._bias_a
            strings = np.full(2, measured) + self._rng.normal(0, CURRENT_NOISE_A, 2)
            cells = truth.voltage_v / 176 + self._offset_v + self._rng.normal(0, CELL_NOISE_V, (2, 176))
            temps = truth.temp_degc + self._offset_degc
            self._bms.step(STEP_S, float(strings.sum()))
            soc = 0.5 if np.isnan(truth.soc) else truth.soc
            limits = power_limits(float(temps.min()), soc, soc)
            values = pack_values(cells, temps, strings, self._bms.displayed_pct, limits)
            yield self._ecus.frames(round(t * 1e6), Readings(values, cells, temps))

    def _at(self, name: str, t_s: float) -> float:
        times = self._columns["time_s"]
        return float(np.interp(times[0] + t_s, times, self._columns[name]))

    def _row(self, t_s: float) -> Truth:
        soc = self._at("soc", t_s)
        current = 2 * self._parallel * self._at("current_A", t_s)
        volts = 176 * self._at("voltage_V", t_s)
        temp = self._at("temperature_C", t_s)
        power, speed = volts * current, float("nan")
        return Truth(round(t_s, 6), soc, self._bms.soc, soc, soc, current, volts, power, temp, speed)


def _capacity_ah(columns: dict[str, FloatArray]) -> float:
    """The measured cell's capacity, from its own counting; NaN where the file can't tell."""
    moved = np.trapezoid(columns["current_A"], columns["time_s"]) / 3600
    change = float(columns["soc"][0] - columns["soc"][-1])
    return float(moved / change) if abs(change) > 0.01 and moved * change > 0 else float("nan")


def read_measured(path: Path) -> dict[str, FloatArray]:
    """The columns time_s, current_A, voltage_V, temperature_C, soc of a CSV, plain or gzipped; soc is NaN where
    the file has none.

    Raises
    ------
    ScenarioError
    """
    try:
        with (
            path.open("rb") as plain,
            gzip.open(plain) if path.suffix == ".gz" else plain as data,
            io.TextIOWrapper(cast(IO[bytes], data), "utf-8-sig", newline="") as file,
        ):
            rows = csv.DictReader(file)
            missing = [n for n in NEEDED if n not in (rows.fieldnames or ())]
            if missing:
                raise ScenarioError(f"{path}: no column {', '.join(missing)}")
            values = [_numbers(path, rows.line_num, row) for row in rows]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        what = getattr(error, "strerror", None) or error
        raise ScenarioError(f"{path}: cannot be read: {what}") from None
    table = np.array(values).reshape(-1, 5)
    columns = {name: table[:, k] for k, name in enumerate((*NEEDED, "soc"))}
    if np.isnan(columns["soc"]).any() or len(table) == 0:
        columns["soc"] = np.full(len(table), np.nan)
    _check_time(path, columns["time_s"])
    return columns


def _numbers(path: Path, line: int, row: dict[str, str | None]) -> tuple[float, ...]:
    out = []
    for name in (*NEEDED, "soc"):
        text = row.get(name)
        try:
            value = float("nan") if name == "soc" and not text else float(text or "")
        except ValueError:
            raise ScenarioError(f"{path}:{line}: {name} is no number: {text!r}") from None
        if not np.isfinite(value) and not (name == "soc" and not text):
            raise ScenarioError(f"{path}:{line}: {name} is no finite number: {text!r}")
        out.append(value)
    return tuple(out)


def _check_time(path: Path, times: FloatArray) -> None:
    back = np.flatnonzero(np.diff(times) < 0)
    if len(back):
        before, after = times[back[0]], times[back[0] + 1]
        raise ScenarioError(f"{path}: time_s runs backwards, from {before:g} to {after:g}")
    if len(times) < 2 or np.ptp(times) < STEP_S:
        raise ScenarioError(f"{path}: holds less than {STEP_S:g} s of data")
