"""One type of cell: its parameters, from a TOML file, checked.

name = "..."  chemistry = "..."  summary = "..."
capacity_ah  voltage_min_v  voltage_max_v  mass_kg  heat_j_per_kg_k
[[sources]]     free text: data, licence, used_for
[potential]     over soc, from 0 to 1:
    soc, cell_v (at rest, 25 degC), anode_v (against lithium), hysteresis_v (half the width of the loop),
    entropy_v_per_k (dU/dT of the cell)
[stoichiometry] anode, cathode: [at soc 0, at soc 1]
[hysteresis]    width_soc, share: of the play operators; the shares sum to 1
[dynamics]      over temp_degc and soc: a row for each temperature with a number for each soc, or with one number
    ohmic_ohm                           what follows the current at once
    anode_exchange_a, cathode_exchange_a    exchange current at a stoichiometry of a half
    anode_diffusion_s, cathode_diffusion_s  radius^2 / diffusivity of the particles
    electrolyte_ohm, electrolyte_s      polarisation of the electrolyte, first order
    slow_ohm, slow_s                    the same for what is slower (lithium moving between particles and layers)
    hysteresis_factor                   of hysteresis_v
Between temperatures ln(value) runs straight over 1/T, between socs over soc; beyond the ends it stays.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import ScenarioError
from sim_bus.battery._cells import PLAYS
from sim_bus.doors import FloatArray

# In the kernel's order.
DYNAMICS = (
    "ohmic_ohm",
    "anode_exchange_a",
    "cathode_exchange_a",
    "anode_diffusion_s",
    "cathode_diffusion_s",
    "electrolyte_ohm",
    "electrolyte_s",
    "slow_ohm",
    "slow_s",
    "hysteresis_factor",
)
POTENTIAL = ("cell_v", "anode_v", "hysteresis_v", "entropy_v_per_k")
NUMBERS = ("capacity_ah", "voltage_min_v", "voltage_max_v", "mass_kg", "heat_j_per_kg_k")
TEXTS = ("name", "chemistry", "summary")
TABLES: dict[str, tuple[str, ...]] = {
    "potential": ("soc", *POTENTIAL),
    "stoichiometry": ("anode", "cathode"),
    "hysteresis": ("width_soc", "share"),
    "dynamics": ("temp_degc", "soc", *DYNAMICS),
}

KELVIN = 273.15
GRID_FIRST, GRID_LAST, GRID_PER_SOC = -0.15, 1.15, 1000
# Beyond 0 and 1 an electrode is used up and its potential runs away, until something else reacts.
EMPTY_V_PER_SOC, EMPTY_V = 60.0, 0.0  # the anode without lithium: the cell falls to about 0 V
FULL_V_PER_SOC, FULL_V = 40.0, 5.0  # the cathode without: the electrolyte oxidises near 5 V
DONE_V_PER_SOC = 0.5  # beyond that


@dataclass(frozen=True)
class Cell:
    """One type of cell. Arrays are read-only; the keys of the file are described at the head of this module."""

    name: str
    chemistry: str
    summary: str
    capacity_ah: float
    voltage_min_v: float
    voltage_max_v: float
    mass_kg: float
    heat_j_per_kg_k: float
    sources: tuple[dict[str, str], ...]
    soc: FloatArray  # (points,)
    potential: dict[str, FloatArray]  # of POTENTIAL, each (points,)
    anode: tuple[float, float]  # stoichiometry at soc 0 and 1
    cathode: tuple[float, float]
    width_soc: FloatArray  # (PLAYS,)
    share: FloatArray  # (PLAYS,)
    temp_degc: FloatArray  # (temperatures,)
    dynamics_soc: FloatArray  # (socs,)
    dynamics: dict[str, FloatArray]  # of DYNAMICS, each (temperatures, socs)

    @property
    def heat_j_per_k(self) -> float:
        """Heat capacity of one cell."""
        return self.mass_kg * self.heat_j_per_kg_k

    def grid(self) -> FloatArray:
        """(points, 4): cathode V, anode V, dU/dT V/K, hysteresis V, from GRID_FIRST with GRID_PER_SOC points per soc."""
        points = round((GRID_LAST - GRID_FIRST) * GRID_PER_SOC) + 1
        soc = GRID_FIRST + np.arange(points) / GRID_PER_SOC
        cell, anode, loop, entropy = (np.interp(soc, self.soc, self.potential[k]) for k in POTENTIAL)
        low, high = self.potential["cell_v"][[0, -1]]
        below, above = np.maximum(-soc, 0), np.maximum(soc - 1, 0)
        cathode = cell + anode + _runaway(above, FULL_V_PER_SOC, FULL_V - high)
        anode = anode + _runaway(below, EMPTY_V_PER_SOC, low - EMPTY_V)
        return np.ascontiguousarray(np.stack([cathode, anode, entropy, loop], axis=1))

    def open_circuit_v(self, soc: FloatArray) -> FloatArray:
        """At rest, 25 degC, in the middle of the hysteresis."""
        return np.interp(soc, self.soc, self.potential["cell_v"])


def _runaway(beyond: FloatArray, steep: float, room_v: float) -> FloatArray:
    return np.minimum(beyond * steep, room_v + np.maximum(beyond - room_v / steep, 0) * DONE_V_PER_SOC)


def shipped() -> list[str]:
    """Names of the cells that come with the simulator."""
    folder = resources.files("sim_bus.battery") / "cells"
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def load_cell(name_or_path: str | Path) -> Cell:
    """A shipped cell by its name, or a file ending in .toml by its path.

    Raises ScenarioError, naming the file and every mistake in it.
    """
    text, place = _read(name_or_path)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{place}: not TOML: {error}") from error
    return cell_from(raw, place)


def _read(name_or_path: str | Path) -> tuple[str, str]:
    if str(name_or_path).endswith(".toml"):
        try:
            return Path(name_or_path).read_text("utf-8"), str(name_or_path)
        except (OSError, UnicodeDecodeError) as error:
            raise ScenarioError(f"{name_or_path}: cannot be read: {error}") from error
    if name_or_path not in shipped():
        raise ScenarioError(
            f"no cell named {name_or_path!r}: there are {', '.join(shipped())}, or give a path to a .toml"
        )
    file = resources.files("sim_bus.battery") / "cells" / f"{name_or_path}.toml"
    return file.read_text("utf-8"), f"{name_or_path}.toml"


def cell_from(raw: dict[str, Any], place: str) -> Cell:
    """A cell from the file's tables. Raises ScenarioError, naming the place and every mistake."""
    wrong = _shape_mistakes(raw)
    if not wrong:
        wrong = _value_mistakes(raw)
    if wrong:
        raise ScenarioError([f"{place}: {w}" for w in wrong])
    potential, dynamics = raw["potential"], raw["dynamics"]
    socs = len(dynamics["soc"])
    return Cell(
        **{k: raw[k] for k in TEXTS},
        **{k: float(raw[k]) for k in NUMBERS},  # type: ignore[arg-type]
        sources=tuple(dict(s) for s in raw.get("sources", [])),
        soc=_fixed(potential["soc"]),
        potential={k: _fixed(potential[k]) for k in POTENTIAL},
        anode=tuple(raw["stoichiometry"]["anode"]),
        cathode=tuple(raw["stoichiometry"]["cathode"]),
        width_soc=_fixed(raw["hysteresis"]["width_soc"]),
        share=_fixed(raw["hysteresis"]["share"]),
        temp_degc=_fixed(dynamics["temp_degc"]),
        dynamics_soc=_fixed(dynamics["soc"]),
        dynamics={k: _fixed([_row(r, socs) for r in dynamics[k]]) for k in DYNAMICS},
    )


