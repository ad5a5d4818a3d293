"""Reading back what the simulator wrote, with other people's code: cantools, strict."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import cantools
import numpy as np
import pytest

from edge.can.logs import open_log
from sim_bus.ecus import CHANNELS
from sim_bus.sinks import LOG_START_US
from sim_bus.truth import LABELS


@dataclass
class Decoded:
    """A log: the time of every frame, and of every signal its times and values."""

    times: np.ndarray
    signals: dict[str, tuple[np.ndarray, np.ndarray]]

    def last_before(self, name: str, at_s: np.ndarray) -> np.ndarray:
        """The signal's last value before each moment."""
        times, values = self.signals[name]
        return values[np.searchsorted(times, at_s - 1e-9) - 1]


def decode(path: Path) -> Decoded:
    folder = resources.files("dbc")
    databases = {n: cantools.database.load_string((folder / f"{n}.dbc").read_text("ascii")) for n in CHANNELS}
    times: list[float] = []
    signals: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    log = open_log(path)
    for chunk in log:
        for frame in chunk:
            t = (int(frame["time_us"]) - LOG_START_US) / 1e6
            times.append(t)
            data = frame["data"][: frame["length"]].tobytes()
            message = databases[log.channels[frame["channel"]]].get_message_by_frame_id(int(frame["id"]))
            values = message.decode(data, decode_choices=False, allow_truncated=False, allow_excess=False)
            for name, value in values.items():
                signals[name][0].append(t)
                signals[name][1].append(float(value))
    return Decoded(np.array(times), {n: (np.array(t), np.array(v)) for n, (t, v) in signals.items()})


def read_columns(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        name: np.array([r[name] if name == LABELS else float(r[name] or "nan") for r in rows])
        for name in rows[0]
    }


@pytest.fixture(scope="session")
def decode_log() -> Callable[[Path], Decoded]:
    return decode


@pytest.fixture(scope="session")
def read_truth() -> Callable[[Path], dict[str, np.ndarray]]:
    return read_columns
