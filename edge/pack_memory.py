"""What the battery's side of the core remembers from one boot to the next, and what it makes of it.

Memory: MAGIC, uint32 CRC-32 of all that follows (little-endian), then a MessagePack map, the fields of `Memory`.

`Fingerprint` tells one pack from another by its cells: how far each rests above or below the others. That
stays for months (a cell's imbalance, its channel of the BMS), and no two packs have the same.
"""

from __future__ import annotations

import math
import struct
import zlib

import msgspec
import numpy as np

from edge.errors import CellModelError
from edge.watch import FloatArray, IntArray

MAGIC = b"AyazPck1"
TRUSTED_CLOCKS = frozenset({"gps", "ntp", "rtc"})

LONGEST_S = 1e8  # three years: more is a wrong clock

# What may have changed while the agent was off, in soc
SELF_DISCHARGE_PER_S = 0.05 / (30 * 86400)  # cells and the BMS that lives on them, at most about 5 % a month
UNSEEN_C = 0.5  # charged or driven unseen: as fast as this, in capacities per hour,
UNSEEN_SD = 0.05  # and, where the BMS's own soc has not moved, not further than this
BMS_STEP = 0.01  # below this the BMS's soc has not moved: it is rounded
BMS_MOVE_SD = 0.5  # where it has, the share of its move that may be wrong: it may have corrected itself
DOUBT_LEAST, DOUBT_MOST = 0.01, 0.1  # how probable it is that nothing of the soc holds any more,
DOUBT_S = 8 * 3600.0  # which is as good as reached after a night

REST_C = 0.05  # currents below this, in capacities per hour,
REST_S = 10.0  # for so long, do not blur the pattern
ENOUGH = 40  # samples of each cell
SURE = 6.0  # how many sd must lie between "the same pack" and "another" before a pattern is judged
SAME = 0.8  # what correlation is left of a pack's own pattern at another soc and months later


class Memory(msgspec.Struct, frozen=True):
    """What is kept.

    wall_ms     when, in UNIX ms; None where the clock could not be trusted
    cells       CRC-32 of the names of what the estimator's cells were
    serial      the pack's serial numbers, raw
    bms_soc     what the BMS showed, in the cells' range; None where it showed nothing
    pattern     [n] V, the last fingerprint; empty where there is none yet
    trust       its reliability, 0 to 1
    parts       "estimator", and what else keeps something
    """

    wall_ms: int | None
    cells: int
    serial: list[int]
    bms_soc: float | None
    pattern: list[float]
    trust: float
    parts: dict[str, bytes]


def pack_memory(memory: Memory) -> bytes:
    """The bytes to keep."""
    body = msgspec.msgpack.encode(memory)
    return MAGIC + struct.pack("<I", zlib.crc32(body)) + body


def unpack_memory(data: bytes) -> Memory:
    """What was kept.

    Raises
    ------
    CellModelError
        It is damaged, or none of ours.
    """
    if len(data) < 12 or data[:8] != MAGIC:
        raise CellModelError("the battery's memory is not one of ours")
    if struct.unpack_from("<I", data, 8)[0] != zlib.crc32(data[12:]):
        raise CellModelError("the battery's memory is damaged")
    try:
        memory = msgspec.msgpack.decode(data[12:], type=Memory)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CellModelError(f"the battery's memory is damaged: {error}") from None
    if not np.isfinite([*memory.pattern, memory.trust, memory.bms_soc or 0.0]).all():
        raise CellModelError("the battery's memory is damaged")
    return memory


class TimeOff(msgspec.Struct, frozen=True):
    """What the time in which the agent was off makes of a remembered soc.

    seconds     how long; None: not known
    moved       by how much the BMS's own soc has moved in it; 0 where it has not, or shows none
    soc_sd      how far soc may have changed besides, sd
    doubt       how probable it is that nothing of the remembered soc holds
    """

    seconds: float | None
    moved: float
    soc_sd: float
    doubt: float


