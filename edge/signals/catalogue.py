"""The catalogue: which DBC signal is which VSS path, its sign, its rate on the uplink, its role.

Made from a database and the signal map (TOML) that lies beside it:

    version = 1
    [messages.NAME]                 # every message of the database
    period_ms, timeout_ms           # after timeout_ms without a frame its signals are stale
    counter = "SIGNAL"              # optional: must change from frame to frame
    checksum = { signal = "SIGNAL", kind = "crc8-sae-j1850" | "xor" | "sum" }
    [[signals]]
    source = "MESSAGE.SIGNAL"       # {s}, {n:03d}: patterns, with s = "1..2", n = "1..176"
    path = "Vehicle. ..."           # VSS 6, or the overlay in dbc/vss_overlay.toml
    sign, rate_s, deadband, heartbeat_s, role, string, index, window

All mistakes of a map are reported at once.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import cantools
from cantools.database import Database

from edge.errors import DatabaseError, SignalMapError

ROLES = frozenset(
    "pack_current pack_voltage string_current string_voltage cell_voltage cell_temp bms_soc bms_state "
    "contactors insulation speed odometer ambient_temp hvac_power aux_power charger_state".split()
)
CHECKSUMS = ("crc8-sae-j1850", "xor", "sum")
MAX_DATABASE_BYTES = 64_000_000
MAX_EXPANDED = 4096  # signals that one pattern may name
MESSAGE_KEYS = {"period_ms", "timeout_ms", "counter", "checksum"}
SIGNAL_KEYS = {
    "source", "path", "sign", "rate_s", "deadband", "heartbeat_s", "role", "string", "index", "window"
}  # fmt: skip


@dataclass(frozen=True)
class Signal:
    """One signal of one channel, and what it means. `sign` turns the bus's sign into ours."""

    channel: int
    message: str
    signal: str
    path: str
    unit: str
    sign: int = 1
    rate_s: float = 0.0
    deadband: float = 0.0
    heartbeat_s: float = 60.0
    role: str | None = None
    string: int | None = None
    index: int | None = None
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class MessageRule:
    """How often a message comes, and what protects it."""

    channel: int
    message: str
    period_ms: int
    timeout_ms: int
    counter: str | None = None
    checksum: tuple[str, str] | None = None  # signal, kind


@dataclass(frozen=True)
class Channel:
    """One CAN channel with its database."""

    name: str
    number: int
    database: Database = field(repr=False)


@dataclass(frozen=True)
class Catalogue:
    """Everything that the core knows of its channels."""

    channels: tuple[Channel, ...]
    signals: tuple[Signal, ...]
    messages: tuple[MessageRule, ...]


def load_catalogue(dbcs: Sequence[tuple[str, str | Path]]) -> Catalogue:
    """The catalogue of some channels, each a name and a database: one that we ship, or a path.

    Raises
    ------
    DatabaseError
        A database can't be read.
    SignalMapError
        Maps are wrong: every mistake, one line each.
    """
    channels, signals, messages, problems = [], [], [], []
    units = vss_units()
    for number, (name, where) in enumerate(dbcs):
        path = find_database(where)
        database = load_database(path)
        channels.append(Channel(name, number, database))
        reader = _MapReader(path.with_suffix(".toml"), database, number, units)
        signals += reader.signals
        messages += reader.messages
        problems += reader.problems
    seen: set[str] = set()
    for signal in signals:
        if signal.path in seen:
            problems.append(f"{signal.path} is named twice; each path may have one source")
        seen.add(signal.path)
    if problems:
        raise SignalMapError(problems)
    return Catalogue(tuple(channels), tuple(signals), tuple(messages))


def find_database(where: str | Path) -> Path:
    """The path of a database: one that we ship by its name, or the path itself.

    Raises
    ------
    DatabaseError
        There is none.
    """
    if isinstance(where, str):
        with resources.as_file(resources.files("dbc") / f"{where}.dbc") as path:
            if path.is_file():
                return path
        shipped = sorted(p.name[:-4] for p in resources.files("dbc").iterdir() if p.name.endswith(".dbc"))
        raise DatabaseError(f"no database {where!r}; we ship {', '.join(shipped)}, or give a path to a .dbc")
    if not where.is_file():
        raise DatabaseError(f"{where}: no such file")
    return where


