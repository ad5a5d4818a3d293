"""The simulated battery: strings of LFP cells, each a little different.

Not the estimator's model, and it shares no code or table with it: the voltage is the charge or discharge
branch of a measured cell (`lfp_ocv.csv`), joined by a play operator (hysteresis that remembers where the
current turned), minus an ohmic drop, a Butler-Volmer overpotential (asinh), and two diffusion lags whose
time constants slow down in the cold. Source of the form: Doyle, Fuller, Newman, J. Electrochem. Soc. 140
(1993) for the kinetics with symmetric transfer; the numbers are those of a 280 Ah prismatic cell class.
"""

from __future__ import annotations

import csv
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
NEWTON_STEPS = 4
HEAT_J_PER_K = 5_200.0  # one 280 Ah cell, about 5.3 kg
TO_COOLANT_W_PER_K = 1.2


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
        self.play = np.zeros(shape)  # 0 on the discharge branch, 1 on the charge branch
        self.play += 0.3
        self.string_a = np.zeros(strings)
        self.cell_v = self._open_circuit()
        self.heat_w = 0.0

    def step(self, dt_s: float, power_w: float, coolant_degc: float) -> None:
        """Deliver a power at the terminals (negative: charging) for dt_s."""
        kelvin = float(self.temp_degc.mean()) + KELVIN
        faster = np.exp(-(1 / kelvin - 1 / (25 + KELVIN)) / GAS * np.array([OHMIC_EA, EXCHANGE_EA, LAG_EA]))
        ohmic = OHMIC_OHM / faster[0] * self.spread
        exchange_a = 2 * EXCHANGE_A * faster[1] / self.spread
        thermal_v = 2 * GAS * kelvin / FARADAY
        self._share(power_w, ohmic, exchange_a, thermal_v)
        current = np.broadcast_to(self.string_a[:, None], self.soc.shape)
        moved = current * dt_s / (3600 * self.capacity_ah)
        self.soc = np.clip(self.soc - moved, 1e-4, 1 - 1e-4)
        self.play = np.clip(self.play - moved / PLAY_WIDTH, 0, 1)
        for k in (0, 1):
            a = np.exp(-dt_s * faster[2] / LAG_S[k])
            self.lag_v[k] = a * self.lag_v[k] + (1 - a) * LAG_OHM[k] / faster[2] * self.spread * current
        over = ohmic * current + thermal_v * np.arcsinh(current / exchange_a) + self.lag_v.sum(axis=0)
        self.cell_v = self._open_circuit() - over
        heat = over * current
        self.heat_w = float(heat.sum())
        self.temp_degc += dt_s / HEAT_J_PER_K * (heat - TO_COOLANT_W_PER_K * (self.temp_degc - coolant_degc))

    def _share(self, power_w: float, ohmic: FloatArray, exchange_a: FloatArray, thermal_v: float) -> None:
        """Strings in parallel have one voltage: their currents by Newton's method, from the last step's."""
        slow_v = (self._open_circuit() - self.lag_v.sum(axis=0)).sum(
            axis=1
        )  # what no current changes at once
        amps = self.string_a
        bus_v = float(self.cell_v.sum(axis=1).mean())
        for _ in range(NEWTON_STEPS):
            column = amps[:, None]
            over = (ohmic * column + thermal_v * np.arcsinh(column / exchange_a)).sum(axis=1)
            slope = (ohmic + thermal_v / np.hypot(column, exchange_a)).sum(axis=1)
            behind = slow_v - over + slope * amps
            bus_v = float((np.sum(behind / slope) - power_w / bus_v) / np.sum(1 / slope))
            amps = (behind - bus_v) / slope
        self.string_a = amps

    def _open_circuit(self) -> FloatArray:
        low, high = (
            np.interp(self.soc, self.grid, self.discharge_v),
            np.interp(self.soc, self.grid, self.charge_v),
        )
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
