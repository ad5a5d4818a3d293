"""The deterministic core: frames and ticks in, sealed items out.

What flows in: FRAME arrays (`feed`), ticks (`tick`), and what the agent learnt of the world outside:
the boot id, the wall clock's label (`set_clock`), counts of loss (`set_loss`), the restored state.
What flows out: sealed items, numbered 1, 2, 3, ... The first is the schema.

Nothing in here reads a clock, a socket or a file, so the same inputs give the same items, live or in
a replay (see `edge.recording`). Times are monotonic microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge.battery.model import CellModel
from edge.can.decoder import Counts, Decoder, LatestTable
from edge.can.frames import Frames
from edge.events.book import Change
from edge.events.limits import Limits
from edge.oversight import Oversight
from edge.pack import Pack
from edge.pack_memory import TRUSTED_CLOCKS
from edge.signals.catalogue import Catalogue
from edge.signals.validity import GOOD, NEVER
from edge.telemetry.batch import VERSION, BatchBuilder, Column, EventPayload, Item, Schema
from edge.watch import LONG_AGO_US, NOTHING, IntArray, Watch

TICK_US = 100_000
LEDGER_NAMES = {"lost_controller": "lost_controller_at_least"}  # a driver says that, not how many


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
    series: int | None = None  # cells in series in a string
    batch_interval_s: float = 10.0
    limits: Limits = field(default_factory=Limits)


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
        self.watch = Watch(self.decoder, catalogue)
        self.latest = LatestTable(len(self.decoder.slots))  # the maps may have asked for slots of their own
        self.battery = Pack(setup, self.watch, restored)
        self.uplink = _Sampler(self.decoder, self.watch, catalogue)
        self.oversight = Oversight(self.battery, self.watch, setup.limits)
        self.schema = Schema((*self.uplink.columns, *self.battery.columns, *self.oversight.columns))
        self.builder = BatchBuilder(setup.operator, setup.bus, boot, self.schema)
        self.seq = 0
        self.samples = 0
        self.now_us = -1
        self._batch_t0_us = 0
        self._wall_offset_ms = 0
        self._clock = "unsynced"
        self._loss: Mapping[str, int] = {}
        self._open: dict[tuple[str, str], EventPayload] = {}

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
        self.battery.step(dt_us / 1e6, self.latest, self._wall_ms())
        self._add(*self.uplink.sample(now_us, self.latest))
        items += [self._event_item(change) for change in self.oversight.look(now_us, self.latest)]
        columns, values = self.battery.sample(now_us)
        if len(columns):
            self._add(columns + len(self.uplink.columns), np.full(len(columns), now_us // 1000), values)
        columns, values = self.oversight.sample()
        if len(columns):
            behind = len(self.uplink.columns) + len(self.battery.columns)
            self._add(columns + behind, np.full(len(columns), now_us // 1000), values)
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
        can = {
            c.name: self.counts.of_channel(c.number) | {"skipped": self.decoder.skipped(c.number)}
            for c in self.setup.catalogue.channels
        }
        lost: dict[str, int] = {}
        for name, count in self._loss.items():
            channel, _, what = name.rpartition(".")
            if channel in can:
                can[channel][LEDGER_NAMES.get(what, what)] = count
            else:
                lost[name] = count
        return {
            "can": can,
            "lost": lost,
            "memory_refused": self.battery.memory_refused,
            "events_held_back": self.oversight.held_back,
            "battery": self.battery.counts(),
        }

    def snapshot(self) -> dict[str, Any]:
        """The bus at this moment by VSS path, in the units of VSS, for the retained `state`."""
        return self.uplink.snapshot(self.latest) | self.battery.snapshot() | self.oversight.snapshot()

    def open_events(self) -> list[dict[str, Any]]:
        """The events that are open, for the retained `state`; `since_ms` is wall time."""
        return [
            {
                "what": e.what,
                "thing": e.thing,
                "severity": e.severity,
                "since_ms": e.since_ms + self._wall_offset_ms,
                "text": e.text,
            }
            for e in self._open.values()
        ]

    def dump(self) -> bytes:
        """The estimator's memory, for the next boot."""
        return self.battery.dump(self._wall_ms())

    def _wall_ms(self) -> int | None:
        """Wall time of the last tick, where the clock can be trusted to say for how long we were off."""
        return self.now_us // 1000 + self._wall_offset_ms if self._clock in TRUSTED_CLOCKS else None

    def _schema_item(self) -> Item:
        self.seq = 1
        return self.schema.to_item(self.setup.operator, self.setup.bus, self.boot, self.seq)

    def _event_item(self, change: Change) -> Item:
        """Sealed at once, with a seq of its own; an event is named after the seq that opened it."""
        self.seq += 1
        key, t_ms = (change.what, change.thing), self.now_us // 1000
        event = EventPayload(
            v=VERSION,
            bus=self.setup.bus,
            boot=self.boot,
            seq=self.seq,
            event=self.seq if change.opened else self._open.pop(key).seq,
            change="opened" if change.opened else "closed",
            severity=change.severity,
            what=change.what,
            thing=change.thing,
            text=change.text,
            t_ms=t_ms,
            since_ms=change.since_us // 1000,
            wall_ms=t_ms + self._wall_offset_ms,
            clock=self._clock,
            evidence=change.evidence,
            why=change.why,
        )
        if change.opened:
            self._open[key] = event
        return event.to_item(self.setup.operator)

    def _add(self, columns: IntArray, times_ms: IntArray, values: IntArray) -> None:
        self.samples += len(columns)
        for column, t_ms, value in zip(columns.tolist(), times_ms.tolist(), values.tolist(), strict=True):
            self.builder.add(column, t_ms, value)


class _Sampler:
    """Chooses which latest values enter the batch: good ones, on change beyond the deadband, at the signal's
    own rate, at least once per heartbeat, and when a signal has become good; and every change of validity.

    Columns 0..n-1 are the signals, n..2n-1 their validity.
    """

    def __init__(self, decoder: Decoder, watch: Watch, catalogue: Catalogue) -> None:
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
            return NOTHING, NOTHING, NOTHING
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
            if self.validity[i] == GOOD and s.role not in ("cell_voltage", "cell_temp", "balancing")
        }


def _short(value: float) -> float | int:
    """A number as a person would write it."""
    rounded = round(float(value), 3)
    return int(rounded) if rounded.is_integer() else rounded
