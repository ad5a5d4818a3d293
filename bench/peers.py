"""What others would take instead of our estimator: three extended Kalman filters for cells.

All have the textbook's states (soc, v1, v2) and model (G. Plett, Battery Management Systems, Volume II, chapter 3):

    v      = OCV(soc, T) - v1 - v2 - R0(soc, T)·i               i > 0 = discharge
    dv_k/dt = (R_k(soc, T)·i - v_k)/tau_k
    dsoc/dt = -i/(3600·Q)

    NumpyFilter      all cells at once, structure of arrays, in place, no allocation: as fast as we can make numpy
    FilterpyFilter   one cell with filterpy's ExtendedKalmanFilter, its functions as its documentation has them
    battery_se       one cell with PyBatterySE and a model that PyBatteryID identified from measurements

The tables of the first two are given, so that they can be those of any cell.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# How the textbook's filter is tuned: the best of 36 and more combinations on the drives that our cell was fitted on, for
# right and mid-drive starts alike. A sample counts for little, since the model's errors last for minutes.
CURRENT_SD_C = 1.0  # capacities per hour, as noise of each second
VOLTAGE_SD_V = 0.4
BRANCH_BEGIN_SD_V = 0.03
BRANCH_SD_V = 0.001  # per square root of a second
SOC_SD, UNKNOWN_SD = 0.05, 0.3  # before the first sample, where soc was given or not


@dataclass(frozen=True)
class Tables:
    """A cell for these filters. The tables have the shape [temperature, soc], on even grids."""

    capacity_ah: float
    temp_degc: Array
    soc: Array
    ocv_v: Array
    r_ohm: tuple[Array, Array, Array]
    """R0, R1, R2"""
    tau_s: tuple[float, float]


def tables_of(model: Any) -> Tables:
    """Of one of our cell models: charge transfer in R0, the fast half of the relaxations as one branch, the slow as the
    other, each with the mean of its time constants; of more than two, without the slowest, which the textbook's filters
    have not (with it they were twice as wrong mid-drive).

    Raises
    ------
    ValueError
        The model has one process only.
    """
    kept = slice(None) if len(model.tau_s) < 3 else slice(-1)
    tau, relaxation = model.tau_s[kept], model.relaxation_ohm[kept]
    fast = tau <= 1.001 * np.sqrt(tau[0] * tau[-1])
    if fast.all():
        raise ValueError(f"{model.name} relaxes with one time constant; two branches need two")
    weights = relaxation.mean(axis=(1, 2))
    means = [float(np.exp(np.average(np.log(tau[p]), weights=weights[p]))) for p in (fast, ~fast)]
    r_ohm = (model.r0_ohm + model.rct_ohm, relaxation[fast].sum(axis=0), relaxation[~fast].sum(axis=0))
    return Tables(model.capacity_ah, model.temp_degc, model.soc, model.ocv_v, r_ohm, (means[0], means[1]))


class NumpyFilter:
    """n cells. Everything that a step needs is allocated here, and each row of an array is a state of all cells.

    What was measured to be fastest for some hundred cells: a table whose columns hold all that bilinear interpolation
    needs of the OCV, its slope and three resistances, so that one `take` and one `einsum` look up everything; the
    covariance as its six different elements; ufuncs with positional outputs.
    """

    P_ROW, P_COLUMN = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2])

    def __init__(self, tables: Tables, cells: int, soc: float = 0.5, soc_sd: float = UNKNOWN_SD) -> None:
        self.tables = tables
        slope = np.diff(tables.ocv_v, axis=1) / (tables.soc[1] - tables.soc[0])
        slope = np.concatenate([slope, slope[:, -1:]], axis=1)
        c = np.stack([tables.ocv_v, slope, *tables.r_ohm], axis=-1)
        low, high = c[:-1, :-1], c[1:, :-1]
        low_right, high_right = c[:-1, 1:], c[1:, 1:]
        bilinear = [low, low_right - low, high - low, high_right - high - low_right + low]  # of 1, s, t, s·t
        self._table = np.stack([b[..., k] for k in range(5) for b in bilinear]).reshape(20, -1)
        self._width = float(len(tables.soc) - 1)
        self._scale = np.array([[self._width], [1 / (tables.temp_degc[1] - tables.temp_degc[0])]])
        self._last = np.array([[self._width - 1e-9], [len(tables.temp_degc) - 1 - 1e-9]])
        self.x = np.zeros((3, cells))
        self.x[0] = soc
        self.p = np.zeros((6, cells))
        self.p[0] = soc_sd**2
        self.p[3] = self.p[5] = BRANCH_BEGIN_SD_V**2
        self._place, self._floor = np.empty((2, cells)), np.empty((2, cells))
        self._weight = np.ones((4, cells))
        self._index = np.empty(cells, np.int64)
        self._corners = np.empty((20, cells))
        self._values = np.empty((5, cells))
        self._h, self._ph, self._gain = np.empty((3, cells)), np.empty((3, cells)), np.empty((3, cells))
        self._a, self._b = np.empty(cells), np.empty(cells)
        self._outer, self._other = np.empty((6, cells)), np.empty((6, cells))
        self._dt = math.nan

    def _prepare(self, dt_s: float) -> None:
        """What depends on the step's length only."""
        keep = [1.0, *(math.exp(-dt_s / tau) for tau in self.tables.tau_s)]
        self._keep = np.array(keep[1:])[:, None]
        self._charge = 1 - self._keep
        self._f = np.array([keep[a] * keep[b] for a, b in zip(self.P_ROW, self.P_COLUMN, strict=True)])[
            :, None
        ]
        q = np.zeros(6)
        q[0] = (CURRENT_SD_C / 3600) ** 2 * dt_s
        q[3] = q[5] = BRANCH_SD_V**2 * dt_s
        self._q = q[:, None]
        self._dt = dt_s

    def _look(self, temp_degc: Array) -> Array:
        """[(OCV, its slope, R0, R1, R2), cells] at the cells' soc and temperature, bilinear."""
        place, floor, weight = self._place, self._floor, self._weight
        place[0] = self.x[0]
        np.subtract(temp_degc, self.tables.temp_degc[0], place[1])
        np.multiply(place, self._scale, place)
        np.maximum(place, 0.0, out=place)
        np.minimum(place, self._last, out=place)
        np.floor(place, floor)
        np.subtract(place, floor, weight[1:3])
        np.multiply(weight[1], weight[2], weight[3])
        np.multiply(floor[1], self._width, floor[1])
        np.add(floor[0], floor[1], floor[0])
        np.copyto(self._index, floor[0], casting="unsafe")
        self._table.take(self._index, 1, self._corners, "clip")
        return np.einsum("kcn,cn->kn", self._corners.reshape(5, 4, -1), weight, out=self._values)

    def step(self, dt_s: float, current_a: Array, voltage_v: Array, temp_degc: Array) -> None:
        """Predict over `dt_s` and correct. All arrays have the shape [cells]."""
        if dt_s != self._dt:
            self._prepare(dt_s)
        x, p, a, b, h, ph, gain = self.x, self.p, self._a, self._b, self._h, self._ph, self._gain
        v, soc = x[1:], x[0]
        # One look at the tables a step, at the soc before it (which moves by 1e-5)
        ocv, slope, r0, r1_r2 = (values := self._look(temp_degc))[0], values[1], values[2], values[3:]
        np.multiply(current_a, -dt_s / (3600 * self.tables.capacity_ah), a)
        np.add(soc, a, soc)
        np.multiply(r1_r2, current_a, h[:2])
        np.multiply(h[:2], self._charge, h[:2])
        np.multiply(v, self._keep, v)
        np.add(v, h[:2], v)
        np.multiply(p, self._f, p)
        np.add(p, self._q, p)
        # a: what the voltage is beyond its prediction
        np.multiply(a, slope, a)
        np.add(a, ocv, a)
        np.subtract(voltage_v, a, a)
        np.multiply(r0, current_a, b)
        np.add(a, b, a)
        np.add(a, x[1], a)
        np.add(a, x[2], a)
        # ph = P·H', with H = (slope, -1, -1); b: its variance
        np.multiply(p[:3], slope, ph)
        np.subtract(ph, p[1::2], ph)  # elements 01, 11, 22
        np.subtract(ph[:2], p[2::2][:2], ph[:2])  # 02 and 12
        np.subtract(ph[2], p[4], ph[2])
        np.multiply(ph[0], slope, b)
        np.subtract(b, ph[1], b)
        np.subtract(b, ph[2], b)
        np.add(b, VOLTAGE_SD_V**2, b)
        np.divide(ph, b, gain)
        gain.take(self.P_ROW, 0, self._outer, "clip")
        ph.take(self.P_COLUMN, 0, self._other, "clip")
        np.multiply(self._outer, self._other, self._outer)
        np.subtract(p, self._outer, p)
        np.multiply(gain, a, gain)
        np.add(x, gain, x)
        np.maximum(soc, 0.0, out=soc)
        np.minimum(soc, 1.0, out=soc)


