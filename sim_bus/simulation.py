"""A simulated bus, step by step: physics, sensors, ECUs, and the truth beside them.

`Simulation` lives a scenario; `Playback` drives the same ECUs with measured cell data. Both yield FRAME
arrays (channel 0 bms, 1 inverter, 2 vehicle; times from 0), the same bytes for the same seed.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.can.frames import Frames
from edge.errors import ScenarioError
from sim_bus.battery import CAPACITY_AH, Battery
from sim_bus.ecus import Ecus, Readings
from sim_bus.scenario import Scenario
from sim_bus.vehicle import Vehicle

FloatArray = npt.NDArray[np.float64]
STEP_S = 0.1
CELL_NOISE_V = 0.0015
CURRENT_NOISE_A = 0.15
DISPLAY = (0.05, 0.95)  # the cells' range behind the driver's 0 to 100 %


@dataclass(frozen=True)
class Truth:
    """One row a second of what really is. soc by the weakest cells; current positive on discharge."""

    t_s: float
    soc: float
    bms_soc: float
    string1_soc: float
    string2_soc: float
    current_a: float
    voltage_v: float
    power_w: float
    temp_degc: float
    speed_kmh: float


TRUTH_COLUMNS = tuple(f.name for f in fields(Truth))


class Run(Protocol):
    """A simulation under way."""

    truth: Truth

    def steps(self) -> Iterator[Frames]:
        """A FRAME array for each 0.1 s; `truth` is of the end of that step."""
        ...


class _BmsSoc:
    """The BMS's own state of charge: counting, with its sensor's bias, from a wrong start."""

    def __init__(self, soc: float, capacity_ah: float) -> None:
        self.soc, self._capacity_ah = soc, capacity_ah

    def step(self, dt_s: float, measured_a: float) -> None:
        self.soc = min(max(self.soc - measured_a * dt_s / 3600 / self._capacity_ah, 0.0), 1.0)

    @property
    def displayed_pct(self) -> float:
        return min(max((self.soc - DISPLAY[0]) / (DISPLAY[1] - DISPLAY[0]), 0.0), 1.0) * 100


class Simulation:
    """A bus that lives a scenario."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._scenario = scenario
        self._battery = Battery(self._rng, scenario.soc, scenario.battery_degc)
        self._vehicle = Vehicle(scenario, self._rng)
        self._ecus = Ecus(self._rng)
        error = scenario.bms_soc_error
        self._bms = _BmsSoc(min(max(self._battery.pack_soc() + error, 0), 1), 2 * CAPACITY_AH)
        self._bias_a = scenario.current_bias_a * np.array([0.5, 0.5])
        self._energy = {"out_kwh": 3120.0, "in_kwh": 3410.0, "out_ah": 5600.0, "in_ah": 5640.0}
        self.truth = self._row(0.0)

    def steps(self) -> Iterator[Frames]:
        """See Run."""
        n = 0
        while True:
            n += 1
            battery, vehicle = self._battery, self._vehicle
            power = vehicle.step(STEP_S, float(battery.temp_degc.mean()), battery.pack_soc())
            coolant = self._scenario.ambient_degc + (30 if vehicle.heater_w else 4)
            battery.step(STEP_S, power, coolant)
            measured = battery.string_a + self._bias_a + self._rng.normal(0, CURRENT_NOISE_A, 2)
            self._bms.step(STEP_S, float(measured.sum()))
            self._count(power)
            self.truth = self._row(n * STEP_S)
            yield self._ecus.frames(round(n * STEP_S * 1e6), self._readings(measured))

    def _count(self, power_w: float) -> None:
        side = "out" if power_w > 0 else "in"
        self._energy[f"{side}_kwh"] += abs(power_w) * STEP_S / 3.6e6
        self._energy[f"{side}_ah"] += abs(float(self._battery.string_a.sum())) * STEP_S / 3600

    def _row(self, t_s: float) -> Truth:
        battery = self._battery
        left, capacity = battery.string_soc()
        volts = float(battery.cell_v.sum(axis=1).mean())
        current = float(battery.string_a.sum())
        return Truth(
            round(t_s, 6), battery.pack_soc(), self._bms.soc, float(left[0] / capacity[0]),
            float(left[1] / capacity[1]), current, volts, volts * current,
            float(battery.temp_degc.mean()), self._vehicle.speed_ms * 3.6,
        )  # fmt: skip

    def _readings(self, measured_a: FloatArray) -> Readings:
        battery, vehicle, scenario = self._battery, self._vehicle, self._scenario
        cells = battery.cell_v + self._rng.normal(0, CELL_NOISE_V, battery.cell_v.shape)
        temps = battery.temp_degc.reshape(2, 44, 4).mean(axis=2)
        values = pack_values(cells, temps, measured_a, self._bms.displayed_pct)
        charging = vehicle.charger_w > 0
        volts = values["PackVoltage"]
        values |= {
            "State": 4 if charging else 3,
            "MotorTorque": vehicle.torque_nm,
            "TorqueDemand": vehicle.torque_nm,
            "MotorSpeed": vehicle.motor_rad_s * 9.549,
            "DcVoltage": volts,
            "DcCurrent": vehicle.motor_w / volts,
            "MotorTemp": max(scenario.ambient_degc, -39) + 35,
            "InverterTemp": max(scenario.ambient_degc, -39) + 25,
            "CoolantTemp": max(scenario.ambient_degc, -39) + 20,
            "FaultCode": 0,
            "InverterState": 1 if charging else 2,
            "WheelBasedVehicleSpeed": vehicle.speed_ms * 3.6,
            "TotalVehicleDistance": vehicle.odometer_m / 1000,
            "TripDistance": vehicle.distance_m / 1000,
            "BarometricPressure": 93,
            "CabInteriorTemp": vehicle.cabin_degc,
            "AmbientAirTemp": scenario.ambient_degc,
            "PositionOfDoors": 0 if vehicle.doors_open else 2,
            "AuxPower": scenario.aux_kw,
            "HvacPower": vehicle.hvac_w / 1000,
            "BatteryHeaterPower": vehicle.heater_w / 1000,
            "ChargerState": 2 if charging else 0,
            "ChargerVoltage": volts if charging else 0,
            "ChargerCurrent": vehicle.charger_w / volts,
            "HvessDischargedEnergy": self._energy["out_kwh"],
            "HvessChargedEnergy": self._energy["in_kwh"],
            "HvessDischargedCharge": self._energy["out_ah"],
            "HvessChargedCharge": self._energy["in_ah"],
            "HvessHoursInService": 4103,
        }
        return Readings(values, cells, temps)


