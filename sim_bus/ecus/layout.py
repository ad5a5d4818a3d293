"""The databases as the tables that `_pack.pyx` sends by.

    message   what is sent, how often, and where its first layout is
    layout    the fields of one page of a message (one, where it is not multiplexed), and its constant bits
    field     one signal: slot of the state, bit, scale, limits

A second's state is (STEPS, slots): the scalars, then (strings * cells) voltages, (strings * sensors) temperatures,
(strings * cells) balancing switches.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import cantools
import numpy as np
import numpy.typing as npt
from cantools.database import Message, Signal

from edge.can.frames import EXTENDED
from edge.can.j1939.identifier import ADDRESS_CLAIMED, DM1, TP_CM, TP_DT, pgn_of
from edge.errors import ScenarioError
from sim_bus.ecus.names import CELL, CELL_DELAY_S, NODES, PROTECTION, SENSOR, SENSOR_DELAY_S, home, scalars

CHANNELS = ("bms", "inverter", "vehicle")
MOST_BYTES = 64
MOST_BITS = 53  # of a field: what a float holds exactly
USUAL_PERIOD_MS = 1000  # where the database names none
COUNTS_TO = 15

MESSAGE = np.dtype(
    [
        ("period_us", "<i8"), ("boot_us", "<i8"), ("base_us", "<i8"), ("until_us", "<i8"), ("sent", "<i8"),
        ("drawn", "<i8"), ("id", "<u4"), ("channel", "u1"), ("flags", "u1"), ("length", "u1"), ("counter", "u1"),
        ("counter_bit", "<i2"), ("counter_last", "<i2"), ("checksum_byte", "<i2"), ("page", "<i2"),
        ("pages", "<i4"), ("layout", "<i4"),
    ]
)  # fmt: skip
LAYOUT = np.dtype([("first", "<i4"), ("last", "<i4"), ("words", "<u8", 8)])
FIELD = np.dtype(
    [
        ("scale", "<f8"), ("offset", "<f8"), ("low", "<i8"), ("high", "<i8"), ("missing", "<u8"),
        ("mask", "<u8"), ("delay_us", "<i8"), ("slot", "<i4"), ("start", "<i4"),
    ]
)  # fmt: skip


@dataclass
class Sent:
    """One message that is sent periodically."""

    name: str
    node: int
    message: Message
    channel: int
    row: tuple[Any, ...]  # of MESSAGE
    is_dm1: bool

    @property
    def special(self) -> bool:
        """Not always a frame of its own."""
        return self.is_dm1 or self.message.length > 8


@dataclass
class Claim:
    """An address claim."""

    node: int
    channel: int
    id: int
    name: str


@dataclass
class Layout:
    """All three buses. `names`: the scalar slots in order; `sensors`: temperatures of each string."""

    strings: int
    cells: int
    sensors: int
    names: list[str] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    layouts: list[tuple[Any, ...]] = field(default_factory=list)
    fields: list[tuple[Any, ...]] = field(default_factory=list)

    def slots(self) -> int:
        """The width of a second's state."""
        return len(self.names) + self.strings * (2 * self.cells + self.sensors)

    def messages(self) -> npt.NDArray[np.void]:
        """MESSAGE, at rest."""
        return np.array([s.row for s in self.sent], MESSAGE)


