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
from edge.signals.validity import GOOD, NEVER, STALE, SUSPECT
from edge.telemetry.batch import BatchBuilder, Column, Item, Schema

TICK_US = 100_000
LONG_AGO_US = -(1 << 60)

PACK = "Vehicle.Powertrain.TractionBattery"
PACK_SOC = f"{PACK}.StateOfCharge.Current"
PACK_SOC_SD = f"{PACK}.StateOfCharge.StandardDeviation"
BMS_SOC = f"{PACK}.StateOfCharge.Displayed"
ESTIMATE_QUANTUM_PCT = 0.01
ESTIMATE_RATE_US = 1_000_000
CELL_ESTIMATE_RATE_US = 10_000_000
LEDGER_NAMES = {"lost_controller": "lost_controller_at_least"}  # a driver says that, not how many
OFF_SOC_SD = 0.05  # what may have been charged or used while the agent was off
BMS_SOC_SD = (
    0.10  # how far we trust a BMS's own figure as a first guess: 1 sd of the 5 to 15 % seen on the road
)

IntArray = npt.NDArray[np.int64]
_NOTHING = np.empty(0, np.int64)
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
        self.counts = Counts(len(catalogue.channels))
        self.watch = _Watch(self.decoder, catalogue)
        self.latest = LatestTable(len(self.decoder.slots))  # the maps may have asked for slots of their own
        self.battery = _Battery(setup, self.watch, restored)
        self.uplink = _Sampler(self.decoder, self.watch, catalogue)
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
        """Cumulative counts of what was lost outside the core, by name; `CHANNEL.NAME` is of a channel."""
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
        self.watch.look(now_us, self.latest)
        self.battery.step(dt_us / 1e6, self.latest)
        self._add(*self.uplink.sample(now_us, self.latest))
        columns, values = self.battery.sample(now_us)
        if len(columns):
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
        """Cumulative counts since this boot: what each channel saw, refused and lost (docs/protocol.md)."""
        can = {c.name: self.counts.of_channel(c.number) for c in self.setup.catalogue.channels}
        lost: dict[str, int] = {}
        for name, count in self._loss.items():
            channel, _, what = name.rpartition(".")
            if channel in can:
                can[channel][LEDGER_NAMES.get(what, what)] = count
            else:
                lost[name] = count
        return {"can": can, "lost": lost, "memory_refused": self.battery.memory_refused}

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


class _Watch:
    """What the latest value of every signal of the maps is worth, worked out once a tick.

    `validity` (numbers of edge.signals.validity) and `time_us` have the shape [signals of the catalogue].
    Late comes before what its sender says of it; frozen is only what would be good.
    """

    def __init__(self, decoder: Decoder, catalogue: Catalogue) -> None:
        self.signals = catalogue.signals
        slots = [
            decoder.slot(s.channel, s.message, s.signal, address=s.address, name=s.name) for s in self.signals
        ]
        self.slots = np.array(slots, dtype=np.int64)
        timeouts = {(m.channel, m.message): m.timeout_ms for m in catalogue.messages}
        self._timeout_us = np.array(
            [timeouts[s.channel, s.message] * 1000 for s in self.signals], dtype=np.int64
        )
        frozen_s = [s.frozen_s for s in self.signals]
        self._can_freeze = np.flatnonzero(np.array(frozen_s) > 0)
        self._frozen_us = np.array([round(frozen_s[i] * 1e6) for i in self._can_freeze], dtype=np.int64)
        self._last_raw = np.zeros(len(self._can_freeze), np.int64)
        self._moved_us = np.zeros(len(self._can_freeze), np.int64)
        self.validity = np.full(len(self.signals), NEVER, np.uint8)
        self.time_us = np.zeros(len(self.signals), np.int64)

    def look(self, now_us: int, latest: LatestTable) -> None:
        """Judge the table as it is at this tick."""
        self.time_us = latest.time_us[self.slots]
        state = latest.state[self.slots]
        late = (now_us - self.time_us > self._timeout_us) & (state != NEVER)
        self.validity = np.where(late, np.uint8(STALE), state)
        if len(self._can_freeze):
            self._look_for_frozen(now_us, latest)

    def _look_for_frozen(self, now_us: int, latest: LatestTable) -> None:
        raw = latest.raw[self.slots[self._can_freeze]]
        good = self.validity[self._can_freeze] == GOOD
        self._moved_us[(raw != self._last_raw) | ~good] = now_us
        self._last_raw = raw
        frozen = good & (now_us - self._moved_us > self._frozen_us)
        self.validity[self._can_freeze[frozen]] = SUSPECT


