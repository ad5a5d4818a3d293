"""The simulated battery: strings of LFP cells, each a little different.

Not the estimator's model, and it shares no code or table with it: the voltage is the charge or discharge
branch of a measured cell (`lfp_ocv.csv`), joined by a play operator (hysteresis that remembers where the
current turned), minus an ohmic drop, a Butler-Volmer overpotential (asinh), and two diffusion lags whose
time constants slow down in the cold. Source of the form: Doyle, Fuller, Newman, J. Electrochem. Soc. 140
(1993) for the kinetics with symmetric transfer; the numbers are those of a 280 Ah prismatic cell class.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

CAPACITY_AH = 280.0
GAS = 8.314462618
FARADAY = 96485.33212
KELVIN = 273.15
OHMIC_OHM = 0.07e-3
OHMIC_EA = 15_000.0  # J/mol
EXCHANGE_A = 420.0
EXCHANGE_EA = 36_000.0
LAG_OHM = np.array([0.03e-3, 0.05e-3])
LAG_S = np.array([25.0, 450.0])
LAG_EA = 25_000.0
PLAY_WIDTH = 0.03  # of SoC: how far the current must run before the other branch is reached
HEAT_J_PER_K = 5_200.0  # one 280 Ah cell, about 5.3 kg
CASE_W_PER_K = 0.1  # through the insulated case, per cell
COOLED_W_PER_K = 1.2  # the same with the cooling loop running
COOLING_DEGC = (28.0, 35.0)  # the loop opens between these
HEATER_EFFICIENCY = 0.9
SOLVER_STEPS = 8  # of Newton's method, at most; two or three are the rule
SOLVED_A = 1e-4

# What the BMS allows at the terminals, in W over the coldest cell's temperature in degC, ...
DISCHARGE_W = ((-30.0, 100e3), (-20.0, 160e3), (0.0, 240e3))
CHARGE_W = ((-10.0, 0.0), (0.0, 15e3), (10.0, 60e3), (20.0, 160e3))  # cold LFP plates lithium
# ... and the share of that over the emptiest and the fullest cell's state of charge.
EMPTYING = ((0.02, 0.0), (0.10, 1.0))
FILLING = ((0.90, 1.0), (0.985, 0.0))


def _at(x: float, table: tuple[tuple[float, float], ...]) -> float:
    return float(np.interp(x, [p[0] for p in table], [p[1] for p in table]))


@dataclass(frozen=True)
class Limits:
    """What the battery may give and take at its terminals, both positive."""

    discharge_w: float
    charge_w: float


def power_limits(coldest_degc: float, emptiest: float, fullest: float) -> Limits:
    """The BMS's limits, by the coldest, the emptiest and the fullest cell."""
    return Limits(
        _at(coldest_degc, DISCHARGE_W) * _at(emptiest, EMPTYING),
        _at(coldest_degc, CHARGE_W) * _at(fullest, FILLING),
    )


