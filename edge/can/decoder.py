"""The decoder: frames through tables compiled from cantools databases.

A slot is one signal of one channel; every slot has a raw integer (a float's bits where the signal is a
float), a value (raw * scale + offset, computed as cantools does), and the time of its frame.

A frame is decoded entirely or not at all. It is refused, and counted by reason, where it is shorter
than its message, its checksum is wrong, its alive counter repeats, or its multiplexer has no such page.
What tables can't hold (containers, signals over 64 bits, 16 bit floats) cantools decodes, counted.

J1939 messages are found by PGN, whatever the priority and source address; those longer than 8 bytes
come through `edge.can.j1939`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from cantools.database import Database
from cantools.database import Message as DbMessage
from cantools.database.can.signal import Signal as DbSignal
from cantools.database.errors import DecodeError

from edge.can import _decode
from edge.can.frames import Frames
from edge.can.j1939 import Reassembler
from edge.can.protection import PROTECTION, compile_protection, new_states
from edge.signals.catalogue import Catalogue, MessageRule

COUNTS = (
    "received", "decoded", "unknown", "too_short", "bad_checksum", "repeated_counter", "bad_mux",
    "error_frames", "remote_frames", "fallback",
)  # fmt: skip
REFUSALS = ("too_short", "bad_checksum", "repeated_counter", "bad_mux")
J1939_KEY = 1 << 40

MESSAGE = np.dtype([(n, "<i4") for n in ("length", "first", "count", "muxes", "fallback")])
SIGNAL = np.dtype(
    [(n, "<i4") for n in ("start", "bits", "big_endian", "kind", "parent", "first_range", "ranges", "is_mux")]
    + [("scale", "<f8"), ("offset", "<f8")]
)


class Slot(NamedTuple):
    """One signal of one channel."""

    channel: int
    message: str
    signal: str
    unit: str
    scale: float
    offset: float
    is_float: bool
    choices: Mapping[int, str]


class LatestTable:
    """The newest of every slot: arrays of shape (n_slots,).

    raw int64; value float64, physical; time_us int64; seen uint8, 1 after the first frame.
    """

    def __init__(self, n_slots: int) -> None:
        self.raw = np.zeros(n_slots, np.int64)
        self.value = np.zeros(n_slots)
        self.time_us = np.zeros(n_slots, np.int64)
        self.seen = np.zeros(n_slots, np.uint8)


class Counts:
    """What became of every frame, per channel: int64, shape (n_channels, len(COUNTS))."""

    def __init__(self, n_channels: int) -> None:
        self.table = np.zeros((n_channels, len(COUNTS)), np.int64)

    def of_channel(self, number: int) -> dict[str, int]:
        """The counts of one channel by name, with `refused`, the sum of the refusals."""
        return _named(self.table[number])

    def total(self) -> dict[str, int]:
        """The counts of all channels together."""
        return _named(self.table.sum(axis=0))


def _named(row: npt.NDArray[np.int64]) -> dict[str, int]:
    named = dict(zip(COUNTS, row.tolist(), strict=True))
    return named | {"refused": sum(named[r] for r in REFUSALS)}


class Decoded(NamedTuple):
    """One decoded frame, for people: its message and its signals by name."""

    message: str
    signals: dict[str, float | int | str]


class Decoder:
    """Tables for some channels, each (number, database, rules by message name)."""

    def __init__(self, channels: Iterable[tuple[int, Database, Mapping[str, MessageRule]]]) -> None:
        self.slots: tuple[Slot, ...] = ()
        self._build = _Tables()
        for number, database, rules in channels:
            self._build.add_channel(number, database, rules)
        tables = self._build
        self.slots = tuple(tables.slots)
        self._names = {(s.channel, s.message, s.signal): n for n, s in enumerate(self.slots)}
        order = np.argsort(np.array(tables.keys, dtype=np.int64), kind="stable")
        self._keys = np.array(tables.keys, dtype=np.int64)[order]
        self._messages = np.array(tables.messages, dtype=MESSAGE)[order]
        self._signals = np.array(tables.signals, dtype=SIGNAL)
        self._ranges = np.array(tables.ranges or [(0, 0)], dtype=np.int64)
        self._db_messages = [tables.db_messages[i] for i in order.tolist()]
        self._message_of_key = {int(k): n for n, k in enumerate(self._keys)}
        self._protections = np.array(tables.protections, dtype=PROTECTION)[order]
        self._states = new_states(len(order))
        largest = max((len(m.signals) for m in self._db_messages), default=0) + 1
        self._scratch = np.zeros(largest, np.int32)
        self._found = np.zeros(largest, np.int64)
        self._none = np.zeros(0, np.int32)
        self._events = np.zeros((2, largest), np.int32)
        self._own = LatestTable(len(self.slots))
        self._reassemblers = {n: Reassembler() for n in tables.j1939_channels}

    @classmethod
    def from_catalogue(cls, catalogue: Catalogue) -> Decoder:
        """The decoder of a bus: its databases, and the protection that its maps name."""
        return cls(
            (c.number, c.database, {m.message: m for m in catalogue.messages if m.channel == c.number})
            for c in catalogue.channels
        )

    def slot(self, channel: int, message: str, signal: str) -> int:
        """The number of a signal's slot.

        Raises
        ------
        KeyError
            There is no such signal.
        """
        return self._names[channel, message, signal]

    def update(self, frames: Frames, latest: LatestTable, counts: Counts) -> None:
        """Decode frames, in order, into the table of latest values."""
        self._run(frames, latest, counts, self._none, self._none)
        for number, reassembler in self._reassemblers.items():
            whole = reassembler.feed(frames[frames["channel"] == number])
            if len(whole):
                self._run(whole, latest, counts, self._none, self._none)
                counts.table[number, 0] -= len(whole)  # their packets have been counted as received

    def decode(self, frame: Frames, counts: Counts, *, raw_choices: bool = False) -> list[Decoded]:
        """One frame (an array of length 1) for people; empty where nothing was decoded.

        A frame that ends a J1939 transport gives that message too.
        """
        results = self._decode_one(frame, counts, raw_choices)
        reassembler = self._reassemblers.get(int(frame["channel"][0]))
        if reassembler:
            for n in range(len(whole := reassembler.feed(frame))):
                results += self._decode_one(whole[n : n + 1], counts, raw_choices)
                counts.table[int(frame["channel"][0]), 0] -= 1
        return results

    def _decode_one(self, frame: Frames, counts: Counts, raw_choices: bool) -> list[Decoded]:
        events = self._run(frame, self._own, counts, self._events[0], self._events[1])
        if not events:
            return []
        slots = sorted(self._events[0, :events].tolist())
        signals = {self.slots[n].signal: self._for_people(n, raw_choices) for n in slots}
        return [Decoded(self.slots[slots[0]].message, signals)]

    def _for_people(self, slot: int, raw_choices: bool) -> float | int | str:
        known, raw = self.slots[slot], int(self._own.raw[slot])
        if not known.is_float:
            if not raw_choices and raw in known.choices:
                return known.choices[raw]
            if known.scale == 1 and float(known.offset).is_integer():
                unsigned = raw & 0xFFFFFFFFFFFFFFFF if self._signals[slot]["kind"] == 0 else raw
                return int(unsigned + int(known.offset))
        return float(self._own.value[slot])

    def _run(
        self,
        frames: Frames,
        latest: LatestTable,
        counts: Counts,
        slots: npt.NDArray[np.int32],
        numbers: npt.NDArray[np.int32],
    ) -> int:
        fallback = np.zeros(len(frames), np.int32)
        events, left = _decode.decode(
            np.ascontiguousarray(frames), self._keys, self._messages, self._signals, self._ranges, self._protections,
            self._states, latest.raw, latest.value, latest.time_us, latest.seen, counts.table,
            self._scratch, self._found, slots, numbers, fallback,
        )  # fmt: skip
        for n in fallback[:left].tolist():
            names = self._fall_back(frames[n], latest, counts)
            if len(slots):
                slots[: len(names)] = names
                events = len(names)
        return int(events)

    def _fall_back(self, frame: Any, latest: LatestTable, counts: Counts) -> list[int]:
        """cantools decodes what tables can't; its numbers enter the table as values."""
        number = int(frame["channel"])
        index = self._message_of_key[_key_in(self._message_of_key, frame)]
        message = self._db_messages[index]
        try:
            signals = message.decode(bytes(frame["data"][: frame["length"]]), decode_choices=False)
        except (DecodeError, ValueError, KeyError, IndexError):
            counts.table[number, COUNTS.index("bad_mux")] += 1
            return []
        counts.table[number, COUNTS.index("fallback")] += 1
        counts.table[number, COUNTS.index("decoded")] += 1
        slots = []
        items = signals.items() if isinstance(signals, dict) else []
        for name, value in items:
            slot = self._names.get((number, message.name, name))
            if slot is not None and isinstance(value, int | float):
                latest.value[slot] = latest.raw[slot : slot + 1].view(np.float64)[0] = float(value)
                latest.time_us[slot], latest.seen[slot] = frame["time_us"], 1
                slots.append(slot)
        return slots