def load_database(path: Path) -> Database:
    """Load a DBC (KCD, SYM, ARXML) file.

    Raises
    ------
    DatabaseError
        The file can't be read or is not what it says.
    """
    try:
        if path.stat().st_size > MAX_DATABASE_BYTES:
            raise DatabaseError(f"{path}: over {MAX_DATABASE_BYTES // 1_000_000} MB: not a database of CAN messages")
        database = cantools.database.load_file(str(path), strict=False)
    except DatabaseError:
        raise
    except OSError as error:
        raise DatabaseError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # cantools and its parsers raise almost anything on a broken file
        raise DatabaseError(f"{path}: not a database that we can read: {_first_line(error)}") from None
    if not isinstance(database, Database):
        raise DatabaseError(f"{path}: a diagnostics database, not one of CAN messages")
    return database


def vss_units() -> dict[re.Pattern[str], str]:
    """Every path that we know, as a pattern, with its unit."""
    table = tomllib.loads((resources.files("dbc") / "vss_overlay.toml").read_text("utf-8"))
    return {
        re.compile(re.escape(path).replace(r"\{n\}", r"\d+")): unit
        for part in ("vss6", "overlay")
        for path, unit in table[part].items()
    }


def unit_of(path: str) -> str | None:
    """The unit of a VSS or overlay path; None where we don't know it."""
    return next((unit for known, unit in vss_units().items() if known.fullmatch(path)), None)


