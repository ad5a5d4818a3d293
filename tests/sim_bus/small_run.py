"""A small bus that needs no physics: what the sinks, the truth, the picture and the command are tested with.

As a program it is `ayaz` with this bus in the place of the simulation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from edge.can.frames import ERROR, EXTENDED, FRAME, REMOTE, Frames
from sim_bus import job
from sim_bus.doors import STEPS, EnergyJ, FloatArray
from sim_bus.job import Job
from sim_bus.run import Run, Second, truth_columns
from sim_bus.streams import Streams

ENERGY = tuple(f"{one.name}_kwh" for one in fields(EnergyJ))
COLUMNS = truth_columns(
    2, "cell_min_soc", "cell_max_soc", "cell_min_v", "cell_mean_v", "cell_max_v", "cell_min_degc", "cell_max_degc",
    "cabin_degc", "ambient_degc", "charger_w", *ENERGY,
)  # fmt: skip
FAULT = ("weak cell 1.17", 3, 7)  # acts in these seconds
KINDS = (0, EXTENDED, REMOTE, EXTENDED | REMOTE, ERROR)


class SmallRun:
    """A frame each 20 ms on each channel, with all kinds among them; a day of a bus as curves."""

    duration_s = math.inf
    columns = COLUMNS

    def __init__(self, seed: int, kinds: bool = True, charge: float = 0.8) -> None:
        self._rng = Streams(seed)("small.frames")
        self._kinds, self._charge = kinds, charge
        self.first = self._truth(np.zeros(1))[0]

    def seconds(self) -> Iterator[Second]:
        n = 0
        while True:
            labels = (FAULT[0],) if FAULT[1] <= n < FAULT[2] else ()
            times = n + np.arange(1, STEPS + 1) / STEPS
            yield Second(self._frames(n), self._truth(times), labels, f"driving to stop {n // 60 + 1}")
            n += 1

    def _frames(self, n: int) -> Frames:
        frames = np.zeros(150, FRAME)
        slot = np.arange(150) // 3
        frames["time_us"] = n * 1_000_000 + slot * 20_000
        frames["channel"] = np.arange(150) % 3
        frames["id"], frames["length"] = 0x200, 8
        frames["data"][:, :8] = self._rng.integers(0, 256, (150, 8))
        if self._kinds:
            flags = np.array(KINDS)[slot % len(KINDS)]
            frames["flags"] = flags
            frames["id"][flags & EXTENDED != 0] = 0x18FF1234
            frames["id"][flags & ERROR != 0] = 0x88
            frames["data"][flags & REMOTE != 0] = 0
        return frames

    def _truth(self, t: FloatArray) -> FloatArray:
        speed = np.clip(45 * np.sin(t / 40), 0, None)
        power = 3000 * speed - 60_000 * (np.cos(t / 40) < -0.9)
        soc = self._charge - t / 90_000
        volts = 3.3 + 0.1 * soc - power / 2e6
        warm = -20 + t / 2000
        used = np.outer(t / 3600, np.linspace(1, 5, len(ENERGY)))
        return np.column_stack(
            [
                t, soc, soc - 0.05 * np.cos(t / 9000), soc + 0.001, soc - 0.001, power / 600, 176 * volts, power, warm,
                speed, soc - 0.02, soc + 0.02, volts - 0.01, volts, volts + 0.006, warm - 3, warm + 2.5,
                18 - 30 * np.exp(-t / 900), -30 + 5 * np.sin(t / 9000), 0 * t, used,
            ]
        )  # fmt: skip


def small(of: Job) -> tuple[Run, float]:
    """In the place of `job.make_run`."""
    return SmallRun(of.seed), 30.0


if __name__ in ("__main__", "__mp_main__"):  # the second: in the fleet's worker processes
    job.make_run = small
if __name__ == "__main__":
    from edge.cli import main

    main()
