"""Signal maps: the TOML beside a database that says what its signals mean (see dbc/README.md).

A map is read whole, and every mistake in it is reported, each as `FILE:LINE: what is wrong`.
"""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cantools.database import Database
from cantools.database.can.signal import Signal as DbSignal

from edge.errors import SignalMapError
from edge.signals.loading import first_line
from edge.signals.protection import Checksum, Counter, read_checksum, read_counter
from edge.signals.vss import conversion, paths_for

# What the rest of Ayaz takes a signal for: one of each, one per string, or one per string and index.
SINGLE_ROLES = frozenset(
    [
        "pack_current",
        "pack_voltage",
        "bms_soc",
        "bms_state",
        "contactors",
        "insulation",
        "speed",
        "odometer",
        "ambient_temp",
        "hvac_power",
        "aux_power",
        "heater_power",
        "motor_torque",
        "motor_speed",
        "charger_state",
    ]
)
STRING_ROLES = frozenset({"string_current", "string_voltage", "string_contactor"})
CELL_ROLES = frozenset({"cell_voltage", "cell_temp", "balancing"})
SUMMARY_ROLES = frozenset(  # one of each, or one of each per string
    [
        "cell_voltage_min",
        "cell_voltage_max",
        "cell_voltage_mean",
        "cell_temp_min",
        "cell_temp_max",
        "cell_temp_mean",
        "cell_count",
        "pack_serial",
    ]
)
CONTACTOR_ROLES = frozenset({"contactors", "string_contactor"})
ROLES = SINGLE_ROLES | STRING_ROLES | CELL_ROLES | SUMMARY_ROLES

MAX_MAP_BYTES = 4_000_000
MAX_EXPANDED = 4096  # signals that one pattern may name
MAX_SECONDS = 1e7
TABLE_KEYS = frozenset({"version", "protocol", "messages", "signals"})
MESSAGE_KEYS = frozenset({"period_ms", "timeout_ms", "counter", "checksum"})
TEXT_KEYS = ("source", "path", "string", "index")  # may hold patterns
NUMBER_KEYS = {"rate_s": 0.0, "deadband": 0.0, "heartbeat_s": 60.0, "frozen_s": 0.0}  # and their defaults
SENDER_KEYS = {"address": 253, "name": (1 << 64) - 1}  # of J1939, and their highest values
INVALID_KEYS = ("not_available", "error")
BALANCING_KEYS = ("current_a", "resistance_ohm")  # what a switch that is on takes from its cell
KEYS_OF_ROLES = {
    "window": {"bms_soc"},
    "open": CONTACTOR_ROLES,
    "current_a": {"balancing"},
    "resistance_ohm": {"balancing"},
}
SIGNAL_KEYS = frozenset(
    {
        *TEXT_KEYS,
        *NUMBER_KEYS,
        *SENDER_KEYS,
        *INVALID_KEYS,
        *BALANCING_KEYS,
        "sign",
        "unit",
        "role",
        "window",
        "open",
    }
)

_FIELD = re.compile(r"\{([A-Za-z])(?::0(\d)d)?\}")


@dataclass(frozen=True)
class Signal:
    """One signal of one channel, and what it means.

    `unit` is the path's; `factor` turns the database's physical value into it and into our sign:
    inside = factor * physical. `sign` is only the sign of that. `deadband` is in the database's unit.
    A signal that stands still for `frozen_s` while its frames come is suspect; 0: it may stand still for ever.
    `address` or `name` choose one J1939 sender of the message, by its source address or its 64 bit NAME
    (SAE J1939-81); both None: whoever sends it. `not_available` and `error` are the raw numbers, before
    scale and offset, with which the sender says so, (lowest, highest); (nan, nan) is a float's NaN.
    `open`: the (lowest, highest) physical values of a contactor that say that it is open. `current_a` or
    `resistance_ohm`: what a balancing switch lets out of its cell; neither: the signal is that current.
    """

    channel: int
    message: str
    signal: str
    path: str
    unit: str
    sign: int = 1
    factor: float = 1.0
    rate_s: float = 0.0
    deadband: float = 0.0
    heartbeat_s: float = 60.0
    frozen_s: float = 0.0
    role: str | None = None
    string: int | None = None
    index: int | None = None
    window: tuple[float, float] | None = None
    address: int | None = None
    name: int | None = None
    not_available: tuple[float, float] | None = None
    error: tuple[float, float] | None = None
    open: tuple[float, float] = (0.0, 0.0)
    current_a: float | None = None
    resistance_ohm: float | None = None


