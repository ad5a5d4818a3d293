"""TOML in, one checked `Scenario` out; or every mistake at once, each with its place.

The tables, keys, ranges and units are those of `model.py`: nothing is said twice. docs/simulator/scenarios.md is the
manual of the format.
"""

from __future__ import annotations

import difflib
import itertools
import re
import reprlib
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints

from edge.errors import ScenarioError
from sim_bus.faults.catalogue import CATALOGUE, Kind
from sim_bus.scenario.model import BatteryPlan, Entry, FaultPlan, Key, Scenario, Table
from sim_bus.scenario.places import Place
from sim_bus.scenario.source import Source, find, names, read

DAY_S = 86_400.0
GROUPS = ("days", "faults")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?", re.ASCII)
_KINDS = {str: "a text", float: "a number", int: "a whole number"}


def load_scenario(where: str) -> Scenario:
    """A scenario: one that we ship by its name, or a path to a .toml.

    Raises
    ------
    ScenarioError
        There is none, or it has mistakes: all of them are in `problems`, each as FILE:LINE: what.
    """
    reader = _Reader(read(find(where)))
    scenario = reader.scenario()
    if scenario is None:
        raise ScenarioError(reader.sorted_problems())
    return scenario


def summaries() -> dict[str, tuple[str, str]]:
    """Of each scenario that we ship: what it is for, and its group ("days" or, where it has faults, "faults")."""
    loaded = {name: load_scenario(name) for name in names()}
    return {name: (one.about, GROUPS[bool(one.faults)]) for name, one in loaded.items()}


def keys_of(kind: type[Any]) -> dict[str, tuple[Field[Any], type[Any], Key]]:
    """The keys of a table of the model by their TOML names: the field, its type without None, and its Key."""
    found = {}
    hints = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        for key in getattr(hints[one.name], "__metadata__", ()):
            base = hints[one.name].__origin__
            plain = (
                next(t for t in get_args(base) if t is not NoneType) if NoneType in get_args(base) else base
            )
            found[key.toml or one.name] = (one, plain, key)
    return found


def tables_of_scenario() -> dict[str, type[Any]]:
    """The tables of a scenario by name: those that stand alone, without timetable and faults."""
    return {n: t for n, t in get_type_hints(Scenario).items() if is_dataclass(t) and isinstance(t, type)}


TABLES = tables_of_scenario()
LISTS: dict[str, type[Any]] = {"timetable": Entry, "faults": FaultPlan}
_ALL: list[type[Any]] = [Scenario, *TABLES.values(), *LISTS.values()]
KEYS = {kind: keys_of(kind) for kind in _ALL}
_PARENTS = {key: name for name, kind in TABLES.items() for key in KEYS[kind]}  # which table a key belongs to


def short(value: Any) -> str:
    """A value for a message: bearable, whatever somebody wrote."""
    try:
        return reprlib.repr(value)[:80]
    except ValueError:  # a whole number of over 4300 digits
        return "a number of thousands of digits"


