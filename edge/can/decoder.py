"""The decoder: frames through tables compiled from cantools databases (edge/can/tables.py).

A slot is one signal of one channel; every slot has a raw integer (a float's bits where the signal is a
float), a value (raw * scale + offset, computed as Python does), a state and the time of its frame.

A frame is decoded entirely or not at all. It is refused, and counted by reason, where it is shorter
than its message, its checksum is wrong, its alive counter repeats, or its multiplexer has no such page.
What tables can't hold (containers, signals over 64 bits) cantools decodes, counted as `fallback`.

J1939 messages are found by PGN, whatever the priority. Each source address that sends one has slots of its
own, up to MAX_SOURCES a message; `slots` grows when a new one is heard. The slots that a database names
belong to the source address in the database's identifier or, where that is 0xFE (none), to the first
that is heard, from then on. Messages longer than 8 bytes come through `edge.can.j1939`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from cantools.database import Database
from cantools.database import Message as DbMessage
from cantools.database.can.signal import Signal as DbSignal

from edge.can._decode import Buffer, Kernel, Sink
from edge.can.frames import Frames
from edge.can.j1939 import Claim, Listener, Transported, limits, pgn_of
from edge.can.protection import PROTECTION, STATE, compile_protection
from edge.can.tables import FALLBACK, PROTECTED, Compiled, TableError, Tables
from edge.errors import DecodeError
from edge.signals.catalogue import Catalogue, MessageRule, Signal
from edge.signals.validity import ERROR, GOOD, NOT_AVAILABLE

COUNTS = (
    "received", "decoded", "unknown", "too_short", "bad_checksum", "repeated_counter", "bad_mux",
    "not_decodable", "too_many_sources", "error_frames", "remote_frames", "transport", "fallback",
    "messages", "messages_decoded", "messages_unknown", "messages_refused", "sessions_broken",
)  # fmt: skip
_COLUMN = {name: n for n, name in enumerate(COUNTS)}
REFUSALS = COUNTS[3:9]
MAX_CHAIN = 3  # targets that one frame can fill: its source's own, one asked for by address, one by NAME
MAX_SOURCES = 32  # that one J1939 message may have
NO_SOURCE = 0xFE  # SAE J1939-81: the null address; in a database's identifier, any source
_REFUSE_SOURCE = -4  # the kernel's word for a source beyond MAX_SOURCES
_PLAIN_WAY, _NEWEST_WAY, _EVERY_WAY = range(3)  # how frames get into the table of latest values
_DONE, _ASK_CANTOOLS, _NEW_SOURCE, _FULL = range(4)  # why the kernel stops

TARGET = np.dtype(
    [
        (n, "<i4")
        for n in ("message", "base", "also", "group", "first", "count", "length", "window", "flags", "protection",
                  "way", "pad")
    ]
)  # fmt: skip
LATEST = np.dtype(
    {
        "names": ["raw", "value", "time_us", "state"],
        "formats": ["<i8", "<f8", "<i8", "u1"],
        "itemsize": 32,
    }
)


class Slot(NamedTuple):
    """One signal of one channel; `source` is the J1939 source address whose it is, None while that is open."""

    channel: int
    message: str
    signal: str
    unit: str
    scale: float
    offset: float
    is_float: bool
    choices: Mapping[int, str]
    source: int | None = None


class LatestTable:
    """The newest of every slot: arrays of shape (n_slots,), which grow with the decoder's slots.

    raw int64; value float64, physical, the last good one and NaN before; time_us int64; state uint8, of
    edge.signals.validity: NEVER, GOOD, NOT_AVAILABLE or ERROR. Don't keep the arrays: growing makes new ones.
    """

    def __init__(self, n_slots: int = 0) -> None:
        self._grow(np.zeros(0, LATEST), n_slots)

    def grow(self, n_slots: int) -> None:
        """Make room for more slots, never heard."""
        if n_slots > len(self.raw):
            self._grow(self._table, n_slots)

    def _grow(self, old: npt.NDArray[np.void], n_slots: int) -> None:
        self._table = np.zeros(max(n_slots, 1), LATEST)
        self._table["value"] = np.nan
        self._table[: len(old)] = old
        self.buffer = Buffer(self._table)
        table = self._table[:n_slots]
        self.raw: npt.NDArray[np.int64] = table["raw"]
        self.value: npt.NDArray[np.float64] = table["value"]
        self.time_us: npt.NDArray[np.int64] = table["time_us"]
        self.state: npt.NDArray[np.uint8] = table["state"]


class Events(NamedTuple):
    """Decoded signals in the order of their frames, one row each: arrays of one length.

    frame int32, index into the frames (of the one that completed it, for a transported J1939 message);
    slot int32; raw int64; value float64; state uint8.
    """

    frame: npt.NDArray[np.int32]
    slot: npt.NDArray[np.int32]
    raw: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    state: npt.NDArray[np.uint8]


class Counts:
    """What became of every frame, per channel: int64, shape (n_channels, len(COUNTS)).

    received = decoded + unknown + refused + error_frames + remote_frames + transport, where refused is the
    sum of its reasons. Of those decoded, cantools did `fallback`. Reassembled J1939 messages are counted
    apart: messages = messages_decoded + messages_unknown + messages_refused.
    """

    def __init__(self, n_channels: int) -> None:
        self.table = np.zeros((n_channels, len(COUNTS)), np.int64)
        self.buffer = Buffer(self.table)

    def of_channel(self, number: int) -> dict[str, int]:
        """The counts of one channel by name, with `refused`, the sum of the refusals."""
        return _named(self.table[number])

    def total(self) -> dict[str, int]:
        """The counts of all channels together."""
        return _named(self.table.sum(axis=0))


def _named(row: npt.NDArray[np.int64]) -> dict[str, int]:
    named = dict(zip(COUNTS, row.tolist(), strict=True))
    return named | {"refused": sum(named[r] for r in REFUSALS)}


@dataclass
class _Message:
    """One message of one channel: what its targets are made from."""

    channel: int
    db: DbMessage
    rule: MessageRule | None
    compiled: Compiled
    pgn: int | None
    slots: list[Slot]  # without a source
    signals: list[DbSignal]  # of those slots
    default: int = -1  # the target of the slots that the database names
    source: int | None = None  # whose they are
    senders: dict[int, int] = field(default_factory=dict)  # source address -> target
    asked: dict[int, int] = field(default_factory=dict)  # source address that the map names -> target
    named: dict[int, int] = field(default_factory=dict)  # 64 bit NAME that the map names -> target


class Decoder(Kernel):
    """Tables for some channels, each (number, database, rules by message name).

    Not for two threads at once.
    """

    def __init__(
        self,
        channels: Iterable[tuple[int, Database, Mapping[str, MessageRule]]],
        signals: Iterable[Signal] = (),
    ) -> None:
        self.slots: list[Slot] = []
        self._signals: list[DbSignal] = []  # of each slot
        self._messages: list[_Message] = []
        self._by_name: dict[tuple[int, str, str], tuple[int, int]] = {}  # -> message, place among its slots
        self._n_targets = 0
        self._targets = np.zeros(64, TARGET)
        self._states = np.zeros(64, STATE)
        self._ranges = _ranges_of(signals)
        self._names: dict[int, dict[int, int]] = defaultdict(dict)  # channel -> address -> NAME
        tables = Tables()
        numbers = set()
        for number, database, rules in channels:
            numbers.add(number)
            for message in _reachable(database):
                self._add_message(tables, number, message, rules.get(message.name))
        j1939 = np.zeros(max(numbers, default=-1) + 1, np.uint8)
        j1939[[m.channel for m in self._messages if m.pgn is not None]] = 1
        protections = [compile_protection(m.db, m.rule) for m in self._messages]
        most = max((len(m.slots) for m in self._messages), default=1)
        self._load(
            tables.arrays(), tables.deepest, MAX_CHAIN * most, tables.names, tables.choices, tables.conversions,
            j1939, np.array(protections or [np.zeros(1, PROTECTION)[0]], PROTECTION),
        )  # fmt: skip
        self._set_targets(self._targets, self._states)
        for n, known in enumerate(self._messages):
            known.default = self._add_target(n, None)
        for known in self._messages:
            self._register(known)
        self._tidy()
        self._listeners = {n: Listener(n) for n in np.flatnonzero(j1939).tolist()}
        fallbacks = any(m.compiled.flags & FALLBACK for m in self._messages)
        self._needs(-1 if self._listeners else len(self.slots), fallbacks)

    @classmethod
    def from_catalogue(cls, catalogue: Catalogue) -> Decoder:
        """The decoder of a bus: its databases, and what its maps say of messages and signals."""
        channels = (
            (c.number, c.database, {m.message: m for m in catalogue.messages if m.channel == c.number})
            for c in catalogue.channels
        )
        return cls(channels, catalogue.signals)

    def slot(
        self, channel: int, message: str, signal: str, *, address: int | None = None, name: int | None = None
    ) -> int:
        """The number of a signal's slot; of a J1939 message that of one sender, by source address or NAME.

        Raises
        ------
        KeyError
            There is no such signal, or a sender is asked for of what is not J1939.
        """
        number, place = self._by_name[channel, message, signal]
        known = self._messages[number]
        target = known.default
        if address is not None or name is not None:
            if known.pgn is None:
                raise KeyError(f"{message} is no J1939 message: it has no senders")
            target = self._asked(number, address) if address is not None else self._named(number, name or 0)
        return int(self._targets["base"][target]) + place

    def skipped(self, channel: int) -> int:
        """How many frames of a channel are missing by the jumps of their senders' counters (edge/can/protection.py)."""
        of_message = np.array([m.channel for m in self._messages], np.int64)
        mine = of_message[self._targets["message"][: self._n_targets]] == channel
        return int(self._states["skipped"][: self._n_targets][mine].sum())

    # Decoding

    def update(self, frames: Frames, latest: LatestTable, counts: Counts) -> None:
        """Decode frames, in order, into the table of latest values."""
        at = self._run_into(frames, latest.buffer, counts.buffer)
        if at >= 0:
            latest.grow(len(self.slots))
            self._drive(frames, counts, latest, None, at)

    def events(self, frames: Frames, counts: Counts) -> Events:
        """Decode frames into rows, one for each signal."""
        sink = Sink(8 * len(frames) + 64)
        self._drive(frames, counts, None, sink)
        return Events(*sink.rows())

    def for_people(
        self, slot: int, raw: int, value: float, state: int = GOOD, *, choices: bool = True
    ) -> int | float | str | None:
        """The Python object that cantools gives for a slot's raw value; None where the state is not GOOD.

        Of a signal over 64 bits only the value is left: a float.
        """
        if state != GOOD:
            return None
        signal = self._signals[slot]
        if signal.length > 64:
            return float(value)
        number: int | float = raw if signal.is_signed else raw & 0xFFFFFFFFFFFFFFFF
        if signal.is_float:
            number = float(np.int64(raw).view(np.float64))
        result = signal.conversion.raw_to_scaled(number, choices)
        return result if isinstance(result, int | float) else str(result)

    def _drive(
        self, frames: Frames, counts: Counts, latest: LatestTable | None, sink: Sink | None, at: int = 0
    ) -> None:
        """Run the kernel over the frames, and do what it can't: new sources, cantools, transport."""
        if not frames.flags.c_contiguous:
            frames = np.ascontiguousarray(frames)
        for channel, found in self._listen(frames, counts) if self._listeners else ():
            at = self._drive_to(frames, at, found.frame + 1, counts, latest, sink)
            if isinstance(found, Claim):
                self._claimed(channel, found)
            else:
                self._whole_message(channel, found, counts, latest, sink)
        self._drive_to(frames, at, len(frames), counts, latest, sink)

    def _drive_to(
        self,
        frames: Frames,
        at: int,
        stop: int,
        counts: Counts,
        latest: LatestTable | None,
        sink: Sink | None,
    ) -> int:
        while at < stop:
            at, why, target = self._run(
                frames, at, stop, latest.buffer if latest else None, counts.buffer, sink
            )
            if why == _NEW_SOURCE:
                self._new_source(int(frames["channel"][at]), int(frames["id"][at]))
                if latest:
                    latest.grow(len(self.slots))
            elif why == _FULL:
                assert sink is not None
                sink.grow()
            elif why == _ASK_CANTOOLS:
                frame = frames[at]
                row = counts.table[frame["channel"]]
                row[_COLUMN["received"]] += 1
                data = frame["data"][: frame["length"]].tobytes()
                row[self._fall_back(target, data, int(frame["time_us"]), at, row, latest, sink)] += 1
                at += 1
        return at

    def _listen(self, frames: Frames, counts: Counts) -> list[tuple[int, Transported | Claim]]:
        """What these frames complete or change, with its channel, in the order of the frames that did it."""
        found: list[tuple[int, Transported | Claim]] = []
        for number, listener in self._listeners.items():
            broken = listener.transport.broken
            found += [(number, whole) for whole in listener.feed(frames)]
            found += [(number, claim) for claim in listener.claimed]
            counts.table[number, _COLUMN["sessions_broken"]] += listener.transport.broken - broken
        return sorted(found, key=lambda f: f[1].frame)

    def _whole_message(
        self,
        channel: int,
        message: Transported,
        counts: Counts,
        latest: LatestTable | None,
        sink: Sink | None,
    ) -> None:
        row = counts.table[channel]
        row[_COLUMN["messages"]] += 1
        target = self._target_of(channel, message.id)
        if target == -2:
            self._new_source(channel, message.id)
            if latest:
                latest.grow(len(self.slots))
            target = self._target_of(channel, message.id)
        if target < 0:
            row[_COLUMN["messages_unknown" if target != _REFUSE_SOURCE else "messages_refused"]] += 1
            return
        n, data, time_us = message.frame, message.payload, message.time_us
        if self._targets["flags"][target] & FALLBACK:
            column = self._fall_back(target, data, time_us, n, row, latest, sink)
        else:
            buffer = latest.buffer if latest else None
            column = self._run_message(target, message.id, data, time_us, n, buffer, sink)
        row[_COLUMN["messages_decoded" if column == _COLUMN["decoded"] else "messages_refused"]] += 1

    # What tables can't do

    def _ask_cantools(
        self, message: int, data: bytes, choices: bool, scaling: bool, truncated: bool
    ) -> dict[str, int | float | str]:
        """cantools decodes one frame for people.

        Raises
        ------
        DecodeError
        """
        known = self._messages[message]
        try:
            signals = known.db.decode(bytes(data), choices, scaling, False, truncated)
        except Exception as error:  # cantools raises almost anything on data that doesn't fit
            raise DecodeError(f"{known.db.name}: {error}") from None
        assert isinstance(signals, dict)
        return {k: v if isinstance(v, int | float) else str(v) for k, v in signals.items()}

    def _fall_back(
        self,
        target: int,
        data: bytes,
        time_us: int,
        n: int,
        row: npt.NDArray[np.int64],
        latest: LatestTable | None,
        sink: Sink | None,
    ) -> int:
        """cantools decodes one frame into the table or the sink; the column of the counts that it is."""
        message, base = int(self._targets["message"][target]), int(self._targets["base"][target])
        known = self._messages[message]
        if len(data) < known.db.length and not known.db.is_container:
            return _COLUMN["too_short"]
        try:
            found = _numbers_of(known.db, data)
        except Exception:  # cantools raises almost anything on data that doesn't fit
            return _COLUMN["not_decodable"]
        row[_COLUMN["fallback"]] += 1
        for name, (raw, value) in found.items():
            place = self._by_name.get((known.channel, *name))
            if place is None or place[0] != message:
                continue  # another message has this name, too, and was first
            slot, state = base + place[1], GOOD if math.isfinite(value) else ERROR
            if sink is not None:
                sink.add(n, slot, raw, value, state)
            elif latest is not None:
                latest.raw[slot], latest.time_us[slot], latest.state[slot] = raw, time_us, state
                if state == GOOD:
                    latest.value[slot] = value
        return _COLUMN["decoded"]

    # Messages, targets, sources

    def _add_message(self, tables: Tables, number: int, message: DbMessage, rule: MessageRule | None) -> None:
        try:
            compiled = tables.add(message, self._ranges_in(number, message))
        except TableError:
            compiled = Compiled(0, 0, 0, 0, 8, FALLBACK)
        pgn = pgn_of(message.frame_id) if _is_j1939(message) else None
        parts = message.contained_messages if message.is_container else [message]
        pairs = [(part, signal) for part in parts for signal in part.signals]
        slots = [_slot(number, part.name, signal) for part, signal in pairs]
        for place, slot in enumerate(slots):
            key = (number, slot.message, slot.signal)
            self._by_name.setdefault(key, (len(self._messages), place))
        signals = [signal for _, signal in pairs]
        self._messages.append(_Message(number, message, rule, compiled, pgn, slots, signals))

    def _ranges_in(self, number: int, message: DbMessage) -> Mapping[str, list[tuple[float, float, int]]]:
        """Raw numbers that are none: what the map says, else in J1939 what the standard says."""
        named = self._ranges.get((number, message.name), {})
        return {**(_j1939_ranges(message) if _is_j1939(message) else {}), **named}

    def _add_target(self, number: int, source: int | None) -> int:
        """One more instance of a message, with slots of its own."""
        known, target = self._messages[number], self._n_targets
        if target == len(self._targets):
            self._targets = np.concatenate([self._targets, np.zeros_like(self._targets)])
            self._states = np.concatenate([self._states, np.zeros_like(self._states)])
            self._set_targets(self._targets, self._states)
        compiled, rule = known.compiled, known.rule
        protected = PROTECTED if rule and (rule.counter or rule.checksum) else 0
        self._targets[target] = (
            number, len(self.slots), -1, compiled.group, compiled.first, compiled.signals, compiled.length,
            compiled.window, compiled.flags | protected, number, 0, 0,
        )  # fmt: skip
        self._n_targets += 1
        self._link([target])
        self.slots += [slot._replace(source=source) for slot in known.slots]
        self._signals += known.signals
        return target

    def _link(self, targets: list[int]) -> None:
        """The frames of the first of these targets fill the slots of all."""
        for target, following in zip(targets, [*targets[1:], -1], strict=True):
            row = self._targets[target]
            row["also"] = following
            if row["flags"] & PROTECTED or following >= 0:
                row["way"] = _EVERY_WAY
            else:
                row["way"] = _NEWEST_WAY if row["flags"] or row["window"] > 8 else _PLAIN_WAY

    def _register(self, known: _Message) -> None:
        """Let the kernel find a message by its identifier."""
        frame_id = known.db.frame_id
        if known.pgn is None:
            self._find(known.channel, frame_id, known.db.is_extended_frame, known.default)
            return
        if self._target_of(known.channel, known.pgn << 8 | NO_SOURCE) != -2 or frame_id & 0xFF == NO_SOURCE:
            self._find_pgn(known.channel, known.pgn, known.default)
        if frame_id & 0xFF != NO_SOURCE:
            self._bind(known, frame_id & 0xFF, known.default)

    def _bind(self, known: _Message, source: int, target: int) -> None:
        """From now on this source's frames fill this target's slots, and those that the map asked for."""
        assert known.pgn is not None
        known.senders[source] = target
        if target == known.default:
            known.source = source
        self._own(target, source)
        self._relink(known, source)
        self._find_source(known.channel, known.pgn, source, target)

    def _own(self, target: int, source: int | None) -> None:
        base = int(self._targets["base"][target])
        for n in range(base, base + len(self._messages[self._targets["message"][target]].slots)):
            self.slots[n] = self.slots[n]._replace(source=source)

    def _relink(self, known: _Message, source: int) -> None:
        """What the map asked for of this source is filled by its frames, too."""
        if source not in known.senders:
            return
        chain = [known.senders[source]]
        if known.asked.get(source, chain[0]) != chain[0]:
            chain.append(known.asked[source])
        named = known.named.get(self._names[known.channel].get(source, -1))
        self._link(chain if named is None else [*chain, named])

    def _asked(self, number: int, address: int) -> int:
        """The target of one source address that the map names."""
        known = self._messages[number]
        found = known.senders.get(address, known.asked.get(address))
        if found is None:
            found = known.asked[address] = self._add_target(number, address)
            if known.source is not None:  # else the first source that is heard may be this one
                self._bind(known, address, found)
        return found

    def _named(self, number: int, name: int) -> int:
        """The target of one NAME that the map names, whatever its source address."""
        known = self._messages[number]
        if name not in known.named:
            known.named[name] = self._add_target(number, None)
            for source, holder in self._names[known.channel].items():
                if holder == name:
                    self._own(known.named[name], source)
                    self._relink(known, source)
        return known.named[name]

    def _claimed(self, channel: int, claim: Claim) -> None:
        """An address has another holder: its frames fill the slots that the map asked for by that NAME."""
        names = self._names[channel]
        before = names.pop(claim.address, None)
        if claim.name is not None:
            names[claim.address] = claim.name.value
        for known in self._messages:
            if known.channel != channel or not known.named:
                continue
            if before in known.named:
                self._own(known.named[before], None)
            if names.get(claim.address) in known.named:
                self._own(known.named[names[claim.address]], claim.address)
            self._relink(known, claim.address)

    def _new_source(self, channel: int, frame_id: int) -> None:
        """A source is heard that has no slots yet."""
        number = int(self._targets["message"][self._lookup(channel, frame_id, True)])
        known, source = self._messages[number], frame_id & 0xFF
        assert known.pgn is not None
        if known.source is None:
            self._bind(known, source, known.default)
        elif source in known.asked:
            self._bind(known, source, known.asked[source])
        elif len(known.senders) < MAX_SOURCES:
            self._bind(known, source, self._add_target(number, source))
        else:
            self._find_source(channel, known.pgn, source, _REFUSE_SOURCE)


