"""What comes on each channel: frames, rates, periods per identifier, and how full the bus is.

Bounded: MAX_IDS identifiers have a row of their own, the frames of any more are counted as `others`; rates
are over the last WINDOW_MARKS seconds.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.can.frames import ERROR, EXTENDED, Frames
from edge.can.load import bits_on_bus

MAX_IDS = 4096
MARK_US = 1_000_000
WINDOW_MARKS = 3
SLOW_RATE = 5.0  # frames a second
LOST_PERIODS = 3
SMOOTH = 7 / 8  # how much of the mean period each frame leaves
EXTENDED_KEY = 1 << 32

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

ROW = np.dtype([("key", "<i8"), ("count", "<i8"), ("last_us", "<i8"), ("period_us", "<f8"), ("label", "<i4")])


@dataclass(frozen=True)
class TrafficPicture:
    """Traffic at one moment.

    rows        ROW[n], sorted by key: channel << 40 | extended << 32 | id
    rate        [n] frames a second; of a slow identifier, from its period while it goes on
    frames_s    [channels] frames a second
    load        [channels] share of the time that the bus was busy, 0 to 1
    others      frames of identifiers beyond MAX_IDS
    """

    rows: npt.NDArray[np.void]
    rate: FloatArray
    frames_s: FloatArray
    load: FloatArray
    others: int


@dataclass(frozen=True)
class _Mark:
    t_us: int
    keys: IntArray
    counts: IntArray
    frames: IntArray
    busy_s: FloatArray


def key_of(channel: int, frame_id: int, extended: bool) -> int:
    """The key of an identifier's row."""
    return channel << 40 | (EXTENDED_KEY if extended else 0) | frame_id


class Traffic:
    """Of some channels, each with its bit rates (nominal, data) in bit/s."""

    def __init__(self, bitrates: list[tuple[int, int]]) -> None:
        self._rates = np.array(bitrates, dtype=np.float64).reshape(-1, 2)
        n = len(bitrates)
        self.rows = np.zeros(0, ROW)
        self.others = 0
        self._labels = 0
        self._frames = np.zeros(n, np.int64)
        self._busy_s = np.zeros(n)
        self._waiting: list[Frames] = []
        self._unmeasured: list[Frames] = []  # whose bits are not yet counted
        self._marks: deque[_Mark] = deque(maxlen=WINDOW_MARKS)

    def take(self, frames: Frames) -> None:
        """Frames, in the order of their arrival; they are looked at together, at the next tick."""
        if len(frames):
            if not self._marks:
                self._mark(int(frames["time_us"][0]))
            self._waiting.append(frames)

    def tick(self, now_us: int) -> None:
        """Bus time goes on."""
        self._count()
        if self._marks and now_us - self._marks[-1].t_us >= MARK_US:
            self._mark(now_us)

    def _count(self) -> None:
        if not self._waiting:
            return
        frames = np.concatenate(self._waiting)
        self._waiting = []
        self._unmeasured.append(frames)
        self._frames += np.bincount(frames["channel"], minlength=len(self._frames))
        frames = frames[frames["flags"] & ERROR == 0]
        keys = frames["channel"].astype(np.int64) << 40 | frames["id"].astype(np.int64)
        keys |= np.where(frames["flags"] & EXTENDED, EXTENDED_KEY, 0)
        # reversed, so that what `unique` finds first is the newest
        found, newest, count = np.unique(keys[::-1], return_index=True, return_counts=True)
        last_us = frames["time_us"][::-1][newest]
        self._make_room(found, count)
        place: IntArray = np.asarray(np.searchsorted(self.rows["key"], found), dtype=np.int64)
        known = np.zeros(len(found), dtype=bool)
        inside = place < len(self.rows)
        known[inside] = self.rows["key"][place[inside]] == found[inside]
        self._update(place[known], last_us[known], count[known])

    def picture(self, now_us: int) -> TrafficPicture:
        """The traffic now."""
        self._count()
        self._count_bits()
        rate, frames_s, load = (
            np.zeros(len(self.rows)),
            np.zeros(len(self._frames)),
            np.zeros(len(self._frames)),
        )
        if self._marks and now_us > self._marks[0].t_us:
            then = self._marks[0]
            seconds = (now_us - then.t_us) / 1e6
            before = np.zeros(len(self.rows), np.int64)
            before[np.searchsorted(self.rows["key"], then.keys)] = then.counts
            rate = self._steady((self.rows["count"] - before) / seconds, now_us)
            frames_s = (self._frames - then.frames) / seconds
            load = (self._busy_s - then.busy_s) / seconds
        return TrafficPicture(self.rows.copy(), rate, frames_s, load, self.others)

    def _steady(self, rate: FloatArray, now_us: int) -> FloatArray:
        """A few frames in the window would make the rate of a slow identifier jump."""
        period_us = self.rows["period_us"]
        goes_on = now_us - self.rows["last_us"] < LOST_PERIODS * period_us  # not where it is NaN
        slow = goes_on & (rate < SLOW_RATE) & (period_us > 0)
        return np.where(slow, 1e6 / np.where(slow, period_us, 1.0), rate)

    def _update(self, rows: IntArray, last_us: IntArray, count: IntArray) -> None:
        table = self.rows
        heard = table["count"][rows] > 0
        gap = (last_us - table["last_us"][rows]) / count
        old = table["period_us"][rows]
        keep = np.where(np.isnan(old), 0.0, SMOOTH**count)
        mean = np.where(keep > 0, old, 0.0) * keep + gap * (1 - keep)
        table["period_us"][rows] = np.where(heard, mean, np.nan)
        table["count"][rows] += count
        table["last_us"][rows] = last_us

    def _make_room(self, found: IntArray, count: IntArray) -> None:
        fresh = np.isin(found, self.rows["key"], invert=True)
        new = found[fresh]
        room = MAX_IDS - len(self.rows)
        if len(new) > room:
            self.others += int(count[fresh][room:].sum())
            new = new[:room]
        if not len(new):
            return
        rows = np.zeros(len(new), ROW)
        rows["key"], rows["period_us"] = new, np.nan
        rows["label"] = self._labels + np.arange(len(new))
        self._labels += len(new)
        table = np.concatenate([self.rows, rows])
        self.rows = table[np.argsort(table["key"], kind="stable")]

    def _mark(self, now_us: int) -> None:
        self._count_bits()
        self._marks.append(
            _Mark(
                now_us,
                self.rows["key"].copy(),
                self.rows["count"].copy(),
                self._frames.copy(),
                self._busy_s.copy(),
            )
        )

    def _count_bits(self) -> None:
        """Seldom and for many frames at once: that is far cheaper than for each few that arrive."""
        if not self._unmeasured:
            return
        frames = np.concatenate(self._unmeasured)
        self._unmeasured = []
        nominal, data = bits_on_bus(frames)
        for n in range(len(self._frames)):
            mine = frames["channel"] == n
            self._busy_s[n] += nominal[mine].sum() / self._rates[n, 0] + data[mine].sum() / self._rates[n, 1]
