"""What is made of the estimate: the second opinion of the BMS and of each cell, and the events.

Joins the pack, the latest values and the detectors. Temperatures and insulation are looked at once a second, the cells
and the BMS every ten.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edge.battery.second_opinion import Opinion, SecondOpinion
from edge.can.decoder import LatestTable
from edge.events.battery_changed import BatteryChanged
from edge.events.bms_soc_off import BmsSocOff
from edge.events.book import Change
from edge.events.cell_deviates import CellDeviates
from edge.events.insulation_falls import InsulationFalls
from edge.events.limits import Limits
from edge.events.temperature_rises import LOOK_S, TemperatureRises
from edge.pack import PACK, Pack
from edge.pack_inputs import rows_by_role
from edge.signals.vss import conversion
from edge.telemetry.batch import Column
from edge.watch import NOTHING, FloatArray, Inputs, IntArray, Watch

LOOK_US = round(LOOK_S * 1e6)
OPINION_US = 10_000_000
SOC = f"{PACK}.StateOfCharge"
BMS_DIFFERENCE, BMS_DIFFERENCE_SD = (
    f"{SOC}.DisplayedDifference",
    f"{SOC}.DisplayedDifferenceStandardDeviation",
)
BMS_DRIFT, BMS_IS_OFF, IMBALANCE = f"{SOC}.DisplayedDrift", f"{SOC}.IsDisplayedOff", f"{SOC}.Imbalance"
QUANTUM_PCT = 0.01
INSULATION = f"{PACK}.Bms.InsulationResistance"


class Oversight:
    """Of one bus. `opinion` is the newest, None until the estimator has begun."""

    def __init__(self, pack: Pack, watch: Watch, limits: Limits) -> None:
        self._pack = pack
        rows = rows_by_role(watch.signals)
        self._insulation = Inputs(watch, rows.get("insulation", []))
        self._to_ohm = [conversion(s.unit, "Ohm") or math.nan for s in self._insulation.signals]
        self._voltage = Inputs(
            watch, [n for n in rows.get("pack_voltage", []) if watch.signals[n].string is None]
        )
        self._temps = Inputs(watch, rows.get("cell_temp", []))
        self._limits = limits
        self._generation = 0
        self._second = self._second_opinion()
        self.opinion: Opinion | None = None
        self._cells = CellDeviates([s.path.rsplit(".", 1)[0] for s in pack.inputs.signals])
        self._bms = BmsSocOff(f"{SOC}.Displayed", limits)
        self._changed = BatteryChanged(PACK)
        self._heat = TemperatureRises([s.path for s in self._temps.signals], limits)
        self._leaks = InsulationFalls(INSULATION, limits)
        self._next_look_us = self._next_opinion_us = 0
        self._due = False
        paths = (BMS_DIFFERENCE, BMS_DIFFERENCE_SD, IMBALANCE) if pack.columns else ()
        self.columns = tuple(
            Column(path, "percent", "quantum", QUANTUM_PCT, quantum=QUANTUM_PCT, source="ayaz.second_opinion")
            for path in paths
        )

    @property
    def held_back(self) -> int:
        """How many events waited for others to close, or for their turn."""
        detectors = (self._cells, self._bms, self._changed, self._heat, self._leaks)
        return sum(d.book.held_back for d in detectors)

    def look(self, now_us: int, latest: LatestTable) -> list[Change]:
        """What has been found or is over at this tick; most ticks do nothing."""
        if now_us < self._next_look_us:
            return []
        self._next_look_us = (now_us // LOOK_US + 1) * LOOK_US
        refused = "its memory is of another one, or damaged" if self._pack.memory_refused else ""
        found = self._changed.look(now_us, self._pack.swapped or refused)
        if len(self._temps):
            found += self._heat.look(now_us, self._temps.values(latest))
        if len(self._insulation) and len(self._voltage):
            ohm = float(self._insulation.values(latest)[0]) * self._to_ohm[0]
            found += self._leaks.look(now_us, ohm, float(self._voltage.values(latest)[0]))
        if now_us >= self._next_opinion_us and self._pack.estimator is not None:
            self._next_opinion_us = (now_us // OPINION_US + 1) * OPINION_US
            found += self._ask(now_us, latest)
        return found

    def _ask(self, now_us: int, latest: LatestTable) -> list[Change]:
        estimator, shown, pack = self._pack.estimator, self._pack.inputs.bms_soc, self._pack.state()
        assert estimator is not None
        assert pack is not None
        if self._generation != self._pack.generation:  # another battery, or more of it
            self._generation = self._pack.generation
            self._second = self._second_opinion()
        percent = float(shown.values(latest)[0]) if len(shown) else math.nan
        here = ~self._pack.missing

        def placed(values: FloatArray) -> FloatArray:
            """Of the estimator's cells as of all that the maps name; NaN where nobody sends them."""
            result = np.full(len(here), np.nan)
            result[here] = values
            return result

        cells = estimator.states()
        self.opinion = o = self._second.look(
            now_us / 1e6,
            placed(cells.soc),
            placed(cells.soc_sd),
            pack.soc,
            pack.soc_sd,
            percent / 100,
            placed(cells.resistance_ratio),
            placed(cells.resistance_ratio_sd),
        )
        self._due = True
        found = self._bms.look(now_us, o.difference, o.difference_sd)
        return found + self._cells.look(
            now_us, o.stands_out, o.soc_deviation, o.soc_score, o.resistance_deviation, o.resistance_score
        )  # fmt: skip

    def _second_opinion(self) -> SecondOpinion:
        shown, limits = self._pack.inputs.bms_soc, self._limits
        window = shown.signals[0].window if len(shown) else None
        step = float(shown.quantum[0]) / 100 if len(shown) else 0.0
        strings = self._pack.layout.string_of_cell
        return SecondOpinion(strings, window, step, limits.cell_soc, limits.cell_resistance)

    def sample(self) -> tuple[IntArray, IntArray]:
        """Columns (from 0) and quantised values of an opinion that has not been sampled; what is unknown is left out."""
        if self.opinion is None or not self._due:
            return NOTHING, NOTHING
        self._due = False
        values = np.array(
            [self.opinion.difference, self.opinion.difference_sd, _worst(self.opinion.imbalance)]
        )
        known = np.flatnonzero(np.isfinite(values))
        return known, np.round(values[known] * 100 / QUANTUM_PCT).astype(np.int64)

    def snapshot(self) -> dict[str, Any]:
        """For the retained `state`, in the units of VSS."""
        o = self.opinion
        if o is None:
            return {}
        known = {
            BMS_DIFFERENCE: 100 * o.difference,
            BMS_DIFFERENCE_SD: 100 * o.difference_sd,
            BMS_DRIFT: 100 * o.drift_per_h,
            IMBALANCE: 100 * _worst(o.imbalance),
        }
        shown: dict[str, Any] = {path: round(v, 2) for path, v in known.items() if math.isfinite(v)}
        return shown | ({BMS_IS_OFF: o.significant} if BMS_DIFFERENCE in shown else {})


def _worst(spread: FloatArray) -> float:
    return float(np.fmax.reduce(spread, initial=math.nan))
