"""The BMS's state of charge is off: it differs from ours by more than a plan may bear and more than we may be wrong."""

from __future__ import annotations

import math

import numpy as np

from edge.events.book import UNKNOWN, Book, Change, Rule, changes
from edge.events.limits import Limits

RULE = Rule("bms_soc_off", ("warning",), open_s=(60.0,), close_s=600.0, reopen_s=3600.0)
OPEN_SDS, CLOSE_SDS = 1.96, 1.5
CLOSE_SHARE = 0.7  # of the limit


class BmsSocOff:
    """Over one pack, with its name."""

    def __init__(self, thing: str, limits: Limits) -> None:
        self._thing, self._limit = thing, limits.bms_soc
        self.book = Book(RULE, 1)

    def look(self, now_us: int, difference: float, difference_sd: float) -> list[Change]:
        """The BMS's soc less ours (both of the cells' range), and how well that is known; NaN: unknown."""
        level = self._level(difference, difference_sd)
        turns = self.book.look(now_us, level[:1], level[1:], np.abs([difference]))
        if not turns:
            return []
        off, sd = 100 * difference, 100 * difference_sd
        evidence: dict[str, float | str | None] = {
            "difference_pct": round(off, 2),
            "difference_sd_pct": round(sd, 2),
        }
        than = "more" if off > 0 else "less"
        said = f"The BMS shows {abs(off):.1f} % {than} than there is (± {1.96 * sd:.1f})"
        over = f"The BMS and we agree again, within {abs(off):.1f} %"
        return changes(RULE, turns, [self._thing], [(said if t.opened else over, evidence) for t in turns])

    def _level(self, difference: float, sd: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        if not (math.isfinite(difference) and math.isfinite(sd)):
            return np.array([UNKNOWN, UNKNOWN])
        size = abs(difference)
        reached = size >= self._limit and size >= OPEN_SDS * sd
        held = size >= CLOSE_SHARE * self._limit and size >= CLOSE_SDS * sd
        return np.array([int(reached), int(held)])
