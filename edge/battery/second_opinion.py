"""A second opinion: our soc beside the BMS's, and each cell beside its neighbours.

**The BMS.** It shows 0 to 100 % over a window of the cells' range. `low + shown * (high - low)` is what it says of the
cells, and less our soc that is the difference. Beyond the window a display stands at its end, and says no more than
that; there the difference is 0. It is significant where it is over 1.96 sd, and the sd has our own band, the step
of the display, and what is not known of the window.

A window that is not declared is learnt: Bayesian linear regression of our soc on what is shown, from a prior that
holds the windows on the road. An observation is taken when the display has moved by LEARN_STEP, for those between say
the same; it counts with our sd and with what a BMS may be wrong by itself, LEARN_BMS_SD; and old ones fade,
so that the bars never shrink to nothing: errors of months are no independent samples. An offset that was there from
the beginning passes for the window then, and only its change shows: that is what can be known.

The drift is the slope of the difference over the last hours (least squares, exponential forgetting). Its sd takes our
error as one that may wander by its whole size from one end of that time to the other.

**The cells.** In each string, deviation = value - median, over s = sqrt(robust sd^2 + what this cell's variance has
more than its string's median): errors that all have cancel, errors that each has by itself show in the spread.
The robust sd is 1.4826 MAD (B. Iglewicz, D. Hoaglin, *How to Detect and Handle Outliers*, 1993), with a
floor, so that a well balanced pack does not call 0.2 % an outlier. They flag 3.5; with hundreds of cells, looked at
for years, we ask for OUT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

SIGNIFICANT_SDS = 1.96
PRIOR_WINDOW, PRIOR_SD = (0.06, 0.95), 0.05
LEARN_STEP = 0.05
LEARN_BMS_SD = 0.05  # half of the 5 to 15 % seen on the road
LEARN_FADE = 0.97
DRIFT_S = 7200.0
DRIFT_AFTER_S = 1800.0
MAX_GAP_S = 30.0  # one sample stands for no longer
OUT, BACK = 6.0, 4.0  # robust sds: begins to stand out, and stops
BACK_SHARE = 0.7  # of the least deviation that stands out
SOC_FLOOR, RESISTANCE_FLOOR = 0.005, 0.05
FEWEST = 4  # cells of a string, for a median to mean anything


@dataclass(frozen=True)
class Opinion:
    """At one moment; soc 0 to 1 of the cells' range; NaN where unknown. [n] cells, [S] strings.

    difference             the BMS's soc less ours
    difference_sd          how well that is known
    significant            whether it is more than can be explained
    drift_per_h            how the difference changes
    window, window_sd      the cells' range behind the display; sd 0 where it was declared
    imbalance              [S] robust sd of the cells' soc
    soc_deviation          [n] from the string's median
    resistance_deviation   [n] the same, as a share of it
    soc_score, resistance_score   [n] these in robust sds
    stands_out             [n]
    since_s                [n] since when it does, by the time given to `look`
    """

    difference: float
    difference_sd: float
    significant: bool
    drift_per_h: float
    drift_sd_per_h: float
    window: tuple[float, float]
    window_sd: tuple[float, float]
    imbalance: FloatArray
    soc_deviation: FloatArray
    soc_score: FloatArray
    resistance_deviation: FloatArray
    resistance_score: FloatArray
    stands_out: BoolArray
    since_s: FloatArray


class SecondOpinion:
    """Over one pack; to be asked every 1 to 10 s.

    Parameters
    ----------
    string_of_cell
        [n] number of the string that each cell is in, 0 to S-1.
    window
        The cells' range behind 0 and 100 % on the display; None: it is learnt.
    quantum
        Step of the display, 0 to 1.
    least_soc, least_resistance
        A cell stands out only where it is off by so much: soc; share of the resistance.

    Raises
    ------
    ValueError
        The window is none.
    """

    def __init__(
        self,
        string_of_cell: npt.ArrayLike,
        window: tuple[float, float] | None = None,
        quantum: float = 0.0,
        least_soc: float = 0.03,
        least_resistance: float = 0.25,
    ) -> None:
        if window is not None and not 0 <= window[0] < window[1] <= 1:
            raise ValueError(f"a window's ends must lie between 0 and 1, the lower first: {window}")
        strings = np.array(string_of_cell, dtype=np.int64)
        self._cells_of = [np.flatnonzero(strings == s) for s in range(int(strings.max(initial=-1)) + 1)]
        self._least = (least_soc, least_resistance)
        self._window = _Window(window)
        self._quantum_sd = quantum / math.sqrt(12)
        self._drift = _Slope()
        self._since_s = np.full(len(strings), np.nan)

    def look(
        self,
        time_s: float,
        soc: FloatArray,
        soc_sd: FloatArray,
        pack_soc: float,
        pack_soc_sd: float,
        shown: float,
        resistance_ratio: FloatArray | None = None,
        resistance_ratio_sd: FloatArray | None = None,
    ) -> Opinion:
        """The opinion at a time that never falls.

        `soc`, `soc_sd`, `resistance_ratio` (to the model's at the same soc and temperature, so that cold is not age) and
        its sd: [n], NaN unknown. `pack_soc` and `pack_soc_sd`: ours. `shown`: what the BMS shows, 0 to 1, NaN unknown.
        """
        difference, sd = self._compare(pack_soc, pack_soc_sd, shown)
        drift, drift_sd = self._drift.take(time_s, difference, sd)
        soc_deviation, soc_score, imbalance = self._spread(soc, soc_sd, SOC_FLOOR)
        share = np.full(len(soc), np.nan) if resistance_ratio is None else np.log(_positive(resistance_ratio))
        share_sd = np.zeros(len(soc))
        if resistance_ratio is not None and resistance_ratio_sd is not None:
            share_sd = resistance_ratio_sd / _positive(resistance_ratio)
        ln_deviation, resistance_score, _ = self._spread(share, share_sd, RESISTANCE_FLOOR)
        resistance_deviation = np.expm1(ln_deviation)
        stands_out = self._stand_out(
            time_s, ((soc_deviation, soc_score), (resistance_deviation, resistance_score))
        )
        return Opinion(
            difference, sd, bool(abs(difference) > SIGNIFICANT_SDS * sd), drift, drift_sd,
            self._window.ends, self._window.ends_sd, imbalance, soc_deviation, soc_score,
            resistance_deviation, resistance_score, stands_out, self._since_s.copy(),
        )  # fmt: skip

    def _compare(self, soc: float, sd: float, shown: float) -> tuple[float, float]:
        if not (0 <= shown <= 1 and math.isfinite(soc) and math.isfinite(sd)):
            return math.nan, math.nan
        if 0 < shown < 1:  # at its ends a display says only "beyond"
            self._window.learn(soc, sd, shown)
        low, high = self._window.ends
        difference = low + shown * (high - low) - soc
        if (shown == 0 and difference > 0) or (shown == 1 and difference < 0):
            difference = 0.0
        return difference, math.sqrt(sd**2 + self._quantum_sd**2 + self._window.variance(shown))

    def _spread(
        self, values: FloatArray, sd: FloatArray, floor: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """[n] deviations and scores, [S] robust sds."""
        deviation, score = np.full(len(values), np.nan), np.full(len(values), np.nan)
        spread = np.full(len(self._cells_of), np.nan)
        for s, cells in enumerate(self._cells_of):
            mine = values[cells]
            known = np.isfinite(mine)
            if known.sum() < FEWEST:
                continue
            off = mine - np.median(mine[known])
            spread[s] = 1.4826 * np.median(np.abs(off[known]))
            variance = np.nan_to_num(sd[cells]) ** 2
            own = np.maximum(variance - np.median(variance[known]), 0)
            deviation[cells] = off
            score[cells] = np.abs(off) / np.sqrt(max(spread[s], floor) ** 2 + own)
        return deviation, score, spread

    def _stand_out(self, time_s: float, measures: tuple[tuple[FloatArray, FloatArray], ...]) -> BoolArray:
        was = np.isfinite(self._since_s)
        now = np.zeros(len(was), bool)
        known = np.zeros(len(was), bool)
        for least, (deviation, score) in zip(self._least, measures, strict=True):
            size = np.abs(deviation)  # NaN compares as false
            begins = (score >= OUT) & (size >= least)
            goes_on = was & (score >= BACK) & (size >= BACK_SHARE * least)
            now |= begins | goes_on
            known |= np.isfinite(score)
        now |= was & ~known  # of what is not heard, nothing new is known
        self._since_s[now & ~was] = time_s
        self._since_s[~now] = np.nan
        return now


class _Window:
    """The cells' range behind the display: declared, or learnt with its covariance."""

    def __init__(self, declared: tuple[float, float] | None) -> None:
        self.learns = declared is None
        self._ends = np.array(declared or PRIOR_WINDOW)
        self._p = np.diag([PRIOR_SD**2] * 2) if self.learns else np.zeros((2, 2))
        self._last = math.nan

    @property
    def ends(self) -> tuple[float, float]:
        return float(self._ends[0]), float(self._ends[1])

    @property
    def ends_sd(self) -> tuple[float, float]:
        return math.sqrt(self._p[0, 0]), math.sqrt(self._p[1, 1])

    def variance(self, shown: float) -> float:
        """Of low + shown * (high - low)."""
        h = np.array([1 - shown, shown])
        return float(h @ self._p @ h)

    def learn(self, soc: float, sd: float, shown: float) -> None:
        """soc = low * (1 - shown) + high * shown, with an error of ours and one of the BMS's."""
        if not self.learns or abs(shown - self._last) < LEARN_STEP:
            return
        self._last = shown
        p = self._p / LEARN_FADE
        p *= min(1.0, 2 * PRIOR_SD**2 / float(np.trace(p)))  # what fades is never less known than at first
        h = np.array([1 - shown, shown])
        r = sd**2 + LEARN_BMS_SD**2
        gain = p @ h / (h @ p @ h + r)
        self._ends = self._ends + gain * (soc - float(h @ self._ends))
        k = np.eye(2) - np.outer(gain, h)
        self._p = k @ p @ k.T + r * np.outer(gain, gain)
        self._ends = np.clip(self._ends, 0.0, 1.0)


class _Slope:
    """Least squares of a value over time, old samples forgotten with time constant DRIFT_S."""

    def __init__(self) -> None:
        self._weight = self._t = self._y = self._tt = self._ty = 0.0
        self._last_s = math.nan

    def take(self, time_s: float, value: float, sd: float) -> tuple[float, float]:
        """The slope per hour and its sd, with one more sample; NaN where there is not enough of them."""
        if not math.isfinite(value):
            return math.nan, math.nan
        passed_s = 1.0 if math.isnan(self._last_s) else time_s - self._last_s
        self._last_s = time_s
        fade, dt_s = math.exp(-passed_s / DRIFT_S), min(passed_s, MAX_GAP_S)
        kept = fade * self._weight
        self._weight = kept + dt_s
        if self._weight <= 0:
            return math.nan, math.nan
        share = dt_s / self._weight
        dt, dy = time_s - self._t, value - self._y
        self._t += share * dt
        self._y += share * dy
        self._tt = fade * self._tt + kept * share * dt * dt
        self._ty = fade * self._ty + kept * share * dt * dy
        span_s = math.sqrt(12 * self._tt / self._weight)  # as of even weights
        if span_s < DRIFT_AFTER_S:
            return math.nan, math.nan
        return 3600 * self._ty / self._tt, 3600 * math.sqrt(2) * sd / span_s


def _positive(values: FloatArray) -> FloatArray:
    return np.where(values > 0, values, np.nan)
