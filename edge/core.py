"""The deterministic core: frames and ticks in, sealed items out.

What flows in: FRAME arrays (`feed`), ticks (`tick`), and what the agent learnt of the world outside:
the boot id, the wall clock's label (`set_clock`), counts of loss (`set_loss`), the restored state.
What flows out: sealed items, numbered 1, 2, 3, ... The first is the schema.

Nothing in here reads a clock, a socket or a file, so the same inputs give the same items, live or in
a replay (see `edge.recording`). Times are monotonic microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.battery.estimator import PackEstimator
from edge.battery.model import CellModel
from edge.can.decoder import Counts, Decoder, LatestTable
from edge.can.frames import Frames
from edge.errors import CellModelError
from edge.signals.catalogue import Catalogue, Signal
from edge.signals.validity import GOOD, NEVER, STALE
from edge.telemetry.batch import BatchBuilder, Column, Item, Schema

TICK_US = 100_000

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

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setup:
    """What a core is built from, the same for the live agent and a replay."""

    operator: str
    bus: str
    catalogue: Catalogue
    cell: CellModel
    parallel: int = 1
    capacity_ah: float | None = None  # of one cell, where it differs from the model's
    initial_soc: float | None = None
    batch_interval_s: float = 10.0


class Core:
    """One bus, from frames to batches.

    Restored state that is of another pack is refused and counted in the ledger.
    """

    def __init__(self, setup: Setup, boot: str, restored: bytes | None = None) -> None:
        self.setup = setup
        self.boot = boot
        catalogue = setup.catalogue
        self.decoder = Decoder.from_catalogue(catalogue)
        self.latest = LatestTable(len(self.decoder.slots))
        self.counts = Counts(len(catalogue.channels))
        self.battery = _Battery(setup, self.decoder, restored)
        self.uplink = _Sampler(self.decoder, [s for s in catalogue.signals if s.rate_s > 0], catalogue)
        self.schema = Schema((*self.uplink.columns, *self.battery.columns))
        self.builder = BatchBuilder(setup.operator, setup.bus, boot, self.schema)
        self.seq = 0
        self.samples = 0
        self.now_us = -1
        self._batch_t0_us = 0
        self._wall_offset_ms = 0
        self._clock = "unsynced"
        self._loss: Mapping[str, int] = {}

    # What flows in

    def set_clock(self, wall_offset_ms: int, quality: str) -> None:
        """Wall time in ms = monotonic ms + offset, and how good that is."""
        self._wall_offset_ms, self._clock = wall_offset_ms, quality

    def set_loss(self, loss: Mapping[str, int]) -> None:
        """Cumulative counts of what was lost before the core (sockets, spool), by name."""
        self._loss = dict(loss)

    def feed(self, frames: Frames) -> None:
        """Decode frames, in the order of their arrival, into the table of latest values."""
        self.decoder.update(frames, self.latest, self.counts)

    def tick(self, now_us: int) -> list[Item]:
        """Estimate, sample, and seal what is full. Ticks must not run backwards."""
        items = [] if self.seq else [self._schema_item()]
        if self.now_us < 0:
            self._batch_t0_us = now_us
        dt_us = now_us - self.now_us if self.now_us >= 0 else 0
        self.now_us = now_us
        self.battery.step(dt_us / 1e6, now_us, self.latest)
        self._add(*self.uplink.sample(now_us, self.latest))
        columns, values = self.battery.sample(now_us)
        self._add(columns + len(self.uplink.columns), np.full(len(columns), now_us // 1000), values)
        if now_us - self._batch_t0_us >= self.setup.batch_interval_s * 1e6:
            items += self.seal()
        return items

    def seal(self) -> list[Item]:
        """Close the open batch, whatever is in it; nothing where it is empty."""
        t0_ms = self._batch_t0_us // 1000
        items: list[Item] = self.builder.seal(
            self.seq + 1, t0_ms, t0_ms + self._wall_offset_ms, self._clock, self.ledger()
        )
        self.seq += len(items)
        self._batch_t0_us = self.now_us
        return items

    # What flows out

    def ledger(self) -> dict[str, Any]:
        """Cumulative counts since this boot: what each channel saw and refused, and what was lost."""
        channels = self.setup.catalogue.channels
        return {
            "can": {c.name: self.counts.of_channel(c.number) for c in channels},
            "lost": dict(self._loss),
            "memory_refused": self.battery.memory_refused,
        }

    def snapshot(self) -> dict[str, Any]:
        """The bus at this moment by VSS path, in the units of VSS, for the retained `state`."""
        return self.uplink.snapshot(self.latest) | self.battery.snapshot()

    def dump(self) -> bytes:
        """The estimator's memory, for the next boot."""
        return self.battery.dump()

    def _schema_item(self) -> Item:
        self.seq = 1
        return self.schema.to_item(self.setup.operator, self.setup.bus, self.boot, self.seq)

    def _add(self, columns: IntArray, times_ms: IntArray, values: IntArray) -> None:
        self.samples += len(columns)
        for column, t_ms, value in zip(columns.tolist(), times_ms.tolist(), values.tolist(), strict=True):
            self.builder.add(column, t_ms, value)