class _Reader:
    """Turns tables into the model's objects and collects every mistake with its place."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[tuple[int, int, str]] = []  # file's number, line, what

    def sorted_problems(self) -> list[str]:
        return [f"{self.source.files[n]}:{line}: {what}" for n, line, what in sorted(self.problems)]

    def wrong(self, place: Place, what: str) -> None:
        known = next(place[:n] for n in range(len(place), -1, -1) if place[:n] in self.source.where)
        file, line = self.source.where[known]
        self.problems.append((self.source.files.index(file), line, what))

    def scenario(self) -> Scenario | None:
        """All of it, or None where there is any mistake."""
        table = self.source.table
        apart = {*TABLES, *LISTS, "based_on", "add_faults"}
        values = self.section(Scenario, {n: v for n, v in table.items() if n not in apart}, (), apart)
        if "add_faults" in table:
            self.wrong(("add_faults",), "add_faults must be [[add_faults]] tables, and so must faults")
        for name, kind in TABLES.items():
            if name in table or any(f.default is MISSING for f, _, _ in KEYS[kind].values()):
                values[name] = self.made(kind, table.get(name, {}), (name,))
        if "timetable" in table:
            values["timetable"], values["clock_s"] = self.timetable(table["timetable"])
        if "faults" in table:
            values["faults"] = tuple(
                self.fault(t, ("faults", n)) for n, t in enumerate(self.list_of("faults", table["faults"]))
            )
        self.together(values)
        return None if self.problems else Scenario(**values)

    def made(self, kind: type[Any], table: Any, place: Place) -> Any:
        """An instance of `kind`, or None where its table has a mistake."""
        before = len(self.problems)
        values = self.section(kind, table, place)
        return kind(**values) if len(self.problems) == before else None

    def section(self, kind: type[Any], table: Any, place: Place, more: Iterable[str] = ()) -> dict[str, Any]:
        """The good values of a table, by field."""
        title = _title(place)
        if not isinstance(table, dict):
            self.wrong(place, f"{title} must be a table, not {short(table)}")
            return {}
        known = KEYS[kind]
        for name in table:
            if name not in known:
                self.wrong((*place, name), _unknown(name, table[name], title, {*known, *more}))
        values = {}
        for name, (spec, wanted, key) in known.items():
            if name in table:
                values[spec.name] = self.value(wanted, key, table[name], (*place, name))
            elif spec.default is MISSING:
                self.wrong(place, f"{name} is missing{f' in {title}' if place else ''}: {key.about}")
        return values

    def value(self, wanted: Any, key: Key, value: Any, place: Place) -> Any:
        """The value as its type; whatever, and a problem noted, where it is wrong."""
        name = _dotted(place)
        if wanted == Table:
            return self.rows(key, value, place)
        if key.toml == "at":
            return self.clock(value, place)
        if not isinstance(value, (int, float) if wanted is float else wanted) or isinstance(value, bool):
            self.wrong(place, f"{name} must be {_KINDS[wanted]}, not {short(value)}")
        elif isinstance(value, str):
            self.text(key, value, place)
        else:
            return self.number(wanted, key, value, place)
        return value

    def text(self, key: Key, value: str, place: Place) -> None:
        if key.choices and value not in key.choices:
            near = difflib.get_close_matches(value, key.choices, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.wrong(
                place, f"{_dotted(place)} must be one of {', '.join(key.choices)}, not {short(value)}{hint}"
            )
        elif not value.strip() or not value.isprintable():
            self.wrong(place, f"{_dotted(place)} must be a text in one line, not {short(value)}")

    def number(self, wanted: type[Any], key: Key, value: float, place: Place) -> Any:
        if not key.low <= value <= key.high:  # NaN is nowhere
            unit = f" {key.unit}" if key.unit else ""
            span = f"between {key.low:g} and {key.high:g}{unit}"
            self.wrong(place, f"{_dotted(place)} must lie {span}, not {short(value)}")
            return None
        return wanted(value)

    def rows(self, key: Key, value: Any, place: Place) -> Table | None:
        """A Table: one number, or [[x, y], ...] with x rising."""
        assert key.x is not None
        before = len(self.problems)
        if not isinstance(value, list):
            value = [[0.0, value]]
        if not value:
            self.wrong(place, f"{_dotted(place)} must have a row at least")
        for n, row in enumerate(value):
            at = (*place, n)
            if not isinstance(row, list) or len(row) != 2:
                self.wrong(
                    at, f"{_dotted(place)}: a row must be [{key.x.unit}, {key.unit}], not {short(row)}"
                )
                continue
            for part, one in zip((key.x, key), row, strict=True):
                self.value(float, part, one, at)
        if len(self.problems) > before:
            return None
        for n, (row, following) in enumerate(itertools.pairwise(value), 1):
            if not row[0] < following[0]:
                self.wrong(
                    (*place, n), f"{_dotted(place)}: {key.x.unit} must rise, {following[0]} follows {row[0]}"
                )
        return tuple((float(x), float(y)) for x, y in value)

    def list_of(self, name: str, value: Any) -> list[Any]:
        if isinstance(value, list):
            return value
        self.wrong((name,), f"{name} must be [[{name}]] tables, not {short(value)}")
        return []

    def clock(self, value: Any, place: Place) -> float | None:
        """Seconds of the day."""
        found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
        if not found:
            self.wrong(place, f'{_dotted(place)} must be a clock time such as "05:40", not {short(value)}')
            return None
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return hours * 3600.0 + minutes * 60 + seconds

    def timetable(self, value: Any) -> tuple[tuple[Entry, ...], float]:
        """The entries with their times from the first one's, and that one's clock time.

        An earlier clock time is the next day's, where that is within twelve hours: more is a mistake of somebody's.
        """
        tables = self.list_of("timetable", value)
        if value == []:
            self.wrong(("timetable",), "timetable must have an entry at least")
        entries: list[Entry] = []
        clock: float | None = None  # of the entry before, of the day
        first = at = 0.0
        for n, table in enumerate(tables):
            values = self.section(Entry, table, (place := ("timetable", n)))
            now = values.get("at_s")
            if values.get("do") in ("off", "stand", "drive"):
                for key in {"charger", "charger_kw"} & values.keys():
                    self.wrong((*place, key), f'{key} belongs to do = "charge"')
            if now is None:
                continue
            if clock is None:
                first = now
            elif 0 < (step := (now - clock) % DAY_S) <= DAY_S / 2 or now > clock:
                at += step
            else:
                self.wrong((*place, "at"), f"timetable.at: times must rise, {table['at']} does not")
            clock = now
            if "do" in values:
                entries.append(Entry(**{**values, "at_s": at}))
        return tuple(entries), first

    def fault(self, table: Any, place: Place) -> FaultPlan | None:
        """A fault by the catalogue: the plan's own keys, and beside them its kind's parameters."""
        if not isinstance(table, dict):
            self.wrong(place, f"{_title(place)} must be a table, not {short(table)}")
            return None
        kind = CATALOGUE.get(table["kind"]) if isinstance(table.get("kind"), str) else None
        own = {n: v for n, v in table.items() if n in KEYS[FaultPlan]}
        values = self.section(FaultPlan, own, place)
        if kind is None:
            if isinstance(table.get("kind"), str):
                self.wrong((*place, "kind"), _unknown_of("fault kind", table["kind"], list(CATALOGUE)))
            return None
        values["parameters"] = {
            n: self.parameter(kind, n, v, (*place, n)) for n, v in table.items() if n not in own
        }
        return FaultPlan(**values) if "kind" in values else None

    def parameter(self, kind: Kind, name: str, value: Any, place: Place) -> Any:
        """A fault's parameter, of its default's type."""
        known = kind.parameters.get(name)
        if known is None:
            names = [*kind.parameters, *KEYS[FaultPlan]]
            self.wrong(place, _unknown_of(f"parameter of {kind.name}", name, names))
            return None
        key = Key(known.about, known.unit, known.low, known.high, known.choices)
        return self.value(type(known.default), key, value, place)

    def together(self, values: dict[str, Any]) -> None:
        """What is right by itself and wrong together."""
        bus, route = values.get("bus"), values.get("route")
        if bus and bus.cooled_degc < bus.cabin_degc:
            self.wrong(("bus", "cooled_degc"), "bus.cooled_degc must not lie below bus.cabin_degc")
        if route and route.profile:
            self.profile(route.profile, route.length_km)
        for n, fault in enumerate(values.get("faults", ())):
            if fault:
                self.fault_fits(fault, values.get("battery"), ("faults", n))

    def fault_fits(self, fault: FaultPlan, battery: BatteryPlan | None, place: Place) -> None:
        """A fault's place is in the battery that there is; what is drawn lies between two that are in order."""
        given = {n: p.default for n, p in CATALOGUE[fault.kind].parameters.items()} | fault.parameters
        for name, most in (("string", battery and battery.strings), ("cell", battery and battery.cells)):
            if most and isinstance(at := given.get(name), int) and at > most:
                self.wrong(
                    (*place, name), f"faults.{name} must be at most {most}, as the battery has, not {at}"
                )
        shortest, longest = given.get("shortest_s"), given.get("longest_s")
        if isinstance(shortest, int | float) and isinstance(longest, int | float) and shortest > longest:
            self.wrong(place, "faults.longest_s must not lie below faults.shortest_s")

    def profile(self, rows: Table, length_km: float) -> None:
        """Rounds follow each other: without a cliff between them, and on slopes that a bus can climb."""
        place = ("route", "profile")
        if rows[-1][0] > length_km:
            self.wrong(
                place, f"route.profile goes to {rows[-1][0]:g} km, beyond route.length_km {length_km:g}"
            )
        if abs(rows[-1][1] - rows[0][1]) > 1e-6:
            self.wrong(place, "route.profile must end as high as it begins: the next round begins there")
        for n, ((x, y), (x2, y2)) in enumerate(itertools.pairwise(rows), 1):
            if abs(y2 - y) > MAX_GRADE * 1000 * (x2 - x):
                self.wrong((*place, n), f"route.profile: steeper than {MAX_GRADE:.0%} before {x2:g} km")


MAX_GRADE = 0.15


def _title(place: Place) -> str:
    """A table as people write it: [battery], [[faults]]."""
    return f"[[{place[0]}]]" if len(place) > 1 else f"[{place[0]}]" if place else "the scenario"


def _dotted(place: Place) -> str:
    return ".".join(part for part in place if isinstance(part, str))


def _unknown(name: str, value: Any, title: str, known: set[str]) -> str:
    """What an unknown key may have been meant for: one like it, or one of another table's."""
    parent = _PARENTS.get(name)
    if parent and title != f"[{parent}]":
        return f"unknown key {short(name)} in {title}; it belongs into [{parent}]"
    one = value[0] if isinstance(value, list) and value else value
    return _unknown_of("table" if isinstance(one, dict) else f"key in {title}", name, sorted(known))


def _unknown_of(what: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name[:100], known, 1, 0.6)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"unknown {what}: {short(name)}; {hint}"
