"""How old the battery's cells are: capacity and resistance of each, where the bus shows every cell.

Once a second what flowed goes into `Health`; once a minute the estimator's resistances, and the pack's health is read;
every ten minutes the cells'. Once an hour the estimator is told the capacities, where they have changed: its soc is by these, and
`Health` takes nothing of that soc, so that nothing feeds itself (docs/battery/health.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.battery.estimator import PackEstimator
from edge.battery.health import Health, PackHealth
from edge.battery.model import CellModel
from edge.pack_inputs import Sample
from edge.pack_memory import DOUBT_LEAST, TimeOff
from edge.telemetry.batch import Column
from edge.watch import NOTHING, FloatArray, IntArray

PACK = "Vehicle.Powertrain.TractionBattery"
SOH, SOH_SD, SOH_CELL = (f"{PACK}.StateOfHealth{end}" for end in ("", "StandardDeviation", "Cell"))
OHMIC_SOH, OHMIC_SOH_SD, OHMIC_SOH_CELL = (
    f"{PACK}.StateOfHealthResistance{end}" for end in ("", "StandardDeviation", "Cell")
)
QUANTUM_PCT, CELL_QUANTUM_PCT, QUANTUM_MOHM = 0.01, 0.1, 0.001
STEP_S = 1.0
STEP_ROUNDING_S = 1e-6
MINUTE_S = 60.0
CELLS_EVERY, TELL_EVERY = 10, 60  # minutes
NEWS_SD = 0.3  # a capacity that has moved by so much of its sd is news: the filters begin anew with it
RESISTANCE_REL_SD = 0.2  # a resistance that is not known better is not shown
ANY_SOC_SD = 0.29  # of a charge that may have been anything
PACK_COLUMNS = 4


class Ageing:
    """Of one battery. `health` and `pack` are None before the first cells, and for ever on a bus that shows no cells."""

    def __init__(self, model: CellModel, cells: Sequence[str], rated_ah: float | None) -> None:
        """`cells`: the branches of those that the maps name, none where they are not shown."""
        self.health: Health | None = None
        self.pack: PackHealth | None = None
        self._model, self._rated_ah = model, rated_ah
        self._named = len(cells)
        self._present: IntArray = NOTHING
        self._minutes = 0
        self._passed_s = 0.0
        self._pack_due = self._cells_due = False
        self._second = _Second(0, 0)
        names = [(path, "percent", QUANTUM_PCT) for path in (SOH, SOH_SD, OHMIC_SOH, OHMIC_SOH_SD)]
        names += [(f"{cell}.StateOfHealth", "percent", CELL_QUANTUM_PCT) for cell in cells]
        names += [(f"{cell}.Resistance", "mOhm", QUANTUM_MOHM) for cell in cells]
        self.columns = tuple(
            Column(path=p, unit=u, encoding="quantum", scale=q, quantum=q, source="ayaz.health")
            for p, u, q in names
            if cells
        )

    def begin(self, string_of_cell: IntArray, present: IntArray, parallel: int) -> None:
        """Another battery, or more of it: `present` [n] are its cells among those named, with `parallel` behind each voltage."""
        if not self._named:
            return
        self.health = Health(self._model, string_of_cell, parallel=parallel, rated_ah=self._rated_ah)
        self.pack = None
        self._present = present
        self._minutes, self._passed_s = 0, 0.0
        self._pack_due = self._cells_due = False
        self._second = _Second(len(present), int(string_of_cell.max()) + 1)

    def step(self, dt_s: float, sample: Sample, estimator: PackEstimator) -> None:
        """What happened in a tick, of all cells that are named."""
        if self.health is None:
            return
        if self._second.add(dt_s, sample, self._present):
            self._second.give(self.health)
        self._passed_s += dt_s
        if self._passed_s < MINUTE_S:
            return
        states = estimator.states()
        self.health.resistance(
            self._passed_s,
            states.resistance_ratio,
            states.resistance_ratio_sd,
            states.soc,
            states.temp_degc,
            states.capacity_ah,
        )
        self._minutes, self._passed_s = self._minutes + 1, 0.0
        self._look(cells=self._minutes % CELLS_EVERY == 0)
        if self._minutes % TELL_EVERY == 0:
            self._tell(estimator)

    def _look(self, cells: bool) -> None:
        assert self.health is not None
        self.pack = self.health.pack()
        self._pack_due = True
        self._cells_due = self._cells_due or cells

    def _tell(self, estimator: PackEstimator) -> None:
        """Capacities that were measured, to the estimator; the other cells keep theirs, with the doubt that their type has."""
        assert self.health is not None
        known, capacity, sd = self.health.measured, self.health.capacity_ah, self.health.capacity_sd_ah
        now = estimator.capacity_ah
        if not (known & (np.abs(capacity - now) > NEWS_SD * sd)).any():
            return
        estimator.set_capacity(
            np.where(known, capacity, now), np.where(known, sd / capacity, self._model.capacity_rel_sd)
        )

    # What is known

    def _of_pack(self) -> FloatArray:
        """[PACK_COLUMNS] shares; NaN: not measured yet."""
        p = self.pack
        if p is None:
            return np.full(PACK_COLUMNS, np.nan)
        capacity = (p.soh_capacity, p.soh_capacity_sd) if p.measured else (math.nan, math.nan)
        rel_sd = p.resistance_sd_ohm / p.resistance_ohm
        known = rel_sd < RESISTANCE_REL_SD
        resistance = (p.soh_resistance, p.soh_resistance * rel_sd) if known else (math.nan, math.nan)
        return np.array([*capacity, *resistance])

    def sample(self) -> tuple[IntArray, IntArray]:
        """Columns (from 0) and quantised values that are due; what was not measured yet is left out."""
        columns, values = [NOTHING], [np.empty(0)]
        if self._pack_due:
            columns.append(np.arange(PACK_COLUMNS))
            values.append(self._of_pack() * 100 / QUANTUM_PCT)
        if self._cells_due and (h := self.health):
            ratio_sd = h.resistance_ratio_sd / h.resistance_ratio
            columns += [PACK_COLUMNS + self._present, PACK_COLUMNS + self._named + self._present]
            values.append(np.where(h.measured, h.soh_capacity * 100, np.nan) / CELL_QUANTUM_PCT)
            values.append(
                np.where(ratio_sd < RESISTANCE_REL_SD, h.resistance_ohm * 1000, np.nan) / QUANTUM_MOHM
            )
        self._pack_due = self._cells_due = False
        column, value = np.concatenate(columns), np.concatenate(values)
        known = np.isfinite(value)
        return column[known], np.round(value[known]).astype(np.int64)

    def snapshot(self) -> dict[str, Any]:
        """By VSS path."""
        paths = (SOH, SOH_SD, OHMIC_SOH, OHMIC_SOH_SD)
        values = zip(paths, self._of_pack().tolist(), strict=True)
        shown: dict[str, Any] = {path: round(100 * v, 2) for path, v in values if math.isfinite(v)}
        if self.pack and SOH in shown:
            shown[SOH_CELL] = int(self._present[self.pack.weakest]) + 1
        if self.pack and OHMIC_SOH in shown:
            shown[OHMIC_SOH_CELL] = int(self._present[self.pack.most_resistive]) + 1
        return shown

    # What is remembered

    def dump(self) -> dict[str, bytes]:
        """What is kept over a boot."""
        return {"health": self.health.dump()} if self.health else {}

    def restore(self, parts: dict[str, bytes], off: TimeOff) -> None:
        """Go on from a `dump`, after the time off.

        Raises
        ------
        CellModelError
            It is damaged, or of other cells: nothing is remembered then.
        """
        if self.health is None or "health" not in parts:
            return
        self.health.load(parts["health"])
        # a charge that nobody but the BMS counted is no measurement: all of it is doubt
        anything = ANY_SOC_SD * math.sqrt(max(off.doubt - DOUBT_LEAST, 0.0))
        self.health.rest(None if off.moved else off.seconds, math.hypot(off.soc_sd, off.moved, anything))
        self._look(cells=True)


class _Second:
    """Gathers the ticks of a second: n cells, S strings."""

    def __init__(self, n: int, strings: int) -> None:
        self._n, self._strings = n, strings
        self._begin()

    def _begin(self) -> None:
        n, strings = self._n, self._strings
        self._voltage_v, self._temp_degc = np.full(n, np.nan), np.full(n, np.nan)
        self._drained_as = np.zeros(n)
        self._shown_as, self._shown_s = np.zeros(strings), np.zeros(strings)
        self._flown_as, self._known_s, self._open_s = (np.zeros(strings) for _ in range(3))
        self._passed_s = 0.0

    def add(self, dt_s: float, sample: Sample, here: IntArray) -> bool:
        """Take in a tick; `here` are our cells among the sample's. True: a second is full."""
        current, voltage = sample.current_a, sample.voltage_v[here]
        seen = np.isfinite(current)
        self._shown_as += np.where(seen, current, 0.0) * dt_s
        self._shown_s += seen * dt_s
        self._flown_as += np.where(seen & ~sample.open, current, 0.0) * dt_s
        self._known_s += (seen | sample.open) * dt_s
        self._open_s += sample.open * dt_s
        self._voltage_v = np.where(np.isfinite(voltage), voltage, self._voltage_v)
        self._temp_degc = sample.temp_degc[here]
        if sample.balancing_a is not None:
            drained = sample.balancing_a[here]
            self._drained_as += np.where(np.isfinite(drained), drained, 0.0) * dt_s
        self._passed_s += dt_s
        return self._passed_s >= STEP_S - STEP_ROUNDING_S

    def give(self, health: Health) -> None:
        """The second, and begin another. A string was open if it was all the time; a current that was known for less than
        half of it is not known."""
        s = self._passed_s
        opened = self._open_s >= s - STEP_ROUNDING_S
        amount, known_s = np.where(opened, (self._shown_as, self._shown_s), (self._flown_as, self._known_s))
        current = np.where(known_s >= s / 2, amount / np.maximum(known_s, STEP_ROUNDING_S), np.nan)
        health.step(
            s, current, self._voltage_v, self._temp_degc, balancing_a=self._drained_as / s, open=opened
        )
        self._begin()
