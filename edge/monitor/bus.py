"""The model of one bus: the real core (or only a decoder, where there is no configuration) and its traffic.

Frames and ticks go in, as into the core; `picture` comes out. A picture never changes: a view that is paused
keeps it. Times are the bus's own microseconds; nothing here reads a clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from cantools.database import Database
from cantools.database import Message as DbMessage

from edge.can.decoder import Counts, Decoder, LatestTable, Slot
from edge.can.frames import Frames
from edge.can.j1939 import pgn_of
from edge.core import Core, Setup
from edge.monitor.faults import Faults, FaultsPicture
from edge.monitor.traffic import EXTENDED_KEY, Traffic, TrafficPicture
from edge.signals.catalogue import MessageRule, Signal
from edge.signals.validity import GOOD, NEVER, STALE

PLAIN_BOOT = "0" * 16
NO_TIMEOUT_US = 1 << 62

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ChannelInfo:
    """One CAN channel, as the views name it; bit rates in bit/s."""

    name: str
    bitrate: int
    data_bitrate: int


@dataclass(frozen=True)
class Label:
    """What an identifier is: the message's name ("" where the database has none), its period by the signal
    map in ms (0: none), the J1939 source address."""

    name: str
    period_ms: int
    source: int | None


@dataclass(frozen=True)
class MessagesPicture:
    """Every identifier that was heard; labels and words (lower case, for finding) by `rows["label"]`."""

    rows: npt.NDArray[np.void]
    rate: FloatArray
    labels: Sequence[Label]
    words: Sequence[str]


@dataclass(frozen=True)
class SignalsPicture:
    """Every signal: raw, value (physical, NaN before the first good one), validity and time_us by slot number;
    and slots, words for finding, VSS paths ("" where unmapped), which may have grown since."""

    slots: Sequence[Slot]
    words: Sequence[str]
    paths: Sequence[str]
    raw: IntArray
    value: FloatArray
    validity: npt.NDArray[np.uint8]
    time_us: IntArray


@dataclass(frozen=True)
class BatteryPicture:
    """The battery as the core sees it, in VSS units; NaN where unknown.

    soc, soc_sd, string_soc: 0 to 1, of the estimator; bms_soc_pct is what the BMS shows, 0 to 100.
    Cells [n] are sorted by string and index; `string` numbers them as the signal map does.
    """

    soc: float
    soc_sd: float
    weakest: int | None
    string_soc: FloatArray
    bms_soc_pct: float
    voltage_v: float
    current_a: float
    string: IntArray
    index: IntArray
    cell_v: FloatArray
    cell_soc: FloatArray
    temp_degc: FloatArray
    temp_string: IntArray
    temp_index: IntArray


@dataclass(frozen=True)
class BusPicture:
    """All that a view may see of the bus at one moment."""

    now_us: int
    channels: Sequence[ChannelInfo]
    counts: Sequence[Mapping[str, int]]
    traffic: TrafficPicture
    messages: MessagesPicture
    signals: SignalsPicture
    battery: BatteryPicture | None
    faults: FaultsPicture


@dataclass
class _Parts:
    """What a bus is made of, with and without a configuration."""

    decoder: Decoder
    latest: LatestTable
    counts: Counts
    core: Core | None = None
    slots: Mapping[Signal, int] = field(default_factory=dict)  # of the map's signals
    rules: Mapping[tuple[int, str], MessageRule] = field(default_factory=dict)


class Bus:
    """One bus; `of_setup` has the core and its battery, `of_databases` only signals."""

    def __init__(
        self, parts: _Parts, channels: Sequence[ChannelInfo], databases: Sequence[tuple[int, Database]]
    ) -> None:
        self._parts = parts
        self.channels = tuple(channels)
        self.traffic = Traffic([(c.bitrate, c.data_bitrate) for c in channels])
        self.now_us = 0
        self._waiting: list[Frames] = []
        self._names = _names(databases)
        self.faults = Faults(
            sorted({c for c, database in databases if any(map(_is_j1939, database.messages))})
        )
        self._labels: list[Label] = []
        self._message_words: list[str] = []
        self._mapped = {slot: signal.path for signal, slot in parts.slots.items()}
        self._signal_words: list[str] = []
        self._paths: list[str] = []
        self._timeout_us = np.zeros(0, np.int64)
        self._battery = _Battery(parts) if parts.core else None

    @classmethod
    def of_setup(cls, setup: Setup, channels: Sequence[ChannelInfo], restored: bytes | None = None) -> Bus:
        """The bus of a configuration: what the agent computes. `restored` is the agent's memory."""
        core = Core(setup, PLAIN_BOOT, restored)
        catalogue = setup.catalogue
        rules = {(m.channel, m.message): m for m in catalogue.messages}
        slots = dict(zip(core.watch.signals, core.watch.slots.tolist(), strict=True))
        parts = _Parts(core.decoder, core.latest, core.counts, core, slots, rules)
        return cls(parts, channels, [(c.number, c.database) for c in catalogue.channels])

    @classmethod
    def of_databases(cls, channels: Sequence[ChannelInfo], database: Database) -> Bus:
        """The same database for every channel; no battery."""
        databases = [(n, database) for n in range(len(channels))]
        decoder = Decoder([(n, database, {}) for n, _ in databases])
        parts = _Parts(decoder, LatestTable(len(decoder.slots)), Counts(len(channels)))
        return cls(parts, channels, databases)

    def feed(self, frames: Frames) -> None:
        """Frames, in the order of their arrival, of the channels that there are."""
        if self._parts.core:
            self._parts.core.feed(frames)
        else:
            self._parts.decoder.update(frames, self._parts.latest, self._parts.counts)
        self._waiting.append(frames)

    def tick(self, now_us: int) -> None:
        """Bus time goes on; it must not run backwards."""
        self.now_us = now_us
        self._look()
        if self._parts.core:
            self._parts.core.tick(now_us)  # what it seals is the agent's to send, not ours
        self.traffic.tick(now_us)

    def picture(self) -> BusPicture:
        """The bus now."""
        self._look()
        traffic = self.traffic.picture(self.now_us)
        self._label(traffic.rows)
        signals = self._signals()
        return BusPicture(
            now_us=self.now_us,
            channels=self.channels,
            counts=[self._parts.counts.of_channel(n) for n in range(len(self.channels))],
            traffic=traffic,
            messages=MessagesPicture(traffic.rows, traffic.rate, self._labels, self._message_words),
            signals=signals,
            battery=self._battery.picture(signals) if self._battery else None,
            faults=self.faults.picture(),
        )

    def _look(self) -> None:
        """All that came since the last tick at once: that is far cheaper than each few frames as they come."""
        if self._waiting:
            frames = np.concatenate(self._waiting)
            self._waiting = []
            self.traffic.take(frames)
            self.faults.take(frames)

    def _label(self, rows: npt.NDArray[np.void]) -> None:
        """Name the identifiers that are new."""
        new = rows[rows["label"] >= len(self._labels)]
        for key in new["key"][np.argsort(new["label"])].tolist():
            channel, frame_id, extended = key >> 40, key & 0x1FFFFFFF, bool(key & EXTENDED_KEY)
            name = self._names.get(key, "")
            j1939 = not name and extended
            name = name or self._names.get(_pgn_key(channel, frame_id), "") if extended else name
            rule = self._parts.rules.get((channel, name))
            source = frame_id & 0xFF if j1939 and name else None
            self._labels.append(Label(name, rule.period_ms if rule else 0, source))
            about = (self.channels[channel].name, f"{frame_id:x}", name or "unknown")
            self._message_words.append(" ".join(about).lower())

    def _signals(self) -> SignalsPicture:
        parts, latest = self._parts, self._parts.latest
        slots = parts.decoder.slots
        latest.grow(len(slots))
        timeouts = [self._add_slot(slot) for slot in slots[len(self._paths) :]]
        self._timeout_us = np.append(self._timeout_us, np.array(timeouts, dtype=np.int64))
        return SignalsPicture(
            slots=slots,
            words=self._signal_words,
            paths=self._paths,
            raw=latest.raw.copy(),
            value=latest.value.copy(),
            validity=self._validity(),
            time_us=latest.time_us.copy(),
        )

    def _validity(self) -> npt.NDArray[np.uint8]:
        """What each latest value is worth; of the map's signals, what the core said at its last tick."""
        latest = self._parts.latest
        state = latest.state.copy()
        state[(state != NEVER) & (self.now_us - latest.time_us > self._timeout_us)] = STALE
        if self._parts.core:
            watch = self._parts.core.watch
            state[watch.slots] = watch.validity
        return state

    def _add_slot(self, slot: Slot) -> int:
        """Its path and words; returns its time-out in microseconds."""
        rule = self._parts.rules.get((slot.channel, slot.message))
        self._paths.append(self._mapped.get(len(self._paths), ""))
        about = (self.channels[slot.channel].name, slot.message, slot.signal, slot.unit, self._paths[-1])
        self._signal_words.append(" ".join(about).lower())
        return rule.timeout_ms * 1000 if rule else NO_TIMEOUT_US


