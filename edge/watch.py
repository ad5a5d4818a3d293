"""The latest value of every signal of the maps, and what it is worth.

`Watch` judges all of them once a tick; `Inputs` are some of them, in our units and signs. Times are monotonic
microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge.can.decoder import Decoder, LatestTable
from edge.signals.catalogue import Catalogue
from edge.signals.validity import GOOD, NEVER, STALE, SUSPECT

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
NOTHING = np.empty(0, np.int64)
LONG_AGO_US = -(1 << 60)


class Watch:
    """What the latest value of every signal of the maps is worth, worked out once a tick.

    `validity` (numbers of edge.signals.validity) and `time_us` have the shape [signals of the catalogue].
    Late comes before what its sender says of it; frozen is only what would be good.
    """

    def __init__(self, decoder: Decoder, catalogue: Catalogue) -> None:
        self.signals = catalogue.signals
        slots = [
            decoder.slot(s.channel, s.message, s.signal, address=s.address, name=s.name) for s in self.signals
        ]
        self.slots = np.array(slots, dtype=np.int64)
        known = [decoder.slots[n] for n in slots]
        self.quantum = np.array(  # in the path's unit; of a float 0
            [0.0 if k.is_float else abs(k.scale * s.factor) for k, s in zip(known, self.signals, strict=True)]
        )
        timeouts = {(m.channel, m.message): m.timeout_ms for m in catalogue.messages}
        self._timeout_us = np.array(
            [timeouts[s.channel, s.message] * 1000 for s in self.signals], dtype=np.int64
        )
        frozen_s = [s.frozen_s for s in self.signals]
        self._can_freeze = np.flatnonzero(np.array(frozen_s) > 0)
        self._frozen_us = np.array([round(frozen_s[i] * 1e6) for i in self._can_freeze], dtype=np.int64)
        self._last_raw = np.zeros(len(self._can_freeze), np.int64)
        self._moved_us = np.zeros(len(self._can_freeze), np.int64)
        self.validity = np.full(len(self.signals), NEVER, np.uint8)
        self.time_us = np.zeros(len(self.signals), np.int64)

    def look(self, now_us: int, latest: LatestTable) -> None:
        """Judge the table as it is at this tick."""
        self.time_us = latest.time_us[self.slots]
        state = latest.state[self.slots]
        late = (now_us - self.time_us > self._timeout_us) & (state != NEVER)
        self.validity = np.where(late, np.uint8(STALE), state)
        if len(self._can_freeze):
            self._look_for_frozen(now_us, latest)

    def _look_for_frozen(self, now_us: int, latest: LatestTable) -> None:
        raw = latest.raw[self.slots[self._can_freeze]]
        good = self.validity[self._can_freeze] == GOOD
        self._moved_us[(raw != self._last_raw) | ~good] = now_us
        self._last_raw = raw
        frozen = good & (now_us - self._moved_us > self._frozen_us)
        self.validity[self._can_freeze[frozen]] = SUSPECT


class Inputs:
    """Some signals of the maps as the estimator takes them: in our units and signs, NaN where not good."""

    def __init__(self, watch: Watch, rows: Sequence[int]) -> None:
        self._watch = watch
        self._rows = np.array(rows, dtype=np.int64)
        self.quantum = watch.quantum[self._rows]
        self._slots = watch.slots[self._rows]
        self.signals = [watch.signals[n] for n in rows]
        self._factor = np.array([s.factor for s in self.signals])
        self._used_us = np.full(len(rows), LONG_AGO_US, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.signals)

    def heard(self) -> BoolArray:
        """[n] whether it has been, whatever it said."""
        return np.asarray(self._watch.validity[self._rows] != NEVER)

    def values(self, latest: LatestTable) -> FloatArray:
        """[n] the newest."""
        good = self._watch.validity[self._rows] == GOOD
        return np.where(good, latest.value[self._slots] * self._factor, np.nan)

    def raw(self, latest: LatestTable) -> list[int] | None:
        """The newest as the frames had them; None where one is not good."""
        if not (self._watch.validity[self._rows] == GOOD).all():
            return None
        raw: list[int] = latest.raw[self._slots].tolist()
        return raw

    def fresh_values(self, latest: LatestTable) -> FloatArray:
        """[n] the newest, each only once: NaN where no frame has come since the last call."""
        time_us = self._watch.time_us[self._rows]
        values = np.where(time_us > self._used_us, self.values(latest), np.nan)
        self._used_us = time_us
        return values
