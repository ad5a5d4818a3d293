"""Health: fleets whose truth is known, cold that is not age, sensors that lie, memory."""

import math
import struct
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from edge.battery.health import MAGIC, REFERENCE_DEGC, Health
from edge.battery.model import SOC_GRID, TEMP_GRID_DEGC, CellModel, Limits, Uncertainty
from edge.battery.resistance import pulse_resistance_ohm
from edge.errors import CellModelError

SEED = 23
DT_S = 30.0
Array = npt.NDArray[np.float64]


def table(column: Array, growth_per_degc: float = 0.0) -> Array:
    """[T, S] of a column over soc; colder is more by that much per degC."""
    return np.exp(growth_per_degc * (25 - TEMP_GRID_DEGC))[:, None] * column


def cell(flat: bool = False) -> CellModel:
    """A cell of 100 Ah of nobody's making: steep all along, or flat between 10 and 95 % with hysteresis."""
    steep = 3.0 + 0.9 * SOC_GRID + 0.2 * SOC_GRID**3
    plateau = 3.25 + 0.05 * SOC_GRID - 0.6 * np.exp(-SOC_GRID / 0.03) + 0.25 * np.exp((SOC_GRID - 1) / 0.012)
    ones = np.ones_like(SOC_GRID)
    return CellModel(
        name="flat" if flat else "steep",
        chemistry="none",
        summary="of the tests",
        capacity_ah=100.0,
        capacity_rel_sd=0.01,
        voltage_min_v=2.5,
        voltage_max_v=4.2,
        sources=({"data": "none"},),
        limits=Limits(300, 100, 300, 100, -30, 60, 0, 0, 1),
        temp_degc=TEMP_GRID_DEGC,
        soc=SOC_GRID,
        ocv_v=table(plateau if flat else steep),
        hysteresis_v=table((0.01 if flat else 0.0) * ones),
        r0_ohm=table(4e-4 * ones, 0.02),
        rct_ohm=table(3e-4 * ones, 0.05),
        relaxation_ohm=np.stack([table(3e-4 * ones, 0.05), table(2e-4 * ones, 0.03)]),
        tau_s=np.array([30.0, 600.0]),
        knee_a=np.full(len(TEMP_GRID_DEGC), 100.0),
        model_sd_v=np.full(len(TEMP_GRID_DEGC), 0.01),
        relaxation_sd_v=np.full(len(TEMP_GRID_DEGC), 0.01),
        sample_sd_v=np.full(len(TEMP_GRID_DEGC), 0.01),
        hysteresis_rate=30.0,
        uncertainty=Uncertainty(
            model_tau_s=1800,
            relaxation_tau_s=150,
            axis_sd=0.005,
            resistance_rel_sd=0.2,
            resistance_tau_s=36000,
            hysteresis_sd=0.1,
            current_offset_c=0.005,
            current_gain_sd=0.006,
        ),
        fingerprint="0123456789abcdef",
    )


class Fleet:
    """Cells that are the model but for capacity, resistance and the OCV's place along soc, in plain steps."""

    def __init__(
        self,
        model: CellModel,
        string: Array,
        capacity_ah: Array,
        ratio: float | Array = 1.0,
        axis: Array | None = None,
    ) -> None:
        n = len(string)
        self.m, self.string, self.q, self.ratio = model, string, capacity_ah, ratio
        self.low, self.high = np.zeros((2, n)) if axis is None else axis
        self.soc, self.y, self.h, self.temp = (
            np.full(n, 0.97),
            np.zeros((n, len(model.tau_s))),
            np.zeros(n),
            25.0,
        )

    def step(self, current: Array) -> Array:
        """[n] voltages after DT_S with these currents [S]."""
        m, i = self.m, current[self.string]
        knee = float(np.interp(self.temp, m.temp_degc, m.knee_a))
        j = knee * np.arcsinh(i / knee)
        left = np.exp(-DT_S / m.tau_s)
        self.y = left * self.y + (1 - left) * j[:, None]
        stays = np.exp(-np.abs(i) * m.hysteresis_rate * DT_S / 3600 / self.q)
        self.h = stays * self.h - (1 - stays) * np.sign(i)
        self.soc = self.soc - i * DT_S / 3600 / self.q
        ohm = [m.at(r, self.soc, self.temp) for r in (m.r0_ohm, m.rct_ohm, *m.relaxation_ohm)]
        drop = ohm[0] * i + ohm[1] * j + sum(r * y for r, y in zip(ohm[2:], self.y.T, strict=True))
        placed = self.soc + self.low + (self.high - self.low) * self.soc
        ocv = m.at(m.ocv_v, placed, self.temp) + m.at(m.hysteresis_v, self.soc, self.temp) * self.h
        return np.asarray(ocv - self.ratio * drop)


