"""Fit the simulator's cells to measured ones: `python scripts/fit_sim_cells.py DATA [CELL...]` (needs scipy).

DATA is the folder with `battery/` in it. Writes sim_bus/battery/cells/*.toml and prints, file by file, how far the
model is from the measurement, for files that were fitted and files that were not. docs/simulator/cells.md says what
the numbers mean.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

CELLS = Path(__file__).parent.parent / "sim_bus" / "battery" / "cells"
SOC = np.unique(np.round(np.r_[0:0.05:0.0025, 0.05:0.95:0.01, 0.95:1.00001:0.0025], 4))
GAS = 8.314462618
KELVIN = 273.15


@dataclass
class File:
    """One measured file: rows of time, current (positive discharge), voltage, temperature, soc."""

    name: str
    time: FloatArray
    current: FloatArray
    volts: FloatArray
    temp: FloatArray
    soc: FloatArray

    def charge_ah(self) -> FloatArray:
        return np.cumsum(self.current * np.diff(self.time, prepend=self.time[0])) / 3600


def load(path: Path) -> File:
    with gzip.open(path) as stream:
        rows = np.genfromtxt(stream, delimiter=",", skip_header=1)
    return File(path.name.removesuffix(".csv.gz"), *(np.ascontiguousarray(rows[:, k]) for k in range(5)))


def safari_delacourt(x: FloatArray) -> FloatArray:
    """Graphite of an LFP cell. M. Safari, C. Delacourt, J. Electrochem. Soc. 158 (2011) A562."""
    return (
        0.6379
        + 0.5416 * np.exp(-305.5309 * x)
        + 0.044 * np.tanh(-(x - 0.1958) / 0.1088)
        - 0.1978 * np.tanh((x - 1.0571) / 0.0854)
        - 0.6875 * np.tanh((x + 0.0117) / 0.0529)
        - 0.0175 * np.tanh((x - 0.5692) / 0.0875)
    )


def chen(x: FloatArray) -> FloatArray:
    """Graphite with silicon of an LG cell. C.-H. Chen et al., J. Electrochem. Soc. 167 (2020) 080534."""
    return (
        1.9793 * np.exp(-39.3631 * x)
        + 0.2482
        - 0.0909 * np.tanh(29.8538 * (x - 0.1234))
        - 0.04478 * np.tanh(14.9159 * (x - 0.2769))
        - 0.0205 * np.tanh(30.4444 * (x - 0.6103))
    )


def arrhenius(value_25: float, ea_j_mol: float, temp_degc: FloatArray) -> FloatArray:
    return value_25 * np.exp(ea_j_mol / GAS * (1 / (temp_degc + KELVIN) - 1 / (25 + KELVIN)))


def branch(file: File, soc: FloatArray) -> FloatArray:
    """Voltage over SOC of a slow one-way test, straight on beyond its ends."""
    flowing = np.abs(file.current) > 0.02
    x, v = soc[flowing], file.volts[flowing]
    order = np.argsort(x)
    return np.interp(SOC, x[order], v[order])
