"""A simulated bus, step by step: physics, sensors, ECUs, and the truth beside them.

`Simulation` lives a scenario; `Playback` (`playback.py`) drives the same ECUs with measured cell data. Both
yield FRAME arrays (channel 0 bms, 1 inverter, 2 vehicle; times from 0), the same bytes for the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from typing import Protocol

import numpy as np

from edge.can.frames import Frames
from sim_bus.battery import CAPACITY_AH, Battery, FloatArray, Limits
from sim_bus.ecus import Ecus, Readings
from sim_bus.scenario import Scenario
from sim_bus.vehicle import Vehicle

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
    duration_s: float  # infinite where nothing ends it

    def steps(self) -> Iterator[Frames]:
        """A FRAME array for each 0.1 s; `truth` is of the end of that step."""
        ...


class BmsSoc:
    """The BMS's own state of charge: counting, with its sensor's bias, from a wrong start.

    Where start or capacity are NaN it knows nothing, and says so.
    """

    def __init__(self, soc: float, capacity_ah: float) -> None:
        self.soc, self._capacity_ah = float(np.clip(soc, 0, 1)), capacity_ah

    def step(self, dt_s: float, measured_a: float) -> None:
        self.soc = float(np.clip(self.soc - measured_a * dt_s / 3600 / self._capacity_ah, 0, 1))

    @property
    def displayed_pct(self) -> float:
        low, high = DISPLAY
        return float(np.clip((self.soc - low) / (high - low), 0, 1)) * 100


class Simulation:
    """A bus that lives a scenario."""

    duration_s = math.inf

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._scenario = scenario
        self.battery = Battery(self._rng, scenario.soc, scenario.battery_degc)
        self.vehicle = Vehicle(scenario, self._rng)
        self._ecus = Ecus(self._rng)
        self._bms = BmsSoc(self.battery.pack_soc() + scenario.bms_soc_error, 2 * CAPACITY_AH)
        self._bias_a = scenario.current_bias_a * np.array([0.5, 0.5])
        self._energy = {"out_kwh": 3120.0, "in_kwh": 3410.0, "out_ah": 5600.0, "in_ah": 5640.0}
        self.truth = self._row(0.0)

    def steps(self) -> Iterator[Frames]:
        """See Run."""
        n = 0
        while True:
            n += 1
            battery, vehicle = self.battery, self.vehicle
            power = vehicle.step(STEP_S, float(battery.temp_degc.mean()), battery.limits())
            battery.step(STEP_S, power, self._scenario.ambient_degc, vehicle.heater_w)
            measured = battery.string_a + self._bias_a + self._rng.normal(0, CURRENT_NOISE_A, 2)
            self._bms.step(STEP_S, float(measured.sum()))
            self.truth = self._row(n * STEP_S)
            self._count(self.truth)
            yield self._ecus.frames(round(n * STEP_S * 1e6), self._readings(measured))

    def _count(self, truth: Truth) -> None:
        side = "out" if truth.power_w > 0 else "in"
        self._energy[f"{side}_kwh"] += abs(truth.power_w) * STEP_S / 3.6e6
        self._energy[f"{side}_ah"] += abs(truth.current_a) * STEP_S / 3600

    def _row(self, t_s: float) -> Truth:
        battery = self.battery
        left, capacity = battery.string_soc()
        volts = float(battery.cell_v.sum(axis=1).mean())
        current = float(battery.string_a.sum())
        return Truth(
            round(t_s, 6), battery.pack_soc(), self._bms.soc, float(left[0] / capacity[0]),
            float(left[1] / capacity[1]), current, volts, volts * current,
            float(battery.temp_degc.mean()), self.vehicle.speed_ms * 3.6,
        )  # fmt: skip

    def _readings(self, measured_a: FloatArray) -> Readings:
        battery, vehicle, scenario = self.battery, self.vehicle, self._scenario
        cells = battery.cell_v + self._rng.normal(0, CELL_NOISE_V, battery.cell_v.shape)
        temps = battery.temp_degc.reshape(2, 44, 4).mean(axis=2)
        values = pack_values(cells, temps, measured_a, self._bms.displayed_pct, battery.limits())
        charging = vehicle.charger_w > 0
        volts = values["PackVoltage"]
        values |= {
            "State": 4 if charging else 3,
            "MotorTorque": vehicle.torque_nm,
            "TorqueDemand": vehicle.torque_nm,
            "MotorSpeed": vehicle.motor_rad_s * 9.549,
            "DcVoltage": volts,
            "DcCurrent": vehicle.motor_w / volts,
            "MotorTemp": scenario.ambient_degc + 35,
            "InverterTemp": scenario.ambient_degc + 25,
            "CoolantTemp": scenario.ambient_degc + 20,
            "FaultCode": 0,
            "DeratingActive": vehicle.derated,
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
    cells: FloatArray, temps: FloatArray, string_a: FloatArray, soc_pct: float, limits: Limits
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
        "DischargePowerLimit": limits.discharge_w / 1000,
        "ChargePowerLimit": limits.charge_w / 1000,
        "DischargeCurrentLimit": limits.discharge_w / volts,
        "ChargeCurrentLimit": limits.charge_w / volts,
        "InsulationResistance": 2150,
        "InsulationMeasured": 1,
        "MinCellVoltage": float(flat.min()),
        "MinCellNumber": int(flat.argmin()) + 1,
        "MaxCellVoltage": float(flat.max()),
        "MaxCellNumber": int(flat.argmax()) + 1,
        "MinCellTemp": float(temps.min()),
        "MaxCellTemp": float(temps.max()),
        "HvessDischargePower": limits.discharge_w / 1000,
        "HvessChargePower": limits.charge_w / 1000,
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


def truth_line(truth: Truth) -> list[str]:
    """A row of the truth as text, six digits; empty where nobody knows."""
    return ["" if v != v else f"{v:.6f}".rstrip("0").rstrip(".") for v in astuple(truth)]