@dataclass(frozen=True)
class MessageRule:
    """How often a message comes, when its signals are stale, and what protects it (edge/signals/protection.py)."""

    channel: int
    message: str
    period_ms: int
    timeout_ms: int
    counter: Counter | None = None
    checksum: Checksum | None = None


class MapReader:
    """One signal map, checked against its database. `problems` is empty where all is well.

    `places` says of each signal where it stands, as FILE:LINE. A map that says protocol = "j1939" marks the
    database's messages so, for databases that don't say it themselves.
    """

    def __init__(self, path: Path, database: Database, channel: int) -> None:
        self.channel = channel
        self.signals: list[Signal] = []
        self.places: list[str] = []
        self.messages: list[MessageRule] = []
        self.problems: list[str] = []
        self._path = path
        self._known = {m.name: {s.name: s for s in m.signals} for m in database.messages}
        self._database = database
        self._j1939: set[str] = set()
        self._lengths = {m.name: m.length for m in database.messages}
        self._named: set[str] = set()  # messages that have a rule, good or bad
        self._lines: list[str] = []
        try:
            self._paths = paths_for(path.parent)
        except SignalMapError as error:
            self.problems += error.problems
            return
        table = self._load()
        if table is not None:
            self._read(table)

    def _load(self) -> dict[str, Any] | None:
        try:
            if self._path.stat().st_size > MAX_MAP_BYTES:
                raise ValueError(f"over {MAX_MAP_BYTES // 1_000_000} MB")
            text = self._path.read_text("utf-8")
            table = tomllib.loads(text)
        except FileNotFoundError:
            self.problems.append(f"{self._path}: no such signal map; it lies beside its database")
            return None
        except (OSError, ValueError, RecursionError) as error:
            self.problems.append(f"{self._path}{_toml_line(error)}: cannot be read: {first_line(error)}")
            return None
        self._lines = text.splitlines()
        return table

    def _read(self, table: dict[str, Any]) -> None:
        if table.get("version") != 1:
            self._wrong(self._find("version"), "version must be 1")
        for name in sorted(table.keys() - TABLE_KEYS):
            self._wrong(self._find(name), f"unknown key {name!r}; there are {_listed(TABLE_KEYS)}")
        self._protocol(table.get("protocol"))
        messages, signals = table.get("messages", {}), table.get("signals", [])
        if not isinstance(messages, dict) or not isinstance(signals, list):
            self._wrong(1, "there must be [messages.NAME] tables and [[signals]] tables")
            return
        self._named = set(messages)
        for name, rule in messages.items():
            self._message(name, rule, self._find(name))
        blocks = [n for n, line in enumerate(self._lines, 1) if re.match(r"\s*\[\[\s*signals\s*\]\]", line)]
        for n, entry in enumerate(signals):
            line = blocks[n] if len(blocks) == len(signals) else 1
            if isinstance(entry, dict):
                _Entry(self, entry, line).read()
            else:
                self._wrong(line, "must be a table")

    def _protocol(self, protocol: Any) -> None:
        if protocol not in (None, "j1939"):
            self._wrong(self._find("protocol"), 'protocol must be "j1939", or left out')
        for message in self._database.messages:
            if message.is_extended_frame and protocol == "j1939":
                message.protocol = protocol
            if message.is_extended_frame and message.protocol == "j1939":
                self._j1939.add(message.name)

    # Messages

    def _message(self, name: str, rule: Any, line: int) -> None:
        signals = self._known.get(name)
        if signals is None:
            self._wrong(line, f"the database has no message {name!r}")
            return
        if not isinstance(rule, dict):
            self._wrong(line, f"messages.{name}: must be a table")
            return
        before = len(self.problems)
        for key in sorted(rule.keys() - MESSAGE_KEYS):
            self._wrong(self._find(key, line), f"unknown key {key!r}; there are {_listed(MESSAGE_KEYS)}")
        times = {key: self._milliseconds(rule.get(key), key, line) for key in ("period_ms", "timeout_ms")}
        if len(self.problems) == before and times["timeout_ms"] < times["period_ms"]:
            self._wrong(self._find("timeout_ms", line), "timeout_ms must not be shorter than period_ms")

        def wrong(key: str, what: str) -> None:
            self._wrong(self._find(key, line), what)

        named = rule.get("checksum")
        kind = named.get("kind") if isinstance(named, dict) else ""
        counter = read_counter(rule.get("counter"), signals, str(kind), wrong)
        checksum = read_checksum(named, signals, counter, self._lengths[name], wrong)
        if len(self.problems) == before:
            self.messages.append(MessageRule(self.channel, name, **times, counter=counter, checksum=checksum))

    def _milliseconds(self, value: Any, key: str, line: int) -> int:
        if type(value) is int and 0 < value < 1000 * MAX_SECONDS:
            return value
        self._wrong(self._find(key, line), f"{key} must be a whole number above 0")
        return 0

    # Where things are

    def _find(self, name: str, first: int = 0) -> int:
        """The line of a key or a table; with `first`, of a key inside the table that begins there."""
        quoted = rf"""["']?{re.escape(name)}["']?"""
        header = re.compile(rf"\s*\[+\s*(messages\s*\.\s*)?{quoted}\s*[\].]")
        key = re.compile(rf"\s*{quoted}\s*[=.]")
        for n, line in enumerate(self._lines[first:], first + 1):
            if first and line.lstrip().startswith("["):
                break
            if key.match(line) or (not first and header.match(line)):
                return n
        return first or 1

    def _wrong(self, line: int, what: str) -> None:
        self.problems.append(f"{self._path}:{line}: {what}")