class _Sampler:
    """Chooses which latest values enter the batch: good ones, on change beyond the deadband, at the signal's
    own rate, at least once per heartbeat, and when a signal has become good; and every change of validity.

    Columns 0..n-1 are the signals, n..2n-1 their validity.
    """

    def __init__(self, decoder: Decoder, watch: _Watch, catalogue: Catalogue) -> None:
        self._watch = watch
        self._rows = np.array([i for i, s in enumerate(watch.signals) if s.rate_s > 0], dtype=np.int64)
        self.signals = signals = [watch.signals[i] for i in self._rows.tolist()]
        self.slots = watch.slots[self._rows]
        slots = [decoder.slots[i] for i in self.slots.tolist()]
        names = {c.number: c.name for c in catalogue.channels}
        self.rate_us = np.array([round(s.rate_s * 1e6) for s in signals], dtype=np.int64)
        self.heartbeat_us = np.array([round(s.heartbeat_s * 1e6) for s in signals], dtype=np.int64)
        self.deadband = np.array([max(s.deadband, 1e-12) for s in signals])
        self.factor = np.array([s.factor for s in signals])
        n = len(signals)
        self.validity = np.full(n, NEVER, dtype=np.uint8)
        self.sent_value = np.zeros(n)
        self.sent_us = np.full(n, LONG_AGO_US, dtype=np.int64)
        self.next_us = np.zeros(n, dtype=np.int64)
        self.seen_us = np.full(n, LONG_AGO_US, dtype=np.int64)
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
        time_us = self._watch.time_us[self._rows]
        validity = self._watch.validity[self._rows]
        turned = np.flatnonzero(validity != self.validity)
        self.next_us[turned] = 0  # what has become good is sent at once, for there is none to hold on to
        self.sent_us[turned] = LONG_AGO_US
        self.validity = validity
        due = np.flatnonzero((validity == GOOD) & (time_us > self.seen_us) & (now_us >= self.next_us))
        if not len(due) and not len(turned):
            return _NOTHING, _NOTHING, _NOTHING
        value = latest.value[self.slots[due]]
        changed = np.abs(value - self.sent_value[due]) >= self.deadband[due]
        late = now_us - self.sent_us[due] >= self.heartbeat_us[due]
        self.next_us[due] = (now_us // self.rate_us[due] + 1) * self.rate_us[due]
        self.seen_us[due] = time_us[due]
        send = changed | late
        chosen = due[send]
        self.sent_value[chosen] = value[send]
        self.sent_us[chosen] = now_us
        return (
            np.concatenate([chosen, turned + len(self.signals)]),
            np.concatenate([time_us[chosen] // 1000, np.full(len(turned), now_us // 1000)]),
            np.concatenate([latest.raw[self.slots[chosen]], validity[turned].astype(np.int64)]),
        )

    def snapshot(self, latest: LatestTable) -> dict[str, Any]:
        """Every good signal but the single cells and their temperatures."""
        value = latest.value[self.slots] * self.factor
        return {
            s.path: _short(value[i])
            for i, s in enumerate(self.signals)
            if self.validity[i] == GOOD and s.role not in ("cell_voltage", "cell_temp")
        }


class _Inputs:
    """Some signals of the maps as the estimator takes them: in our units and signs, NaN where not good."""

    def __init__(self, watch: _Watch, rows: Sequence[int]) -> None:
        self._watch = watch
        self._rows = np.array(rows, dtype=np.int64)
        self._slots = watch.slots[self._rows]
        self.signals = [watch.signals[n] for n in rows]
        self._factor = np.array([s.factor for s in self.signals])
        self._used_us = np.full(len(rows), LONG_AGO_US, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.signals)

    def heard(self) -> bool:
        """Whether every one has been, whatever it said."""
        return bool((self._watch.validity[self._rows] != NEVER).all())

    def values(self, latest: LatestTable) -> FloatArray:
        """[n] the newest."""
        good = self._watch.validity[self._rows] == GOOD
        return np.where(good, latest.value[self._slots] * self._factor, np.nan)

    def fresh_values(self, latest: LatestTable) -> FloatArray:
        """[n] the newest, each only once: NaN where no frame has come since the last call."""
        time_us = self._watch.time_us[self._rows]
        values = np.where(time_us > self._used_us, self.values(latest), np.nan)
        self._used_us = time_us
        return values


class _Battery:
    """Feeds the estimator from the roles in the signal maps, and gives its results as columns."""

    def __init__(self, setup: Setup, watch: _Watch, restored: bytes | None) -> None:
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
        self.cells = _Inputs(watch, cell_rows)
        self.temps = _Inputs(watch, temp_rows)
        self.currents = currents = _Inputs(watch, sorted(current_rows, key=place))
        self.shared_current = len(currents) == 1 and len(self.strings) > 1
        self.temp_of_cell = _nearest_sensor(cells, temps)
        self.string_of_cell = np.array([self.strings.index(s.string or 1) for s in cells], dtype=np.int64)
        self.bms_soc = _Inputs(watch, by_role.get("bms_soc", []))
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
            return _NOTHING, _NOTHING
        columns = _NOTHING
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


def _short(value: float) -> float | int:
    """A number as a person would write it."""
    rounded = round(float(value), 3)
    return int(rounded) if rounded.is_integer() else rounded