class _MapReader:
    """One signal map, checked against its database."""

    def __init__(self, path: Path, database: Database, channel: int, units: Mapping[re.Pattern[str], str]) -> None:
        self.path, self.channel, self.units = path, channel, units
        self.signals: list[Signal] = []
        self.messages: list[MessageRule] = []
        self.problems: list[str] = []
        self.known = {m.name: {s.name for s in m.signals} for m in database.messages}
        try:
            text = path.read_text("utf-8")
            table = tomllib.loads(text)
        except FileNotFoundError:
            self._wrong(0, "no such signal map; it lies beside its database, see docs/signal-maps.md")
            return
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            self._wrong(0, f"cannot be read: {_first_line(error)}")
            return
        self._lines = text.splitlines()
        self._read(table)

    def _read(self, table: dict[str, Any]) -> None:
        if table.get("version") != 1:
            self._wrong(1, "version must be 1")
        for name in sorted(table.keys() - {"version", "messages", "signals"}):
            self._wrong(self._line(name), f"unknown key {name!r}")
        messages, signals = table.get("messages", {}), table.get("signals", [])
        if not isinstance(messages, dict) or not isinstance(signals, list):
            self._wrong(1, "there must be [messages.NAME] tables and [[signals]] tables")
            return
        for name, rule in messages.items():
            self._message(name, rule, self._line(rf"\[messages\.{re.escape(str(name))}\]"))
        headers = [n for n, line in enumerate(self._lines, 1) if line.strip().startswith("[[signals]]")]
        for n, entry in enumerate(signals):
            line = headers[n] if n < len(headers) else 1
            if isinstance(entry, dict):
                self._pattern(entry, line)
            else:
                self._wrong(line, "must be a table")
        for missing in sorted({s.message for s in self.signals} - {m.message for m in self.messages}):
            self._wrong(1, f"[messages.{missing}] is missing, but signals of it are mapped")

    def _message(self, name: str, rule: Any, line: int) -> None:
        if name not in self.known:
            self._wrong(line, f"the database has no message {name}")
            return
        if not isinstance(rule, dict) or rule.keys() - MESSAGE_KEYS:
            self._wrong(line, f"messages.{name}: keys are {', '.join(sorted(MESSAGE_KEYS))}")
            return
        period, timeout = rule.get("period_ms"), rule.get("timeout_ms")
        if not all(isinstance(v, int) and not isinstance(v, bool) and 0 < v < 1e8 for v in (period, timeout)):
            self._wrong(line, f"messages.{name}: period_ms and timeout_ms must be whole numbers above 0")
            return
        assert isinstance(period, int)
        assert isinstance(timeout, int)
        checksum = self._checksum(name, rule.get("checksum"), line)
        counter = rule.get("counter")
        if counter is not None and counter not in self.known[name]:
            self._wrong(line, f"messages.{name}: no signal {counter!r} for the counter")
        self.messages.append(MessageRule(self.channel, name, period, timeout, counter, checksum))

    def _checksum(self, name: str, value: Any, line: int) -> tuple[str, str] | None:
        if value is None:
            return None
        if not isinstance(value, dict) or value.keys() != {"signal", "kind"}:
            self._wrong(line, f"messages.{name}: checksum must be {{ signal = ..., kind = ... }}")
        elif value["signal"] not in self.known[name]:
            self._wrong(line, f"messages.{name}: no signal {value['signal']!r} for the checksum")
        elif value["kind"] not in CHECKSUMS:
            self._wrong(line, f"messages.{name}: checksum kinds are {', '.join(CHECKSUMS)}")
        else:
            return value["signal"], value["kind"]
        return None

    def _pattern(self, entry: dict[str, Any], line: int) -> None:
        """One [[signals]] table: a signal, or many by its pattern."""
        loops = {k: v for k, v in entry.items() if len(k) == 1 and k.isalpha()}
        for name in sorted(entry.keys() - SIGNAL_KEYS - loops.keys()):
            self._wrong(line, f"unknown key {name!r}; there are {', '.join(sorted(SIGNAL_KEYS))}")
        if not all(isinstance(entry.get(k), str) for k in ("source", "path")):
            self._wrong(line, "source and path must be given, as text")
            return
        try:
            names = list(_expanded(loops))
            filled = [{k: _filled(entry[k], n) for k in ("source", "path", "string", "index") if k in entry} for n in names]
        except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            self._wrong(line, f"pattern: {_first_line(error)}; write {{n}} with n = \"1..176\"")
            return
        base = self._common(entry, line)
        if base is None:
            return
        for values in filled:
            if not self._signal(values, base, line):
                return  # one line for a pattern, not 176

    def _common(self, entry: dict[str, Any], line: int) -> Signal | None:
        """What all signals of a pattern share."""
        before = len(self.problems)
        for key, low in (("rate_s", 0.0), ("deadband", 0.0), ("heartbeat_s", 1e-3)):
            value = entry.get(key, 60.0)
            if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value < 1e7:
                self._wrong(line, f"{key} must be a number from {low:g} up")
        if entry.get("sign", 1) not in (1, -1):
            self._wrong(line, "sign must be 1 or -1")
        if entry.get("role") is not None and entry["role"] not in ROLES:
            self._wrong(line, f"unknown role {entry['role']!r}; there are {', '.join(sorted(ROLES))}")
        window = entry.get("window")
        if window is not None and not _is_window(window):
            self._wrong(line, "window must be two numbers, 0 <= low < high <= 1")
        if len(self.problems) > before:
            return None
        return Signal(
            self.channel, "", "", "", "",
            sign=entry.get("sign", 1),
            rate_s=float(entry.get("rate_s", 0)),
            deadband=float(entry.get("deadband", 0)),
            heartbeat_s=float(entry.get("heartbeat_s", 60)),
            role=entry.get("role"),
            window=(float(window[0]), float(window[1])) if window else None,
        )  # fmt: skip

    def _signal(self, values: dict[str, str], base: Signal, line: int) -> bool:
        message, _, signal = values["source"].partition(".")
        unit = next((u for p, u in self.units.items() if p.fullmatch(values["path"])), None)
        if signal not in self.known.get(message, ()):
            self._wrong(line, f"the database has no signal {values['source']}")
        elif unit is None:
            self._wrong(line, f"{values['path']} is neither VSS 6 nor in dbc/vss_overlay.toml: add it there")
        elif not all(values.get(k, "1").isdigit() for k in ("string", "index")):
            self._wrong(line, "string and index must be numbers or patterns that give numbers")
        else:
            numbers = {k: int(values[k]) for k in ("string", "index") if k in values}
            path = values["path"]
            self.signals.append(
                replace(base, message=message, signal=signal, path=path, unit=unit, **numbers)  # type: ignore[arg-type]
            )
            return True
        return False

    def _line(self, pattern: str) -> int:
        return next((n for n, line in enumerate(self._lines, 1) if re.match(rf"\s*{pattern}", line)), 1)

    def _wrong(self, line: int, what: str) -> None:
        self.problems.append(f"{self.path}:{line}: {what}" if line else f"{self.path}: {what}")


def _expanded(loops: Mapping[str, Any]) -> Iterator[dict[str, int]]:
    """Every combination of the loop variables; {"n": "1..3"} gives n=1, n=2, n=3."""
    ranges = []
    size = 1
    for value in loops.values():
        low, high = (int(part) for part in str(value).split(".."))
        size *= max(high - low + 1, 0)
        if not 0 < size <= MAX_EXPANDED:
            raise ValueError(f"{value!r} names no signal, or over {MAX_EXPANDED}")
        ranges.append(range(low, high + 1))
    for numbers in itertools.product(*ranges):
        yield dict(zip(loops, numbers, strict=True))


_FIELD = re.compile(r"\{(\w)(?::0(\d)d)?\}")


def _filled(text: Any, numbers: Mapping[str, int]) -> str:
    """A pattern with its numbers; only {n} and {n:03d} are known, so a map can't reach into objects."""
    return _FIELD.sub(lambda m: str(numbers[m[1]]).zfill(int(m[2] or 1)), str(text))


def _is_window(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(isinstance(v, int | float) for v in value)
    return numbers and 0 <= value[0] < value[1] <= 1


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