class FilterpyFilter:
    """One cell, filterpy's ExtendedKalmanFilter."""

    def __init__(self, tables: Tables, soc: float = 0.5, soc_sd: float = UNKNOWN_SD) -> None:
        from filterpy.kalman import ExtendedKalmanFilter

        self.tables = tables
        self.ekf = ExtendedKalmanFilter(dim_x=3, dim_z=1, dim_u=1)
        self.ekf.x = np.array([[soc], [0.0], [0.0]])
        self.ekf.P = np.diag([soc_sd**2, BRANCH_BEGIN_SD_V**2, BRANCH_BEGIN_SD_V**2])
        self.ekf.R = np.array([[VOLTAGE_SD_V**2]])
        self._ocv, *self._ohm = (t.tolist() for t in (tables.ocv_v, *tables.r_ohm))
        self._dt = math.nan

    @property
    def soc(self) -> float:
        """The estimate, and its standard deviation."""
        return float(self.ekf.x[0, 0])

    @property
    def soc_sd(self) -> float:
        return math.sqrt(float(self.ekf.P[0, 0]))

    def _places(self, soc: float, temp_degc: float) -> tuple[int, float, int, float]:
        grid = self.tables.temp_degc
        s = min(max(soc, 0.0), 1.0) * (len(self.tables.soc) - 1)
        t = min(max((temp_degc - grid[0]) / (grid[1] - grid[0]), 0.0), len(grid) - 1.0)
        ks, kt = min(int(s), len(self.tables.soc) - 2), min(int(t), len(grid) - 2)
        return ks, s - ks, kt, t - kt

    @staticmethod
    def _look(table: list[list[float]], ks: int, ws: float, kt: int, wt: float) -> float:
        low, high = table[kt], table[kt + 1]
        return (low[ks] * (1 - ws) + low[ks + 1] * ws) * (1 - wt) + (
            high[ks] * (1 - ws) + high[ks + 1] * ws
        ) * wt

    def _slope(self, x: Array, current_a: float, temp_degc: float) -> Array:
        ks, _, kt, wt = self._places(x[0, 0], temp_degc)
        low, high = self._ocv[kt], self._ocv[kt + 1]
        rise = (low[ks + 1] - low[ks]) * (1 - wt) + (high[ks + 1] - high[ks]) * wt
        return np.array([[rise * (len(self.tables.soc) - 1), -1.0, -1.0]])

    def _voltage(self, x: Array, current_a: float, temp_degc: float) -> Array:
        where = self._places(x[0, 0], temp_degc)
        ocv, r0 = self._look(self._ocv, *where), self._look(self._ohm[0], *where)
        return np.array([[ocv - x[1, 0] - x[2, 0] - r0 * current_a]])

    def step(self, dt_s: float, current_a: float, voltage_v: float, temp_degc: float) -> None:
        """Predict over `dt_s` and correct."""
        ekf = self.ekf
        if dt_s != self._dt:
            self._keep = [math.exp(-dt_s / tau) for tau in self.tables.tau_s]
            ekf.F = np.diag([1.0, *self._keep])
            ekf.Q = np.diag([(CURRENT_SD_C / 3600) ** 2, BRANCH_SD_V**2, BRANCH_SD_V**2]) * dt_s
            self._dt = dt_s
        where = self._places(ekf.x[0, 0], temp_degc)
        r1, r2 = self._look(self._ohm[1], *where), self._look(self._ohm[2], *where)
        count = -dt_s / (3600 * self.tables.capacity_ah)
        ekf.B = np.array([[count], [(1 - self._keep[0]) * r1], [(1 - self._keep[1]) * r2]])
        ekf.predict(np.array([[current_a]]))
        arguments = (current_a, temp_degc)
        ekf.update(np.array([[voltage_v]]), self._slope, self._voltage, args=arguments, hx_args=arguments)
        ekf.x[0, 0] = min(max(ekf.x[0, 0], 0.0), 1.0)