def _key_in(known: Mapping[int, int], frame: Any) -> int:
    channel, extended = int(frame["channel"]) << 48, int(frame["flags"]) & 1
    exact = channel | int(frame["id"]) | extended << 31
    return exact if exact in known else channel | J1939_KEY | pgn_of(int(frame["id"]))


def pgn_of(frame_id: int) -> int:
    """The parameter group number in a 29 bit J1939 identifier (SAE J1939-21)."""
    pgn = frame_id >> 8 & 0x3FFFF
    return pgn & 0x3FF00 if (pgn >> 8 & 0xFF) < 240 else pgn


class _Tables:
    """The compiled tables, as lists while they grow."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.keys: list[int] = []
        self.messages: list[tuple[int, ...]] = []
        self.signals: list[tuple[Any, ...]] = []
        self.ranges: list[tuple[int, int]] = []
        self.protections: list[np.void] = []
        self.db_messages: list[DbMessage] = []
        self.j1939_channels: set[int] = set()

    def add_channel(self, number: int, database: Database, rules: Mapping[str, MessageRule]) -> None:
        taken = set(self.keys)
        for message in database.messages:
            key = self._key(number, message)
            if key in taken:
                continue  # cantools, too, keeps one message per id
            taken.add(key)
            self._add_message(number, key, message, rules.get(message.name))

    def _key(self, number: int, message: DbMessage) -> int:
        if message.protocol == "j1939" and message.is_extended_frame:
            self.j1939_channels.add(number)
            return number << 48 | J1939_KEY | pgn_of(message.frame_id)
        return number << 48 | message.frame_id | int(message.is_extended_frame) << 31

    def _add_message(self, number: int, key: int, message: DbMessage, rule: MessageRule | None) -> None:
        first = len(self.slots)
        signals = _parents_first(message)
        place = {s.name: first + n for n, s in enumerate(signals)}
        rooted = all(s.multiplexer_signal in (None, *place) for s in signals)
        fits = rooted and not message.is_container and all(_fits(s, message.length) for s in signals)
        for signal in signals:
            self._add_signal(number, message, signal, place, fits)
        muxes = sum(s.is_multiplexer for s in signals)
        self.keys.append(key)
        self.messages.append((message.length, first, len(signals), muxes, int(not fits)))
        self.protections.append(compile_protection(message, rule))
        self.db_messages.append(message)

    def _add_signal(
        self, number: int, message: DbMessage, signal: DbSignal, place: Mapping[str, int], fits: bool
    ) -> None:
        choices = {int(k): str(v) for k, v in (signal.choices or {}).items()}
        is_float = signal.is_float or not fits
        scale, offset = float(signal.conversion.scale), float(signal.conversion.offset)
        self.slots.append(
            Slot(number, message.name, signal.name, signal.unit or "", scale, offset, is_float, choices)
        )
        kind = {32: 2, 64: 3}.get(signal.length, 0) if signal.is_float else int(signal.is_signed)
        parent = place.get(signal.multiplexer_signal or "", -1)
        first_range = len(self.ranges)
        if parent >= 0:
            self.ranges += _as_ranges(signal.multiplexer_ids or [])
        self.signals.append(
            (
                signal.start, min(signal.length, 64), signal.byte_order == "big_endian", kind, parent,
                first_range, len(self.ranges) - first_range, _has_children(message, signal), scale, offset,
            )
        )  # fmt: skip


def _parents_first(message: DbMessage) -> list[DbSignal]:
    """The signals with each multiplexer before what it selects."""
    by_name = {s.name: s for s in message.signals}

    def depth(signal: DbSignal) -> int:
        n = 0
        while signal.multiplexer_signal in by_name and n < len(by_name):
            signal = by_name[signal.multiplexer_signal]
            n += 1
        return n

    return sorted(message.signals, key=depth)


def _has_children(message: DbMessage, signal: DbSignal) -> bool:
    return signal.is_multiplexer and any(s.multiplexer_signal == signal.name for s in message.signals)


def _as_ranges(values: Sequence[int]) -> list[tuple[int, int]]:
    """[1, 2, 3, 7] as [(1, 3), (7, 7)]."""
    ranges: list[tuple[int, int]] = []
    for value in sorted(values):
        if ranges and value == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], value)
        else:
            ranges.append((value, value))
    return ranges


def _fits(signal: DbSignal, length: int) -> bool:
    """Whether tables can hold the signal: at most 64 bits, no 16 bit float, inside the message."""
    if signal.length > 64 or length > 64 or (signal.is_float and signal.length not in (32, 64)):
        return False
    if signal.conversion.scale is None or not np.isfinite(float(signal.conversion.scale)):
        return False
    if signal.byte_order == "big_endian":
        last = 8 * (signal.start // 8) + 7 - signal.start % 8 + signal.length
    else:
        last = signal.start + signal.length
    return last <= 8 * length
