"""Tables: what a database says of its messages, in the form that the kernel reads (edge/can/_decode.pyx).

A message's bytes are looked at through a window of 8, 64 or 1792 bytes: first as they are, then, behind
that, in reversed order. In the reversed half a Motorola signal lies as an Intel signal does in the first,
so every signal is eight bytes loaded at `byte`, shifted right by `shift`, masked, and its sign extended
by (x ^ sign) - sign. SIGNAL is what the kernel reads for every frame, kept to half a cache line; DETAIL
the rest.

A message is a tree of groups: the root's signals are always there; a selector (multiplexer) in a group
says which other group comes with it. Groups with the same signals are one. What selects a group is found
from the selector's raw value by a table, one for each of the four ways in which cantools may be asked
(choices on or off, scaling on or off), since cantools takes the decoded value for the selector's number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from cantools.database import Message as DbMessage
from cantools.database.can.signal import Signal as DbSignal
from cantools.database.conversion import BaseConversion, IdentityConversion, LinearIntegerConversion
from cantools.database.utils import start_bit

MAX_MESSAGE_BYTES = 1785  # the longest that SAE J1939-21 transport carries
WINDOWS = (8, 64, 1792)
_LOW = 0xFFFFFFFF
EXACT_DOUBLE = 1 << 53  # whole numbers up to here are exact as doubles
ENUMERATED_BITS = 16  # of a selector whose number is not its raw value

SIGNAL = np.dtype(
    [
        ("scale", "<f8"), ("offset", "<f8"),  # for EXACT and EXACT_SCALE the bits of int64 numbers
        ("mask", "<u4"), ("sign", "<u4"),  # unless it is WIDE
        ("byte", "<u2"), ("shift", "u1"), ("kind", "u1"),
        ("slot", "<i4"),  # counted from the message's first
    ]
)  # fmt: skip
DETAIL = np.dtype(
    [
        ("mask", "<u8"), ("sign", "<u8"),
        ("end", "<u2"),  # bits that a truncated frame must have for it
        ("gives", "u1"), ("ranges", "u1"), ("first_range", "<i4"),
    ]
)  # fmt: skip
GROUP = np.dtype([(n, "<i4") for n in ("first", "count", "first_selector", "selectors", "refused")])
SELECTOR = np.dtype([("low", "<i8"), ("size", "<i8"), ("signal", "<i4"), ("sparse", "<i4"), ("first", "<i8")])
RANGE = np.dtype([("low", "<i8"), ("high", "<i8"), ("state", "<i8")])

# How a raw value becomes a number; the kernel has the same numbers.
INT, UINT64, EXACT, EXACT_SCALE, FLOAT16, FLOAT32, FLOAT64, WIDE = range(8)  # WIDE: an INT of over 32 bits
KIND = 15
SPLIT = 16  # it lies in nine bytes
IDENTITY = 32  # a float that is its own value
UNSIGNED = 64  # 64 bits without a sign
FINITE = 128  # its number may be beyond all doubles
# What Python object cantools makes of it.
GIVES_RAW, GIVES_INT, GIVES_FLOAT, GIVES_EXACT = range(4)
# What of a message is not plain.
FALLBACK, MUXED, ODD, PROTECTED, REVERSED, SCATTERED = 1, 2, 4, 8, 16, 32  # SCATTERED: slots with gaps

Ranges = Mapping[str, Sequence[tuple[float, float, int]]]  # by signal: raw from, raw to, state


class Compiled(NamedTuple):
    """One message in the tables: its root group, and what the kernel must know before it looks there."""

    group: int
    first: int
    signals: int
    length: int
    window: int
    flags: int


class Row(NamedTuple):
    """One SIGNAL and its DETAIL."""

    scale: float
    offset: float
    byte: int
    shift: int
    kind: int
    slot: int
    mask: int
    sign: int
    end: int
    gives: int
    ranges: int
    first_range: int


class TableError(ValueError):
    """Tables can't hold this message: cantools must decode it."""


