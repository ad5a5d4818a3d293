"""The configuration of one bus: a TOML file, checked whole before anything starts.

Each section is a dataclass below; a field's type, default, and `rule` are all that there is to know
about a key. `load` reports every mistake at once, each as `FILE:LINE: what is wrong`.

    operator = "almaty-bus"          # who runs the bus: first part of every topic
    bus = "bus-017"                  # this bus: second part
    state_dir = "/var/lib/ayaz"      # the spool and the estimator's memory

    [[can]]                          # one per CAN channel
    name = "bms"
    source = "can0"                  # SocketCAN; or python-can's interface:channel; or log:PATH
    bitrate = 500000
    # data_bitrate = 2000000         # CAN FD
    # filters = "18FEF100:1FFFFF00"  # kernel filters ID:MASK,...: they hide unknown ids and the bus load
    # listen_only = false            # do not complain that the controller acknowledges
    dbc = "bms"                      # one that we ship, or a path; its signal map lies beside it

    [battery]
    cell = "lfp_bus"                 # one that we ship, or a path
    parallel = 1                     # cells in parallel behind each cell voltage
    # series = 176                   # cells in series in a string: checked, and needed where the bus shows the pack only

    # [events]                       # thresholds of the detectors, where those of docs/events.md don't fit
    # cell_soc = 0.03

    [mqtt]
    broker = "mqtts://depot.example:8883"
    ca = "/etc/ayaz/ca.pem"
"""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from edge.can.socketcan import parse_filters
from edge.errors import BrokerError, ConfigError, SourceError
from edge.events.limits import Limits
from edge.telemetry.broker_url import parse_broker

Rule = Callable[[Any], str | None]  # None when the value is good, else what it must be

TOPIC_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _topic_part(value: str) -> str | None:
    return None if TOPIC_PART.fullmatch(value) else "must be 1 to 64 letters, digits, '.', '_' or '-'"


def _positive(value: float) -> str | None:
    return None if 0 < value < 1e9 else "must be greater than 0"


def _fraction(value: float) -> str | None:
    return None if 0 <= value <= 1 else "must lie between 0 and 1"


def _source(value: str) -> str | None:
    return (
        None if re.fullmatch(r"[\w-]+(:.+)?", value) else "must be INTERFACE:CHANNEL, such as socketcan:can0"
    )


def _filters(value: str) -> str | None:
    try:
        parse_filters(value)
    except SourceError as error:
        return str(error)
    return None


def _broker(value: str) -> str | None:
    try:
        parse_broker(value)
    except BrokerError:
        return "must be mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"
    return None


def _file(value: Path) -> str | None:
    return None if value.is_file() else "no such file"


def _not_empty(value: str) -> str | None:
    return None if value else "must not be empty"


def _mqtt_version(value: int) -> str | None:
    return None if value in (3, 5) else "must be 5, or 3 for MQTT 3.1.1"


def key(rule: Rule | None = None, default: Any = MISSING) -> Any:
    """A configuration key: `rule` says what a good value is; no default means that it is required."""
    return field(metadata={"rule": rule}, default=default)


@dataclass(frozen=True)
class CanConfig:
    """One CAN channel."""

    name: str = key(_topic_part)
    source: str = key(_source)
    dbc: str = key(_not_empty)
    bitrate: int = key(_positive, 500_000)
    data_bitrate: int | None = key(_positive, None)  # CAN FD's second phase
    filters: str = key(_filters, "")
    listen_only: bool = key(None, True)


@dataclass(frozen=True)
class BatteryConfig:
    """The battery: which cell, and where the estimate starts."""

    cell: str = key(_not_empty)
    parallel: int = key(_positive, 1)
    capacity_ah: float | None = key(_positive, None)
    initial_soc: float | None = key(_fraction, None)
    series: int | None = key(_positive, None)


@dataclass(frozen=True)
class BatchConfig:
    """How long a batch stays open, and how often `state` is published."""

    interval_s: float = key(_positive, 10.0)
    state_interval_s: float = key(_positive, 5.0)


@dataclass(frozen=True)
class EventsConfig:
    """When something is worth an event: `edge.events.limits.Limits`, which says what each is and where it is from."""

    cell_soc: float = key(_fraction, Limits.cell_soc)
    cell_resistance: float = key(_positive, Limits.cell_resistance)
    insulation_warning_ohm_per_v: float = key(_positive, Limits.insulation_warning_ohm_per_v)
    insulation_critical_ohm_per_v: float = key(_positive, Limits.insulation_critical_ohm_per_v)
    insulation_horizon_h: float = key(_positive, Limits.insulation_horizon_h)
    heating_degc_per_min: float = key(_positive, Limits.heating_degc_per_min)
    runaway_degc_per_s: float = key(_positive, Limits.runaway_degc_per_s)
    bms_soc: float = key(_fraction, Limits.bms_soc)


@dataclass(frozen=True)
class SpoolConfig:
    """What waits on the bus for the depot."""

    max_mb: float = key(_positive, 512.0)


@dataclass(frozen=True)
class MqttConfig:
    """The way to the depot."""

    broker: str = key(_broker)
    version: int = key(_mqtt_version, 5)
    user: str | None = key(_not_empty, None)
    password_file: Path | None = key(_file, None)
    ca: Path | None = key(_file, None)
    cert: Path | None = key(_file, None)
    key: Path | None = key(_file, None)


