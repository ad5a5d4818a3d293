"""A scenario's files as one table: the file itself, and those that it is based on."""

from __future__ import annotations

import difflib
import re
import stat
import tomllib
from dataclasses import dataclass, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from edge.errors import ScenarioError
from sim_bus.scenario import model
from sim_bus.scenario.places import Place, last_line, places

MAX_BYTES = 256_000
MAX_CHAIN = 16
MAX_LINE = 4_000  # characters: `tomllib` needs the square of a dotted key's length
_AT_LINE = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)


@dataclass
class Source:
    """What the files say together, and where each thing was said: (file, line)."""

    table: dict[str, Any]
    where: dict[Place, tuple[str, int]]
    files: list[str]  # the asked-for one first, then what it is based on


def names() -> list[str]:
    """The scenarios that we ship."""
    folder = resources.files("sim_bus.scenarios")
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".toml"))


def find(where: str) -> Path:
    """The file of a shipped scenario's name, or of a path: whatever has a / or ends with .toml.

    Raises
    ------
    ScenarioError
        It is no path, and we ship none of that name.
    """
    ours = names()
    if where in ours:
        return Path(str(resources.files("sim_bus.scenarios") / f"{where}.toml"))
    if "/" in where or where.endswith(".toml"):
        return Path(where)
    near = difflib.get_close_matches(where, ours, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ScenarioError(f"no scenario {where!r}; {hint}ayaz sim --list shows ours, or give a path to a .toml")


def read(path: Path, above: tuple[Path, ...] = ()) -> Source:
    """A scenario's file merged over those that it is based on: a key over their key, a list over their list.

    What `add_faults` says is in `faults` already, behind the base's; `based_on` is gone. `above`: the files that are
    based on this one.

    Raises
    ------
    ScenarioError
        A file of the chain cannot be read or is not TOML, or the chain has no end.
    """
    text = _text(path)
    try:
        table = tomllib.loads(text)
        lines = places(text)
    except RecursionError:
        raise ScenarioError(f"{path}:1: not TOML that we can read: nested too deeply") from None
    except ValueError as error:
        raise ScenarioError(_syntax(path, text, error)) from None
    _from_here(table, path.parent)
    where = {place: (str(path), line) for place, line in lines.items()}
    source = Source(table, {(): (str(path), 1), **where}, [str(path)])
    if "based_on" in table:
        source = _over(source, _base(path, table.pop("based_on"), lines[("based_on",)], (*above, path)))
    _add_faults(source)
    return source


def _text(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would make us wait for ever
            what = "is a directory" if path.is_dir() else "is not a file"
            raise ScenarioError(f"{path}: {what}")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise ScenarioError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_BYTES:
        raise ScenarioError(f"{path}: over {MAX_BYTES // 1000} kB: not a scenario")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ScenarioError(f"{path}:{line}: not UTF-8") from None
    for number, line_text in enumerate(text.split("\n"), 1):
        if len(line_text) > MAX_LINE:
            raise ScenarioError(f"{path}:{number}: a line of over {MAX_LINE} characters: not a scenario")
    return text


def _syntax(path: Path, text: str, error: ValueError) -> str:
    """`tomllib`'s message with the line in front; of what has no end, the line where it begins."""
    found = _AT_LINE.fullmatch(str(error))
    if found and not found[2]:
        return f"{path}:{last_line(text)}: not TOML: {found[1]}, which the file has not to its end"
    what, line = (found[1], found[2]) if found else (str(error), "1")
    return f"{path}:{line}: not TOML: {what}"


def _base(path: Path, named: Any, line: int, above: tuple[Path, ...]) -> Source:
    place = f"{path}:{line}: based_on"
    if not isinstance(named, str):
        raise ScenarioError(f"{place} must be a scenario's name or a path, not {named!r:.60}")
    if len(above) > MAX_CHAIN:
        raise ScenarioError(f"{place}: more than {MAX_CHAIN} files deep")
    try:
        base = path.parent / find(named)
    except ScenarioError as error:
        raise ScenarioError(f"{place}: {error}") from None
    if base.resolve() in (p.resolve() for p in above):
        chain = " -> ".join(p.name for p in (*above, base))
        raise ScenarioError(f"{place}: goes round in a circle: {chain}")
    try:
        return read(base, above)
    except ScenarioError as error:
        raise ScenarioError([f"{place}: {problem}" for problem in error.problems]) from None


def _over(child: Source, base: Source) -> Source:
    """`child` with what only `base` says added; `about` is each file's own."""
    merged = Source({**base.table}, dict(base.where), child.files + base.files)
    merged.table.pop("about", None)
    replaced: set[Place] = {("about",)}
    for name, value in child.table.items():
        old = merged.table.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            merged.table[name] = {**old, **value}
            replaced |= {(name, key) for key in value}
        else:
            merged.table[name] = value
            replaced.add((name,))
    merged.where = {p: w for p, w in base.where.items() if p[:1] not in replaced and p[:2] not in replaced}
    merged.where |= child.where
    return merged


def _add_faults(source: Source) -> None:
    """`add_faults` behind `faults`, with their places. What is no list stays, for the check to refuse."""
    table = source.table
    more, faults = table.get("add_faults"), table.get("faults", [])
    if not isinstance(more, list) or not isinstance(faults, list):
        return
    first = len(faults)
    for place in [p for p in source.where if p[0:1] == ("add_faults",)]:
        moved: Place = ("faults",)
        if len(place) > 1 and isinstance(place[1], int):
            moved = ("faults", first + place[1], *place[2:])
        source.where.setdefault(moved, source.where[place])
    table["faults"] = faults + more
    del table["add_faults"]


def _paths() -> list[tuple[str, str]]:
    """(table, key) of the keys whose value may be a path."""
    found = []
    for name, kind in get_type_hints(model.Scenario).items():
        if is_dataclass(kind):
            hints = get_type_hints(kind, include_extras=True)
            found += [(name, f.name) for f in fields(kind) if hints[f.name].__metadata__[0].path]
    return found


_PATHS = _paths()


def _from_here(table: dict[str, Any], folder: Path) -> None:
    """Paths in a file are from that file's folder: made so before it is merged with another folder's."""
    for name, key in _PATHS:
        section = table.get(name)
        value = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict) and isinstance(value, str) and ("/" in value or value.endswith(".toml")):
            section[key] = str(folder / value)
