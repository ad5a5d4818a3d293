"""The simulated bus, 2 x 176 cells: how much faster than real time, and a hundred of them with their agents in real time.

The fleet: two processes host fifty buses each, every bus with its agent (core, spool, uplink), Mosquitto and the depot
beside them. Counted is the CPU time of the two over half a minute, after every bus has joined and its estimator has
settled, for each second that the buses lived in that time: where the machine does not keep up they live less.
"""

import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import can
import cantools
import numpy as np

from bench.measure import SEED, Result, version
from edge.can.frames import EXTENDED
from edge.can.logs import open_log
from edge.demo_buses import CHANNELS, Bus, Place, fleet_of, host, shares
from sim_bus.job import Job, live
from sim_bus.scenario import load_scenario
from sim_bus.simulation import Simulation
from sim_bus.sinks import open_sink

SCENARIO = "winter_day"
SETTLED_S = 60  # simulated, before physics alone is measured: the bus is on its way
SECONDS = 300
PEER_SECONDS = 10
RUNS = 3
BUSES, PROCESSES, CORES = 100, 2, 2
WARM_S, MEASURED_S = 50, 30
DAY_S = 8 * 3600


def simulation() -> Simulation:
    return Simulation(load_scenario(SCENARIO), SEED)


def log_seconds(path: Path) -> float:
    """CPU seconds for a simulated second into a candump log, all in."""
    run = simulation().seconds()
    begin = time.process_time()
    with open_sink(str(path)) as sink:
        for second in islice(run, SECONDS):
            sink.write(second.frames)
    return (time.process_time() - begin) / SECONDS


def physics_seconds() -> float:
    """CPU seconds for a simulated second of vehicle, battery and the BMS's orders, without sensors and frames."""
    bus = simulation()
    for _ in islice(bus.seconds(), SETTLED_S):
        pass
    begin = time.process_time()
    for n in range(SETTLED_S, SETTLED_S + SECONDS):
        bus.physics(n)
    return (time.process_time() - begin) / SECONDS


def peer_seconds(log: Path, into: Path) -> float:
    """CPU seconds for the frames of a simulated second, encoded by cantools and written by python-can. No physics, and
    no transport protocol: packets of long messages are left out."""
    folder = resources.files("dbc")
    messages = list(_values(log, folder))
    begin = time.process_time()
    writer = can.CanutilsLogWriter(into)
    for message, channel, time_s, values in messages:
        writer.on_message_received(
            can.Message(
                timestamp=time_s,
                arbitration_id=message.frame_id,
                is_extended_id=message.is_extended_frame,
                channel=channel,
                data=message.encode(values, strict=False),
            )
        )
    writer.stop()
    return (time.process_time() - begin) / PEER_SECONDS


def _values(log: Path, folder: Any) -> Iterator[tuple[Any, str, float, dict[str, Any]]]:
    """What cantools reads in the log's first seconds."""
    opened = open_log(log)
    databases = {
        name: cantools.database.load_string((folder / f"{name}.dbc").read_text("ascii"), "dbc")
        for name in CHANNELS
    }
    known = {n: {(m.frame_id, m.is_extended_frame): m for m in d.messages} for n, d in databases.items()}
    frames = np.concatenate([part.copy() for part in opened])
    frames = frames[frames["time_us"] < frames["time_us"][0] + PEER_SECONDS * 1_000_000]
    for frame in frames:
        channel = str(opened.channels[frame["channel"]])
        message = known[channel].get((int(frame["id"]), bool(frame["flags"] & EXTENDED)))
        data = frame["data"][: frame["length"]].tobytes()
        if message is not None and len(data) == message.length:
            yield message, channel, frame["time_us"] / 1e6, message.decode(data, decode_choices=False)


def day_seconds(path: Path) -> float:
    """CPU seconds for the scenario's whole day into a log."""
    begin = time.process_time()
    live(Job(SCENARIO, to=str(path), seed=SEED, duration_s=DAY_S), threading.Event())
    return time.process_time() - begin


def cpu_s(pid: int | None) -> float:
    """CPU time of a process until now, its threads and the kernel's work for it included (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def depot(program: str, folder: Path, port: int) -> Iterator[None]:
    """A broker, and a depot that stores and acknowledges."""
    url = f"mqtt://127.0.0.1:{port}"
    commands = (
        [program, "-p", str(port)],
        [sys.executable, "-m", "edge.cli", "depot", "--headless", "--broker", url, "--store", f"sqlite:///{folder}/depot.db"],
    )  # fmt: skip
    running = []
    try:
        for command in commands:
            running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            time.sleep(2)
        yield
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait(30)


def fleet_cores(program: str, folder: Path) -> float:
    """CPU seconds of all hosts for a second of BUSES buses."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = int(s.getsockname()[1])
    place = Place(folder, port, 0, False, "any", interval_s=10.0, state_interval_s=5.0)
    buses = fleet_of(BUSES, SEED)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    hosts = [context.Process(target=host, args=(place, some, stop)) for some in shares(buses, PROCESSES)]
    with depot(program, folder, port):
        try:
            for process in hosts:
                process.start()
            time.sleep(WARM_S)
            begin_s, begin = time.time(), sum(cpu_s(process.pid) for process in hosts)
            time.sleep(MEASURED_S)
            end_s, end = time.time(), sum(cpu_s(process.pid) for process in hosts)
        finally:
            stop.set()
            for process in hosts:
                process.join()
    lived_s = sum(_lived_s(place, bus, begin_s, end_s) for bus in buses) / BUSES
    print(f"each bus lived {lived_s:.1f} of {end_s - begin_s:.1f} s on average", file=sys.stderr)
    return (end - begin) / lived_s


def _lived_s(place: Place, bus: Bus, begin_s: float, end_s: float) -> int:
    """How many simulated seconds of a bus began in a time."""
    result = place.result(bus.name)
    assert result["failed"] is None, result
    assert result["waiting"] == 0, f"{bus.name} still holds {result['waiting']} items"
    begins_ms = np.load(place.truth(bus.name))[:, 0]
    return int(((begins_ms >= begin_s * 1000) & (begins_ms < end_s * 1000)).sum())


def benchmarks() -> Iterator[Result]:
    """Frames, physics, a fleet, a day."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "some.log"
        ours = min(log_seconds(log) for _ in range(RUNS))
        yield Result("simulated bus into a log", 1 / ours, "s/s", "real time", 1 / ours, 100, 300)
        theirs = min(peer_seconds(log, folder / "peer.log") for _ in range(RUNS))
        peer = f"{version('cantools')} + {version('python-can')}, encoding the same values"
        yield Result("the same, beside encoding alone", 1 / ours, "s/s", peer, theirs / ours)
        physics = min(physics_seconds() for _ in range(RUNS))
        yield Result("physics alone, 352 cells at 10 Hz", 1 / physics, "s/s", "real time", 1 / physics, 1000)
        day = day_seconds(folder / "day.log")
        yield Result("a day of 8 h into a log, CPU s", day, "s", "real time", DAY_S / day, 100, 300)
        program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        if program is None:
            print("the fleet is left out: mosquitto is not installed", file=sys.stderr)
            return
        cores = fleet_cores(program, folder)
        yield Result(
            f"{BUSES} buses with agents, CPU s/s", cores, "cores", f"{CORES} cores", CORES / cores, 1
        )