def pack_values(
    cells: FloatArray, temps: FloatArray, string_a: FloatArray, soc_pct: float
) -> dict[str, float]:
    """What the BMS says of the pack, from cells (2, 176), sensors (2, 44) and string currents (2,); the
    bus's sign of current: positive on charge."""
    strings = cells.sum(axis=1)
    volts, amps = float(strings.mean()), -float(string_a.sum())
    flat = cells.ravel()
    values = {
        "PackVoltage": volts,
        "PackCurrent": amps,
        "SoC": soc_pct,
        "State": 3,
        "ContactorsClosed": 1,
        "DischargePowerLimit": 240,
        "ChargePowerLimit": 120 if temps.min() > 0 else 0,
        "DischargeCurrentLimit": 420,
        "ChargeCurrentLimit": 220 if temps.min() > 0 else 0,
        "InsulationResistance": 2150,
        "InsulationMeasured": 1,
        "MinCellVoltage": float(flat.min()),
        "MinCellNumber": int(flat.argmin()) + 1,
        "MaxCellVoltage": float(flat.max()),
        "MaxCellNumber": int(flat.argmax()) + 1,
        "MinCellTemp": float(temps.min()),
        "MaxCellTemp": float(temps.max()),
        "HvessDischargePower": 240,
        "HvessChargePower": 120,
        "HvessVoltageLevel": volts,
        "HvessCurrentLevel": amps,
        "HvessFastUpdateSoC": soc_pct,
        "HvessHighestCellVoltage": float(flat.max()),
        "HvessLowestCellVoltage": float(flat.min()),
        "HvessHighestCellTemp": float(temps.max()),
        "HvessLowestCellTemp": float(temps.min()),
        "HvessAverageCellTemp": float(temps.mean()),
        "HvessBusVoltage": volts,
        "HvessIgnitionVoltage": 26.4,
        "HvessCoolantInletTemp": float(temps.mean()),
        "HvessCoolantOutletTemp": float(temps.mean()),
    }
    for s in (0, 1):
        values |= {
            f"String{s + 1}_Voltage": float(strings[s]),
            f"String{s + 1}_Current": -float(string_a[s]),
            f"String{s + 1}_Contactor": 1,
        }
    return values


