"""Scenarios: what day a simulated bus lives. TOML, see `scenarios/`."""

from __future__ import annotations

import re
import tomllib
import typing
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from edge.errors import ScenarioError


@dataclass(frozen=True)
class Scenario:
    """One day. Temperatures in °C, SoC 0 to 1, powers in kW, speeds in km/h."""

    about: str
    ambient_degc: float
    battery_degc: float
    soc: float
    activity: str = "drive"  # drive or charge
    top_speed_kmh: float = 45.0
    stop_distance_m: float = 380.0
    dwell_s: float = 18.0
    passengers: int = 30
    charger_kw: float = 60.0
    aux_kw: float = 3.0
    bms_soc_error: float = 0.04
    current_bias_a: float = 0.8


RANGES: dict[str, tuple[float, float]] = {
    "ambient_degc": (-50, 60),
    "battery_degc": (-50, 60),
    "soc": (0, 1),
    "top_speed_kmh": (5, 100),
    "stop_distance_m": (50, 20_000),
    "dwell_s": (0, 3600),
    "passengers": (0, 200),
    "charger_kw": (0, 500),
    "aux_kw": (0, 50),
    "bms_soc_error": (-0.5, 0.5),
    "current_bias_a": (-50, 50),
}
CHOICES = {"activity": ("drive", "charge")}
KINDS = {str: "a text", float: "a number", int: "a whole number"}


def names() -> list[str]:
    """The scenarios that we ship."""
    folder = resources.files("sim_bus.scenarios")
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".toml"))


def load_scenario(where: str) -> Scenario:
    """A scenario: one that we ship by its name, or a path to a .toml.

    Raises
    ------
    ScenarioError
        There is none, or it has mistakes: all of them, each with its place.
    """
    if where in names():
        text, path = (resources.files("sim_bus.scenarios") / f"{where}.toml").read_text("utf-8"), where
    elif Path(where).suffix == ".toml":
        try:
            text, path = Path(where).read_text("utf-8"), where
        except (OSError, UnicodeDecodeError) as error:
            what = getattr(error, "strerror", None) or error
            raise ScenarioError(f"{where}: cannot be read: {what}") from None
    else:
        raise ScenarioError(
            f"no scenario {where!r}; ayaz sim --list shows ours ({', '.join(names())}), or give a path to a .toml"
        )
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ScenarioError(f"{path}: not TOML: {error}") from None
    problems = [f"{path}{_line(text, name)}: {what}" for name, what in _problems(table)]
    if problems:
        raise ScenarioError("; ".join(problems))
    return Scenario(**table)


def _problems(table: dict[str, Any]) -> list[tuple[str, str]]:
    hints = typing.get_type_hints(Scenario)
    known = {f.name: f for f in fields(Scenario)}
    found = [(n, f"unknown key {n!r}; there are {', '.join(known)}") for n in table if n not in known]
    found += [(n, f"{n} is missing") for n, f in known.items() if f.default is MISSING and n not in table]
    for name in known.keys() & table.keys():
        value = table[name]
        wanted = (int, float) if hints[name] is float else hints[name]
        if not isinstance(value, wanted) or isinstance(value, bool):
            found.append((name, f"{name} must be {KINDS[hints[name]]}, not {value!r}"))
        elif name in RANGES and not RANGES[name][0] <= value <= RANGES[name][1]:
            low, high = RANGES[name]
            found.append((name, f"{name} must lie between {low:g} and {high:g}, not {value!r}"))
        elif name in CHOICES and value not in CHOICES[name]:
            found.append((name, f"{name} must be one of {', '.join(CHOICES[name])}, not {value!r}"))
    return sorted(found, key=lambda problem: list(table).index(problem[0]) if problem[0] in table else -1)


def _line(text: str, name: str) -> str:
    """Where a key or a table stands, as ":LINE"; nothing where it does not."""
    key = re.compile(rf"""\s*\[*\s*["']?{re.escape(name)}["']?\s*[=.\]]""")
    return next((f":{n}" for n, line in enumerate(text.splitlines(), 1) if key.match(line)), "")