def _reachable(database: Database) -> list[DbMessage]:
    """The messages that a frame can be: where two have one identifier the last, as cantools has it."""
    return list({(m.frame_id, m.is_extended_frame): m for m in database.messages}.values())


def _ranges_of(signals: Iterable[Signal]) -> dict[tuple[int, str], dict[str, list[tuple[float, float, int]]]]:
    """By channel and message, the raw numbers with which a sender says that it has no value."""
    found: dict[tuple[int, str], dict[str, list[tuple[float, float, int]]]] = {}
    for s in signals:
        for span, state in ((s.not_available, NOT_AVAILABLE), (s.error, ERROR)):
            if span is not None:
                ranges = found.setdefault((s.channel, s.message), {}).setdefault(s.signal, [])
                if (*span, state) not in ranges:
                    ranges.append((*span, state))
    return found


def _j1939_ranges(message: DbMessage) -> dict[str, list[tuple[float, float, int]]]:
    """SAE J1939-71's ranges of the unsigned parameters of a message."""
    ranges: dict[str, list[tuple[float, float, int]]] = {}
    for signal in message.signals:
        found = None if signal.is_float or signal.is_signed or signal.length > 64 else limits(signal.length)
        if found is not None:
            error, not_available = found
            last = (1 << signal.length) - 1
            ranges[signal.name] = [(not_available, last, NOT_AVAILABLE), (error, not_available - 1, ERROR)]
    return ranges