class Playback:
    """Measured data of one cell as a pack: `parallel` such cells in each place, all a little different.

    Raises
    ------
    ScenarioError
        The file lacks a column, has no rows, or its time does not rise.
    """

    def __init__(self, path: Path, seed: int, parallel: int = 80, bms_soc_error: float = 0.04) -> None:
        self._columns = _measured(path)
        self._parallel = parallel
        self._rng = np.random.default_rng(seed)
        self._ecus = Ecus(self._rng)
        self._offset_v = self._rng.normal(0, 0.002, (2, 176))
        self._offset_degc = self._rng.normal(0, 0.3, (2, 44))
        self.duration_s = float(self._columns["time_s"][-1] - self._columns["time_s"][0])
        soc = self._columns.get("soc")
        start = float(soc[0]) if soc is not None else 0.5
        capacity = _capacity(self._columns)
        self._bms = _BmsSoc(min(max(start - bms_soc_error, 0), 1), 2 * parallel * capacity)
        self.truth = self._row(0.0)

    def steps(self) -> Iterator[Frames]:
        """See Run; ends with the data."""
        for n in range(1, int(self.duration_s / STEP_S + 1e-6) + 1):
            t = n * STEP_S
            current = self._at("current_A", t) * self._parallel
            strings = np.full(2, current) + self._rng.normal(0, CURRENT_NOISE_A, 2)
            cells = self._at("voltage_V", t) + self._offset_v + self._rng.normal(0, CELL_NOISE_V, (2, 176))
            temps = self._at("temperature_C", t) + self._offset_degc
            self._bms.step(STEP_S, float(strings.sum()))
            self.truth = self._row(t)
            readings = Readings(pack_values(cells, temps, strings, self._bms.displayed_pct), cells, temps)
            yield self._ecus.frames(round(t * 1e6), readings)

    def _at(self, name: str, t_s: float) -> float:
        times = self._columns["time_s"]
        return float(np.interp(times[0] + t_s, times, self._columns[name]))

    def _row(self, t_s: float) -> Truth:
        soc = self._at("soc", t_s) if "soc" in self._columns else float("nan")
        current = 2 * self._parallel * self._at("current_A", t_s)
        volts = 176 * self._at("voltage_V", t_s)
        temp = self._at("temperature_C", t_s)
        return Truth(round(t_s, 6), soc, self._bms.soc, soc, soc, current, volts, volts * current, temp, 0.0)


def _capacity(columns: dict[str, FloatArray]) -> float:
    """The measured cell's capacity in Ah, from its own counting; 1 where the file can't tell."""
    if "soc" not in columns:
        return 1.0
    moved = np.trapezoid(columns["current_A"], columns["time_s"]) / 3600
    change = float(columns["soc"][0] - columns["soc"][-1])
    return float(moved / change) if abs(change) > 0.01 else 1.0


def _measured(path: Path) -> dict[str, FloatArray]:
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from None
    needed = ("time_s", "current_A", "voltage_V", "temperature_C")
    missing = [n for n in needed if not rows or n not in rows[0]]
    if missing:
        raise ScenarioError(f"{path}: no rows, or no column {', '.join(missing)}")
    try:
        names = [*needed, *(["soc"] if rows[0].get("soc") else [])]
        columns = {n: np.array([float(r[n]) for r in rows]) for n in names}
    except (TypeError, ValueError) as error:
        raise ScenarioError(f"{path}: holds what is no number: {error}") from None
    if any(not np.isfinite(c).all() for c in columns.values()) or (np.diff(columns["time_s"]) < 0).any():
        raise ScenarioError(f"{path}: holds what is no number, or its time runs backwards")
    return columns


def truth_line(truth: Truth) -> list[str]:
    """A row of the truth as text, six digits."""
    return [f"{v:.6f}".rstrip("0").rstrip(".") for v in astuple(truth)]
