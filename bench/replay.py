"""The whole core over a log, `ayaz replay`: CPU seconds for an hour of two fully loaded 500 kbit/s buses.

The simulated bus (352 cells, their voltages at the frames' own rate) sends on two channels; both are filled up to
4,000 frames a second: half of the filler repeats messages that the databases know, half has ids that they do not.

An hour costs what the replay of the hour's own log costs, plus the filler's frames at what a frame of filler costs
in a log of nothing else. So nobody needs a log of 29 million frames. Early in that hour the estimator follows
eight guesses for every cell, in its end one; the second row is an hour in which it never gets beyond the second
minute, measured on two minutes with all their filler.
"""

import tempfile
import threading
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
from edge.core import Core, Setup
from edge.replay import replay_logs
from edge.signals.catalogue import Catalogue, load_catalogue
from sim_bus.job import Job, live

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


def bus_log(path: Path, seconds: int) -> Frames:
    """Write what the simulated bus sends on the two channels; returns it."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.log"
        live(Job("winter_day", to=str(plain), seed=SEED, duration_s=seconds), threading.Event())
        log = open_log(plain)
        simulated = np.concatenate([part.copy() for part in log])
    places = [log.channels.index(name) for name in CHANNELS]
    frames = simulated[np.isin(simulated["channel"], places)]
    frames["channel"] = np.argsort(places)[np.searchsorted(np.sort(places), frames["channel"])]
    write(path, frames)
    return frames


def write(path: Path, frames: Frames) -> None:
    """Write a log, in the order of time."""
    writer = CandumpWriter(path, list(CHANNELS))
    writer.write(frames[np.argsort(frames["time_us"], kind="stable")])
    writer.close()


def filler_for(own: Frames) -> Frames:
    """What fills both buses beside what the simulated bus sends in SECONDS."""
    rng = np.random.default_rng(SEED)
    parts = []
    for channel in catalogue().channels:
        mine = own[own["channel"] == channel.number]
        parts.append(_filler(rng, channel, mine, FRAMES_PER_S * SECONDS - len(mine)))
    return np.concatenate(parts)


def catalogue() -> Catalogue:
    """The two channels."""
    return load_catalogue([(name, name) for name in CHANNELS])


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


def replay_seconds(path: Path) -> tuple[float, float, Core]:
    """CPU seconds for the log's first minute and for the rest, and the core as it is then."""
    setup = Setup("bench", "bus", catalogue(), load_cell("lfp_bus"))
    begin = minute = time.process_time()
    end_us = 0
    for core, _ in replay_logs(setup, [path]):
        end_us = end_us or core.now_us + MINUTE_US
        if core.now_us <= end_us:
            minute = time.process_time()
    return minute - begin, time.process_time() - minute, core


def frame_seconds(path: Path, filler: Frames) -> float:
    """CPU seconds for a frame of filler: all of it within two seconds, so that ticks cost next to nothing."""
    frames = filler.copy()
    frames["time_us"] = 1_000_000 + np.arange(len(frames)) * 2_000_000 // len(frames)
    write(path, frames)
    return min(sum(replay_seconds(path)[:2]) for _ in range(3)) / len(frames)


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
        path = Path(folder) / "some.log"
        own = bus_log(path, SECONDS)
        filler = filler_for(own)
        each = frame_seconds(path, filler)
        write(path, np.concatenate([own, filler]))
        first, second, core = replay_seconds(path)
        check(core, 2 * FRAMES_PER_S * SECONDS)
        theirs = peer_seconds(path)
        whole = bus_log(path, 3600)
        bus_alone = sum(replay_seconds(path)[:2])
    hour = bus_alone + each * (2 * FRAMES_PER_S * 3600 - len(whole))
    hard = first + 59 * second
    yield Result("log to estimates, CPU s per hour", hour, "s", "a budget of 36 s", BUDGET_S / hour, 1, 3)
    yield Result("the same, with all guesses open", hard, "s", "a budget of 36 s", BUDGET_S / hard, 1)
    peer = f"{version('python-can')} + {version('cantools')}, decoding only"
    yield Result("log to estimates, beside decoding alone", hour, "s", peer, theirs / hour)


def check(core: Core, frames: int) -> None:
    """That it was a measurement of what we say."""
    assert core.battery.estimator is not None
    total = core.counts.total()
    assert total["received"] == frames, "every frame must have been looked at"
    assert 0.4 < total["decoded"] / frames < 0.6, "half of them are known"