# PyBatterySE. Its current counts the other way round, its capacity is in coulomb.
BASIS = ["s", "log[s]", "exp[0.05*sqrt[|i|]]", "exp[[0.00366*T+1]^-1]"]
MODEL_ORDER, NONLINEARITY = 2, 2
REFERENCE_DEGC = 25.0
SOC_MIN = 0.02  # log[s] has an end


@dataclass(frozen=True)
class Drive:
    """What a cell is identified on: rows at one interval, from a known soc."""

    soc: float
    current_a: Array
    voltage_v: Array
    temp_degc: Array


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Their progress goes nowhere: it is no part of what we measure or print."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def identify_battery_se(tables: Tables, drives: list[Drive], dt_s: float = 1.0) -> Any:
    """A linear-parameter-varying model from PyBatteryID, as its documentation's example has it for NMC over temperature.

    The EMF is our OCV at 25 degC with its mean slope over temperature.
    """
    from pybatteryid import ModelStructure
    from pybatteryid.identification import identify_model

    structure = ModelStructure(battery_capacity=3600 * tables.capacity_ah, sampling_period=dt_s)
    grid = tables.temp_degc
    ocv = np.array([np.interp(REFERENCE_DEGC, grid, column) for column in tables.ocv_v.T])
    cold, warm = int(np.argmin(np.abs(grid + 20))), int(np.argmin(np.abs(grid - 40)))
    slope = (tables.ocv_v[warm] - tables.ocv_v[cold]) / (grid[warm] - grid[cold])
    usable = tables.soc >= SOC_MIN
    structure.add_emf_function(
        {
            "soc_values": tables.soc[usable],
            "voltage_values": ocv[usable],
            "reference_temperature_value": REFERENCE_DEGC,
            "dVdT_values": slope[usable],
        }
    )
    structure.add_basis_functions(BASIS)
    sets = [
        {
            "initial_soc": d.soc,
            "time_values": np.arange(len(d.current_a)) * dt_s,
            "current_values": -d.current_a,
            "voltage_values": d.voltage_v,
            "temperature_values": d.temp_degc,
        }
        for d in drives
    ]
    with quiet():
        return identify_model(
            sets,
            structure,
            model_order=MODEL_ORDER,
            nonlinearity_order=NONLINEARITY,
            optimizers=["lassocv.sklearn", "ridgecv.sklearn"],
            combining_strategy="concatenate",
        )


def battery_se(model: Any, soc: float, soc_sd: float, capacity_ah: float | None = None) -> Any:
    """PyBatterySE's extended Kalman filter with its example's variances."""
    from pybatteryse import load_filter, load_statespace_representation

    space = load_statespace_representation(model, state_components=["s", "overpotentials"])
    if capacity_ah is not None:
        space.battery_capacity = 3600 * capacity_ah
    ekf = load_filter(space, "extended_kalman_filter", variance_eta_u=1e-2, variance_eta_y_e=1e-3)
    ekf.state_estimate = np.array([min(max(soc, SOC_MIN + 0.01), 0.99)] + [0.0] * model.model_order)
    ekf.error_covariance = np.diag([soc_sd**2] + [0.1] * model.model_order)
    return ekf


def run_battery_se(ekf: Any, drive: Drive) -> tuple[Array, Array]:
    """[rows] soc and its standard deviation."""
    rows = {
        "current_values": -drive.current_a,
        "voltage_values": drive.voltage_v,
        "temperature_values": drive.temp_degc,
    }
    with quiet():
        states, covariances = ekf.run(rows, ekf.state_estimate, ekf.error_covariance)
    return states[:, 0], np.sqrt(np.maximum(covariances[:, 0, 0], 0.0))