class _Entry:
    """One [[signals]] table: a signal, or many by its pattern."""

    def __init__(self, reader: MapReader, entry: dict[str, Any], line: int) -> None:
        self.reader, self.entry, self.line = reader, entry, line
        self.loops = {k: v for k, v in entry.items() if len(k) == 1 and k.isalpha()}

    def read(self) -> None:
        before = len(self.reader.problems)
        self._check_keys()
        self._check_role()
        if len(self.reader.problems) > before:
            return
        base = self._common()
        try:
            expanded = [
                (self._filled(numbers), self._senders(numbers)) for numbers in _combinations(self.loops)
            ]
        except ValueError as error:
            self._wrong(None, f'{error}; write "{{n}}" or "{{n:03d}}" with n = "1..176"')
            return
        for values, senders in expanded:
            if not self._signal(values, replace(base, **senders)):
                return  # one line for a pattern, not 176

    def _check_keys(self) -> None:
        for key in sorted(self.entry.keys() - SIGNAL_KEYS - self.loops.keys()):
            self._wrong(key, f"unknown key {key!r}; there are {_listed(SIGNAL_KEYS)}")
        for key in ("source", "path"):
            if not isinstance(self.entry.get(key), str):
                self._wrong(key, f"{key} must be given, as text")
        for key, default in NUMBER_KEYS.items():
            if not _is_number(self.entry.get(key, default)):
                self._wrong(key, f"{key} must be a number from 0 up")
        sign = self.entry.get("sign", 1)
        if type(sign) is not int or sign not in (1, -1):
            self._wrong("sign", "sign must be 1 or -1")
        if not isinstance(self.entry.get("unit", ""), str):
            self._wrong("unit", "unit must be text")
        if len(self.entry.keys() & SENDER_KEYS.keys()) > 1:
            self._wrong("name", "address and name choose the same thing: give one")
        for key, most in SENDER_KEYS.items():
            self._check_sender(key, most)
        for key in INVALID_KEYS:
            if key in self.entry and _range_of(self.entry[key]) is None:
                self._wrong(key, f"{key} must be a raw number, or [LOWEST, HIGHEST]")
        if "open" in self.entry and not _is_finite(_range_of(self.entry["open"])):
            self._wrong("open", "open must be a number, or [LOWEST, HIGHEST]")
        given = [key for key in BALANCING_KEYS if key in self.entry]
        for key in given:
            if not _is_number(self.entry[key]) or not self.entry[key]:
                self._wrong(key, f"{key} must be a number above 0")
        if len(given) > 1:
            self._wrong(given[0], f"{' and '.join(given)} say the same thing: give one")
        if "window" in self.entry and not _is_window(self.entry["window"]):
            self._wrong("window", "window must be two numbers, 0 <= low < high <= 1")

    def _check_sender(self, key: str, most: int) -> None:
        """A sender is a number, hexadecimal text, or { n = [...] } with one for each value of the loop n."""
        value = self.entry.get(key)
        if value is None:
            return
        given: Any = [value]
        if isinstance(value, dict):
            loop, given = next(iter(value.items()), ("", None))
            length = len(_numbers(self.loops.get(loop)) or ())
            if len(value) != 1 or not isinstance(given, list) or not length or len(given) != length:
                self._wrong(key, f"{key} must be {{ n = [...] }}, one for each value of the loop n")
                return
        if any((number := _sender(each)) is None or number > most for each in given):
            self._wrong(key, f"{key} must be that of a J1939 sender, a number from 0 to 0x{most:X}")

    def _senders(self, numbers: Mapping[str, int]) -> dict[str, Any]:
        """The address or name for one combination of the loops."""
        found: dict[str, Any] = {}
        for key in self.entry.keys() & SENDER_KEYS.keys():
            value = self.entry[key]
            if isinstance(value, dict):
                loop, given = next(iter(value.items()))
                value = given[(_numbers(self.loops[loop]) or range(0)).index(numbers[loop])]
            found[key] = _sender(value)
        return found

    def _check_role(self) -> None:
        role = self.entry.get("role")
        for key, roles in KEYS_OF_ROLES.items():
            if key in self.entry and role not in roles:
                self._wrong(key, f"only role {' and '.join(map(repr, sorted(roles)))} has {key}")
        if role is None:
            return
        if role not in ROLES:
            self._wrong("role", f"unknown role {role!r}; there are {_listed(ROLES)}")
            return
        needed = {"string", "index"} if role in CELL_ROLES else {"string"} if role in STRING_ROLES else set()
        for key in sorted(needed - self.entry.keys()):
            self._wrong("role", f'role {role!r} needs {key} = "{{{key[0]}}}" or a number')

    def _common(self) -> Signal:
        """What all signals of a pattern share."""
        window = self.entry.get("window")
        number = {key: float(self.entry.get(key, default)) for key, default in NUMBER_KEYS.items()}
        balancing = {key: float(self.entry[key]) for key in BALANCING_KEYS if key in self.entry}
        low, high = _range_of(self.entry.get("open", 0)) or (0, 0)
        return Signal(
            channel=self.reader.channel,
            message="",
            signal="",
            path="",
            unit="",
            sign=self.entry.get("sign", 1),
            role=self.entry.get("role"),
            window=(float(window[0]), float(window[1])) if window else None,
            rate_s=number["rate_s"],
            deadband=number["deadband"],
            heartbeat_s=number["heartbeat_s"],
            frozen_s=number["frozen_s"],
            open=(float(low), float(high)),
            current_a=balancing.get("current_a"),
            resistance_ohm=balancing.get("resistance_ohm"),
        )

    def _filled(self, numbers: Mapping[str, int]) -> dict[str, str]:
        """The texts with their patterns filled; only {n} and {n:03d}, so a map can't reach into objects."""

        def number(found: re.Match[str]) -> str:
            if found[1] not in numbers:
                raise ValueError(f"{found[0]} has no range")
            return str(numbers[found[1]]).zfill(int(found[2] or 1))

        return {key: _FIELD.sub(number, str(self.entry[key])) for key in TEXT_KEYS if key in self.entry}

    def _signal(self, values: Mapping[str, str], base: Signal) -> bool:
        before = len(self.reader.problems)
        message, _, name = values["source"].partition(".")
        signal = self.reader._known.get(message, {}).get(name)
        unit = self.reader._paths.unit_of(values["path"])
        if signal is None:
            self._wrong("source", f"the database has no signal {values['source']!r}")
        elif message not in self.reader._named:
            self._wrong("source", f"[messages.{message}] is missing: how often does it come?")
        if unit is None:
            text = f"{values['path']!r} is no path of VSS 6 or the overlay; add it to vss_overlay.toml beside the map"
            self._wrong("path", text)
        for key in ("string", "index"):
            if key in values and not re.fullmatch(r"[0-9]{1,5}", values[key]):
                self._wrong(key, f"{key} must be a number, or a pattern that gives one")
        self._check_j1939(message)
        if base.role == "balancing" and unit is not None and (unit == "A") == _is_switch(base):
            self._wrong(
                "role",
                "a balancing current has a path in A; a switch has not, but current_a or resistance_ohm",
            )
        invalid = self._invalid(signal) if signal is not None else {}
        factor = self._factor(signal, unit) if signal is not None and unit is not None else None
        if len(self.reader.problems) > before or factor is None or unit is None:
            return False
        numbers: dict[str, Any] = {key: int(values[key]) for key in ("string", "index") if key in values}
        done = replace(base, message=message, signal=name, path=values["path"], unit=unit, factor=factor)
        self.reader.signals.append(replace(done, **numbers, **invalid))
        self.reader.places.append(f"{self.reader._path}:{self.line}")
        return True

    def _check_j1939(self, message: str) -> None:
        for key in self.entry.keys() & SENDER_KEYS.keys():
            if message in self.reader._known and message not in self.reader._j1939:
                self._wrong(key, f"{key}: {message} is no J1939 message")

    def _invalid(self, signal: DbSignal) -> dict[str, Any]:
        """The raw ranges that say "not available" and "error", checked against what the signal can hold."""
        ranges: dict[str, tuple[float, float]] = {}
        for key in self.entry.keys() & set(INVALID_KEYS):
            low, high = ranges[key] = _range_of(self.entry[key]) or (0, 0)
            if signal.is_float:
                continue
            least = -(1 << signal.length - 1) if signal.is_signed else 0
            most = least + (1 << signal.length) - 1
            if not isinstance(low, int) or not isinstance(high, int) or low < least or high > most:
                self._wrong(key, f"{key}: {signal.name} holds whole numbers from {least} to {most}")
        return ranges

    def _factor(self, signal: DbSignal, unit: str) -> float | None:
        """From the database's physical value to the path's unit and our sign."""
        scale, offset = float(signal.conversion.scale), float(signal.conversion.offset)
        if not math.isfinite(scale) or not math.isfinite(offset) or scale == 0:
            self._wrong("source", f"{signal.name}: the database's scale or offset is no usable number")
            return None
        if signal.length > 64:
            self._wrong("source", f"{signal.name}: over 64 bits, not a number")
            return None
        own = str(self.entry.get("unit") or signal.unit or "")
        factor = conversion(own, unit)
        if factor is None:
            text = f"unit {own!r} of {signal.name} can't be turned into {unit!r}"
            self._wrong("unit", f'{text}; say unit = "..." where the database is wrong')
            return None
        return factor * int(self.entry.get("sign", 1))

    def _wrong(self, key: str | None, what: str) -> None:
        self.reader._wrong(self.reader._find(key, self.line) if key else self.line, what)