def _table() -> tuple[FloatArray, FloatArray, FloatArray]:
    text = (resources.files("sim_bus") / "lfp_ocv.csv").read_text("utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    return tuple(np.array([float(r[n]) for r in rows]) for n in ("soc", "discharge_v", "charge_v"))  # type: ignore[return-value]


class Battery:
    """`strings` × `cells` cells; arrays have shape (strings, cells). Current positive on discharge."""

    def __init__(
        self, rng: np.random.Generator, soc: float, temp_degc: float, strings: int = 2, cells: int = 176
    ) -> None:
        shape = (strings, cells)
        self.grid, self.discharge_v, self.charge_v = _table()
        self.capacity_ah = CAPACITY_AH * rng.normal(0.985, 0.006, shape)
        self.spread = rng.normal(1.0, 0.03, shape)  # of resistances
        self.soc = np.clip(soc + rng.normal(0, 0.004, shape), 0.001, 0.999)
        self.temp_degc = temp_degc + rng.normal(0, 0.3, shape)
        self.lag_v = np.zeros((2, *shape))
        self.play = np.full(shape, 0.3)  # 0 on the discharge branch, 1 on the charge branch
        self.string_a = np.zeros(strings)
        self.cell_v = self._open_circuit()
        self.heat_w = 0.0

    def step(self, dt_s: float, power_w: float, ambient_degc: float, heater_w: float = 0.0) -> None:
        """Deliver a power at the terminals (negative: charging) for dt_s; more than the cells can give is
        cut to the most that they can."""
        kelvin = float(self.temp_degc.mean()) + KELVIN
        faster = np.exp(-(1 / kelvin - 1 / (25 + KELVIN)) / GAS * np.array([OHMIC_EA, EXCHANGE_EA, LAG_EA]))
        decay = np.exp(-dt_s * faster[2] / LAG_S)[:, None, None]
        lag_ohm = (1 - decay) * LAG_OHM[:, None, None] / faster[2] * self.spread
        open_v = self._open_circuit()
        still_v = open_v - (decay * self.lag_v).sum(axis=0)
        ohm = OHMIC_OHM / faster[0] * self.spread + lag_ohm.sum(axis=0)
        self._solve(
            power_w, still_v, ohm, 2 * GAS * kelvin / FARADAY, 2 * EXCHANGE_A * faster[1] / self.spread
        )
        current = self.string_a[:, None]
        self.lag_v = decay * self.lag_v + lag_ohm * current
        moved = current * dt_s / (3600 * self.capacity_ah)
        self.soc = np.clip(self.soc - moved, 0, 1)
        self.play = np.clip(self.play - moved / PLAY_WIDTH, 0, 1)
        heat = (open_v - self.cell_v) * current
        self.heat_w = float(heat.sum())
        self._warm(dt_s, heat + heater_w * HEATER_EFFICIENCY / heat.size, ambient_degc)

    def _solve(
        self, power_w: float, still_v: FloatArray, ohm: FloatArray, kinetic_v: float, exchange_a: FloatArray
    ) -> None:
        """The strings' currents and the cells' voltages: one voltage over both strings, and the power.

        Newton's method. Taking the kinetics' voltage from the step before would be simpler, and let the
        strings drive growing currents through each other in the cold, where it outweighs the ohmic part.
        """
        for _ in range(SOLVER_STEPS):
            current = self.string_a[:, None]
            volts = (still_v - ohm * current - kinetic_v * np.arcsinh(current / exchange_a)).sum(axis=1)
            slope = (ohm + kinetic_v / np.hypot(current, exchange_a)).sum(axis=1)
            # Near here a string gives volts - slope * (change of current); their sum must give the power:
            # v * (short_a - siemens * v) = power_w
            siemens = (1 / slope).sum()
            short_a = (volts / slope + self.string_a).sum()
            bus_v = (short_a + np.sqrt(max(short_a**2 - 4 * siemens * power_w, 0.0))) / (2 * siemens)
            change = (volts - bus_v) / slope
            self.string_a = self.string_a + change
            if np.abs(change).max() < SOLVED_A:
                break
        current = self.string_a[:, None]
        self.cell_v = still_v - ohm * current - kinetic_v * np.arcsinh(current / exchange_a)

    def _warm(self, dt_s: float, heat_w: FloatArray, ambient_degc: float) -> None:
        cooled = float(np.interp(self.temp_degc.mean(), COOLING_DEGC, (CASE_W_PER_K, COOLED_W_PER_K)))
        self.temp_degc = self.temp_degc + dt_s / HEAT_J_PER_K * (
            heat_w - cooled * (self.temp_degc - ambient_degc)
        )

    def limits(self) -> Limits:
        """What the BMS allows now."""
        return power_limits(float(self.temp_degc.min()), float(self.soc.min()), float(self.soc.max()))

    def _open_circuit(self) -> FloatArray:
        low = np.interp(self.soc, self.grid, self.discharge_v)
        high = np.interp(self.soc, self.grid, self.charge_v)
        return np.asarray(low + self.play * (high - low))

    def string_soc(self) -> tuple[FloatArray, FloatArray]:
        """Per string: charge that its weakest cell allows, and its usable capacity, in Ah."""
        left = (self.soc * self.capacity_ah).min(axis=1)
        room = ((1 - self.soc) * self.capacity_ah).min(axis=1)
        return left, left + room

    def pack_soc(self) -> float:
        """The pack's true state of charge, by its weakest cells."""
        left, capacity = self.string_soc()
        return float(left.sum() / capacity.sum())