def _names(databases: Sequence[tuple[int, Database]]) -> dict[int, str]:
    """Messages' names by the key of their identifier; J1939 ones by channel and PGN."""
    names: dict[int, str] = {}
    for channel, database in databases:
        for message in database.messages:
            if _is_j1939(message):
                names.setdefault(_pgn_key(channel, message.frame_id), message.name)
            else:
                extended = EXTENDED_KEY if message.is_extended_frame else 0
                names.setdefault(channel << 40 | extended | message.frame_id, message.name)
    return names


def _is_j1939(message: DbMessage) -> bool:
    return message.protocol == "j1939" and bool(message.is_extended_frame)


def _pgn_key(channel: int, frame_id: int) -> int:
    return -1 - (channel << 40 | pgn_of(frame_id))


class _Battery:
    """Where the battery's signals are, and its picture."""

    def __init__(self, parts: _Parts) -> None:
        assert parts.core is not None
        self._core = parts.core
        by_role: dict[str, list[Signal]] = {}
        for signal in parts.slots:
            by_role.setdefault(signal.role or "", []).append(signal)

        def places(role: str) -> tuple[IntArray, FloatArray, IntArray, IntArray]:
            """Slots, factors, strings and indexes of a role's signals, in the core's order."""
            chosen = sorted(by_role.get(role, []), key=lambda s: (s.string or 1, s.index or 1))
            slots = [parts.slots[s] for s in chosen]
            return (
                np.array(slots, dtype=np.int64),
                np.array([s.factor for s in chosen]),
                np.array([s.string or 1 for s in chosen], dtype=np.int64),
                np.array([s.index or 1 for s in chosen], dtype=np.int64),
            )

        self._cells, self._temps = places("cell_voltage"), places("cell_temp")
        self._single = {role: places(role)[:2] for role in ("bms_soc", "pack_voltage", "pack_current")}
        self._strings = {role: places(role)[:2] for role in ("string_voltage", "string_current")}

    def picture(self, signals: SignalsPicture) -> BatteryPicture | None:
        """The battery; None where the map names nothing to estimate it from. Of one that shows few voltages there
        are no cells."""
        slots, _, string, index = self._cells
        battery = self._core.battery
        if not len(slots) and not battery.columns:
            return None
        cells = battery.layout.kind == "cells"
        pack = battery.state()
        single = {role: _good(signals, *at) for role, at in self._single.items()}
        strings = {role: _good(signals, *at) for role, at in self._strings.items()}
        return BatteryPicture(
            soc=pack.soc if pack else math.nan,
            soc_sd=pack.soc_sd if pack else math.nan,
            weakest=pack.weakest if pack and cells else None,
            string_soc=pack.string_soc.copy() if pack else np.zeros(0),
            bms_soc_pct=_first(single["bms_soc"]),
            voltage_v=_first(single["pack_voltage"], strings["string_voltage"].mean()),
            current_a=_first(single["pack_current"], strings["string_current"].sum()),
            string=string,
            index=index,
            cell_v=_good(signals, *self._cells[:2]),
            cell_soc=battery.cell_soc() if cells else np.full(len(slots), math.nan),
            temp_degc=_good(signals, *self._temps[:2]),
            temp_string=self._temps[2],
            temp_index=self._temps[3],
        )


def _good(signals: SignalsPicture, slots: IntArray, factor: FloatArray) -> FloatArray:
    """Values of the slots, NaN where they are not good."""
    return np.where(signals.validity[slots] == GOOD, signals.value[slots] * factor, np.nan)


def _first(values: FloatArray, otherwise: float = math.nan) -> float:
    return float(values[0]) if len(values) else float(otherwise)
