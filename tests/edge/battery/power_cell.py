"""A cell for the tests of power and energy, and a plain simulation of it in small steps: the twin."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.battery.estimator import CellStates
from edge.battery.model import CellModel, load_cell

Array = npt.NDArray[np.float64]

CELL = """
name = "made_up"
chemistry = "NMC"
summary = "a cell that no one makes"
capacity_ah = 5.0
capacity_rel_sd = 0.01
voltage_min_v = 2.5
voltage_max_v = 4.2
[[sources]]
data = "none: made up for a test"
[limits]
discharge_max_a = 20.0
discharge_pulse_a = 40.0
charge_max_a = 5.0
charge_pulse_a = 15.0
[ocv]
soc = [0.0, 0.05, 0.2, 0.5, 0.8, 1.0]
temp_degc = [-20, 25]
voltage_v = [[2.9, 3.2, 3.5, 3.7, 3.95, 4.15], [2.9, 3.2, 3.5, 3.7, 3.95, 4.15]]
hysteresis_v = [[0.01, 0.01, 0.01, 0.01, 0.01, 0.01], [0.01, 0.01, 0.01, 0.01, 0.01, 0.01]]
[dynamics]
soc = [0.0, 0.2, 0.8, 1.0]
temp_degc = [-20, 25]
knee_a = [3.0, 30.0]
r0_ohm = [[0.06, 0.04, 0.04, 0.045], [0.02, 0.012, 0.012, 0.013]]
rct_ohm = [[0.2, 0.1, 0.08, 0.09], [0.012, 0.008, 0.007, 0.008]]
tau_s = [3.0, 60.0]
relaxation_ohm = [
    [[0.1, 0.05, 0.04, 0.05], [0.01, 0.006, 0.005, 0.006]],
    [[0.2, 0.08, 0.06, 0.08], [0.02, 0.01, 0.009, 0.01]],
]
[hysteresis]
rate = 30.0
[uncertainty]
model_sd_v = [0.02, 0.005]
relaxation_sd_v = [0.02, 0.005]
sample_sd_v = [0.02, 0.005]
model_tau_s = 1800.0
relaxation_tau_s = 150.0
axis_sd = 0.005
resistance_rel_sd = 0.2
resistance_tau_s = 36000.0
hysteresis_sd = 0.0
current_offset_c = 0.01
current_gain_sd = 0.006
"""


def make_cell(folder: Path, **limits: float) -> CellModel:
    """The cell; with other limits where they are given."""
    path = folder / "made_up.toml"
    path.write_text(CELL, "utf-8")
    cell = load_cell(path)
    return replace(cell, limits=replace(cell.limits, **limits))


def make_states(n: int, k: int = 2, **given: Any) -> CellStates:
    """States of n cells that are known exactly, half full, at rest and 25 degC but for what is given."""
    usual = {
        "soc": 0.5,
        "soc_sd": 0.0,
        "resistance_ratio": 1.0,
        "resistance_ratio_sd": 0.0,
        "hysteresis": 0.0,
        "temp_degc": 25.0,
        "capacity_ah": 5.0,
        "model_error_v": 0.0,
        "model_error_sd_v": 0.0,
    }
    values: dict[str, Any] = {key: np.full(n, 1.0) * given.get(key, v) for key, v in usual.items()}
    return CellStates(**values, relaxation_a=np.zeros((n, k)) + np.asarray(given.get("relaxation_a", 0.0)))


class Twin:
    """One cell, from the equations at the head of `edge.battery.model`, in steps of `dt_s`."""

    def __init__(self, model: CellModel, states: CellStates, cell: int = 0, dt_s: float = 0.02) -> None:
        self.m, self.dt_s = model, dt_s
        self.soc, self.h = float(states.soc[cell]), float(states.hysteresis[cell])
        self.y = states.relaxation_a[cell].copy()
        self.k, self.e = float(states.resistance_ratio[cell]), float(states.model_error_v[cell])
        self.temp, self.q = float(states.temp_degc[cell]), float(states.capacity_ah[cell])
        self.knee = float(np.interp(self.temp, model.temp_degc, model.knee_a))

    def step(self, i: float) -> None:
        m, dt = self.m, self.dt_s
        j = self.knee * math.asinh(i / self.knee)
        self.y += (j - self.y) * (1 - np.exp(-dt / m.tau_s))
        self.h += -abs(i) * m.hysteresis_rate / (3600 * self.q) * (self.h + math.copysign(1, i)) * dt
        self.soc -= i * dt / 3600 / self.q

    def voltage(self, i: float) -> float:
        m = self.m
        at = lambda table: float(m.at(table, self.soc, self.temp))  # noqa: E731
        j = self.knee * math.asinh(i / self.knee)
        lost = at(m.r0_ohm) * i + at(m.rct_ohm) * j
        lost += sum(at(r) * y for r, y in zip(m.relaxation_ohm, self.y.tolist(), strict=True))
        return at(m.ocv_v) + at(m.hysteresis_v) * self.h + self.e - self.k * lost

    def during(self, i: float, seconds: float) -> list[float]:
        """The voltages along a pulse of constant current."""
        voltages = []
        for _ in range(round(seconds / self.dt_s)):
            self.step(i)
            voltages.append(self.voltage(i))
        return voltages

    def current_for(self, power_w: float) -> float:
        """The current that gives this power now (the voltage falls with it)."""
        i = power_w / self.voltage(0)
        for _ in range(10):
            i = 0.5 * (i + power_w / max(self.voltage(i), 0.5))
        return i
