"""The whole core over a log, `ayaz replay`: CPU seconds for an hour of two fully loaded 500 kbit/s buses.

The log is the simulated bus (352 cells, their voltages at the frames' own rate) on two channels, filled up to
4,000 frames a second each: half of the filler repeats messages that the databases know, half has ids that they
do not. The first minute, in which the estimator looks for every cell's state of charge, is counted once; the
second minute 59 times.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import can
import numpy as np

from bench.measure import SEED, Result, version
from edge.battery.model import load_cell
from edge.can.frames import FRAME, Frames
from edge.can.logs import CandumpWriter, open_log
from edge.core import Setup
from edge.replay import replay_logs
from edge.signals.catalogue import load_catalogue
from sim_bus.command import run_simulation

CHANNELS = ("bms", "inverter")
FRAMES_PER_S = 4000  # of one channel: 125 bits each, with stuff bits
SECONDS = 120
MINUTE_US = 60_000_000
BUDGET_S = 36.0
PEER_FRAMES = 20_000
KNOWN = {  # of each channel: slow messages without a counter, so that repeating them changes nothing
    "bms": ("BMS_Limits", "BMS_Insulation", "BMS_CellSummary"),
    "inverter": ("INV_Temps", "INV_Faults"),
}


def full_load(path: Path) -> None:
    """Write the log."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.log"
        run_simulation("winter_day", str(plain), seed=SEED, duration_s=SECONDS, speed=None)
        log = open_log(plain)
        simulated = np.concatenate([part.copy() for part in log])
    rng = np.random.default_rng(SEED)
    catalogue = load_catalogue([(name, name) for name in CHANNELS])
    parts = []
    for channel in catalogue.channels:
        own = simulated[simulated["channel"] == log.channels.index(channel.name)]
        own["channel"] = channel.number
        filler = _filler(rng, channel, own, FRAMES_PER_S * SECONDS - len(own))
        parts += [own, filler]
    frames = np.concatenate(parts)
    frames = frames[np.argsort(frames["time_us"], kind="stable")]
    writer = CandumpWriter(path, list(CHANNELS))
    writer.write(frames)
    writer.close()


def _filler(rng: np.random.Generator, channel: Any, own: Frames, count: int) -> Frames:
    """Frames for the time that the bus would be idle."""
    frames = np.zeros(count, FRAME)
    frames["channel"] = channel.number
    frames["time_us"] = own["time_us"][0] + np.sort(rng.integers(0, SECONDS * 1_000_000, count))
    frames["length"] = 8
    known_ids = {m.frame_id for m in channel.database.messages}
    unknown_ids = np.array([n for n in range(0x100, 0x7FF) if n not in known_ids])[:60]
    frames["id"] = rng.choice(unknown_ids, count)
    frames["data"][:, :8] = rng.integers(0, 256, (count, 8))
    chosen = rng.integers(0, 2 * len(KNOWN[channel.name]), count)
    for n, name in enumerate(KNOWN[channel.name]):
        rows = np.flatnonzero(chosen == n)
        real = own[own["id"] == channel.database.get_message_by_name(name).frame_id]
        newest = np.searchsorted(real["time_us"], frames["time_us"][rows], side="right") - 1
        times = frames["time_us"][rows].copy()
        frames[rows] = real[np.maximum(newest, 0)]
        frames["time_us"][rows] = times
    return frames


def cpu_seconds(path: Path) -> tuple[float, float]:
    """Of the first minute and of the second."""
    catalogue = load_catalogue([(name, name) for name in CHANNELS])
    setup = Setup("bench", "bus", catalogue, load_cell("lfp_bus"))
    begin = time.process_time()
    first = None
    end_us = None
    for core, _ in replay_logs(setup, [path]):
        end_us = end_us or core.now_us + MINUTE_US
        if first is None and core.now_us >= end_us:
            first = time.process_time()
    assert first is not None
    assert core.battery.estimator is not None, "without estimates it would be no measurement"
    total = core.counts.total()
    assert total["received"] == 2 * FRAMES_PER_S * SECONDS, "every frame must have been looked at"
    assert 0.4 < total["decoded"] / total["received"] < 0.6, "half of them are known"
    return first - begin, time.process_time() - first


def peer_seconds(path: Path) -> float:
    """CPU seconds for an hour of the same log through python-can's reader and cantools: no more than decoding."""
    databases: dict[str, Any] = {
        c.name: c.database for c in load_catalogue([(n, n) for n in CHANNELS]).channels
    }
    known = {n: {(m.frame_id, m.is_extended_frame) for m in d.messages} for n, d in databases.items()}
    begin = time.process_time()
    for n, message in enumerate(can.CanutilsLogReader(path)):
        if n == PEER_FRAMES:
            break
        name = str(message.channel)
        if (message.arbitration_id, message.is_extended_id) in known[name]:
            databases[name].decode_message(message.arbitration_id, message.data, decode_choices=False)
    return (time.process_time() - begin) / PEER_FRAMES * 2 * FRAMES_PER_S * 3600


def benchmarks() -> Iterator[Result]:
    """Log to estimates, against the budget of 1 % of a processor; and against decoding alone with others' tools."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "full.log"
        full_load(path)
        first, second = cpu_seconds(path)
        hour = first + 59 * second
        yield Result("log to estimates, CPU s per hour", hour, "s", "a budget of 36 s", BUDGET_S / hour, 1, 3)
        theirs = peer_seconds(path)
        peer = f"{version('python-can')} + {version('cantools')}, decoding only"
        yield Result("the same, beside decoding alone", hour, "s", peer, theirs / hour)
