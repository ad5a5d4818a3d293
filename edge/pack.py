"""The battery of a bus: the estimator, fed from the roles in the signal maps, and what it remembers.

What flows in is read by `edge.pack_inputs`; what lasts from one boot to the next is in `edge.pack_memory`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.battery.estimator import PackEstimator, PackState
from edge.battery.model import CellModel
from edge.can.decoder import LatestTable
from edge.errors import CellModelError
from edge.pack_health import Ageing
from edge.pack_inputs import PackInputs, Sample, find_layout, unseen_pack
from edge.pack_memory import (
    REST_C,
    REST_S,
    Fingerprint,
    Memory,
    names_crc,
    pack_memory,
    time_off,
    unpack_memory,
)
from edge.pack_outlook import Outlook
from edge.telemetry.batch import Column
from edge.watch import NOTHING, BoolArray, FloatArray, IntArray, Watch

if TYPE_CHECKING:
    from edge.core import Setup

PACK = "Vehicle.Powertrain.TractionBattery"
PACK_SOC = f"{PACK}.StateOfCharge.Current"
PACK_SOC_SD = f"{PACK}.StateOfCharge.StandardDeviation"
BMS_SOC = f"{PACK}.StateOfCharge.Displayed"
ESTIMATE_QUANTUM_PCT = 0.01
ESTIMATE_RATE_US = 1_000_000
CELL_ESTIMATE_RATE_US = 10_000_000
GIVEN_SOC_SD = 0.05  # of the configuration's initial soc
BMS_SOC_SD = (
    0.10  # how far we trust a BMS's own figure as a first guess: 1 sd of the 5 to 15 % seen on the road
)
HOUR_S = 3600.0
TRUST_KEPT = 0.9  # a pattern replaces one that told not much more
WAIT_S = 60.0  # for cells that the map names and nobody sends


class Pack:
    """Feeds the estimator from the roles in the signal maps, and gives its results as columns.

    What others may want to know of it:

    generation      how many estimators there have been: another one forgets what was learnt of the pack
    swapped         why the battery is taken for another than the remembered one; "" where it is not
    memory_refused  1 where the remembered battery was not gone on with
    missing         [cells of the layout] the maps name them, and nobody sends them: they are left out
    inputs          counts of what was odd (`PackInputs`)
    """

    def __init__(self, setup: Setup, watch: Watch, restored: bytes | None) -> None:
        self.setup = setup
        self.layout = find_layout(watch.signals, setup.series)
        capacity_ah = (setup.capacity_ah or setup.cell.capacity_ah) * setup.parallel
        self.inputs = PackInputs(self.layout, watch, capacity_ah)
        self.estimator: PackEstimator | None = None
        self.generation = 0
        self.swapped = ""
        self.memory_refused = 0
        self.missing = np.zeros(len(self.layout.rows), dtype=bool)
        self.outlook = Outlook(setup.cell, self.layout, watch)
        self._cells = [s.path.rsplit(".", 1)[0] for s in self.inputs.signals if self.layout.kind == "cells"]
        self.ageing = Ageing(setup.cell, self._cells, setup.capacity_ah)
        self._connected = np.zeros(0, dtype=bool)
        self.columns = self._make_columns()
        self._rest_a = REST_C * capacity_ah * self.layout.parallel
        self._restored = restored
        self._memory = self._unpacked(restored)
        self._restore_outlook()
        self._serial: list[int] = self._memory.serial if self._memory else []
        self._shown_soc = math.nan
        self._present = np.zeros(0, np.int64)
        self._fingerprint = Fingerprint(self._present)
        self._pattern, self._trust = (self._memory.pattern, self._memory.trust) if self._memory else ([], 0.0)
        self._waited_s = self._rested_s = 0.0
        self._next_pack_us = 0
        self._next_cells_us = 0

    def _make_columns(self) -> tuple[Column, ...]:
        def percent(path: str) -> Column:
            return Column(
                path=path,
                unit="percent",
                encoding="quantum",
                scale=ESTIMATE_QUANTUM_PCT,
                quantum=ESTIMATE_QUANTUM_PCT,
                source="ayaz.estimator",
            )

        if not self.layout.kind:
            return ()
        paths = [PACK_SOC, PACK_SOC_SD, *(f"{cell}.StateOfCharge" for cell in self._cells)]
        return (*(percent(path) for path in paths), *self.outlook.columns, *self.ageing.columns)

    # What happens

    def step(self, dt_s: float, latest: LatestTable, wall_ms: int | None) -> None:
        """One step of every cell, with what has arrived since the last tick and is good.

        `wall_ms` is the wall clock's time, UNIX ms; None where it can't be trusted.
        """
        if not self.columns or not self._ready(dt_s, latest, wall_ms):
            return
        assert self.estimator is not None
        sample = self.inputs.read(dt_s, latest)
        self._advance(dt_s, sample)
        self._connected = ~sample.open
        self.ageing.step(dt_s, sample, self.estimator)
        self.outlook.step(dt_s, sample.current_a, self.inputs.voltages_now(latest)[self._present], latest)
        if math.isfinite(shown := self.inputs.soc_shown(latest)):
            self._shown_soc = shown
        self._look_at_serial(latest, wall_ms)
        self._look_at_pattern(dt_s, sample, latest, wall_ms)

    def _advance(self, dt_s: float, sample: Sample) -> None:
        """The one place that steps the estimator."""
        assert self.estimator is not None
        here, balancing = self._present, sample.balancing_a
        self.estimator.step(
            dt_s,
            sample.current_a,
            sample.voltage_v[here],
            sample.temp_degc[here],
            balancing_a=None if balancing is None else balancing[here] / self.estimator.parallel,
            opened=sample.open if sample.open.any() else None,
        )

    def _ready(self, dt_s: float, latest: LatestTable, wall_ms: int | None) -> bool:
        """Whether there is an estimator: from when every cell and current has been heard, whatever it said.

        After WAIT_S those are enough that have been; once more are, it begins again.
        """
        if self.estimator is not None and not self.missing.any():
            return True
        heard = self.inputs.voltages.heard()
        if self.estimator is not None:
            if (heard & self.missing).any():
                self._begin(heard, latest, wall_ms, self.estimator.pack().soc)
            return True
        if not heard.any():
            return False
        self._waited_s += dt_s
        if (heard.all() and self.inputs.currents.heard().all()) or self._waited_s > WAIT_S:
            self._begin(heard, latest, wall_ms, self.setup.initial_soc)
        return self.estimator is not None

    def _begin(self, heard: BoolArray, latest: LatestTable, wall_ms: int | None, soc: float | None) -> None:
        """A fresh estimator of the cells that have been heard, with what is remembered of them."""
        strings = np.array(self.layout.string_of_cell, dtype=np.int64)
        if len(set(strings[heard].tolist())) < len(self.layout.strings):
            return  # a whole string is silent
        sd = GIVEN_SOC_SD
        shown = self.inputs.soc_shown(latest)
        if soc is None and math.isfinite(shown):
            soc, sd = shown, BMS_SOC_SD
        self.missing = ~heard
        self._present = np.flatnonzero(heard)
        self._fingerprint = Fingerprint(strings[heard])
        self.generation += 1
        self.estimator = PackEstimator(
            self._model(),
            strings[heard],
            initial_soc=soc,
            initial_soc_sd=sd if soc is not None else None,
            parallel=self.setup.parallel * self.layout.parallel,
            capacity_ah=self.setup.capacity_ah,
        )
        self.outlook.begin(strings[heard], self.estimator.parallel)
        self.ageing.begin(strings[heard], self._present, self.estimator.parallel)
        if self._memory:
            self._restore(self.estimator, self._memory, wall_ms, shown)

    def _model(self) -> CellModel:
        """The cell; doubted more where it stands for others."""
        model, low, high = self.setup.cell, self.setup.cell.voltage_min_v, self.setup.cell.voltage_max_v
        extra = math.hypot(self.inputs.extra_sd_v(), self.inputs.gain_sd() * (low + high) / 2)
        return replace(model, model_sd_v=np.hypot(model.model_sd_v, extra)) if extra else model

    # What is remembered

    def dump(self, wall_ms: int | None) -> bytes:
        """What the next boot goes on with; `wall_ms` as in `step`."""
        if self.estimator is None:
            return self._restored or b""
        return pack_memory(
            Memory(
                wall_ms=wall_ms,
                cells=self._names(),
                serial=self._serial,
                bms_soc=self._shown_soc if math.isfinite(self._shown_soc) else None,
                pattern=self._pattern,
                trust=self._trust,
                parts={"estimator": self.estimator.dump()} | self.outlook.dump() | self.ageing.dump(),
            )
        )

    def _unpacked(self, restored: bytes | None) -> Memory | None:
        if not restored:
            return None
        try:
            return unpack_memory(restored)
        except CellModelError:
            self.memory_refused = 1
            return None

    def _restore_outlook(self) -> None:
        try:
            self.outlook.restore(self._memory.parts if self._memory else {})
        except CellModelError:
            self.memory_refused = 1

    def _names(self) -> int:
        return names_crc([self.layout.kind, *(self.inputs.signals[n].path for n in self._present)])

    def _restore(self, estimator: PackEstimator, memory: Memory, wall_ms: int | None, shown: float) -> None:
        """Go on where the boot before stopped, with doubt about what happened in between."""
        try:
            if memory.cells != self._names():
                raise CellModelError("the battery's memory is of other cells")
            estimator.load(memory.parts.get("estimator", b""))
        except CellModelError:
            self._refuse()  # the fresh estimator goes on, counted
            return
        off = time_off(memory, wall_ms, shown)
        estimator.rest(off.seconds)
        if off.moved:  # what the BMS counted while we were off is a current that nobody but it has seen
            self._count(estimator, off.moved)
        estimator.widen(off.soc_sd, off.doubt)
        try:
            self.ageing.restore(memory.parts, off)
        except CellModelError:
            self.memory_refused = 1

    def _count(self, estimator: PackEstimator, soc: float) -> None:
        unknown = np.full(len(self._present), np.nan)
        current_a = -soc * float(estimator.capacity_ah.mean()) * estimator.parallel
        estimator.step(HOUR_S, np.full(len(self.layout.strings), current_a), unknown, unknown)

    def _refuse(self) -> None:
        self.memory_refused = 1
        self._memory, self._pattern, self._trust = None, [], 0.0

    def _look_at_serial(self, latest: LatestTable, wall_ms: int | None) -> None:
        """A serial number other than the last one heard, in this boot or the one before, is another pack."""
        serial = self.inputs.serial.raw(latest) if len(self.inputs.serial) else None
        if serial is None:
            return
        before, self._serial = self._serial, serial
        if before and before != serial:
            self._swap("its serial number is another", latest, wall_ms)

    def _look_at_pattern(self, dt_s: float, sample: Sample, latest: LatestTable, wall_ms: int | None) -> None:
        """The first pattern of the cells at rest is held against the remembered one."""
        if self.layout.kind != "cells":
            return
        still = bool((np.abs(sample.current_a) < self._rest_a).all() or sample.open.all())
        self._rested_s = self._rested_s + dt_s if still else 0.0
        if self._rested_s < REST_S:
            return
        here = self._present
        whole = self._fingerprint.add(sample.voltage_v[here], self.inputs.voltages_now(latest)[here])
        if not whole:
            return
        another = self._fingerprint.is_another(self._memory) if self._memory else False
        if another is not None:
            self._memory = None  # judged: once in a boot, for a day blurs the pattern
        if another:
            self._swap("its cells rest in another pattern", latest, wall_ms)
        elif self._fingerprint.trust > TRUST_KEPT * self._trust:
            self._pattern, self._trust = self._fingerprint.pattern.tolist(), self._fingerprint.trust

    def _swap(self, why: str, latest: LatestTable, wall_ms: int | None) -> None:
        """The battery is another than the one that was learnt: begin anew."""
        self.swapped = why
        self._refuse()
        self._shown_soc = math.nan
        self._begin(~self.missing, latest, wall_ms, None)

    # What is known

    def state(self) -> PackState | None:
        """The pack by its weakest cells, also by those that nobody sees; None before the first step."""
        if self.estimator is None:
            return None
        if any(self.layout.below + self.layout.above):
            e = self.estimator
            pack = unseen_pack(self.layout, e.soc, e.soc_sd, e.capacity_ah * e.parallel)
        else:
            pack = self.estimator.pack()
        return replace(pack, weakest=int(self._present[pack.weakest]))

    def cell_soc(self) -> FloatArray:
        """[cells that the maps name] state of charge; NaN of those that nobody sends."""
        soc = np.full(len(self.layout.rows), np.nan)
        if self.estimator is not None:
            soc[self._present] = self.estimator.soc
        return soc

    def sample(self, now_us: int) -> tuple[IntArray, IntArray]:
        """Columns (from 0) and quantised values that are due."""
        if self.estimator is None or now_us < min(self._next_pack_us, self._next_cells_us):
            return NOTHING, NOTHING
        columns, values, outlook = NOTHING, np.empty(0), NOTHING
        aged, health = self.ageing.sample()
        if now_us >= self._next_pack_us and (pack := self.state()):
            self._next_pack_us = (now_us // ESTIMATE_RATE_US + 1) * ESTIMATE_RATE_US
            columns = np.arange(2)
            values = np.array([pack.soc, pack.soc_sd])
            self.outlook.look(self.estimator, self._connected)
            outlook = self.outlook.raw()
        if now_us >= self._next_cells_us:
            self._next_cells_us = (now_us // CELL_ESTIMATE_RATE_US + 1) * CELL_ESTIMATE_RATE_US
            if self.layout.kind == "cells":
                columns = np.concatenate([columns, 2 + self._present])
                values = np.concatenate([values, self.estimator.soc])
        last = len(self.columns) - len(self.ageing.columns)
        first = last - len(self.outlook.columns)
        percent = np.round(values * 100 / ESTIMATE_QUANTUM_PCT).astype(np.int64)
        columns = np.concatenate([columns, first + np.arange(len(outlook)), last + aged])
        return columns, np.concatenate([percent, outlook, health])

    def snapshot(self) -> dict[str, Any]:
        """What `state` holds of it, by VSS path."""
        pack = self.state()
        if pack is None:
            return {}
        shown = {PACK_SOC: round(pack.soc * 100, 2), PACK_SOC_SD: round(pack.soc_sd * 100, 2)}
        return shown | self.outlook.snapshot() | self.ageing.snapshot()

    def counts(self) -> dict[str, int]:
        """What was odd about the battery's inputs, for the ledger."""
        return {
            "cells_missing": int(self.missing.sum()),
            "cell_count_differs": self.inputs.count_differs,
            "current_while_open": self.inputs.current_while_open,
            "swapped": int(bool(self.swapped)),
        }
