"""A cell that deviates: it stands out of its string, in soc or resistance, and goes on doing so.

Which cells stand out is for `edge.battery.second_opinion` to say, with its own hysteresis; here it becomes an event
once it has lasted: a cell that is found to be off is off for months, so there is no hurry.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge.events.book import Book, Change, FloatArray, Rule, changes

RULE = Rule("cell_deviates", ("warning",), open_s=(600.0,), close_s=1800.0, reopen_s=3600.0)


class CellDeviates:
    """Over the cells of a pack, each with its name."""

    def __init__(self, cells: Sequence[str]) -> None:
        self._cells = cells
        self.book = Book(RULE, len(cells))

    def look(
        self,
        now_us: int,
        stands_out: npt.NDArray[np.bool_],
        soc_deviation: FloatArray,
        soc_score: FloatArray,
        resistance_deviation: FloatArray,
        resistance_score: FloatArray,
    ) -> list[Change]:
        """All arrays [n]: whether a cell stands out; by how much (soc, and share of the resistance) from its string's
        median; and that in robust standard deviations, NaN where unknown."""
        known = np.isfinite(soc_score) | np.isfinite(resistance_score)
        level = np.where(known, stands_out.astype(np.int64), -1)
        score = np.fmax(np.nan_to_num(soc_score), np.nan_to_num(resistance_score))
        turns = self.book.look(now_us, level, level, score)
        if not turns:
            return []
        out = int(np.count_nonzero(stands_out))
        words = []
        for t in turns:
            i = t.index
            soc, share = 100 * float(soc_deviation[i]), 100 * float(resistance_deviation[i])
            evidence: dict[str, float | str | None] = {
                "soc_deviation_pct": round(soc, 2),
                "soc_score": round(float(soc_score[i]), 1),
                "resistance_deviation_pct": round(share, 1),
                "resistance_score": round(float(resistance_score[i]), 1),
                "cells_standing_out": out,
            }
            words.append((self._text(t.opened, soc, share), evidence))
        return changes(RULE, turns, self._cells, words)

    @staticmethod
    def _text(opened: bool, soc_pct: float, resistance_pct: float) -> str:
        parts = [] if np.isnan(soc_pct) else [f"its charge is {soc_pct:+.1f} % off"]
        parts += [] if np.isnan(resistance_pct) else [f"its resistance {resistance_pct:+.0f} %"]
        what = "A cell deviates from its string" if opened else "A cell is like its string again"
        return f"{what}: {', '.join(parts)}"