@dataclass(frozen=True)
class Config:
    """One bus. Paths are absolute, or relative to the configuration file."""

    operator: str = key(_topic_part)
    bus: str = key(_topic_part)
    can: tuple[CanConfig, ...] = key()
    battery: BatteryConfig = key()
    mqtt: MqttConfig = key()
    state_dir: Path = key(None, Path("/var/lib/ayaz"))
    batch: BatchConfig = key(None, BatchConfig())
    events: EventsConfig = key(None, EventsConfig())
    spool: SpoolConfig = key(None, SpoolConfig())
    path: Path = key(None, Path("ayaz.toml"))  # where it was read from; not a key of the file


def load(path: Path) -> Config:
    """Read and check a configuration file.

    Raises
    ------
    ConfigError
        The file cannot be read, is not TOML, or has mistakes: all of them are in `problems`.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; see README.md for one to begin with") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    reader = _Reader(path, text)
    config: Config | None = reader.section(Config, table, ())
    if config and len({c.name for c in config.can}) < len(config.can):
        reader.wrong(("can",), "two channels have the same name")
    if config and config.events.insulation_critical_ohm_per_v > config.events.insulation_warning_ohm_per_v:
        reader.wrong(
            ("events", "insulation_critical_ohm_per_v"), "must not be more than insulation_warning_ohm_per_v"
        )
    if config and (config.mqtt.cert is None) != (config.mqtt.key is None):
        reader.wrong(("mqtt",), "cert and key belong together: give both or neither")
    if reader.problems or config is None:
        raise ConfigError(reader.problems)
    return config


Place = tuple[str | int, ...]


class _Reader:
    """Turns tables into the dataclasses above and collects every mistake with its line."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = line_numbers(text)
        self.problems: list[str] = []

    def wrong(self, place: Place, what: str) -> None:
        line = next((self.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.lines), 1)
        name = ".".join(str(part) for part in place if isinstance(part, str))
        self.problems.append(f"{self.path}:{line}: {name}: {what}")

    def section(self, kind: type[Any], table: Any, place: Place) -> Any:
        """An instance of `kind`, or None where the table has a mistake."""
        if not isinstance(table, dict):
            self.wrong(place, "must be a table")
            return None
        before = len(self.problems)
        hints = typing.get_type_hints(kind)
        known = {f.name: f for f in fields(kind) if f.name != "path"}
        for name in table:
            if name not in known:
                self.wrong((*place, name), f"unknown key; there are: {', '.join(sorted(known))}")
        values: dict[str, Any] = {"path": self.path} if kind is Config else {}
        for name, spec in known.items():
            if name in table:
                values[name] = self.value(hints[name], table[name], (*place, name), spec.metadata.get("rule"))
            elif spec.default is MISSING:
                self.wrong((*place, name), "is missing")
        return kind(**values) if len(self.problems) == before else None

    def value(self, hint: Any, value: Any, place: Place, rule: Rule | None) -> Any:
        """The value as its type, or None where it is wrong."""
        if typing.get_origin(hint) is tuple:
            return self.sections(typing.get_args(hint)[0], value, place)
        kinds = [k for k in typing.get_args(hint) or (hint,) if k is not type(None)]
        kind = kinds[0]
        if hasattr(kind, "__dataclass_fields__"):
            return self.section(kind, value, place)
        wanted: Any = {Path: str, float: (int, float)}.get(kind, kind)
        if not isinstance(value, wanted) or isinstance(value, bool) != (kind is bool):
            self.wrong(place, f"must be a {_TYPE_NAMES[kind]}, not {value!r}")
            return None
        value = (self.path.parent / value).absolute() if kind is Path else kind(value)
        fault = rule(value) if rule else None
        if fault:
            self.wrong(place, f"{fault}; it is {str(value)!r}")
        return value

    def sections(self, kind: type[Any], value: Any, place: Place) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            self.wrong(place, f"must be one or more [[{place[-1]}]] tables")
            return ()
        return tuple(self.section(kind, table, (*place, n)) for n, table in enumerate(value))


_TYPE_NAMES: dict[type, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    Path: "path",
    bool: "true or false",
}

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\-]+)\s*\]\]?")
_KEY = re.compile(r"\s*([\w\-]+)\s*=")


def line_numbers(text: str) -> dict[Place, int]:
    """Where each key of a TOML text stands: {("can", 0, "source"): 5, ...}, lines from 1.

    It knows table headers, arrays of tables and bare keys at the start of a line, which is how people
    write configurations; for anything else the place of the enclosing table is near enough.
    """
    places: dict[Place, int] = {}
    counts: dict[str, int] = {}
    here: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            bracket, name = header.groups()
            here = tuple(name.split("."))
            if bracket == "[[":
                here = (*here, counts.get(name, 0))
                counts[name] = counts.get(name, 0) + 1
                places.setdefault(here[:-1], number)
            places.setdefault(here, number)
        elif assignment := _KEY.match(line):
            places.setdefault((*here, assignment.group(1)), number)
    return places