def _is_j1939(message: DbMessage) -> bool:
    return message.protocol == "j1939" and message.is_extended_frame


def _slot(channel: int, message: str, signal: DbSignal) -> Slot:
    choices = {int(k): str(v) for k, v in (signal.choices or {}).items()}
    scale, offset = _double(signal.conversion.scale), _double(signal.conversion.offset)
    return Slot(channel, message, signal.name, signal.unit or "", scale, offset, signal.is_float, choices)


def _numbers_of(message: DbMessage, data: bytes) -> dict[tuple[str, str], tuple[int, float]]:
    """What cantools decodes: (message, signal) -> raw as 64 bits, value. Only numbers: bytes are left out."""
    raws: Any = message.decode(data, False, False, True)
    values: Any = message.decode(data, False, True, True)
    pairs = [(message.name, raws, values)]
    if message.is_container:
        pairs = [
            (part.name, raw, value)
            for (part, raw), (_, value) in zip(raws, values, strict=True)
            if isinstance(part, DbMessage) and isinstance(raw, dict)
        ]
    return {
        (name, signal): (_int64(raw[signal]), _double(value[signal]))
        for name, raw, value in pairs
        for signal in raw
    }


def _int64(raw: int | float) -> int:
    """A raw value's low 64 bits as a signed number, or a float's bits."""
    if isinstance(raw, float):
        return int(np.float64(raw).view(np.int64))
    low = raw & 0xFFFFFFFFFFFFFFFF
    return low - (1 << 64) if low >> 63 else low


def _double(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # a text of 200 bytes, say, that the database calls an integer
        return math.inf
