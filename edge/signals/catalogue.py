"""The catalogue: everything that Ayaz knows of the channels of a bus.

Which DBC signal is which VSS path, its unit and sign, its rate on the uplink, its role; how often each
message comes and what protects it. Made from databases and the signal maps beside them
(dbc/README.md explains a map).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cantools.database import Database

from edge.errors import SignalMapError
from edge.signals.databases import find_database, load_database
from edge.signals.signal_map import ROLES, MapReader, MessageRule, Signal
from edge.signals.vss import unit_of

__all__ = [
    "ROLES",
    "Catalogue",
    "Channel",
    "MessageRule",
    "Signal",
    "find_database",
    "load_catalogue",
    "load_database",
    "unit_of",
]


@dataclass(frozen=True)
class Channel:
    """One CAN channel with its database and the path of its signal map."""

    name: str
    number: int
    database: Database = field(repr=False)
    map: Path


@dataclass(frozen=True)
class Catalogue:
    """Everything that the core knows of its channels."""

    channels: tuple[Channel, ...]
    signals: tuple[Signal, ...]
    messages: tuple[MessageRule, ...]


def load_catalogue(dbcs: Sequence[tuple[str, str | Path]]) -> Catalogue:
    """The catalogue of some channels, each a name and a database: one that we ship, or a path.

    A channel's number is its place in `dbcs`. The signal map is the TOML beside the database.

    Raises
    ------
    DatabaseError
        A database can't be read.
    SignalMapError
        Maps are wrong: every mistake of all of them, one line each.
    """
    channels: list[Channel] = []
    readers: list[MapReader] = []
    for number, (name, where) in enumerate(dbcs):
        path = find_database(where)
        channels.append(Channel(name, number, load_database(path), path.with_suffix(".toml")))
        readers.append(MapReader(channels[-1].map, channels[-1].database, number))
    placed = [pair for reader in readers for pair in zip(reader.signals, reader.places, strict=True)]
    problems = [problem for reader in readers for problem in reader.problems]
    problems += _repeated((signal.path, place) for signal, place in placed)
    problems += _repeated((_sender(signal), place) for signal, place in placed)
    problems += _repeated((role, place) for signal, place in placed if (role := _role(signal)))
    if problems:
        raise SignalMapError(problems)
    messages = tuple(message for reader in readers for message in reader.messages)
    return Catalogue(tuple(channels), tuple(signal for signal, _ in placed), messages)


def _sender(signal: Signal) -> str:
    """A signal of a sender: two J1939 senders of one message are two signals."""
    numbers = (("address", signal.address), ("name", signal.name))
    of = "".join(f" of {key} 0x{number:X}" for key, number in numbers if number is not None)
    return f"channel {signal.channel}'s {signal.message}.{signal.signal}{of}"


def _role(signal: Signal) -> str:
    """A role with what it is the role of: at most one signal may have it."""
    numbers = (("string", signal.string), ("index", signal.index))
    of = "".join(f" {name} {number}" for name, number in numbers if number is not None)
    return f"role {signal.role!r}{of}" if signal.role else ""


def _repeated(named: Iterable[tuple[str, str]]) -> list[str]:
    """What is named twice, once for each pair of places: a pattern may repeat hundreds of names."""
    first: dict[str, str] = {}
    found: dict[tuple[str, str], str] = {}
    for name, place in named:
        before = first.setdefault(name, place)
        if before is not place:
            found.setdefault((place, before), f"{place}: {name} is named before, at {before}")
    return list(found.values())
