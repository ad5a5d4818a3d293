"""Measured data of one cell, played back as a pack by the same ECUs as the simulation's.

The cells say what was measured, and so does the truth; the current sensors have a gain and a bias, as on the road, so
the BMS, which counts with them from a wrong start, drifts. What the file does not know, sensors and truth do not either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import DataError
from edge.measured import Measured, load_measured
from sim_bus.doors import STEP_S, STEPS, FloatArray, Readings
from sim_bus.ecus import Ecus
from sim_bus.ecus.limits import PowerLimits
from sim_bus.ecus.soc import OwnSoc
from sim_bus.ecus.tables import nominal_v
from sim_bus.run import Second, truth_columns
from sim_bus.scenario.model import BmsPlan, CanPlan
from sim_bus.streams import Streams

STRINGS, CELLS = 2, 176
CELL_SPREAD_V = 0.002
SENSOR_SPREAD_DEGC = 0.3
NOISE = BmsPlan()
BMS_SOC_ERROR = -0.06
SENSOR_GAIN = 1.01  # of the BMS's current sensors: what it counts with, and what the bus says
SENSOR_BIAS_C = 1 / 60  # the same, in capacities per hour: 50 mA for each 3 Ah cell
REST_C = 0.01  # less is no current, for people
INSULATION_KOHM = 2150.0
DRIVE = 3  # BMS_PackStatus.State
COLUMNS = truth_columns(STRINGS)


@dataclass(frozen=True)
class PlayedCell:
    """What the file shows of the cell: `capacity_ah` of `parallel` together, NaN where it can't tell."""

    capacity_ah: float
    voltage_min_v: float
    voltage_max_v: float
    chemistry: str = "unknown"