def time_off(memory: Memory, wall_ms: int | None, bms_soc: float) -> TimeOff:
    """From the wall clock, where it can be trusted at both ends, and from what the BMS, which was perhaps awake, shows now.

    `bms_soc` is NaN where it shows nothing.
    """
    seconds = None if wall_ms is None or memory.wall_ms is None else (wall_ms - memory.wall_ms) / 1000
    if seconds is not None and not 0 <= seconds <= LONGEST_S:
        seconds = None  # one of the two clocks was wrong after all
    moved = bms_soc - memory.bms_soc if memory.bms_soc is not None and math.isfinite(bms_soc) else None
    unseen = UNSEEN_SD if seconds is None else min(UNSEEN_C * seconds / 3600, UNSEEN_SD)
    lost = 0.0 if seconds is None else SELF_DISCHARGE_PER_S * seconds
    if moved is not None and abs(moved) < BMS_STEP:
        return TimeOff(seconds, 0.0, math.hypot(min(unseen, BMS_STEP), lost), DOUBT_LEAST)
    if moved is not None:
        return TimeOff(seconds, moved, math.hypot(BMS_MOVE_SD * abs(moved), unseen, lost), DOUBT_MOST)
    share = 1.0 if seconds is None else min(seconds / DOUBT_S, 1.0)
    return TimeOff(seconds, 0.0, math.hypot(unseen, lost), DOUBT_LEAST + (DOUBT_MOST - DOUBT_LEAST) * share)


class Fingerprint:
    """Collects how far each of n cells rests from the mean of its string, until every one has ENOUGH samples.

    `pattern` [n] V is the last whole one (empty: none yet), `trust` its reliability: the correlation of its two halves,
    stepped up to both (Spearman, Brown).
    """

    def __init__(self, string_of_cell: IntArray) -> None:
        self._string = string_of_cell
        self.pattern: FloatArray = np.zeros(0)
        self.trust = 0.0
        self._sums = np.zeros((2, len(string_of_cell)))
        self._counts = np.zeros((2, len(string_of_cell)), dtype=np.int64)

    def add(self, fresh_v: FloatArray, latest_v: FloatArray) -> bool:
        """Take the fresh samples [n] (NaN: none) of cells at rest; `latest_v` are the newest of all. True: a pattern is whole."""
        good = np.isfinite(latest_v)
        count = np.bincount(self._string, good)
        total = np.bincount(self._string, np.where(good, latest_v, 0.0))
        mean = total / np.maximum(count, 1)
        rows = np.flatnonzero(np.isfinite(fresh_v))
        half = (self._counts[0, rows] > self._counts[1, rows]).astype(np.int64)
        self._sums[half, rows] += fresh_v[rows] - mean[self._string[rows]]
        self._counts[half, rows] += 1
        if self._counts.sum(axis=0).min() < ENOUGH:
            return False
        halves = self._sums / self._counts
        self.pattern = halves.mean(axis=0)
        agree = _correlation(halves[0], halves[1], self._string)
        self.trust = max(2 * agree / (1 + agree), 0.0) if agree > -1 else 0.0
        self._sums[:] = 0
        self._counts[:] = 0
        return True

    def is_another(self, memory: Memory) -> bool | None:
        """Whether the pattern is another pack's than the remembered one; None: it can't be told.

        Correlations are compared as Fisher's z, whose sd is 1/sqrt(n - 3 - (strings - 1)): another pack has 0, the same
        one what the two patterns' reliability leaves, times SAME.
        """
        if not len(self.pattern) or len(memory.pattern) != len(self.pattern):
            return None
        same = math.atanh(min(SAME * math.sqrt(self.trust * memory.trust), 0.99))
        freedom = len(self.pattern) - 3 - int(self._string.max())
        if freedom < 1 or same * math.sqrt(freedom) < SURE:
            return None
        found = _correlation(self.pattern, np.array(memory.pattern), self._string)
        return math.atanh(min(max(found, -0.99), 0.99)) < same / 2


def _correlation(a: FloatArray, b: FloatArray, group: IntArray) -> float:
    """Within the groups; 0 where one of them does not vary."""
    count = np.bincount(group)
    a, b = (v - (np.bincount(group, v) / count)[group] for v in (a, b))
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 0 else 0.0


def names_crc(names: list[str]) -> int:
    """What the cells of a memory are told by."""
    return zlib.crc32("\n".join(names).encode())
