"""What lives a bus, second by second: a simulation, or the playback of measured data.

The same seed gives the same seconds, whoever asks and however fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from edge.can.frames import Frames
from sim_bus.doors import FloatArray

# The truth's first columns, `strings` times string{n}_soc in their place; whatever follows is the run's own.
FIRST_COLUMNS = ("t_s", "soc", "bms_soc", "current_a", "voltage_v", "power_w", "temp_degc", "speed_kmh")


@dataclass(frozen=True)
class Second:
    """One simulated second.

    frames   sorted by time; all within this second, whose beginning is a whole number of seconds from 0
    truth    (STEPS, columns) of what really is at each step's end; NaN where nobody knows
    labels   of the faults that act in it
    doing    what the bus does, for people: "driving 42 km/h to stop 7"
    """

    frames: Frames
    truth: FloatArray
    labels: tuple[str, ...]
    doing: str


class Run(Protocol):
    """A bus under way.

    duration_s   the run yields seconds at least until then; infinite where nothing ends it
    columns      of the truth: those of `truth_columns` first
    first        (columns,) the truth at t = 0
    """

    duration_s: float
    columns: tuple[str, ...]
    first: FloatArray

    def seconds(self) -> Iterator[Second]:
        """One second after another, from 0; may end after `duration_s`."""
        ...


def truth_columns(strings: int, *more: str) -> tuple[str, ...]:
    """The columns of a truth of so many strings, and more after them."""
    of_strings = tuple(f"string{n}_soc" for n in range(1, strings + 1))
    return FIRST_COLUMNS[:3] + of_strings + FIRST_COLUMNS[3:] + more
