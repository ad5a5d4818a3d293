"""What is open: dwell times, hysteresis and bounds, the same for every detector.

A detector says of each of its n things, at each look, which level is reached by the thresholds for opening and
which is still held by the thresholds for closing (0: none; 1, 2: the severities of its rule). A level opens after it
was reached for its `open_s`, and closes after it was not held for `close_s`. Of a thing that can't be judged (UNKNOWN:
no data) nothing changes and no time counts, nor does a gap between two looks.

Never a flood: one open event per thing; at most `MAX_OPEN` of a kind, the worst first; `AT_ONCE` openings in a row,
then `PER_HOUR`. What would have opened but for these waits for its turn, and is counted in `held_back`. Something that
turned worse is never held back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Severity = Literal["info", "warning", "critical"]
Levels = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

UNKNOWN = -1
MAX_OPEN = 8
AT_ONCE = 12.0
PER_HOUR = 6.0
MAX_GAP_S = 30.0  # of a longer time between two looks nothing is known but its ends


@dataclass(frozen=True)
class Rule:
    """What a detector's events are called, and how long a level must last before it opens and closes.

    `severities` and `open_s` are of level 1, 2, ...; one thing opens at most once in `reopen_s`.
    """

    what: str
    severities: tuple[Severity, ...]
    open_s: tuple[float, ...]
    close_s: float
    reopen_s: float


@dataclass(frozen=True)
class Change:
    """Something was found, or is over. `since_us`: when it began, as far as we saw. `why` is of a closed one: over, or
    worse or milder, where another severity of it opens at the same time."""

    what: str
    thing: str
    severity: Severity
    opened: bool
    since_us: int
    text: str
    evidence: dict[str, float | str | None]
    why: Literal["", "over", "worse", "milder"] = ""


@dataclass(frozen=True)
class Turn:
    """A change before its detector has put it into words: of which thing, and to or from which severity."""

    index: int
    severity: Severity
    opened: bool
    since_us: int
    why: Literal["", "over", "worse", "milder"] = ""


class Book:
    """The events of one detector, over n things."""

    def __init__(self, rule: Rule, n: int) -> None:
        self.rule = rule
        self.held_back = 0
        self.level = np.zeros(n, np.int64)
        self.since_us = np.zeros(n, np.int64)  # of what is open, or about to
        self._reached_s = np.full((len(rule.severities), n), -1.0)  # how long; -1: not now
        self._lapsed_s = np.full(n, -1.0)
        self._opened_us = np.full(n, -(1 << 60), np.int64)
        self._waits = np.zeros(n, bool)  # held back, and counted
        self._budget = AT_ONCE
        self._last_us: int | None = None

    def look(self, now_us: int, reached: Levels, held: Levels, score: FloatArray) -> list[Turn]:
        """One look at all things; the greater score is the worse. reached <= held; UNKNOWN in both or none."""
        dt_s = 0.0 if self._last_us is None else min((now_us - self._last_us) / 1e6, MAX_GAP_S)
        self._last_us = now_us
        self._budget = min(self._budget + dt_s * PER_HOUR / 3600, AT_ONCE)
        if not reached.any() and not self.level.any():  # as nearly always: all is well
            self._reached_s[:] = self._lapsed_s[:] = -1
            self._waits[:] = False
            return []
        known = reached != UNKNOWN
        self._since(now_us, reached)
        levels = np.arange(1, len(self.rule.severities) + 1)[:, None]
        self._reached_s = np.where(known, _lasting(self._reached_s, reached >= levels, dt_s), self._reached_s)
        self._lapsed_s = np.where(known, _lasting(self._lapsed_s, held < self.level, dt_s), self._lapsed_s)
        ripe = known & (reached >= levels) & (self._reached_s >= np.array(self.rule.open_s)[:, None])
        wanted = np.where(ripe, levels, 0).max(axis=0)
        turns: list[Turn] = []
        for i in np.flatnonzero(
            known & (self._lapsed_s >= self.rule.close_s) & (self._lapsed_s >= 0)
        ).tolist():
            turns += self._turn(now_us, i, int(held[i]))
        for i in np.flatnonzero((wanted > self.level) & (self.level > 0)).tolist():
            turns += self._turn(now_us, i, int(wanted[i]))
        new = np.flatnonzero((wanted > 0) & (self.level == 0))
        for i in new[np.argsort(-score[new], kind="stable")].tolist():
            if self._may_open(now_us, i):
                turns += self._turn(now_us, i, int(wanted[i]))
            elif not self._waits[i]:
                self._waits[i] = True
                self.held_back += 1
        self._waits &= wanted > 0
        return turns

    def _since(self, now_us: int, reached: Levels) -> None:
        begins = (reached > 0) & (self._reached_s[0] < 0) & (self.level == 0)
        self.since_us[begins] = now_us

    def _may_open(self, now_us: int, i: int) -> bool:
        return (
            self._budget >= 1
            and int(np.count_nonzero(self.level)) < MAX_OPEN
            and now_us - int(self._opened_us[i]) >= self.rule.reopen_s * 1e6
        )

    def _turn(self, now_us: int, i: int, to: int) -> list[Turn]:
        was, since_us = int(self.level[i]), int(self.since_us[i])
        turns = []
        if was:
            why: Literal["over", "worse", "milder"] = "worse" if to > was else "milder" if to else "over"
            turns.append(Turn(i, self.rule.severities[was - 1], False, since_us, why))
        if to:
            turns.append(Turn(i, self.rule.severities[to - 1], True, since_us))
            self._opened_us[i] = now_us
            self._budget -= 1
        self.level[i] = to
        self._lapsed_s[i] = -1
        return turns


def _lasting(seconds: FloatArray, so: npt.NDArray[np.bool_], dt_s: float) -> FloatArray:
    """How long it has been so: 0 at the first look, -1 where it is not."""
    return np.where(so, np.where(seconds < 0, 0.0, seconds + dt_s), -1.0)


def changes(
    rule: Rule,
    turns: Sequence[Turn],
    things: Sequence[str],
    words: Sequence[tuple[str, dict[str, float | str | None]]],
) -> list[Change]:
    """Turns in words: for each its sentence and its evidence."""
    return [
        Change(rule.what, things[t.index], t.severity, t.opened, t.since_us, text, evidence, t.why)
        for t, (text, evidence) in zip(turns, words, strict=True)
    ]


def median_of_others(values: FloatArray) -> FloatArray:
    """[..., k] -> [..., k]: for each, the median of those others that are not NaN; NaN where there are none."""
    order = np.argsort(values, axis=-1, kind="stable")  # NaN last
    ranked = np.take_along_axis(values, order, axis=-1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(values.shape[-1]), order.shape), axis=-1)
    known = ~np.isnan(values)
    others = known.sum(axis=-1, keepdims=True) - known  # how many there are beside each
    low, high = np.maximum(others - 1, 0) // 2, others // 2
    # Taking one out of a ranking moves all behind it by one; those that are NaN rank behind all that count.
    low, high = low + (rank <= low), high + (rank <= high)
    last = values.shape[-1] - 1
    middle = [np.take_along_axis(ranked, np.minimum(k, last), axis=-1) for k in (low, high)]
    return np.where(others > 0, (middle[0] + middle[1]) / 2, np.nan)