class _Sampler:
    """Chooses which latest values enter the batch: on change beyond the deadband, at the signal's own
    rate, at least once per heartbeat; and when a signal's validity changes.

    Columns 0..n-1 are the signals, n..2n-1 their validity.
    """

    def __init__(self, decoder: Decoder, signals: Sequence[Signal], catalogue: Catalogue) -> None:
        self.signals = signals
        self.slots = np.array([decoder.slot(s.channel, s.message, s.signal) for s in signals], dtype=np.int64)
        slots = [decoder.slots[i] for i in self.slots.tolist()]
        timeouts = {(m.channel, m.message): m.timeout_ms for m in catalogue.messages}
        names = {c.number: c.name for c in catalogue.channels}
        self.rate_us = np.array([round(s.rate_s * 1e6) for s in signals], dtype=np.int64)
        self.heartbeat_us = np.array([round(s.heartbeat_s * 1e6) for s in signals], dtype=np.int64)
        self.timeout_us = np.array([timeouts[s.channel, s.message] * 1000 for s in signals], dtype=np.int64)
        self.deadband = np.array([s.deadband for s in signals])
        self.factor = np.array([s.factor for s in signals])
        n = len(signals)
        self.validity = np.full(n, NEVER, dtype=np.int64)
        self.sent_value = np.zeros(n)
        self.sent_us = np.full(n, -(1 << 60), dtype=np.int64)
        self.next_us = np.zeros(n, dtype=np.int64)
        self.seen_us = np.full(n, -(1 << 60), dtype=np.int64)
        source = [f"{names[s.channel]}.{s.message}.{s.signal}" for s in signals]
        self.columns = tuple(
            Column(
                path=s.path,
                unit=s.unit,
                encoding="bits" if slot.is_float else "raw",
                scale=s.factor * slot.scale,
                offset=s.factor * slot.offset,
                source=source[i],
            )
            for i, (s, slot) in enumerate(zip(signals, slots, strict=True))
        ) + tuple(
            Column(path=s.path, unit="", encoding="validity", source=source[i], of=i)
            for i, s in enumerate(signals)
        )

    def sample(self, now_us: int, latest: LatestTable) -> tuple[IntArray, IntArray, IntArray]:
        """Columns, times in ms, and raw values of what is to be sent at this tick."""
        time_us = latest.time_us[self.slots]
        value = latest.value[self.slots]
        state = latest.state[self.slots]
        validity = np.where(state != GOOD, state, np.where(now_us - time_us > self.timeout_us, STALE, GOOD))
        turned = np.flatnonzero(validity != self.validity)
        self.validity = validity
        due = (validity == GOOD) & (time_us > self.seen_us) & (now_us >= self.next_us)
        changed = np.abs(value - self.sent_value) >= np.maximum(self.deadband, 1e-12)
        late = now_us - self.sent_us >= self.heartbeat_us
        chosen = np.flatnonzero(due & (changed | late))
        self.next_us[due] = (now_us // self.rate_us[due] + 1) * self.rate_us[due]
        self.seen_us[due] = time_us[due]
        self.sent_value[chosen] = value[chosen]
        self.sent_us[chosen] = now_us
        return (
            np.concatenate([chosen, turned + len(self.signals)]),
            np.concatenate([time_us[chosen] // 1000, np.full(len(turned), now_us // 1000)]),
            np.concatenate([latest.raw[self.slots[chosen]], validity[turned]]),
        )

    def snapshot(self, latest: LatestTable) -> dict[str, Any]:
        """Every valid signal but the single cells and their temperatures."""
        value = latest.value[self.slots] * self.factor
        return {
            s.path: _short(value[i])
            for i, s in enumerate(self.signals)
            if self.validity[i] == GOOD and s.role not in ("cell_voltage", "cell_temp")
        }


class _Battery:
    """Feeds the estimator from the roles in the signal maps, and gives its results as columns."""

    def __init__(self, setup: Setup, decoder: Decoder, restored: bytes | None) -> None:
        by_role: dict[str, list[Signal]] = {}
        for signal in setup.catalogue.signals:
            if signal.role:
                by_role.setdefault(signal.role, []).append(signal)
        timeouts = {(m.channel, m.message): m.timeout_ms for m in setup.catalogue.messages}
        self.setup = setup
        self.restored = restored
        self.estimator: PackEstimator | None = None
        cells = sorted(by_role.get("cell_voltage", []), key=lambda s: (s.string or 1, s.index or 1))
        temps = sorted(by_role.get("cell_temp", []), key=lambda s: (s.string or 1, s.index or 1))
        self.strings = sorted({s.string or 1 for s in cells})
        currents = by_role.get("string_current") or by_role.get("pack_current", [])
        currents = sorted(currents, key=lambda s: s.string or 1)

        def slot(signal: Signal) -> int:
            return decoder.slot(signal.channel, signal.message, signal.signal)

        self.cell_slots = np.array([slot(s) for s in cells], dtype=np.int64)
        self.current_slots = np.array([slot(s) for s in currents], dtype=np.int64)
        self.current_signs = np.array([s.factor for s in currents])
        self.current_timeouts_us = np.array([timeouts[s.channel, s.message] * 1000 for s in currents])
        self.shared_current = len(currents) == 1 and len(self.strings) > 1
        self.temp_slots = np.array([slot(s) for s in temps], dtype=np.int64)
        self.temp_of_cell = _nearest_sensor(cells, temps)
        self.string_of_cell = np.array([self.strings.index(s.string or 1) for s in cells], dtype=np.int64)
        self.used_us = np.full(len(cells), -1, dtype=np.int64)
        bms = by_role.get("bms_soc", [])
        self.bms_soc = bms[0] if bms else None
        self.bms_slot = slot(bms[0]) if bms else -1
        self.bms_fraction = math.nan
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

    def step(self, dt_s: float, now_us: int, latest: LatestTable) -> None:
        """One step of every cell, with what has arrived since the last tick."""
        if not self.columns:
            return
        if self.bms_soc is not None and latest.state[self.bms_slot] == GOOD:
            low, high = self.bms_soc.window or (0.0, 1.0)
            self.bms_fraction = low + latest.value[self.bms_slot] / 100 * (high - low)
        if self.estimator is None and not self._begin(latest):
            return
        assert self.estimator is not None
        current = latest.value[self.current_slots] * self.current_signs
        known = (latest.state[self.current_slots] == GOOD) & (
            now_us - latest.time_us[self.current_slots] <= self.current_timeouts_us
        )
        current = np.where(known, current, np.nan)
        if self.shared_current:
            current = np.repeat(current / len(self.strings), len(self.strings))
        time_us = latest.time_us[self.cell_slots]
        fresh = (latest.state[self.cell_slots] == GOOD) & (time_us > self.used_us)
        voltage = np.where(fresh, latest.value[self.cell_slots], np.nan)
        self.used_us[fresh] = time_us[fresh]
        self.estimator.step(dt_s, current, voltage, self._temperatures(latest))

    def _begin(self, latest: LatestTable) -> bool:
        """Start the estimator once every cell has been heard."""
        if not (latest.state[self.cell_slots] == GOOD).all():
            return False
        if not (latest.state[self.current_slots] == GOOD).all():
            return False
        soc, sd = self.setup.initial_soc, 0.05
        if soc is None and not math.isnan(self.bms_fraction):
            soc, sd = min(max(self.bms_fraction, 0.0), 1.0), BMS_SOC_SD
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
        if not len(self.temp_slots):
            return np.full(len(self.cell_slots), np.nan)
        temp = np.where(latest.state[self.temp_slots] == GOOD, latest.value[self.temp_slots], np.nan)
        return temp[self.temp_of_cell]

    def sample(self, now_us: int) -> tuple[IntArray, IntArray]:
        """Columns (from 0) and quantised values that are due."""
        if self.estimator is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        columns = np.empty(0, np.int64)
        values = np.empty(0)
        if now_us >= self._next_pack_us:
            self._next_pack_us = (now_us // ESTIMATE_RATE_US + 1) * ESTIMATE_RATE_US
            columns = np.arange(2)
            pack = self.estimator.pack()
            values = np.array([pack.soc, pack.soc_sd])
        if now_us >= self._next_cells_us:
            self._next_cells_us = (now_us // CELL_ESTIMATE_RATE_US + 1) * CELL_ESTIMATE_RATE_US
            columns = np.concatenate([columns, 2 + np.arange(len(self.cell_slots))])
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


def _short(value: float) -> float | int:
    """A number as a person would write it."""
    rounded = round(float(value), 3)
    return int(rounded) if rounded.is_integer() else rounded
