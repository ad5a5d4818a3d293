"""The battery of a bus: the estimator, fed from the roles in the signal maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.battery.estimator import PackEstimator
from edge.can.decoder import LatestTable
from edge.errors import CellModelError
from edge.signals.catalogue import Signal
from edge.telemetry.batch import Column
from edge.watch import NOTHING, FloatArray, Inputs, IntArray, Watch

if TYPE_CHECKING:
    from edge.core import Setup

PACK = "Vehicle.Powertrain.TractionBattery"
PACK_SOC = f"{PACK}.StateOfCharge.Current"
PACK_SOC_SD = f"{PACK}.StateOfCharge.StandardDeviation"
BMS_SOC = f"{PACK}.StateOfCharge.Displayed"
ESTIMATE_QUANTUM_PCT = 0.01
ESTIMATE_RATE_US = 1_000_000
CELL_ESTIMATE_RATE_US = 10_000_000
OFF_SOC_SD = 0.05  # what may have been charged or used while the agent was off
BMS_SOC_SD = (
    0.10  # how far we trust a BMS's own figure as a first guess: 1 sd of the 5 to 15 % seen on the road
)


class Pack:
    """Feeds the estimator from the roles in the signal maps, and gives its results as columns."""

    def __init__(self, setup: Setup, watch: Watch, restored: bytes | None) -> None:
        signals = watch.signals
        by_role: dict[str, list[int]] = {}
        for row, signal in enumerate(signals):
            if signal.role:
                by_role.setdefault(signal.role, []).append(row)

        def place(row: int) -> tuple[int, int]:
            return signals[row].string or 1, signals[row].index or 1

        cell_rows = sorted(by_role.get("cell_voltage", []), key=place)
        temp_rows = sorted(by_role.get("cell_temp", []), key=place)
        current_rows = by_role.get("string_current") or by_role.get("pack_current", [])
        cells, temps = [signals[n] for n in cell_rows], [signals[n] for n in temp_rows]
        self.setup = setup
        self.restored = restored
        self.estimator: PackEstimator | None = None
        self.strings = sorted({s.string or 1 for s in cells})
        self.cells = Inputs(watch, cell_rows)
        self.temps = Inputs(watch, temp_rows)
        self.currents = currents = Inputs(watch, sorted(current_rows, key=place))
        self.shared_current = len(currents) == 1 and len(self.strings) > 1
        self.temp_of_cell = _nearest_sensor(cells, temps)
        self.string_of_cell = np.array([self.strings.index(s.string or 1) for s in cells], dtype=np.int64)
        self.bms_soc = Inputs(watch, by_role.get("bms_soc", []))
        self.memory_refused = 0
        self._next_pack_us = 0
        self._next_cells_us = 0
        self.columns = self._make_columns(cells) if len(cells) and len(currents) else ()

    def _make_columns(self, cells: Sequence[Signal]) -> tuple[Column, ...]:
        def percent(path: str) -> Column:
            return Column(
                path=path,
                unit="percent",
                encoding="quantum",
                scale=ESTIMATE_QUANTUM_PCT,
                quantum=ESTIMATE_QUANTUM_PCT,
                source="ayaz.estimator",
            )

        paths = [PACK_SOC, PACK_SOC_SD]
        paths += [f"{s.path.rsplit('.', 1)[0]}.StateOfCharge" for s in cells]
        return tuple(percent(path) for path in paths)

    def step(self, dt_s: float, latest: LatestTable) -> None:
        """One step of every cell, with what has arrived since the last tick and is good."""
        if not self.columns or (self.estimator is None and not self._begin(latest)):
            return
        assert self.estimator is not None
        current = self.currents.values(latest)
        if self.shared_current:
            current = np.repeat(current / len(self.strings), len(self.strings))
        self.estimator.step(dt_s, current, self.cells.fresh_values(latest), self._temperatures(latest))

    def _begin(self, latest: LatestTable) -> bool:
        """Start the estimator once every cell has been heard, whatever it said."""
        if not (self.cells.heard() and self.currents.heard()):
            return False
        soc, sd = self.setup.initial_soc, 0.05
        if soc is None and len(self.bms_soc) and math.isfinite(shown := self.bms_soc.values(latest)[0] / 100):
            low, high = self.bms_soc.signals[0].window or (0.0, 1.0)
            soc, sd = min(max(low + shown * (high - low), 0.0), 1.0), BMS_SOC_SD
        self.estimator = PackEstimator(
            self.setup.cell,
            self.string_of_cell,
            initial_soc=soc,
            initial_soc_sd=sd if soc is not None else None,
            parallel=self.setup.parallel,
            capacity_ah=self.setup.capacity_ah,
        )
        if self.restored:
            self._restore(self.estimator, self.restored)
        return True

    def _restore(self, estimator: PackEstimator, memory: bytes) -> None:
        """Go on where the boot before stopped; what happened in between is not known."""
        try:
            estimator.load(memory)
            estimator.widen(OFF_SOC_SD)
        except CellModelError:
            self.memory_refused = 1  # another pack or cell model: the fresh estimator goes on, counted

    def _temperatures(self, latest: LatestTable) -> FloatArray:
        if not len(self.temps):
            return np.full(len(self.cells), np.nan)
        return self.temps.values(latest)[self.temp_of_cell]

    def sample(self, now_us: int) -> tuple[IntArray, IntArray]:
        """Columns (from 0) and quantised values that are due."""
        if self.estimator is None or now_us < min(self._next_pack_us, self._next_cells_us):
            return NOTHING, NOTHING
        columns = NOTHING
        values = np.empty(0)
        if now_us >= self._next_pack_us:
            self._next_pack_us = (now_us // ESTIMATE_RATE_US + 1) * ESTIMATE_RATE_US
            columns = np.arange(2)
            pack = self.estimator.pack()
            values = np.array([pack.soc, pack.soc_sd])
        if now_us >= self._next_cells_us:
            self._next_cells_us = (now_us // CELL_ESTIMATE_RATE_US + 1) * CELL_ESTIMATE_RATE_US
            columns = np.concatenate([columns, 2 + np.arange(len(self.cells))])
            values = np.concatenate([values, self.estimator.soc])
        return columns, np.round(values * 100 / ESTIMATE_QUANTUM_PCT).astype(np.int64)

    def snapshot(self) -> dict[str, Any]:
        if self.estimator is None:
            return {}
        pack = self.estimator.pack()
        return {PACK_SOC: round(pack.soc * 100, 2), PACK_SOC_SD: round(pack.soc_sd * 100, 2)}

    def dump(self) -> bytes:
        return self.estimator.dump() if self.estimator else (self.restored or b"")


def _nearest_sensor(cells: Sequence[Signal], temps: Sequence[Signal]) -> IntArray:
    """For each cell, which temperature sensor stands for it: sensors are spread evenly over a string."""
    result = np.zeros(len(cells), dtype=np.int64)
    for string in {s.string or 1 for s in cells}:
        mine = [i for i, s in enumerate(cells) if (s.string or 1) == string]
        near = [i for i, s in enumerate(temps) if (s.string or 1) == string] or list(range(len(temps)))
        for place, cell in enumerate(mine):
            result[cell] = near[place * len(near) // len(mine)] if near else 0
    return result
