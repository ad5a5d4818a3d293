"""Which way the current of a file counts, told from the data alone.

Three witnesses, each a number from -1 (the current is positive on charge) to +1 (positive on discharge):

    steps    A cell has a resistance, so a current that grows by di at once moves its voltage by -R·di,
             whatever the state of charge. Over steps of some seconds in which the current changes clearly:
             -sum(dv·di) / sum(|dv·di|).
    charge   What has been taken out lowers the voltage: minus the rank correlation (Spearman) of voltage and
             counted charge, over the rows in which current flows.
    soc      What has been taken out lowers the `soc` column: minus the correlation of the two.

`steps` decides where it is beyond chance, unless `charge` says the opposite. A file of constant current has few
steps; there `charge` decides, if the voltage has moved far: by less, a cold cell that warms itself under load raises
its voltage. Then comes `soc`. Where no witness is sure, the sign stays unknown, and nobody is accused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

STEP_S = 3.0  # the means of such stretches are compared: a logger may read voltage and current in turn
CLEAR_STEP = 0.2  # of the largest current
CLEAR_V = 1e-3  # a step that moves the voltage by less tells nothing
SURE_OF_STEPS = 0.7
BEYOND_CHANCE = 4.0  # standard deviations of the same steps with signs by lot
SURE_OF_CHARGE = 0.9
AGAINST = 0.5  # of `charge`: enough to silence the steps
SURE_OF_SOC = 0.9
FAR_V = 0.5  # the voltage's way in a file of constant current
SOC_SWING = 0.02
POINTS = 2000  # are enough for a rank correlation
NOTHING = (math.nan, 0, math.nan, math.nan)


@dataclass(frozen=True)
class SignEvidence:
    """What the data say about the sign of the current: +1 discharge is positive, -1 charge is, NaN nothing.

    steps, charge, soc   the witnesses
    count                clear steps of the current
    chance               standard deviation that `steps` would have, were the steps' signs drawn by lot
    resistance_ohm       the median of -dv/di over them; negative where the sign is turned
    swing_v              the voltage's way while current flowed
    """

    steps: float
    count: int
    chance: float
    resistance_ohm: float
    charge: float
    swing_v: float
    soc: float

    @property
    def verdict(self) -> int:
        """+1: positive is discharge; -1: positive is charge; 0: the data can't tell."""
        return self._decided()[0]

    @property
    def because(self) -> str:
        """What the verdict rests on, for a person; empty where there is none."""
        return self._decided()[1]

    @property
    def soc_runs_backwards(self) -> bool:
        """Current and voltage agree that positive is discharge, and `soc` rises with it: a depth of discharge."""
        witness = self._steps_say() or self._charge_says()
        return bool(witness) and witness * self.soc <= -SURE_OF_SOC

    def _decided(self) -> tuple[int, str]:
        way = {1: ("falls", "rises"), -1: ("rises", "falls"), 0: ("", "")}
        if said := self._steps_say():
            return said, (
                f"the voltage {way[said][0]} when the current rises ({self.count} clear steps, "
                f"dV/dI = {-1000 * self.resistance_ohm:+.1f} mohm)"
            )
        if said := self._charge_says():
            return said, f"the voltage {way[said][0]} by {self.swing_v:.2f} V as positive current flows"
        if abs(self.soc) >= SURE_OF_SOC:
            said = 1 if self.soc > 0 else -1
            return said, f"soc {way[said][0]} as positive current flows"
        return 0, ""

    def _steps_say(self) -> int:
        sure = abs(self.steps) >= max(SURE_OF_STEPS, BEYOND_CHANCE * self.chance)
        opposed = self.swing_v >= FAR_V and abs(self.charge) >= AGAINST and self.charge * self.steps < 0
        return 0 if not sure or opposed else 1 if self.steps > 0 else -1

    def _charge_says(self) -> int:
        sure = abs(self.charge) >= SURE_OF_CHARGE and self.swing_v >= FAR_V
        return 0 if not sure or self.steps * self.charge < 0 else 1 if self.charge > 0 else -1


def current_sign(
    time_s: FloatArray, current_a: FloatArray, voltage_v: FloatArray, soc: FloatArray | None = None
) -> SignEvidence:
    """Weigh the evidence. Rows with a NaN are left out; `time_s` must not fall."""
    known = np.isfinite(current_a) & np.isfinite(voltage_v)
    time, current, voltage = time_s[known], current_a[known], voltage_v[known]
    if len(time) < 3:
        return SignEvidence(*NOTHING, math.nan, 0.0, math.nan)
    steps = _steps(time, current, voltage)
    moved = np.concatenate([[0.0], np.cumsum(current[1:] * np.diff(time))])
    flowing = np.flatnonzero(np.abs(current) > 0.05 * np.abs(current).max())
    flowing = flowing[:: max(1, len(flowing) // POINTS)]
    charge = -_correlation(_ranks(moved[flowing]), _ranks(voltage[flowing]))
    swing = float(np.ptp(voltage[flowing])) if len(flowing) else 0.0
    told = math.nan
    if soc is not None:
        truth = soc[known]
        sure = np.isfinite(truth)
        if sure.any() and np.ptp(truth[sure]) >= SOC_SWING:
            told = -_correlation(moved[sure], truth[sure])
    return SignEvidence(*steps, charge, swing, told)


def _steps(time: FloatArray, current: FloatArray, voltage: FloatArray) -> tuple[float, int, float, float]:
    apart = np.diff(time)
    usual = float(np.median(apart[apart > 0])) if (apart > 0).any() else 0.0
    if usual == 0.0:
        return NOTHING
    every = max(1, round(STEP_S / usual))
    starts = np.arange(0, len(time) - every + 1, every)
    if len(starts) < 2:
        return NOTHING
    end = int(starts[-1]) + every
    dt, di, dv = (
        np.diff(np.add.reduceat(values[:end], starts)) / every for values in (time, current, voltage)
    )
    clear = (np.abs(di) >= CLEAR_STEP * np.abs(current).max()) & (np.abs(dv) >= CLEAR_V)
    clear &= (dt > 0) & (dt <= 2 * every * usual)
    di, dv = di[clear], dv[clear]
    if not len(di) or not np.abs(current).max() > 0:
        return NOTHING
    weight = np.abs(dv * di)
    chance = math.sqrt(float((weight**2).sum())) / weight.sum()
    agree = float(-(dv * di).sum() / weight.sum())
    return agree, len(di), float(chance), float(np.median(-dv / di))


def _ranks(values: FloatArray) -> FloatArray:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)


def _correlation(a: FloatArray, b: FloatArray) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
