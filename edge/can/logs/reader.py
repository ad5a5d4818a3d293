"""What every reader of a log is: chunks of frames, channels, refusals, how far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from edge.can.frames import FRAME, Frames
from edge.can.logs.stream import CutShort, Stream

MAX_CHANNELS = 256
MAX_US = 10**18  # of a log's time, 1e12 s
ROWS = 4096

Item = TypeVar("Item")


class Refused(Exception):
    """One record is no frame: its reason, under which it is counted."""


class Names:
    """A log's channels by name, and its refusals by reason."""

    def __init__(self) -> None:
        self._refused: Counter[str] = Counter()
        self._numbers: dict[str, int] = {}

    @property
    def channels(self) -> list[str]:
        return list(self._numbers)

    @property
    def refused(self) -> dict[str, int]:
        return dict(self._refused)

    def refuse(self, reason: str, count: int = 1) -> None:
        self._refused[reason] += count

    def number(self, channel: str) -> int:
        """A channel's number.

        Raises
        ------
        Refused
            Over 256 of them.
        """
        if channel not in self._numbers:
            if len(self._numbers) == MAX_CHANNELS:
                raise Refused("channels")
            self._numbers[channel] = len(self._numbers)
        return self._numbers[channel]


class Reader(Names):
    """Reads one log from its beginning: iterate for FRAME arrays.

    channels    the names met so far; a frame's channel number is its place there
    refused     reason -> how many records were no frames; reading went on after each
    fraction    how far, 0 to 1

    Iterating raises CutShort after all frames before the damage; anything else is a defect.
    """

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream

    def __iter__(self) -> Iterator[Frames]:
        raise NotImplementedError

    @property
    def fraction(self) -> float:
        return self.stream.fraction

    def gather(self, items: Iterator[Item], fill: Callable[[Any, Item], bool]) -> Iterator[Frames]:
        """Items as FRAME arrays.

        `fill` writes an item into a zeroed record and says whether it is one; or it raises Refused, having written
        nothing.
        """
        frames, used = np.zeros(ROWS, FRAME), 0
        cut: CutShort | None = None
        while cut is None:
            try:
                item = next(items)
                used += fill(frames[used], item)
            except StopIteration:
                break
            except Refused as refused:
                self.refuse(str(refused))
            except CutShort as error:
                cut = error
            if used == ROWS:
                yield frames
                frames, used = np.zeros(ROWS, FRAME), 0
        if used:
            yield frames[:used]
        if cut is not None:
            raise cut
