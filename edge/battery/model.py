"""Cell models: data with its source, from `cells/NAME.toml`.

    name, chemistry, capacity_ah, voltage_min_v, voltage_max_v
    [ocv]          temp_degc = [..], soc = [..], voltage_v = [[..] per temperature], half_gap_v = [..] over soc
    [resistance]   temp_degc = [..], soc = [..], r0_ohm, r1_ohm, r2_ohm = [[..] per temperature]
    [dynamics]     tau1_s, tau2_s, hysteresis_rate
    [error]        voltage_sd_v, correlation_s, resistance_fraction
    [[sources]]    data, licence, used_for
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import CellModelError

FloatArray = npt.NDArray[np.float64]
POINTS = 201  # SoC points of the kernel's table
FIELDS = ("ocv_v", "half_gap_v", "r0_ohm", "r1_ohm", "r2_ohm")


@dataclass(frozen=True)
class CellModel:
    """One cell: knots_degc shape (t,), ascending; table shape (t, POINTS, len(FIELDS)) over SoC 0 to 1."""

    name: str
    chemistry: str
    capacity_ah: float
    voltage_min_v: float
    voltage_max_v: float
    knots_degc: FloatArray
    table: FloatArray
    tau1_s: float
    tau2_s: float
    hysteresis_rate: float
    voltage_sd_v: float
    correlation_s: float
    resistance_fraction: float

    def with_capacity(self, capacity_ah: float) -> CellModel:
        """The same cell with another capacity (one that has aged, or was measured)."""
        return replace(self, capacity_ah=capacity_ah)

    def field(self, name: str, soc: FloatArray | float, temp_degc: float) -> FloatArray:
        """A field of the table at some states of charge and one temperature, in its unit."""
        at = np.interp(temp_degc, self.knots_degc, np.arange(len(self.knots_degc)))
        low = int(min(at, len(self.knots_degc) - 2))
        rows = self.table[low : low + 2, :, FIELDS.index(name)]
        row = rows[0] + (at - low) * (rows[1] - rows[0])
        return np.asarray(np.interp(soc, np.linspace(0, 1, POINTS), row))

    def soc_at_rest(self, voltage_v: float, temp_degc: float) -> float:
        """The SoC whose OCV is the given voltage."""
        grid = np.linspace(0, 1, POINTS)
        return float(np.interp(voltage_v, np.maximum.accumulate(self.field("ocv_v", grid, temp_degc)), grid))


def load_cell(where: str | Path) -> CellModel:
    """A cell model: one that we ship by its name, or a path.

    Raises
    ------
    CellModelError
        There is none, or it is wrong.
    """
    path = Path(where) if isinstance(where, Path) else _shipped(where)
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        return _model(table)
    except OSError as error:
        raise CellModelError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise CellModelError(f"{path}: not TOML: {error}") from None
    except KeyError as error:
        raise CellModelError(f"{path}: {error.args[0]!r} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise CellModelError(f"{path}: {error}") from None


def _shipped(name: str) -> Path:
    cells = resources.files("edge.battery.cells")
    names = sorted(p.name[:-5] for p in cells.iterdir() if p.name.endswith(".toml"))
    if name not in names:
        raise CellModelError(f"no cell {name!r}; we ship {', '.join(names)}, or give a path to a .toml")
    with resources.as_file(cells / f"{name}.toml") as path:
        return path


def _model(data: dict[str, Any]) -> CellModel:
    ocv, resistance, dynamics, error = (data[k] for k in ("ocv", "resistance", "dynamics", "error"))
    knots = np.unique(np.concatenate([_array(ocv["temp_degc"]), _array(resistance["temp_degc"])]))
    if len(knots) < 2:
        raise ValueError("needs at least two temperatures")
    table = np.zeros((len(knots), POINTS, len(FIELDS)))
    table[:, :, 0] = _on_grid(ocv, "voltage_v", knots)
    table[:, :, 1] = np.interp(np.linspace(0, 1, POINTS), _array(ocv["soc"]), _array(ocv["half_gap_v"]))
    for n, name in enumerate(("r0_ohm", "r1_ohm", "r2_ohm"), 2):
        table[:, :, n] = _on_grid(resistance, name, knots)
    if not np.isfinite(table).all() or (table[:, :, 2:] < 0).any():
        raise ValueError("voltages must be numbers, and resistances 0 or more")
    return CellModel(
        name=str(data["name"]),
        chemistry=str(data["chemistry"]),
        capacity_ah=_above_zero(data, "capacity_ah"),
        voltage_min_v=_above_zero(data, "voltage_min_v"),
        voltage_max_v=_above_zero(data, "voltage_max_v"),
        knots_degc=knots,
        table=table,
        tau1_s=_above_zero(dynamics, "tau1_s"),
        tau2_s=_above_zero(dynamics, "tau2_s"),
        hysteresis_rate=float(dynamics["hysteresis_rate"]),
        voltage_sd_v=_above_zero(error, "voltage_sd_v"),
        correlation_s=_above_zero(error, "correlation_s"),
        resistance_fraction=float(error["resistance_fraction"]),
    )


def _on_grid(section: dict[str, Any], name: str, knots: FloatArray) -> FloatArray:
    """A table of (temperature, SoC) on the kernel's grid; the nearest row beyond the temperatures given."""
    temps, socs, rows = _array(section["temp_degc"]), _array(section["soc"]), _array(section[name])
    if rows.shape != (len(temps), len(socs)):
        raise ValueError(f"{name} has shape {rows.shape}; temp_degc and soc want {(len(temps), len(socs))}")
    if (np.diff(temps) <= 0).any() or (np.diff(socs) <= 0).any():
        raise ValueError("temp_degc and soc must ascend")
    fine = np.array([np.interp(np.linspace(0, 1, POINTS), socs, row) for row in rows])
    return np.array([np.interp(knots, temps, column) for column in fine.T]).T


def _array(value: Any) -> FloatArray:
    return np.array(value, dtype=np.float64)


def _above_zero(section: dict[str, Any], name: str) -> float:
    value = float(section[name])
    if not 0 < value < 1e9:
        raise ValueError(f"{name} must be above 0")
    return value