def _combinations(loops: Mapping[str, Any]) -> Iterator[dict[str, int]]:
    """Every combination of the loop variables; {"n": "1..3"} gives n=1, n=2, n=3."""
    ranges = []
    size = 1
    for name, value in loops.items():
        numbers = _numbers(value)
        if numbers is None:
            raise ValueError(f"{name} must be a range, not {value!r}")
        ranges.append(numbers)
        size *= len(numbers)
    if not 0 < size <= MAX_EXPANDED:
        raise ValueError(f"the pattern names {size} signals, not 1 to {MAX_EXPANDED}")
    for combination in itertools.product(*ranges):
        yield dict(zip(loops, combination, strict=True))


def _numbers(value: Any) -> range | None:
    """The numbers of a loop: "1..176"."""
    found = re.fullmatch(r"([0-9]{1,5})\.\.([0-9]{1,5})", value) if isinstance(value, str) else None
    return range(int(found[1]), int(found[2]) + 1) if found else None


def _sender(value: Any) -> int | None:
    """An address or a NAME: a number, or text of hexadecimal digits, as tools write a NAME."""
    if isinstance(value, str) and re.fullmatch(r"0[xX][0-9A-Fa-f]{1,16}", value):
        return int(value, 16)
    return value if type(value) is int and value >= 0 else None


def _range_of(value: Any) -> tuple[float, float] | None:
    """A number as (number, number), [low, high] as (low, high); None where it is neither."""
    pair = value if isinstance(value, list) else [value, value]
    if len(pair) != 2 or not all(type(n) in (int, float) for n in pair):
        return None
    return (pair[0], pair[1]) if pair[0] <= pair[1] or (pair[0] != pair[0] and pair[1] != pair[1]) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < MAX_SECONDS


def _is_finite(pair: tuple[float, float] | None) -> bool:
    return pair is not None and all(math.isfinite(n) for n in pair)


def _is_switch(signal: Signal) -> bool:
    return signal.current_a is not None or signal.resistance_ohm is not None


def _is_window(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not all(_is_number(v) for v in value):
        return False
    return bool(value[0] < value[1] <= 1)


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))


def _toml_line(error: BaseException) -> str:
    found = re.search(r"\(at line (\d+)", str(error))
    return f":{found[1]}" if found else ""
