"""How LFP cells grow old: capacity lost and resistance gained, by time and by use.

Capacity lost, of the rated one, is the sum of three roots; each is the law of a published study where its conditions
stay the same, and keeps what was lost already where they change (so it doesn't matter in which order they come):

    calendar   sqrt(int k^2 dt)     k = 1.2571e-5 s^-0.5 * A(17 126 J/mol) * (2.8575 (z - 0.5)^3 + 0.60225)
    cycles     sqrt(int k^2 dN)     k = (0.0630 C + 0.0971) % * (4.0253 (D - 0.6)^3 + 1.0923)
    cold       sqrt(int k^2 dQ)     k = 4.01e-4 Ah^-0.5 * A(-55 546 J/mol) * exp(2.64 (C - 1)), charging only

and resistance gained, of the first one, a sum of two straight lines:

    calendar   int k dt             k = 3.4194e-10 /s * A(71 827 J/mol) * (1.5604 - 3.3903 (z - 0.5)^2)
    cycles     int k dN             k = (0.0021 - 0.0020 C) % * (6.8477 (D - 0.5)^3 + 0.9182), not below 0

z state of charge; C rate in capacities per hour; D depth of the cycle, 0 to 1; N equivalent full cycles (charge in and
out over twice the capacity); Q charge put in, in Ah of a 3 Ah cell; A(E) = exp(-E/R (1/T - 1/298.15 K)).

Sources, all of one 3 Ah LFP/graphite cell (Sony/Murata US26650FTC1): calendar M. Naumann et al., J. Energy Storage 17
(2018) 153; cycles M. Naumann, F. Spingler, A. Jossen, J. Power Sources 451 (2020) 227666; cold M. Schimpe et al.,
J. Electrochem. Soc. 165 (2018) A181 (its term for low temperature and high rate of charge). The studies went from 0 to
60 degC: below, the laws are prolonged. Root and line: J. Wang et al., J. Power Sources 196 (2011) 3942 found the same
shape. The coefficients are theirs; that a cell of 280 Ah ages alike is our assumption.

Depth: where the state of charge turns by TURN or more, a half cycle ends; a half cycle counts with the greater of its own
depth so far and that of the one before. What turns by less (braking between two stops) is use within it.
"""

from __future__ import annotations

import numpy as np

from sim_bus.doors import FloatArray

GAS = 8.314462618
KELVIN = 273.15
REFERENCE_K = 298.15
YEAR_S = 365.25 * 86_400
STUDIED_AH = 3.0  # the cell that the studies had

CALENDAR_LOSS, CALENDAR_LOSS_EA = 1.2571e-5, 17_126.0
CALENDAR_GAIN, CALENDAR_GAIN_EA = 3.4194e-10, 71_827.0
COLD_LOSS, COLD_LOSS_EA, COLD_RATE = 4.01e-4, 55_546.0, 2.64
COLD_RATE_MAX = 3.0  # the exponential is not prolonged beyond
TURN = 0.02

# Use before the beginning: what a year was.
YEAR_DEGC = 25.0
YEAR_CYCLES = 300.0
YEAR_SOC = 0.6
YEAR_DEPTH = 0.6
YEAR_RATE = 0.3


def _arrhenius(energy: float, temp_degc: FloatArray) -> FloatArray:
    return np.exp(-energy / GAS * (1 / (temp_degc + KELVIN) - 1 / REFERENCE_K))


class Ageing:
    """Of cells in an array of any shape. `loss` and `gain`: capacity lost and resistance gained, as shares."""

    def __init__(self, soc: FloatArray, rated_ah: float, age_years: float = 0.0) -> None:
        """`soc` where the cells are now; aged for so many years of YEAR_DEGC, YEAR_CYCLES and so on."""
        self.rated_ah = rated_ah
        shape = soc.shape
        self._turned_at, self._depth_before = soc.copy(), np.full(shape, YEAR_DEPTH)
        self._rising = np.zeros(shape, dtype=np.bool_)
        self._far = soc.copy()  # the farthest point of the half cycle so far
        self._calendar, self._cycles, self._cold = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.gain = np.zeros(shape)
        self._rest(age_years * YEAR_S, np.full(shape, YEAR_SOC), np.full(shape, YEAR_DEGC))
        ah = YEAR_CYCLES * age_years * rated_ah
        self._use(ah, ah, YEAR_RATE, np.full(shape, YEAR_DEPTH), np.full(shape, YEAR_DEGC))

    @property
    def loss(self) -> FloatArray:
        """Of the rated capacity, below 1."""
        lost = np.sqrt(self._calendar) + np.sqrt(self._cycles) + np.sqrt(self._cold)
        return np.asarray(np.minimum(lost, 0.95))

    def step(
        self,
        seconds: float,
        soc: FloatArray,
        temp_degc: FloatArray,
        out_ah: FloatArray,
        in_ah: FloatArray,
        rate: FloatArray,
        factor: float = 1.0,
    ) -> None:
        """Age by `seconds` in which these passed: out_ah, in_ah, both positive, and their mean rate over capacity in 1/h.

        `factor`: each second and Ah counts so often. Arrays broadcast against soc.
        """
        self._rest(seconds * factor, soc, temp_degc)
        self._follow(soc)
        depth = np.maximum(np.abs(soc - self._turned_at), self._depth_before)
        self._use(out_ah * factor, in_ah * factor, rate, depth, temp_degc)

    def _rest(self, seconds: float, soc: FloatArray, temp_degc: FloatArray) -> None:
        z = np.clip(soc, 0.0, 1.0) - 0.5
        k = CALENDAR_LOSS * _arrhenius(CALENDAR_LOSS_EA, temp_degc) * (2.8575 * z**3 + 0.60225)
        self._calendar += k * k * seconds
        self.gain += (
            CALENDAR_GAIN * _arrhenius(CALENDAR_GAIN_EA, temp_degc) * (1.5604 - 3.3903 * z * z) * seconds
        )

    def _use(
        self,
        out_ah: FloatArray | float,
        in_ah: FloatArray | float,
        rate: FloatArray | float,
        depth: FloatArray,
        temp_degc: FloatArray,
    ) -> None:
        cycles = (np.asarray(out_ah) + in_ah) / (2 * self.rated_ah)
        k = (0.0630 * rate + 0.0971) * (4.0253 * (depth - 0.6) ** 3 + 1.0923) / 100
        self._cycles += k * k * cycles
        line = np.maximum(0.0021 - 0.0020 * np.asarray(rate), 0.0)
        self.gain += line * (6.8477 * (depth - 0.5) ** 3 + 0.9182) / 100 * cycles
        k = COLD_LOSS * _arrhenius(-COLD_LOSS_EA, temp_degc)
        k = k * np.exp(COLD_RATE * (np.minimum(rate, COLD_RATE_MAX) - 1))
        self._cold += k * k * STUDIED_AH * np.asarray(in_ah) / self.rated_ah

    def _follow(self, soc: FloatArray) -> None:
        """The half cycles: a turn is seen when the state of charge has come back by TURN from the farthest point."""
        self._far = np.where(self._rising, np.maximum(self._far, soc), np.minimum(self._far, soc))
        turned = np.abs(soc - self._far) >= TURN
        if turned.any():
            self._depth_before = np.where(turned, np.abs(self._far - self._turned_at), self._depth_before)
            self._turned_at = np.where(turned, self._far, self._turned_at)
            self._rising = self._rising ^ turned
            self._far = np.where(turned, soc, self._far)
