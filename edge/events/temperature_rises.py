"""Temperature that rises faster than its neighbours': heating from within.

A sensor's rate is the lesser of its rises over the last two windows of equal length, less the median of the other
sensors' over the same. Both must rise: a sensor that jumps, once, is broken, not hot. Two lengths are
watched, for two severities: a minute (a cell that begins to heat itself, a loose joint) and 3 s (thermal runaway).
Sensors often have steps of 1 degC, so a window is as long as the limit needs for one step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge.events.book import UNKNOWN, Book, Change, FloatArray, Rule, changes, median_of_others
from edge.events.limits import Limits

RULE = Rule("temperature_rises", ("warning", "critical"), open_s=(30.0, 0.0), close_s=300.0, reopen_s=600.0)
LOOK_S = 1.0
WINDOW_S = (60.0, 3.0)
CLOSE_SHARE = 0.5  # of the rate that opened it
LATE = 1.5  # looks that are so many times LOOK_S apart say nothing of rates


class TemperatureRises:
    """Over sensors, each with its name. To be looked at every LOOK_S."""

    def __init__(self, sensors: Sequence[str], limits: Limits) -> None:
        self._sensors = sensors
        self.book = Book(RULE, len(sensors))
        self._limit = np.array([limits.heating_degc_per_min / 60, limits.runaway_degc_per_s])
        self._looks = [round(w / LOOK_S) for w in WINDOW_S]
        self._past = np.full((2 * max(self._looks) + 1, len(sensors)), np.nan)  # a ring
        self._at = 0
        self._last_us: int | None = None

    def look(self, now_us: int, temp_degc: FloatArray) -> list[Change]:
        """[k] what the sensors show; NaN: unknown."""
        if self._last_us is not None and (now_us - self._last_us) / 1e6 > LATE * LOOK_S:
            self._past[:] = np.nan
        self._last_us = now_us
        self._at = (self._at + 1) % len(self._past)
        self._past[self._at] = temp_degc
        rate = self.rates()  # [2, k]
        share = rate / self._limit[:, None]
        level = np.array([1, 2])[:, None]
        reached = np.where(share >= 1, level, 0).max(axis=0)
        held = np.where(share >= CLOSE_SHARE, level, 0).max(axis=0)
        unknown = np.isnan(rate).any(axis=0) & (reached == 0)
        reached[unknown] = held[unknown] = UNKNOWN
        turns = self.book.look(now_us, reached, held, np.nan_to_num(share).max(axis=0))
        if not turns:
            return []
        others = median_of_others(temp_degc)
        return changes(
            RULE,
            turns,
            self._sensors,
            [self._words(t.index, t.opened, temp_degc, others, rate) for t in turns],
        )

    def rates(self) -> FloatArray:
        """[2, k] degC/s of each sensor above the others' median, over each window; NaN where not known."""
        rises = np.stack([self._back(n * k) - self._back(n * (k + 1)) for n in self._looks for k in (0, 1)])
        above = (rises - median_of_others(rises)).reshape(2, 2, -1)
        rate: FloatArray = above.min(axis=1) / np.array(WINDOW_S)[:, None]
        return rate

    def _back(self, looks: int) -> FloatArray:
        past: FloatArray = self._past[(self._at - looks) % len(self._past)]
        return past

    def _words(
        self, i: int, opened: bool, temp: FloatArray, others: FloatArray, rate: FloatArray
    ) -> tuple[str, dict[str, float | str | None]]:
        per_min, per_s = 60 * float(rate[0, i]), float(rate[1, i])
        evidence: dict[str, float | str | None] = {
            "temp_degc": round(float(temp[i]), 1),
            "others_median_degc": round(float(others[i]), 1),
            "above_others_degc_per_min": round(per_min, 2),
            "above_others_degc_per_s": round(per_s, 2),
        }
        fast = per_s >= self._limit[1]
        much = f"{per_s:.1f} °C/s" if fast else f"{per_min:.1f} °C/min"
        now = f"it is at {temp[i]:.0f} °C, the others at {others[i]:.0f}"
        return (
            f"A sensor heats up by {much} more than the others; {now}"
            if opened
            else f"A sensor heats no more; {now}"
        ), evidence
