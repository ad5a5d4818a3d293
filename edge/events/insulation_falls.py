"""Insulation resistance that is low, or falls towards it.

Judged in ohm per volt of working voltage (UN R100, ISO 6469-3), which is the highest pack voltage heard in this boot.
Leaks add up as conductances, so the trend is that of the conductance: two exponential averages of it with time
constants a and b follow a ramp of slope r with lags a and b, so r = (fast - slow)/(b - a). It warns when it is
steep enough to reach the warning limit within the horizon, and has grown by a quarter already.
"""

from __future__ import annotations

import math

import numpy as np

from edge.events.book import UNKNOWN, Book, Change, Rule, changes
from edge.events.limits import Limits

# A monitor needs some 10 to 30 s for one measurement and shows nothing of worth in its first minute.
RULE = Rule("insulation_falls", ("warning", "critical"), open_s=(60.0, 30.0), close_s=300.0, reopen_s=3600.0)
CLOSE = 1.2  # times the limit that opened it
FAST_S, SLOW_S = 600.0, 3600.0
TREND_AFTER_S = 1800.0
GROWN = 1.25
MAX_OHM, MAX_V = 1e9, 3000.0
MAX_GAP_S = 30.0


class InsulationFalls:
    """Over one pack, with its name."""

    def __init__(self, thing: str, limits: Limits) -> None:
        self._thing, self._limits = thing, limits
        self.book = Book(RULE, 1)
        self._working_v = math.nan
        self._fast = self._slow = math.nan  # siemens times volt: the inverse of ohm per volt
        self._seen_s = 0.0
        self._last_us: int | None = None

    def look(self, now_us: int, resistance_ohm: float, pack_voltage_v: float) -> list[Change]:
        """The insulation as it is shown, and the pack's voltage; NaN: unknown."""
        dt_s = 0.0 if self._last_us is None else min((now_us - self._last_us) / 1e6, MAX_GAP_S)
        self._last_us = now_us
        if 0 < pack_voltage_v < MAX_V:
            self._working_v = float(np.fmax(self._working_v, pack_voltage_v))
        known = 0 <= resistance_ohm <= MAX_OHM and math.isfinite(self._working_v)
        ohm_per_v = max(resistance_ohm, 1.0) / self._working_v if known else math.nan
        if known:
            self._average(1 / ohm_per_v, dt_s)
        hours = self._hours_left()
        reached, held = self._levels(ohm_per_v, hours) if known else (UNKNOWN, UNKNOWN)
        turns = self.book.look(now_us, np.array([reached]), np.array([held]), np.zeros(1))
        if not turns:
            return []
        evidence: dict[str, float | str | None] = {
            "ohm_per_v": round(ohm_per_v, 1),
            "resistance_kohm": round(resistance_ohm / 1000, 1),
            "working_voltage_v": round(self._working_v, 1),
            "hours_to_limit": None if hours is None else round(hours, 2),
        }
        words = [(self._text(t.opened, ohm_per_v, hours), evidence) for t in turns]
        return changes(RULE, turns, [self._thing], words)

    def _average(self, conductance: float, dt_s: float) -> None:
        if math.isnan(self._slow):
            self._fast = self._slow = conductance
        self._fast += (conductance - self._fast) * -math.expm1(-dt_s / FAST_S)
        self._slow += (conductance - self._slow) * -math.expm1(-dt_s / SLOW_S)
        self._seen_s += dt_s

    def _hours_left(self) -> float | None:
        """Until the warning limit, as it is falling now; None where it is not."""
        if self._seen_s < TREND_AFTER_S or not self._fast > GROWN * self._slow:
            return None
        slope = (self._fast - self._slow) / (SLOW_S - FAST_S)
        return max(1 / self._limits.insulation_warning_ohm_per_v - self._fast, 0.0) / slope / 3600

    def _levels(self, ohm_per_v: float, hours: float | None) -> tuple[int, int]:
        limits = self._limits
        falls = hours is not None and hours < limits.insulation_horizon_h

        def level(share: float) -> int:
            if ohm_per_v < share * limits.insulation_critical_ohm_per_v:
                return 2
            return int(ohm_per_v < share * limits.insulation_warning_ohm_per_v or falls)

        return level(1.0), level(CLOSE)

    def _text(self, opened: bool, ohm_per_v: float, hours: float | None) -> str:
        if not opened:
            return f"Insulation is {ohm_per_v:.0f} ohm/V"
        if ohm_per_v >= self._limits.insulation_warning_ohm_per_v and hours is not None:
            return f"Insulation falls: {ohm_per_v:.0f} ohm/V, at this rate below the limit in {hours:.1f} h"
        return f"Insulation is low: {ohm_per_v:.0f} ohm/V"
