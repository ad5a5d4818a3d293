"""The paths that signals may have (VSS 6 and our overlay) and their units.

`dbc/vss6_paths.toml` and `dbc/vss_overlay.toml` hold them; a `vss_overlay.toml` beside an operator's
own database adds to them. In a path `{s}` and `{n}` stand for a number, with or without leading zeros.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from edge.errors import SignalMapError
from edge.signals.databases import shipped_folder
from edge.signals.loading import first_line

OVERLAY = "vss_overlay.toml"
TABLES = ("vss6_paths.toml", OVERLAY)

# Each unit as its base unit and how many of those it is: what can be converted into what.
_UNITS: Mapping[str, tuple[str, float]] = {
    "V": ("V", 1), "mV": ("V", 0.001), "kV": ("V", 1000),
    "A": ("A", 1), "mA": ("A", 0.001),
    "W": ("W", 1), "kW": ("W", 1000),
    "Wh": ("Wh", 1), "kWh": ("Wh", 1000), "MWh": ("Wh", 1e6),
    "Ah": ("Ah", 1), "mAh": ("Ah", 0.001),
    "Ohm": ("Ohm", 1), "mOhm": ("Ohm", 0.001), "kOhm": ("Ohm", 1000), "MOhm": ("Ohm", 1e6),
    "m": ("m", 1), "km": ("m", 1000), "km/h": ("km/h", 1), "m/s": ("km/h", 3.6),
    "s": ("s", 1), "ms": ("s", 0.001), "min": ("s", 60), "h": ("s", 3600),
    "Celsius": ("Celsius", 1), "percent": ("percent", 1), "Nm": ("Nm", 1), "rpm": ("rpm", 1),
}  # fmt: skip

# How databases in the wild write them.
_SPELLINGS: Mapping[str, str] = {
    "%": "percent", "degc": "Celsius", "°c": "Celsius", "c": "Celsius", "celsius": "Celsius",
    "deg c": "Celsius", "kmh": "km/h", "kph": "km/h", "km/hr": "km/h", "1/min": "rpm", "u/min": "rpm",
    "n.m": "Nm", "n*m": "Nm", "volt": "V", "volts": "V", "amp": "A", "amps": "A", "ampere": "A",
    "Ω": "Ohm", "ω": "Ohm", "mΩ": "mOhm", "kΩ": "kOhm", "MΩ": "MOhm", "sec": "s",
}  # fmt: skip


class PathTable:
    """Known paths with their units."""

    def __init__(self, units: Mapping[str, str]) -> None:
        self._units = {path: unit for path, unit in units.items() if "{" not in path}
        self._patterns = [
            (re.compile(re.sub(r"\\\{\w\\\}", "[0-9]+", re.escape(path))), unit)
            for path, unit in units.items()
            if "{" in path
        ]

    def unit_of(self, path: str) -> str | None:
        """The unit of a path ("" where it has none); None where the path is unknown."""
        unit = self._units.get(path)
        if unit is None:
            unit = next((u for pattern, u in self._patterns if pattern.fullmatch(path)), None)
        return unit


def read_paths(file: Path) -> dict[str, str]:
    """The paths of one table and their units.

    Raises
    ------
    SignalMapError
        The file is no such table: every mistake, one line each.
    """
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SignalMapError(f"{file}: cannot be read: {first_line(error)}") from None
    paths = table.get("paths")
    if not isinstance(paths, dict) or table.keys() != {"paths"}:
        raise SignalMapError(f"{file}: must hold one table, [paths]")
    wrong = [
        f'{file}: {path}: must be {{ unit = "V", type = "float", description = "..." }}'
        for path, entry in paths.items()
        if not isinstance(entry, dict) or not isinstance(entry.get("unit"), str)
    ]
    if wrong:
        raise SignalMapError(wrong)
    return {path: entry["unit"] for path, entry in paths.items()}


@functools.cache
def shipped_paths() -> PathTable:
    """VSS 6 and our overlay."""
    return PathTable({k: v for name in TABLES for k, v in read_paths(shipped_folder() / name).items()})


def paths_for(folder: Path) -> PathTable:
    """The shipped paths, and those of an overlay in an operator's own folder.

    Raises
    ------
    SignalMapError
        That overlay is wrong.
    """
    own = folder / OVERLAY
    if not own.is_file() or own.resolve() == (shipped_folder() / OVERLAY).resolve():
        return shipped_paths()
    shipped = {k: v for name in TABLES for k, v in read_paths(shipped_folder() / name).items()}
    return PathTable(read_paths(own) | shipped)


def unit_of(path: str) -> str | None:
    """The unit of a path of VSS 6 or our overlay ("" where it has none); None where it is unknown."""
    return shipped_paths().unit_of(path)


def conversion(unit: str, into: str) -> float | None:
    """What a number in one unit is multiplied with to be in another; None where that makes no sense.

    A path without a unit (a state, a flag) takes any number as it is.
    """
    if not into:
        return 1.0
    known, wanted = _UNITS.get(_spelled(unit)), _UNITS.get(_spelled(into))
    if known is None or wanted is None:
        return 1.0 if unit == into else None
    return known[1] / wanted[1] if known[0] == wanted[0] else None


def _spelled(unit: str) -> str:
    unit = unit.strip()
    return unit if unit in _UNITS else _SPELLINGS.get(unit, _SPELLINGS.get(unit.lower(), unit))
