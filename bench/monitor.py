"""What it costs to look: `ayaz monitor`'s model and pictures beside the core alone, on the same frames.

The log is that of `bench.replay`: two fully loaded 500 kbit/s buses, 8,000 frames a second. Counted are some seconds after
the estimator has found every cell, with four pictures of 120 by 40 characters a second, view after view.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.measure import Result
from bench.replay import CHANNELS, SECONDS, bus_log, filler_for, write
from edge.battery.model import load_cell
from edge.can.frames import Frames
from edge.can.logs import open_log
from edge.core import Core, Setup
from edge.monitor.bus import Bus, ChannelInfo
from edge.monitor.feeds import LogFeed
from edge.monitor.views import VIEWS, BusState, bus_page
from edge.signals.catalogue import load_catalogue

SETTLED_S, MEASURED_S = 60, 20
BITRATE = 500_000


class CoreAlone(Bus):
    """A bus that nobody looks at."""

    def __init__(self, setup: Setup) -> None:
        self._core = Core(setup, "0" * 16)

    def feed(self, frames: Frames) -> None:
        self._core.feed(frames)

    def tick(self, now_us: int) -> None:
        self._core.tick(now_us)


def cpu_share(log: Path, bus: Bus, looking: bool) -> float:
    """CPU seconds a second of the log's time, once the estimator has settled."""
    opened = open_log(log)
    feed = LogFeed(opened, iter(opened), CHANNELS)
    feed.run_to(bus, SETTLED_S)
    begin, at_s = time.process_time(), float(SETTLED_S)
    while at_s < SETTLED_S + MEASURED_S:
        at_s += 0.25
        feed.run_to(bus, at_s)
        if looking:
            bus_page(bus.picture(), feed.picture(), BusState(view=int(at_s * 4) % len(VIEWS)), 120, 40, False)
    return (time.process_time() - begin) / MEASURED_S


def benchmarks() -> Iterator[Result]:
    """The core with the monitor, against the core alone."""
    catalogue = load_catalogue([(name, name) for name in CHANNELS])
    setup = Setup("bench", "bus", catalogue, load_cell("lfp_bus"))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "full.log"
        own = bus_log(log, SECONDS)
        write(log, np.concatenate([own, filler_for(own)]))
        alone = cpu_share(log, CoreAlone(setup), looking=False)
        bus = Bus.of_setup(setup, [ChannelInfo(name, BITRATE, BITRATE) for name in CHANNELS])
        watched = cpu_share(log, bus, looking=True)
    yield Result("monitor, two full buses", watched * 100, "% of a core", "the core alone", alone / watched)