class _Reader:
    """Fills a Layout from the databases; what is wrong is gathered, with its file."""

    def __init__(self, strings: int, cells: int, sensors: int) -> None:
        self.delays = scalars(strings)
        self.layout = Layout(strings, cells, sensors, names=list(self.delays))
        self.slot = {name: n for n, name in enumerate(self.delays)}
        self.seen: set[str] = set()
        self.problems: list[str] = []

    def read(self, channel: int, where: str, database: Any) -> None:
        """One bus."""
        for message in database.messages:
            pgn = pgn_of(message.frame_id) if message.is_extended_frame else -1
            if pgn in (TP_CM, TP_DT):
                continue
            sender = message.senders[0] if message.senders else ""
            if sender not in NODES:
                text = (
                    f"{where}: {message.name} is sent by {sender or 'nobody'!r}; there are {', '.join(NODES)}"
                )
                self.problems.append(text)
            elif pgn == ADDRESS_CLAIMED:
                claim = Claim(NODES.index(sender), channel, message.frame_id, message.name)
                self.layout.claims.append(claim)
            elif message.length > MOST_BYTES:
                self.problems.append(f"{where}: {message.name} has over {MOST_BYTES} bytes")
            else:
                self._message(channel, where, message, NODES.index(sender), pgn == DM1)

    def _message(self, channel: int, where: str, message: Message, node: int, dm1: bool) -> None:
        first = len(self.layout.layouts)
        if dm1:
            self.layout.layouts.append((0, 0, [0] * 8))
        else:
            self._pages(where, message)
        protection = {s.name: s for s in message.signals if s.name in PROTECTION}
        counter, checksum = (protection.get(name) for name in PROTECTION)
        row = (
            (message.cycle_time or USUAL_PERIOD_MS) * 1000, 0, 0, 0, 0, 0, message.frame_id, channel,
            EXTENDED if message.is_extended_frame else 0, message.length, 0, counter.start if counter else -1,
            min((1 << counter.length) - 1, COUNTS_TO) if counter else 0,
            checksum.start // 8 if checksum else -1, 0, max(len(self.layout.layouts) - first, 1), first,
        )  # fmt: skip
        self.layout.sent.append(Sent(message.name, node, message, channel, row, dm1))

    def _pages(self, where: str, message: Message) -> None:
        """A layout for each page."""
        page = [s for s in message.signals if s.is_multiplexer]
        if len(page) > 1 or any(s.multiplexer_ids for s in page):
            self.problems.append(f"{where}: {message.name}.{page[-1].name}: a multiplexer in a multiplexer")
            return
        ids = sorted({n for s in message.signals for n in s.multiplexer_ids or ()}) if page else [0]
        for number in ids:
            first = len(self.layout.fields)
            words = [0] * 8
            for s in message.signals:
                if s in page and self._can(where, message, s):
                    words[s.start // 64] |= number << s.start % 64
                elif s.multiplexer_ids is None or number in s.multiplexer_ids:
                    self._field(where, message, s)
            self.layout.layouts.append((first, len(self.layout.fields), words))

    def _field(self, where: str, message: Message, s: Signal) -> None:
        if not self._can(where, message, s) or s.name in PROTECTION:
            return
        slot, delay_s = self._slot(s.name)
        if slot is None:
            self.problems.append(f"{where}: {message.name}.{s.name}: the simulator has no such value")
            return
        self.seen.add(s.name)
        least = -(1 << s.length - 1) if s.is_signed else 0
        scale, offset = float(s.conversion.scale), float(s.conversion.offset)
        limits = (s.minimum, s.maximum)
        default = (least, least + (1 << s.length) - 1)
        low, high = (
            d if v is None else min(max(round((float(v) - offset) / scale), default[0]), default[1])
            for v, d in zip(limits, default, strict=True)
        )
        ones = (1 << s.length) - 1
        missing = 0 if s.length == 1 else 1 << s.length - 1 if s.is_signed else ones
        self.layout.fields.append(
            (scale, offset, low, high, missing, ones, round(delay_s * 1e6), slot, s.start)
        )

    def _can(self, where: str, message: Message, s: Signal) -> bool:
        if (
            s.byte_order == "little_endian"
            and not s.is_float
            and s.length <= MOST_BITS
            and s.conversion.scale
        ):
            return True
        text = f"only little-endian integers of up to {MOST_BITS} bits can be packed"
        self.problems.append(f"{where}: {message.name}.{s.name}: {text}")
        return False

    def _slot(self, name: str) -> tuple[int | None, float]:
        """Where the value is in a second's state, and from when on there is one."""
        lay = self.layout
        voltages, temps = len(lay.names), len(lay.names) + lay.strings * lay.cells
        if name in self.slot:
            return self.slot[name], self.delays[name]
        if (found := CELL.fullmatch(name)) and self._there(int(found[1]), int(found[2]), lay.cells):
            begin = voltages if found[3] == "Voltage" else temps + lay.strings * lay.sensors
            return begin + (int(found[1]) - 1) * lay.cells + int(found[2]) - 1, CELL_DELAY_S[found[3]]
        if (found := SENSOR.fullmatch(name)) and self._there(int(found[1]), int(found[2]), lay.sensors):
            return temps + (int(found[1]) - 1) * lay.sensors + int(found[2]) - 1, SENSOR_DELAY_S
        return None, 0.0

    def _there(self, string: int, number: int, most: int) -> bool:
        return string <= self.layout.strings and 1 <= number <= most

    def finish(self, wheres: Mapping[str, str]) -> Layout:
        """The layout, where nothing is wrong and nothing lacks."""
        found = {
            pattern: {m.groups() for n in self.seen if (m := pattern.fullmatch(n))}
            for pattern in (CELL, SENSOR)
        }
        cells = {(int(s), int(c)) for s, c, kind in found[CELL] if kind == "Voltage"}
        sensors = {(int(s), int(n)) for s, n in found[SENSOR]}
        lay = self.layout
        lacks = [n for n in self.delays if n not in self.seen]
        lacks += [
            f"String{s}_Cell{c:03d}_Voltage" for s, c in _grid(lay.strings, lay.cells) if (s, c) not in cells
        ]
        lacks += [
            f"String{s}_Temp{n:02d}" for s, n in _grid(lay.strings, lay.sensors or 1) if (s, n) not in sensors
        ]
        self.problems += [f"{wheres[home(name)]}: no signal {name}" for name in lacks]
        if self.problems:
            raise ScenarioError("; ".join(self.problems[:5]) + ("; ..." if len(self.problems) > 5 else ""))
        lay.sent.sort(key=lambda s: s.special)
        return lay


def _grid(strings: int, each: int) -> Iterator[tuple[int, int]]:
    return itertools.product(range(1, strings + 1), range(1, each + 1))


def load_layout(folder: str | None, strings: int, cells: int) -> Layout:
    """The three databases of a folder (None: ours) for so many strings and cells.

    Raises
    ------
    ScenarioError
        A file can't be read, lacks a signal, or has one that can't be packed.
    """
    root = resources.files("dbc") if folder is None else Path(folder)
    paths = {name: root / f"{name}.dbc" for name in CHANNELS}
    wheres = {name: f"{name}.dbc" if folder is None else str(path) for name, path in paths.items()}
    databases = [_read(path, wheres[name]) for name, path in paths.items()]
    every = (s.name for d in databases for m in d.messages for s in m.signals)
    sensors = max((int(found[2]) for name in every if (found := SENSOR.fullmatch(name))), default=0)
    reader = _Reader(strings, cells, min(sensors, cells))
    for channel, (where, database) in enumerate(zip(wheres.values(), databases, strict=True)):
        reader.read(channel, where, database)
    return reader.finish(wheres)


def _read(path: Traversable, where: str) -> Any:
    try:
        return cantools.database.load_string(path.read_text("utf-8"), "dbc")
    except OSError as error:
        raise ScenarioError(f"{where}: cannot be read: {error.strerror}") from None
    except Exception as error:  # cantools raises almost anything on what is no DBC
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ScenarioError(f"{where}: is no database: {first}") from None