def _fixed(values: Any) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


def _row(row: Any, socs: int) -> list[float]:
    return row if isinstance(row, list) else [row] * socs


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _shape_mistakes(raw: dict[str, Any]) -> list[str]:
    """Keys and types."""
    known = {*TEXTS, *NUMBERS, *TABLES, "sources"}
    wrong = [f"unknown key {k!r}" for k in raw if k not in known]
    wrong += [f"{k}: must be a text" for k in TEXTS if not isinstance(raw.get(k), str)]
    wrong += [
        f"{k}: must be a number above 0" for k in NUMBERS if not (_is_number(raw.get(k)) and raw[k] > 0)
    ]
    for name, keys in TABLES.items():
        table = raw.get(name)
        if not isinstance(table, dict):
            wrong.append(f"[{name}]: missing")
            continue
        wrong += [f"[{name}] unknown key {k!r}" for k in table if k not in keys]
        wrong += [f"[{name}] {k}: {w}" for k in keys if (w := _list_mistake(table.get(k), k in DYNAMICS))]
    sources = raw.get("sources", [])
    if not isinstance(sources, list) or not all(isinstance(s, dict) for s in sources):
        wrong.append("sources: must be tables [[sources]]")
    return wrong


def _list_mistake(values: Any, rows: bool) -> str:
    if not isinstance(values, list) or not values:
        return "must be a list of numbers"
    if rows:
        values = [v for row in values for v in (row if isinstance(row, list) else [row])]
    return "" if all(_is_number(v) for v in values) else "must be a list of numbers, each finite"


