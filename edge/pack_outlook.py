"""What the battery will do for the bus: its power limits, the energy that is left, and how far that goes.

Once a second the power limits, every ENERGY_S the energy and range. The load is learnt from the battery's current and voltage, the
consumption from them, the odometer (role "odometer") and the outside temperature (role "ambient_temp").
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from edge.battery.energy import Consumption, Energy, LoadTracker, Range, energy_left, range_left
from edge.battery.estimator import CellStates, PackEstimator
from edge.battery.model import CellModel
from edge.battery.power import CAUSES, HORIZONS_S, MARGIN_SD, Power, PowerPredictor
from edge.can.decoder import LatestTable
from edge.errors import CellModelError
from edge.pack_inputs import Layout, rows_by_role
from edge.telemetry.batch import Column
from edge.watch import BoolArray, FloatArray, Inputs, IntArray, Watch

PACK = "Vehicle.Powertrain.TractionBattery"
ENERGY_S = 10.0
SEGMENT_KM = 1.0  # of the way, of which the consumption is learnt
TEN_S = HORIZONS_S.index(10.0)
# path, unit, quantum
COLUMNS = (
    *((f"{PACK}.DischargePowerLimit{end}", "kW", 0.1) for end in ("2s", "", "60s")),
    *((f"{PACK}.ChargePowerLimit{end}", "kW", 0.1) for end in ("2s", "", "60s")),
    (f"{PACK}.StateOfCharge.CurrentEnergy", "kWh", 0.1),
    (f"{PACK}.StateOfCharge.CurrentEnergyStandardDeviation", "kWh", 0.1),
    (f"{PACK}.Range", "m", 100.0),
    (f"{PACK}.RangeLow", "m", 100.0),
    (f"{PACK}.RangeHigh", "m", 100.0),
)
POWER_COLUMNS = 2 * len(HORIZONS_S)


class Outlook:
    """Power, energy and range of one battery; nothing before the first `look`."""

    def __init__(self, model: CellModel, layout: Layout, watch: Watch) -> None:
        rows = rows_by_role(watch.signals)
        self.columns = tuple(
            Column(path=p, unit=u, encoding="quantum", scale=q, quantum=q, source="ayaz.estimator")
            for p, u, q in COLUMNS
        )
        self.load = LoadTracker(model)
        self.consumption = Consumption()
        self.power: Power | None = None
        self.energy: Energy | None = None
        self.range: Range | None = None
        self._model = model
        self._layout = layout
        self._series = layout.series if layout.kind != "cells" else None
        self._below = self._above = np.zeros(
            (2, 0)
        )  # how far off in soc cells that nobody sees are, and its sd
        self._odometer = Inputs(watch, rows.get("odometer", [])[:1])
        self._ambient = Inputs(watch, rows.get("ambient_temp", [])[:1])
        self._predictor: PowerPredictor | None = None
        self._string = np.zeros(0, np.int64)
        self._parallel = 1
        self._second = np.zeros(3)  # of this second, what is known: time, charge and energy of a cell
        self._passed_s = 0.0
        self._energy_s = math.inf
        self._from_km = math.nan
        self._used_kwh = 0.0
        self._ambient_degc = math.nan

    def begin(self, string_of_cell: IntArray, parallel: int) -> None:
        """Another estimator: of these cells, `parallel` behind each voltage."""
        self._string, self._parallel = string_of_cell, parallel
        self._predictor = PowerPredictor(self._model, string_of_cell, parallel=parallel, series=self._series)
        self.power = self.energy = self.range = None
        self._energy_s = math.inf
        far, far_sd, own_sd = self._layout.spread()
        self._below, self._above = (
            np.array([ends * far, np.hypot(ends * far_sd, np.sqrt(ends) * own_sd)])
            for ends in (
                np.array(k, dtype=float)[string_of_cell] for k in (self._layout.below, self._layout.above)
            )
        )

    def step(self, dt_s: float, current_a: FloatArray, voltage_v: FloatArray, latest: LatestTable) -> None:
        """What happened in a tick: [S] the strings' currents and [n] the cells' newest voltages; NaN: not known."""
        current = float(np.nanmean(current_a)) if np.isfinite(current_a).any() else math.nan
        voltage = float(np.nanmean(voltage_v)) if np.isfinite(voltage_v).any() else math.nan
        self._passed_s += dt_s
        if len(self._ambient):
            self._ambient_degc = float(self._ambient.values(latest)[0])
        if not math.isfinite(current * voltage):
            return
        amps = current / self._parallel
        self._second += dt_s * np.array([1.0, amps, amps * voltage])
        if self.load.driving:
            cells = self._series or len(self._string) / (self._string[-1] + 1)
            self._used_kwh += float(np.nansum(current_a)) * voltage * cells * dt_s / 3.6e6
        if len(self._odometer) and math.isfinite(km := float(self._odometer.values(latest)[0])):
            self._drive(km)

    def _drive(self, km: float) -> None:
        if not self._from_km <= km:  # at first, and where another odometer is read
            self._from_km, self._used_kwh = km, 0.0
        elif km - self._from_km >= SEGMENT_KM:
            self.consumption.learn(km - self._from_km, self._used_kwh, self._ambient_degc)
            self._from_km, self._used_kwh = km, 0.0

    def look(self, estimator: PackEstimator, connected: BoolArray) -> None:
        """Work it out anew; once a second. `connected` [S]: strings whose contactors are closed."""
        assert self._predictor is not None
        states = estimator.states()
        middle = int(np.argsort(states.soc)[len(states.soc) // 2])
        seconds, charge, energy = self._second.tolist()
        self.load.update(
            seconds,
            charge / seconds if seconds else math.nan,
            energy / charge if charge else math.nan,
            states.relaxation_a[middle][: len(self._model.tau_s)],
            float(states.temp_degc[middle]),
        )
        self._energy_s += self._passed_s
        self._second, self._passed_s = np.zeros(3), 0.0
        # a battery that is off can give what its strings could
        self.power = self._limits(states, connected if connected.any() else None)
        if self._energy_s >= ENERGY_S:
            self._energy_s = 0.0
            self.energy = energy_left(
                self._model,
                states,
                self._string,
                self.load.load,
                parallel=self._parallel,
                series=self._series,
                unseen_soc=self._below[0],
                unseen_soc_sd=self._below[1],
            )
            self.range = range_left(self.energy, self.consumption, self._ambient_degc)

    def _limits(self, states: CellStates, connected: BoolArray | None) -> Power:
        """Discharging by the emptiest cells and charging by the fullest, where those are not seen."""
        assert self._predictor is not None
        if not (self._below.any() or self._above.any()):
            return self._predictor.limits(states, connected)
        emptiest, fullest = (
            replace(states, soc=np.clip(states.soc + sign * (off + MARGIN_SD * off_sd), 0, 1))
            for sign, (off, off_sd) in ((-1, self._below), (1, self._above))
        )
        out, back = (self._predictor.limits(ends, connected) for ends in (emptiest, fullest))
        # where the current is the limit, it is that of the emptiest cells' lower voltage
        charge = replace(
            back.charge,
            power_w=np.minimum(out.charge.power_w, back.charge.power_w),
            string_power_w=np.minimum(out.charge.string_power_w, back.charge.string_power_w),
        )
        return replace(out, charge=charge)

    def values(self) -> FloatArray:
        """[columns] in their units; nothing before the first look."""
        if self.power is None or self.energy is None or self.range is None:
            return np.zeros(0)
        power = np.concatenate([self.power.discharge.power_w, self.power.charge.power_w]) / 1000
        e, r = self.energy, self.range
        way = np.array([r.range_km, r.low_km, r.high_km]) * 1000
        return np.concatenate([power, np.array([e.energy_wh, e.energy_sd_wh]) / 1000, way])

    def raw(self) -> IntArray:
        """[columns] as they travel."""
        values = self.values()
        return np.round(values / [q for _, _, q in COLUMNS[: len(values)]]).astype(np.int64)

    def snapshot(self) -> dict[str, Any]:
        """By VSS path."""
        raw = self.raw()
        if not len(raw) or self.power is None:
            return {}
        shown: dict[str, Any] = {
            path: round(float(value) * quantum, 1)
            for value, (path, _, quantum) in zip(raw, COLUMNS, strict=True)
        }
        for name, limit in (("Discharge", self.power.discharge), ("Charge", self.power.charge)):
            string = int(np.argmin(limit.string_power_w[TEN_S]))
            shown[f"{PACK}.{name}PowerLimitCell"] = int(limit.cell[TEN_S, string]) + 1
            shown[f"{PACK}.{name}PowerLimitCause"] = CAUSES[limit.cause[TEN_S, string]]
        return shown

    def dump(self) -> dict[str, bytes]:
        """What is kept of it over a boot: of the bus and its route, not of the battery."""
        return {"load": self.load.dump(), "consumption": self.consumption.dump()}

    def restore(self, parts: dict[str, bytes]) -> None:
        """Go on from a `dump`.

        Raises
        ------
        CellModelError
            It is damaged; what is not, is gone on with.
        """
        problems = []
        for name, part in (("load", self.load), ("consumption", self.consumption)):
            try:
                if name in parts:
                    part.restore(parts[name])
            except CellModelError as error:
                problems += error.problems
        if problems:
            raise CellModelError(problems)