class Tables:
    """The tables of many messages, as lists while they grow."""

    def __init__(self) -> None:
        self.signals: list[Row] = []
        self.groups: list[tuple[int, int, int, int, int]] = []
        self.selectors: list[tuple[int, int, int, int, int]] = []
        self.pages: list[int] = []
        self.keys: list[int] = []
        self.ranges: list[tuple[int, int, int]] = []
        self.names: list[str] = []
        self.choices: list[Mapping[int, str] | None] = []
        self.conversions: list[BaseConversion] = []
        self.deepest = 1  # groups that one frame can have

    def add(self, message: DbMessage, ranges: Ranges) -> Compiled:
        """Compile one message.

        Raises
        ------
        TableError
            It is a container, has signals over 64 bits, or is otherwise beyond tables.
        """
        return _Message(self, message, ranges).compile()

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The tables as arrays; one row of nothing where a table is empty."""
        return {
            "signals": _array(
                [
                    (r.scale, r.offset, r.mask & _LOW, r.sign & _LOW, r.byte, r.shift, r.kind, r.slot)
                    for r in self.signals
                ],
                SIGNAL,
            ),
            "details": _array([r[6:] for r in self.signals], DETAIL),
            "groups": _array(self.groups, GROUP),
            "selectors": _array(self.selectors, SELECTOR),
            "pages": _array(self.pages, np.dtype("<i4")),
            "keys": _array(self.keys, np.dtype("<i8")),
            "ranges": _array(self.ranges, RANGE),
        }


def _array(rows: Sequence[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.array(rows, dtype) if rows else np.zeros(1, dtype)


class _Message:
    """Compiles one message into the tables."""

    def __init__(self, tables: Tables, message: DbMessage, ranges: Ranges) -> None:
        self.tables, self.message, self.ranges = tables, message, ranges
        self.window = next((w for w in WINDOWS if message.length <= w), 0)
        self.by_name = {s.name: s for s in message.signals}
        self.slots = {s.name: n for n, s in enumerate(message.signals)}
        self.groups: dict[tuple[str, tuple[str, ...]], int] = {}

    def compile(self) -> Compiled:
        message, tables = self.message, self.tables
        if message.is_container or message.length > MAX_MESSAGE_BYTES:
            raise TableError(f"{message.name}: a container, or too long")
        if len(self.by_name) < len(message.signals):
            raise TableError(f"{message.name}: two signals have one name")
        self.rows = {s.name: self._row(s) for s in message.signals}  # all of them, before anything is added
        self.pages = {s.name: self._pages(s) for s in message.signals if s.is_multiplexer}
        root = self._group("", message.signal_tree)
        tables.deepest = max(tables.deepest, len(self.groups))
        first, count, _, selectors, refused = tables.groups[root]
        used = [self.rows[name] for _, names in self.groups for name in names]
        flags = MUXED if selectors or refused else 0
        flags |= ODD if any(row.kind or row.ranges for row in used) else 0
        flags |= REVERSED if self.window > 8 and any(row.byte >= self.window for row in used) else 0
        flags |= (
            SCATTERED if any(r.slot != n for n, r in enumerate(tables.signals[first : first + count])) else 0
        )
        return Compiled(root, first, count, message.length, self.window, flags)

    def _group(self, parent: str, tree: Sequence[Any]) -> int:
        """The number of a group; its signals lie side by side in the table of signals."""
        names = tuple(next(iter(node)) if isinstance(node, dict) else node for node in tree)
        known = self.groups.get((parent, names))
        if known is not None:
            return known
        tables, first = self.tables, len(self.tables.signals)
        number = self.groups[parent, names] = len(tables.groups)
        tables.groups.append((first, 0, 0, 0, 1))
        if any(_end(self.by_name[name]) > 8 * self.message.length for name in names):
            return number  # a signal beyond the message: cantools, too, refuses every such frame
        for name in names:
            self._add_signal(name)
        found = []
        for place, node in enumerate(tree):
            for name, pages in node.items() if isinstance(node, dict) else ():
                groups = {n: self._group(name, page) for n, page in pages.items()}
                found.append((first + place, name, groups))
        first_selector = len(tables.selectors)
        for row, name, groups in found:
            for numbers in self.pages[name]:
                self._add_selector(row, {raw: groups[n] for raw, n in numbers.items()})
        tables.groups[number] = (first, len(names), first_selector, len(found), 0)
        return number

    def _add_signal(self, name: str) -> None:
        signal, tables = self.by_name[name], self.tables
        tables.signals.append(self.rows[name]._replace(first_range=len(tables.ranges)))
        for low, high, state in self.ranges.get(name, ()):
            tables.ranges.append((_raw_bits(signal, low), _raw_bits(signal, high), state))
        tables.names.append(name)
        choices = signal.conversion.choices
        tables.choices.append({k: str(v) for k, v in choices.items()} if choices else None)
        tables.conversions.append(_plain(signal))

    def _row(self, signal: DbSignal) -> Row:
        bits, window, base, place = signal.length, self.window, 0, signal.start
        if bits > 64:
            raise TableError(f"{signal.name}: over 64 bits")
        if signal.byte_order == "big_endian":
            base, place = window, 8 * window - start_bit(signal) - bits
        kind, gives, scale, offset = _number(signal)
        ranges = self.ranges.get(signal.name, ())
        if len(ranges) > 255:
            raise TableError(f"{signal.name}: over 255 ranges")
        byte, shift = 0, 0
        if _end(signal) <= 8 * self.message.length:
            byte = min(place >> 3, window - 8)
            shift = place - 8 * byte
            if shift + bits > 64:
                byte, shift, kind = place >> 3, place & 7, kind | SPLIT
        if kind & KIND == INT and bits > 32:
            kind |= WIDE
        signed = signal.is_signed and not signal.is_float
        return Row(
            scale,
            offset,
            base + byte,
            shift,
            kind,
            self.slots[signal.name],
            (1 << bits) - 1,
            1 << (bits - 1) if signed else 0,
            min(_end(signal), 65535),
            gives,
            len(ranges),
            0,
        )

    def _pages(self, signal: DbSignal) -> list[dict[int, int]]:
        """For each of cantools' four ways, from a selector's raw value to its number: those that are used."""
        if self.rows[signal.name].kind & (KIND | SPLIT) not in (INT, UINT64, WIDE):
            raise TableError(f"{signal.name}: a multiplexer must be an integer that a double can hold")
        used = {
            n
            for s in self.message.signals
            if s.multiplexer_signal == signal.name
            for n in s.multiplexer_ids or ()
        }
        used.update(signal.conversion.choices or ())
        return [
            _numbers(signal, used, choices, scaling) for choices in (False, True) for scaling in (False, True)
        ]

    def _add_selector(self, signal: int, pages: Mapping[int, int]) -> None:
        """A selector's table: dense where that is small, else sorted raw values beside their groups."""
        tables = self.tables
        raws = sorted(pages)
        low, size = (raws[0], raws[-1] - raws[0] + 1) if raws else (0, 0)
        if size <= 4 * len(raws) + 256:
            tables.selectors.append((low, size, signal, 0, len(tables.pages)))
            tables.pages += [pages.get(raw, -1) for raw in range(low, low + size)]
        else:
            tables.selectors.append((len(tables.keys), len(raws), signal, 1, len(tables.pages)))
            tables.keys += raws
            tables.pages += [pages[raw] for raw in raws]