class Playback:
    """Measured data of one cell as a pack: `parallel` such cells in each place, all a little different. See Run.

    Raises
    ------
    DataError
        The file can't be read, is no measurement, or has no temperature.
    """

    columns = COLUMNS

    def __init__(self, path: Path, seed: int, parallel: int = 80) -> None:
        self._data = data = load_measured(path)
        if np.isnan(data.temp_degc).all():
            raise DataError(f"{path}: no column temperature_C, or nothing in it: a playback needs it")
        self.duration_s = float(np.ptp(data.time_s))
        if self.duration_s < STEP_S:
            raise DataError(f"{path}: holds less than {STEP_S:g} s of data")
        self._parallel = parallel
        streams = Streams(seed)
        self._noise_v, self._noise_a = streams("playback.voltage noise"), streams("playback.current noise")
        self._ecus = Ecus(CanPlan(), streams, STRINGS, CELLS)
        self._offset_v = streams("playback.cells").normal(0, CELL_SPREAD_V, (STRINGS, CELLS))
        self._offset_degc = streams("playback.sensors").normal(
            0, SENSOR_SPREAD_DEGC, (STRINGS, self._ecus.sensors)
        )
        cell = PlayedCell(
            parallel * _capacity_ah(data), float(np.nanmin(data.voltage_v)), float(np.nanmax(data.voltage_v))
        )
        rated_ah = STRINGS * cell.capacity_ah
        self._bms = OwnSoc(self._at("soc", np.zeros(1))[0] + BMS_SOC_ERROR, rated_ah, cell)
        self._limits = PowerLimits(cell, rated_ah * CELLS * nominal_v(cell))
        self._rest_a = 0.0 if np.isnan(rated_ah) else REST_C * rated_ah
        self._bias_a = 0.0 if np.isnan(rated_ah) else SENSOR_BIAS_C * cell.capacity_ah
        self.first = self._truth(np.zeros(1))[0]

    def seconds(self) -> Iterator[Second]:
        """See Run; ends with the second that has the data's end."""
        for n in range(int(np.ceil(self.duration_s - 1e-9))):
            times = n + STEP_S * np.arange(1, STEPS + 1, dtype=np.float64)
            truth = self._truth(times)
            frames = self._ecus.frames(self._readings(n, truth))
            truth[:, COLUMNS.index("bms_soc")] = self._bms.soc
            yield Second(frames, truth, (), self._doing(truth[-1]))

    def _at(self, name: str, times: FloatArray) -> FloatArray:
        values = getattr(self._data, name)
        if values is None:
            return np.full(len(times), np.nan)
        return np.asarray(np.interp(self._data.time_s[0] + times, self._data.time_s, values))

    def _truth(self, times: FloatArray) -> FloatArray:
        soc = self._at("soc", times)
        current = STRINGS * self._parallel * self._at("current_a", times)
        volts = CELLS * self._at("voltage_v", times)
        bms = np.full(len(times), self._bms.soc)
        speed = np.full(len(times), np.nan)
        strings = [soc] * STRINGS
        return np.column_stack(
            [
                np.round(times, 6),
                soc,
                bms,
                *strings,
                current,
                volts,
                volts * current,
                self._at("temp_degc", times),
                speed,
            ]
        )

    def _readings(self, n: int, truth: FloatArray) -> Readings:
        """What the sensors say of a second; the BMS counts with it, step by step."""
        current, volts, degc = (truth[:, COLUMNS.index(c)] for c in ("current_a", "voltage_v", "temp_degc"))
        strings = np.repeat(SENSOR_GAIN * current[:, None] / STRINGS + self._bias_a, STRINGS, axis=1)
        strings += self._noise_a.normal(0, NOISE.current_noise_a, strings.shape)
        cells = volts[:, None, None] / CELLS + self._offset_v
        cells += self._noise_v.normal(0, NOISE.voltage_noise_v, cells.shape)
        temps = degc[:, None, None] + self._offset_degc
        soc_pct = np.empty(STEPS)
        for k, amps in enumerate(strings.sum(axis=1).tolist()):
            self._bms.count(n + k * STEP_S, STEP_S, amps)
            soc_pct[k] = self._bms.displayed_pct
        return Readings(
            begin_us=n * 1_000_000,
            values=self._values(soc_pct, cells, temps),
            string_a=strings,
            cell_v=cells,
            cell_degc=temps,
            balancing=np.zeros((STRINGS, CELLS), np.bool_),
            awake={"BMS": True},
        )

    def _values(self, soc_pct: FloatArray, cells: FloatArray, temps: FloatArray) -> dict[str, FloatArray]:
        """What the BMS alone knows, by the databases' names."""
        low, high = float(cells.min()), float(cells.max())
        limits = self._limits.second(
            float(temps.min()), float(temps.max()), self._bms.soc, low, high, charging=False
        )
        discharge_kw, charge_kw = (np.full(STEPS, w / 1000) for w in limits)
        amps = 1000 / cells.sum(axis=2).mean(axis=1)
        coolant = temps.mean(axis=(1, 2))
        constant = {
            "State": DRIVE, "ContactorsClosed": 1, "InsulationResistance": INSULATION_KOHM, "InsulationMeasured": 1,
            "HvessIgnitionVoltage": 26.4, "PackSerial": np.nan, "SoftwareVersion": np.nan,
            "HvessDischargedEnergy": np.nan, "HvessChargedEnergy": np.nan, "HvessDischargedCharge": np.nan,
            "HvessChargedCharge": np.nan, "HvessHoursInService": np.nan,
            **{f"String{s + 1}_Contactor": 1 for s in range(STRINGS)},
            **{f"String{s + 1}_CellCount": CELLS for s in range(STRINGS)},
        }  # fmt: skip
        return {name: np.full(STEPS, float(value)) for name, value in constant.items()} | {
            "SoC": soc_pct, "HvessFastUpdateSoC": soc_pct,
            "DischargePowerLimit": discharge_kw, "ChargePowerLimit": charge_kw,
            "DischargeCurrentLimit": discharge_kw * amps, "ChargeCurrentLimit": charge_kw * amps,
            "HvessDischargePower": discharge_kw, "HvessChargePower": charge_kw,
            "HvessCoolantInletTemp": coolant, "HvessCoolantOutletTemp": coolant,
        }  # fmt: skip

    def _doing(self, row: FloatArray) -> str:
        amps = float(row[COLUMNS.index("current_a")])
        if amps != amps:
            return "unknown current"
        if abs(amps) <= self._rest_a:
            return "resting"
        return f"{'discharging' if amps > 0 else 'charging'} {abs(amps):.0f} A"


def _capacity_ah(data: Measured) -> float:
    """The measured cell's capacity, from its own counting; NaN where the file can't tell."""
    if data.soc is None:
        return float("nan")
    known = np.isfinite(data.current_a) & np.isfinite(data.soc)
    time, current, soc = data.time_s[known], data.current_a[known], data.soc[known]
    if len(time) < 2:
        return float("nan")
    moved = float(np.trapezoid(current, time)) / 3600
    change = float(soc[0] - soc[-1])
    return moved / change if abs(change) > 0.01 and moved * change > 0 else float("nan")