def _value_mistakes(raw: dict[str, Any]) -> list[str]:
    """Lengths, order and ranges."""
    wrong = []
    if raw["voltage_min_v"] >= raw["voltage_max_v"]:
        wrong.append("voltage_min_v: must be below voltage_max_v")
    potential, loops = raw["potential"], raw["hysteresis"]
    wrong += _axis_mistakes("[potential] soc", potential["soc"], 0, 1)
    if potential["soc"][0] != 0 or potential["soc"][-1] != 1:
        wrong.append("[potential] soc: must run from 0 to 1")
    wrong += _lengths("potential", potential, POTENTIAL, len(potential["soc"]))
    if min(potential["hysteresis_v"]) < 0:
        wrong.append("[potential] hysteresis_v: must not be negative")
    for key, values in raw["stoichiometry"].items():
        if len(values) != 2 or not all(0 <= v <= 1 for v in values):
            wrong.append(f"[stoichiometry] {key}: must be two numbers from 0 to 1")
    wrong += _lengths("hysteresis", loops, ("width_soc", "share"), PLAYS)
    if min(loops["width_soc"]) <= 0:
        wrong.append("[hysteresis] width_soc: must be above 0")
    if min(loops["share"]) < 0 or abs(sum(loops["share"]) - 1) > 1e-6:
        wrong.append("[hysteresis] share: must not be negative, and sum to 1")
    return wrong + _dynamics_mistakes(raw["dynamics"])


def _dynamics_mistakes(dynamics: dict[str, Any]) -> list[str]:
    wrong = _axis_mistakes("[dynamics] temp_degc", dynamics["temp_degc"], -100, 150)
    wrong += _axis_mistakes("[dynamics] soc", dynamics["soc"], 0, 1)
    wrong += _lengths("dynamics", dynamics, DYNAMICS, len(dynamics["temp_degc"]))
    for key in DYNAMICS:
        rows = [_row(r, len(dynamics["soc"])) for r in dynamics[key]]
        if any(len(r) != len(dynamics["soc"]) for r in rows):
            wrong.append(f"[dynamics] {key}: a row must hold one number, or {len(dynamics['soc'])}")
        if min(min(r, default=0) for r in rows) <= 0:
            wrong.append(f"[dynamics] {key}: must be above 0")
    return wrong


def _lengths(table: str, values: dict[str, Any], keys: tuple[str, ...], length: int) -> list[str]:
    return [f"[{table}] {k}: must hold {length} values" for k in keys if len(values[k]) != length]


def _axis_mistakes(name: str, values: list[float], low: float, high: float) -> list[str]:
    if len(values) < 2 or any(b <= a for a, b in pairwise(values)):
        return [f"{name}: must hold two values at least, and rise"]
    if values[0] < low or values[-1] > high:
        return [f"{name}: must lie within {low} and {high}"]
    return []