def _raw_bits(signal: DbSignal, number: float) -> int:
    """A raw value as the kernel holds it: the bits of a double, or an integer of 64 bits."""
    if signal.is_float:
        return int(np.float64(number).view(np.int64))
    low = int(number) & 0xFFFFFFFFFFFFFFFF
    return low - (1 << 64) if low >> 63 else low


def _end(signal: DbSignal) -> int:
    """The bits that a message must have for this signal, as cantools counts them."""
    return int(start_bit(signal)) + signal.length


def _plain(signal: DbSignal) -> BaseConversion:
    """The conversion without its choices."""
    conversion = signal.conversion
    return BaseConversion.factory(conversion.scale, conversion.offset, None, conversion.is_float)


def _number(signal: DbSignal) -> tuple[int, int, float, float]:
    """How the kernel makes a number of the raw value, and what Python object people get."""
    try:
        plain = _plain(signal)
        scale, offset = float(plain.scale), float(plain.offset)
    except (TypeError, OverflowError) as error:
        raise TableError(f"{signal.name}: {error}") from None
    if signal.is_float:
        kind = {16: FLOAT16, 32: FLOAT32, 64: FLOAT64}[signal.length]
        return kind | (IDENTITY if isinstance(plain, IdentityConversion) else 0), GIVES_FLOAT, scale, offset
    most = 1 << (signal.length - signal.is_signed)  # no raw value is further from zero
    whole = INT if signal.is_signed or signal.length < 64 else UINT64
    if isinstance(plain, IdentityConversion):
        return whole | (UNSIGNED if whole else 0), GIVES_RAW, 1.0, 0.0
    unsigned = UNSIGNED if whole else 0
    if isinstance(plain, LinearIntegerConversion):
        if most * abs(plain.scale) + abs(plain.offset) <= EXACT_DOUBLE:
            return INT, GIVES_INT, scale, offset
        return EXACT | unsigned, GIVES_EXACT, _bits(plain.scale), _bits(plain.offset)
    if isinstance(plain.scale, int) and most * abs(plain.scale) > EXACT_DOUBLE:
        return EXACT_SCALE | unsigned, GIVES_FLOAT, _bits(plain.scale), offset
    if not math.isfinite(most * scale + offset) or not math.isfinite(offset - most * scale):
        return FINITE | whole | unsigned, GIVES_FLOAT, scale, offset
    return whole | unsigned, GIVES_FLOAT, scale, offset


def _bits(number: int) -> float:
    """A double with the bits of a 64 bit integer."""
    if not -(1 << 63) <= number < 1 << 63:
        raise TableError(f"{number} is over 64 bits")
    return float(np.array([number], "<i8").view("<f8")[0])


def _numbers(signal: DbSignal, used: Set[int], choices: bool, scaling: bool) -> dict[int, int]:
    """From a selector's raw value to the number that cantools takes for it, where that number is used."""
    conversion, bits = signal.conversion, signal.length
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signal.is_signed else (0, 1 << bits)
    plain = not scaling or isinstance(_plain(signal), IdentityConversion)
    named = conversion.choices if choices and conversion.choices else {}
    twins = {raw: conversion.choice_to_number(str(named[raw])) for raw in named}
    if plain and all(raw == number for raw, number in twins.items()):
        return {n: n for n in used if low <= n < high and n < 1 << 63}
    if bits > ENUMERATED_BITS:
        raise TableError(f"{signal.name}: a scaled multiplexer of over {ENUMERATED_BITS} bits")
    numbers = {}
    for raw in range(low, high):
        if raw in twins:
            numbers[raw] = twins[raw]
        else:
            value = conversion.raw_to_scaled(raw, False) if scaling else raw
            if isinstance(value, int | float) and math.isfinite(value):
                numbers[raw] = int(value)
    return {raw: number for raw, number in numbers.items() if number in used}