def day(depth: float = 0.75) -> list[tuple[float, bool]]:
    """(current in C, contactors open) of a bus: rest, drive, rest, charge."""
    drive = [(0.1 * depth * (1 + 1.5 * math.sin(k / 3)), False) for k in range(1200)]
    charge = [(-0.25 * depth, False)] * 480
    back = (sum(c for c, _ in drive) + sum(c for c, _ in charge)) / 480
    charge = [(c - back, False) for c, _ in charge]
    rest = [(0.0, True)] * 120
    return [*rest, *drive, *rest, *charge]


def lived(
    health: Health,
    fleet: Fleet,
    profile: list[tuple[float, bool]],
    gain: Array,
    zero: Array,
    noise: float = 0.0,
) -> None:
    rng = np.random.default_rng(SEED)
    for c, is_open in profile:
        true = np.full(len(gain), c * 100.0)
        voltage = fleet.step(true) + noise * rng.normal(size=len(fleet.soc))
        seen, temp = true * gain + zero, np.full(len(voltage), fleet.temp)
        health.step(DT_S, seen, voltage, temp, open=np.full(len(gain), is_open))


def fleet_of(
    model: CellModel, strings: int, each: int, rng: np.random.Generator
) -> tuple[Fleet, Array, Array]:
    """(fleet, gains, zeros): aged cells; errors as large as the model says that they are."""
    u, n = model.uncertainty, strings * each
    string = np.repeat(np.arange(strings), each)
    axis = u.axis_sd * rng.normal(size=(2, strings))[:, string]
    capacity = 100 * rng.uniform(0.82, 1.0, strings)[string] * rng.normal(1, 0.01, n)
    fleet = Fleet(model, string, capacity, rng.normal(1.2, 0.1, n), axis)
    gain = rng.normal(1, u.current_gain_sd, strings)
    return fleet, gain, rng.normal(0, u.current_offset_c * 100, strings)


@pytest.mark.parametrize("flat", [False, True])
def test_bars_hold_the_truth_of_a_fleet(flat: bool) -> None:
    model, rng = cell(flat), np.random.default_rng(SEED)
    fleet, gain, zero = fleet_of(model, 60, 1, rng)
    health = Health(model, fleet.string)
    lived(health, fleet, 2 * day(), gain, zero, noise=0.001)
    assert health.measured.all()
    apart = (health.capacity_ah - fleet.q) / health.capacity_sd_ah
    over_gain = health.capacity_ah / (fleet.q * gain[fleet.string]) - 1
    inside, size = float(np.mean(np.abs(apart) < 1.96)), float(np.sqrt(np.mean(apart**2)))
    print(f"seed {SEED}: {inside:.3f} in the 95 % bars, rms {size:.2f} sd, over gain {np.std(over_gain):.4f}")
    assert inside > 0.9
    assert size > 0.4, "bars are no use when they are far too long"
    assert np.sqrt(np.mean(over_gain**2)) < 0.01
    assert (health.capacity_sd_ah > 0.99 * model.uncertainty.current_gain_sd * fleet.q).all(), (
        "gain never averages away"
    )


def test_shrunk_swings_tell_nothing() -> None:
    model = cell()
    fleet = Fleet(model, np.zeros(2, dtype=int), np.array([80.0, 90.0]))
    health = Health(model, [0, 0])
    lived(health, fleet, day(0.3), np.ones(1), np.zeros(1))
    assert not health.measured.any()
    np.testing.assert_allclose(health.capacity_ah, 100)
    assert (health.capacity_sd_ah > 9).all()
