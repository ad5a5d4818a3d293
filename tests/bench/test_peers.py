"""The peers of the estimator's benchmark are what they are said to be: correct extended Kalman filters.

The twin is the textbook's (G. Plett, Battery Management Systems, Volume II, chapter 3), one cell, with matrices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from bench.peers import (
    BRANCH_BEGIN_SD_V,
    BRANCH_SD_V,
    CURRENT_SD_C,
    VOLTAGE_SD_V,
    Array,
    Drive,
    FilterpyFilter,
    NumpyFilter,
    Tables,
    battery_se,
    identify_battery_se,
    run_battery_se,
)

SEED = 7
CELLS, ROWS = 12, 400
SOC_SD = 0.2


def some_tables() -> Tables:
    temp, soc = np.linspace(-40, 60, 41), np.linspace(0, 1, 201)
    ocv = 3.0 + 0.9 * soc + 0.15 * np.sin(7 * soc) + 0.0003 * temp[:, None]
    cold = np.exp(-temp / 25)[:, None]
    ohm = [r * cold * (1.3 - soc) for r in (0.02, 0.01, 0.02)]
    return Tables(2.7, temp, soc, ocv, (ohm[0], ohm[1], ohm[2]), (8.0, 400.0))


def rows_of(tables: Tables) -> Iterator[tuple[float, Array, Array, Array]]:
    """(dt_s, current, voltage, temperature) of every cell; the steps are of two lengths."""
    rng = np.random.default_rng(SEED)
    soc = rng.uniform(0.3, 0.9, CELLS)
    temp = rng.uniform(-25, 40, CELLS)
    for k in range(ROWS):
        current = rng.normal(1.0, 2.0, CELLS)
        dt = 0.1 if k % 3 else 1.0
        soc -= current * dt / 3600 / tables.capacity_ah
        voltage = 3.0 + 0.9 * soc - 0.03 * current + rng.normal(0, 0.01, CELLS)
        yield dt, current, voltage, temp


class Textbook:
    """One cell. It looks its tables up at the soc before the step, as the fast one does, or, where `late`, again
    after it with the slope of that piece, as filterpy's does."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.x = np.array([0.5, 0.0, 0.0])
        self.p = np.diag([SOC_SD**2, BRANCH_BEGIN_SD_V**2, BRANCH_BEGIN_SD_V**2])

    def look(self, table: Array, soc: float, temp: float) -> float:
        rows = [np.interp(soc, self.tables.soc, row) for row in table]
        return float(np.interp(temp, self.tables.temp_degc, rows))

    def step(self, dt: float, current: float, voltage: float, temp: float, late: bool) -> None:
        t = self.tables
        soc = self.x[0]
        keep = np.array([1.0, *(math.exp(-dt / tau) for tau in t.tau_s)])
        r1, r2 = (self.look(r, soc, temp) for r in t.r_ohm[1:])
        moved = -dt / (3600 * t.capacity_ah)
        self.x = keep * self.x + np.array([moved, (1 - keep[1]) * r1, (1 - keep[2]) * r2]) * current
        q = np.diag([(CURRENT_SD_C / 3600) ** 2, BRANCH_SD_V**2, BRANCH_SD_V**2]) * dt
        self.p = np.diag(keep) @ self.p @ np.diag(keep) + q
        at = self.x[0] if late else soc
        place = min(int(np.clip(at, 0, 1) * (len(t.soc) - 1)), len(t.soc) - 2)
        slopes = np.diff(t.ocv_v, axis=1) / (t.soc[1] - t.soc[0])
        steps = np.concatenate([slopes, slopes[:, -1:]], axis=1)
        slope = self.look(slopes[:, [place] * len(t.soc)] if late else steps, at, temp)
        ocv = self.look(t.ocv_v, at, temp) + slope * (self.x[0] - at)
        h = np.array([slope, -1.0, -1.0])
        expected = ocv - self.x[1] - self.x[2] - self.look(t.r_ohm[0], at, temp) * current
        gain = self.p @ h / (h @ self.p @ h + VOLTAGE_SD_V**2)
        self.x = self.x + gain * (voltage - expected)
        left = np.eye(3) - np.outer(gain, h)
        self.p = left @ self.p @ left.T + np.outer(gain, gain) * VOLTAGE_SD_V**2
        self.x[0] = min(max(self.x[0], 0.0), 1.0)


def test_the_vectorised_filter_is_the_textbooks() -> None:
    tables = some_tables()
    fast = NumpyFilter(tables, CELLS, 0.5, SOC_SD)
    plain = [Textbook(tables) for _ in range(CELLS)]
    for dt, current, voltage, temp in rows_of(tables):
        fast.step(dt, current, voltage, temp)
        for k, cell in enumerate(plain):
            cell.step(dt, current[k], voltage[k], temp[k], late=False)
    assert np.ptp(fast.x[0]) > 0.05, "they must have found different states of charge"
    np.testing.assert_allclose(fast.x.T, [c.x for c in plain], rtol=0, atol=1e-9)
    upper = [c.p[fast.P_ROW, fast.P_COLUMN] for c in plain]
    np.testing.assert_allclose(fast.p.T, upper, rtol=0, atol=1e-11)


def test_filterpys_is_the_textbooks() -> None:
    pytest.importorskip("filterpy", reason="filterpy is in the [bench] extra")
    tables = some_tables()
    peer, plain = FilterpyFilter(tables, 0.5, SOC_SD), Textbook(tables)
    for dt, current, voltage, temp in rows_of(tables):
        peer.step(dt, float(current[0]), float(voltage[0]), float(temp[0]))
        plain.step(dt, current[0], voltage[0], temp[0], late=True)
    np.testing.assert_allclose(peer.ekf.x[:, 0], plain.x, rtol=0, atol=1e-9)
    assert peer.soc_sd == pytest.approx(math.sqrt(plain.p[0, 0]), abs=1e-9)


@pytest.mark.filterwarnings("ignore")  # theirs
def test_pybatteryse_finds_a_cell_that_it_was_identified_on() -> None:
    pytest.importorskip("pybatteryse", reason="PyBatterySE is in the [bench] extra")
    tables = some_tables()
    rng = np.random.default_rng(SEED)
    current = np.repeat(rng.normal(1.0, 2.0, 100), 15)
    soc = 0.9 - np.cumsum(np.append(0.0, current[:-1])) / 3600 / tables.capacity_ah
    temp = np.linspace(5, 15, len(current))
    ocv = [Textbook(tables).look(tables.ocv_v, s, t) for s, t in zip(soc, temp, strict=True)]
    followed = np.convolve(current, np.exp(-np.arange(200) / 30) / 30)[: len(current)]
    drive = Drive(0.9, current, ocv - 0.02 * current - 0.03 * followed, temp)
    model = identify_battery_se(tables, [drive])
    found, sd = run_battery_se(battery_se(model, 0.6, 0.3), drive)
    assert abs(found[-1] - soc[-1]) < 0.05 < abs(0.6 - 0.9)
    assert np.isfinite(sd).all()
