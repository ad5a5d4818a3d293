"""A bus that lives a scenario, second by second: BMS, faults, physics, sensors, ECUs, wires, and the truth beside them.

    the last second's readings → bms → orders             faults → effects
    10 steps:  vehicle(orders, effects) → power → battery(power, orders, effects)
    the second's truth → sensors → readings → ecus → frames → faults of the wires

Everything is computed a whole second at a time, so the same seed gives the same bytes at any speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import numpy as np

from edge.can.frames import Frames
from sim_bus.battery.battery import ROW as BATTERY_ROW
from sim_bus.battery.battery import Battery
from sim_bus.doors import STEP_S, STEPS, EnergyJ, FloatArray, Orders, Readings
from sim_bus.ecus.bms import Bms
from sim_bus.ecus.ecus import Ecus
from sim_bus.ecus.names import needed
from sim_bus.faults.schedule import Act, Faults
from sim_bus.faults.sensors import SensorFaults
from sim_bus.faults.wire import WireFaults
from sim_bus.run import Second, truth_columns
from sim_bus.scenario.model import Scenario
from sim_bus.sensors import BatterySensors
from sim_bus.streams import Streams
from sim_bus.vehicle.vehicle import ROW as VEHICLE_ROW
from sim_bus.vehicle.vehicle import Vehicle

SECOND_US = 1_000_000
RPM = 60 / math.tau  # for each rad/s
ENERGIES = tuple(vars(EnergyJ()))
MORE_COLUMNS = (
    "cell_min_soc", "cell_max_soc", "cell_min_v", "cell_mean_v", "cell_max_v", "cell_min_degc", "cell_max_degc",
    "soh", "closed", "link_v", "insulation_ohm", "coolant_in_degc", "coolant_out_degc", "discharge_limit_w",
    "charge_limit_w", "ambient_degc", "cabin_degc", "passengers", "odometer_km", "motor_w", "hvac_w", "heater_w",
    "aux_w", "charger_w", "fuel_l", *(f"{name}_kwh" for name in ENERGIES),
)  # fmt: skip
STATES = {"off": 0.0, "stand": 1.0, "drive": 2.0, "charge": 1.0}  # of the inverter

_battery_row = attrgetter(*BATTERY_ROW)
_energy_row = attrgetter(*ENERGIES)


class Simulation:
    """A bus that lives a scenario; see `sim_bus.run.Run`. `duration_s` is infinite: the last entry of the timetable lasts.

    `on_act` is told of each fault that begins (True) or ends (False): what happens to the platform and the network is
    for the caller to do.

    Raises
    ------
    ScenarioError
        The scenario names what is not there: a cell, a database, a signal, a string.
    """

    duration_s = math.inf

    def __init__(
        self, scenario: Scenario, seed: int, on_act: Callable[[Act, bool], None] = lambda act, begins: None
    ) -> None:
        streams = Streams(seed)
        plan = scenario.battery
        strings, cells = plan.strings, plan.cells
        self.scenario = scenario
        self.vehicle = Vehicle(scenario, streams)
        self.battery = Battery(plan, streams, self.vehicle.ambient_degc)
        self.bms = Bms(scenario.bms, plan, self.battery.cell, streams, self.battery.pack_soc())
        self._sensors = BatterySensors(scenario.bms, strings, cells, streams)
        self._ecus = Ecus(scenario.can, streams, strings, cells)
        self._faults = Faults(scenario.faults, streams, strings, cells)
        self._sensor_faults = SensorFaults(self._faults, needed(strings))
        self._wire_faults = WireFaults(self._faults, scenario.can.folder)
        self._on_act = on_act
        self._readings: Readings | None = None
        self._record = _Record(strings, cells)
        self.columns = truth_columns(strings, *MORE_COLUMNS)
        self.first = self._first()

    def seconds(self) -> Iterator[Second]:
        """See `Run`; without an end."""
        second = 0
        while True:
            orders = self.physics(second)
            readings = self._read(second * SECOND_US, orders)
            frames = self._send(readings)
            yield Second(frames, self._truth(orders), self._faults.labels, self._doing())
            second += 1

    def physics(self, second: int) -> Orders:
        """The next second of the bus itself, ten steps of vehicle and battery; what the BMS ordered for it."""
        vehicle, battery, record = self.vehicle, self.battery, self._record
        orders = self.bms.second(float(second), self._readings, vehicle.ignition, vehicle.plugged)
        effects = self._faults.second(float(second))
        for act in self._faults.began:
            self._on_act(act, True)
        for act in self._faults.ended:
            self._on_act(act, False)
        for k in range(STEPS):
            power_w = vehicle.step(STEP_S, second + k * STEP_S, orders, battery.voltage_v, effects)
            battery.step(
                STEP_S,
                power_w,
                vehicle.ambient_degc,
                vehicle.coolant_heat_w,
                vehicle.coolant_flow,
                orders,
                effects,
            )
            record.step(k, second + (k + 1) * STEP_S, vehicle, battery)
        return orders

    def _read(self, begin_us: int, orders: Orders) -> Readings:
        """The second through the sensors, and what the BMS makes of the second before."""
        record, sensors = self._record, self._sensors
        ignition, plugged = self.vehicle.ignition, self.vehicle.plugged
        readings = Readings(
            begin_us,
            self._vehicle_values() | self.bms.values(),
            sensors.string_a(record.string_a),
            sensors.cell_v(record.cell_v),
            sensors.cell_degc(record.surface_degc),
            orders.balancing,
            {"BMS": ignition or plugged, "INV": ignition, "VCU": ignition or plugged, "Body": ignition},
            orders.trouble,
        )
        self._sensor_faults.apply(readings)
        self._readings = readings
        return readings

    def _send(self, readings: Readings) -> Frames:
        for node, t_us in self._faults.restarts:
            self._ecus.restart(node, t_us)
            if node == "BMS":
                self.bms.restart()
        return self._wire_faults.second(readings.begin_us, self._ecus.frames(readings))

    def _vehicle_values(self) -> dict[str, FloatArray]:
        """What the other sensors say, by the names of the databases."""
        v, b = self._record.vehicle_columns(), self._record.battery_columns()
        charging = v["charger_w"] > 0
        link_v = np.maximum(b["link_v"], 1.0)
        return {
            "MotorTorque": v["torque_nm"],
            "TorqueDemand": v["torque_demand_nm"],
            "MotorSpeed": v["motor_rad_s"] * RPM,
            "DcVoltage": b["link_v"],
            "DcCurrent": v["motor_w"] / link_v,
            "MotorTemp": v["motor_degc"],
            "InverterTemp": v["inverter_degc"],
            "CoolantTemp": v["drive_coolant_degc"],
            "FaultCode": np.zeros(STEPS),
            "DeratingActive": v["derated"],
            "InverterState": np.full(STEPS, STATES[self.vehicle.doing]),
            "WheelBasedVehicleSpeed": v["speed_ms"] * 3.6,
            "TotalVehicleDistance": v["odometer_m"] / 1000,
            "TripDistance": v["distance_m"] / 1000,
            "BarometricPressure": np.full(STEPS, self.scenario.weather.pressure_kpa),
            "CabInteriorTemp": v["cabin_degc"],
            "AmbientAirTemp": v["ambient_degc"],
            "PositionOfDoors": v["doors"],
            "AuxPower": v["aux_w"] / 1000,
            "HvacPower": v["hvac_w"] / 1000,
            "BatteryHeaterPower": v["heater_w"] / 1000,
            "ChargerState": v["charger_state"],
            "ChargerVoltage": np.where(charging, b["voltage_v"], 0.0),
            "ChargerCurrent": v["charger_w"] / b["voltage_v"],
            "InsulationResistance": b["insulation_ohm"] / 1000,
            "HvessCoolantInletTemp": b["coolant_in_degc"],
            "HvessCoolantOutletTemp": b["coolant_out_degc"],
        }

    # The truth

    def _first(self) -> FloatArray:
        self._record.step(STEPS - 1, 0.0, self.vehicle, self.battery)
        strings, cells = self.battery.shape
        nothing = np.zeros(strings, np.bool_)
        orders = Orders(0, nothing, False, 0.0, 0.0, 0.0, False, False, np.zeros((strings, cells), np.bool_))
        return np.array(self._truth(orders)[-1])

    def _truth(self, orders: Orders) -> FloatArray:
        """(STEPS, columns)."""
        r, v, b = self._record, self._record.vehicle_columns(), self._record.battery_columns()
        capacity = self.battery.capacity_ah
        charge = r.soc * capacity
        left, room = charge.min(axis=2), (capacity - charge).min(axis=2)
        whole = left + room
        flat_v, flat_degc, flat_soc = (a.reshape(STEPS, -1) for a in (r.cell_v, r.core_degc, r.soc))
        steady = (
            float(self.battery.soh().mean()), orders.discharge_w, orders.charge_w,
        )  # fmt: skip
        soh, discharge_w, charge_w = (np.full(STEPS, x) for x in steady)
        columns = (
            r.t_s, left.sum(axis=1) / whole.sum(axis=1), np.full(STEPS, self.bms.soc), *(left / whole).T,
            r.string_a.sum(axis=1), b["voltage_v"], b["power_w"], flat_degc.mean(axis=1), v["speed_ms"] * 3.6,
            flat_soc.min(axis=1), flat_soc.max(axis=1), flat_v.min(axis=1), flat_v.mean(axis=1), flat_v.max(axis=1),
            flat_degc.min(axis=1), flat_degc.max(axis=1), soh, r.closed.sum(axis=1), b["link_v"],
            b["insulation_ohm"], b["coolant_in_degc"], b["coolant_out_degc"], discharge_w, charge_w,
            v["ambient_degc"], v["cabin_degc"], v["passengers"], v["odometer_m"] / 1000, v["motor_w"], v["hvac_w"],
            v["heater_w"], v["aux_w"], v["charger_w"], v["fuel_l"], *(r.energy_j.T / 3.6e6),
        )  # fmt: skip
        return np.stack(columns, axis=1)

    def _doing(self) -> str:
        vehicle = self.vehicle
        if vehicle.doing == "drive" and vehicle.speed_ms > 0:
            return f"driving {vehicle.speed_ms * 3.6:.0f} km/h from {vehicle.stop_name}"
        if vehicle.charger_w > 0:
            return f"charging {vehicle.charger_w / 1000:.0f} kW"
        if vehicle.plugged:
            return "plugged"
        texts = {
            "drive": f"at {vehicle.stop_name}",
            "stand": "standing",
            "charge": "at the charger",
            "off": "off",
        }
        return texts[vehicle.doing]


class _Record:
    """The truth of one second, each step's end; overwritten by the next."""

    def __init__(self, strings: int, cells: int) -> None:
        shape = (STEPS, strings, cells)
        self.t_s = np.zeros(STEPS)
        self.cell_v, self.core_degc, self.surface_degc, self.soc = (np.zeros(shape) for _ in range(4))
        self.string_a = np.zeros(shape[:2])
        self.closed = np.zeros(shape[:2])
        self.energy_j = np.zeros((STEPS, len(ENERGIES)))
        self._vehicle = np.zeros((STEPS, len(VEHICLE_ROW)))
        self._battery = np.zeros((STEPS, len(BATTERY_ROW)))

    def step(self, k: int, t_s: float, vehicle: Vehicle, battery: Battery) -> None:
        """Note the state at the end of step k."""
        self.t_s[k] = round(t_s, 6)
        self.cell_v[k] = battery.cell_v
        self.soc[k] = battery.soc
        self.core_degc[k] = battery.temp_degc
        self.surface_degc[k] = battery.surface_degc
        self.string_a[k] = battery.string_a
        self.closed[k] = battery.closed
        self.energy_j[k] = _energy_row(vehicle.energy)
        self._vehicle[k] = vehicle.row()
        self._battery[k] = _battery_row(battery)

    def vehicle_columns(self) -> dict[str, Any]:
        """By the names of the vehicle's ROW, (STEPS,) each."""
        return dict(zip(VEHICLE_ROW, self._vehicle.T.copy(), strict=True))

    def battery_columns(self) -> dict[str, Any]:
        """By the names of the battery's ROW, (STEPS,) each."""
        return dict(zip(BATTERY_ROW, self._battery.T.copy(), strict=True))
