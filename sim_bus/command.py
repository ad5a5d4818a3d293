"""`ayaz sim`: the simulated bus on a CAN interface or into a log."""

from __future__ import annotations

import contextlib
import csv
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

import can
import click

from edge.can.frames import EXTENDED, Frames
from edge.can.logs import CandumpWriter
from edge.errors import ScenarioError, SourceError
from sim_bus.ecus import CHANNELS
from sim_bus.plot import plot_day
from sim_bus.scenario import load_scenario, names
from sim_bus.simulation import STEP_S, TRUTH_COLUMNS, Playback, Run, Simulation, Truth, truth_line

LOG_START_US = 1_700_000_000_000_000  # a fixed date for logs, so that the same seed gives the same bytes
LATE_S = 1.0


class Sink(Protocol):
    """Where frames go."""

    def write(self, frames: Frames) -> None: ...
    def close(self) -> None: ...


class _LogSink:
    """A candump log; half of one is never left behind without its name saying so."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._writer = CandumpWriter(self._part, list(CHANNELS))

    def write(self, frames: Frames) -> None:
        frames = frames.copy()
        frames["time_us"] += LOG_START_US
        self._writer.write(frames)

    def close(self) -> None:
        self._writer.close()
        self._part.replace(self._path)


class _BusSink:
    """Three python-can buses."""

    def __init__(self, interface: str, channels: Sequence[str]) -> None:
        self._buses: list[can.BusABC] = []
        try:
            for channel in channels:
                self._buses.append(can.Bus(interface=interface, channel=channel))
        except (can.CanError, OSError, ValueError, ImportError) as error:
            self.close()
            raise SourceError(f"{interface}:{channel}: cannot be opened: {error}") from None

    def write(self, frames: Frames) -> None:
        for frame in frames:
            message = can.Message(
                arbitration_id=int(frame["id"]),
                is_extended_id=bool(frame["flags"] & EXTENDED),
                data=frame["data"][: frame["length"]].tobytes(),
            )
            try:
                self._buses[int(frame["channel"])].send(message)
            except (can.CanError, OSError) as error:
                raise SourceError(f"cannot send: {error}") from None

    def close(self) -> None:
        for bus in self._buses:
            with contextlib.suppress(can.CanError, OSError):
                bus.shutdown()


def bus_channels(spec: str) -> tuple[str, list[str]]:
    """The python-can interface and the three channels that a `--to` names.

    `virtual:NAME` gives NAME-bms, NAME-inverter, NAME-vehicle; `udp_multicast:239.74.163.2` that address
    and the two after it; `vcan0` vcan0, vcan1, vcan2; three names with commas are taken as they are.

    Raises
    ------
    ScenarioError
        There is no such interface.
    """
    interface, _, channel = spec.partition(":") if ":" in spec else ("socketcan", "", spec)
    if interface not in can.VALID_INTERFACES:
        raise ScenarioError(f"--to {spec}: neither a .log file nor INTERFACE:CHANNEL of python-can")
    if "," in channel:
        return interface, channel.split(",")
    head = channel.rstrip("0123456789")
    if interface == "virtual" or head == channel:
        return interface, [f"{channel}-{name}" for name in CHANNELS]
    first = int(channel[len(head) :])
    return interface, [f"{head}{first + n}" for n in range(3)]


def open_sink(to: str) -> Sink:
    """The sink of a `--to`.

    Raises
    ------
    ScenarioError, SourceError, LogError
    """
    if to.endswith(".log"):
        return _LogSink(Path(to))
    interface, channels = bus_channels(to)
    if len(channels) != len(CHANNELS):
        raise ScenarioError(f"--to {to}: three channels are needed: {', '.join(CHANNELS)}")
    return _BusSink(interface, channels)


def make_run(source: str | Path, seed: int, parallel: int = 80) -> Run:
    """A simulation of a scenario's name or path, or the playback of a data file.

    Raises
    ------
    ScenarioError
    """
    return (
        Playback(source, seed, parallel)
        if isinstance(source, Path)
        else Simulation(load_scenario(source), seed)
    )


def run_simulation(
    source: str | Path,
    to: str,
    seed: int = 1,
    duration_s: float | None = None,
    speed: float | None = 1.0,
    truth_path: Path | None = None,
    stop: threading.Event | None = None,
    parallel: int = 80,
    show: bool = False,
) -> list[Truth]:
    """Live a scenario, or play data back, into a sink; the truth once a second.

    `speed` is the factor on real time, None as fast as it goes. Ends after `duration_s`, at the data's
    end, or when `stop` is set.

    Raises
    ------
    ScenarioError, SourceError, LogError
    """
    run = make_run(source, seed, parallel)
    stop = stop or threading.Event()
    truths = [run.truth]
    with ExitStack() as stack:
        sink = open_sink(to)
        stack.callback(sink.close)
        rows = _truth_rows(stack, truth_path)
        rows.writerow(truth_line(run.truth)) if rows else None
        begin = time.monotonic()
        for n, frames in enumerate(run.steps(), 1):
            if speed is not None:
                stop.wait(max(begin + n * STEP_S / speed - time.monotonic(), 0))
            if stop.is_set():
                break
            sink.write(frames)
            if n % 10 == 0:
                truths.append(run.truth)
                rows.writerow(truth_line(run.truth)) if rows else None
                if show:
                    _live_line(run.truth)
            if duration_s is not None and n * STEP_S >= duration_s - 1e-9:
                break
    return truths


def _truth_rows(stack: ExitStack, path: Path | None) -> Any:
    if path is None:
        return None
    try:
        file: IO[str] = stack.enter_context(path.open("w", newline="", encoding="utf-8", buffering=1))
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be written: {error.strerror}") from None
    rows = csv.writer(file)
    rows.writerow(TRUTH_COLUMNS)
    return rows


def _live_line(truth: Truth) -> None:
    text = (
        f"\r{truth.t_s:7.0f} s  SoC {truth.soc * 100:5.1f} %  BMS {truth.bms_soc * 100:5.1f} %  "
        f"{truth.power_w / 1000:7.1f} kW  {truth.temp_degc:5.1f} degC  {truth.speed_kmh:4.0f} km/h"
    )
    print(text, end="", file=sys.stderr, flush=True)


@click.command()
@click.argument("scenario", required=False)
@click.option("--to", help="vcan0, INTERFACE:CHANNEL, or FILE.log.")
@click.option("--playback", type=click.Path(path_type=Path), help="Measured cell data instead of a scenario.")
@click.option(
    "--parallel",
    type=click.IntRange(1, 10_000),
    default=80,
    show_default=True,
    help="With --playback: cells in parallel.",
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--duration", type=click.FloatRange(min=0.1), help="Simulated seconds; a log needs one, but for playback."
)
@click.option(
    "--speed", type=click.FloatRange(min=0.001), help="Factor on real time; a log goes as fast as it can."
)
@click.option(
    "--truth", "truth_path", type=click.Path(path_type=Path), help="CSV of what really is, once a second."
)
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), help="A picture of the day, as HTML.")
@click.option("--list", "listing", is_flag=True, help="What scenarios there are.")
def sim(
    scenario: str | None, to: str | None, playback: Path | None, parallel: int, seed: int,
    duration: float | None, speed: float | None, truth_path: Path | None, plot_path: Path | None, listing: bool,
) -> None:  # fmt: skip
    """The simulated bus on a CAN interface or into a log, with its truth beside it.

    \b
    Example:  ayaz sim winter_day --to day.log --duration 600 --truth truth.csv
              ayaz sim spring_day --to virtual:bus-1
              ayaz sim --playback US06_-10.csv.gz --to udp_multicast:239.74.163.2
    """
    if listing:
        for name in names():
            print(f"{name:<14} {load_scenario(name).about}")
        return
    if (scenario is None) == (playback is None):
        raise click.UsageError("give a SCENARIO (ayaz sim --list shows them) or --playback DATA.csv")
    if to is None:
        raise click.UsageError("say where to: --to vcan0, --to INTERFACE:CHANNEL or --to FILE.log")
    is_log = to.endswith(".log")
    if is_log and duration is None and playback is None:
        raise click.UsageError("a log needs an end: --duration SECONDS")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    source: str | Path = playback if playback is not None else str(scenario)
    live = sys.stderr.isatty()
    pace = speed if speed is not None or is_log else 1.0
    truths = run_simulation(source, to, seed, duration, pace, truth_path, stop, parallel, live)
    if live:
        print(file=sys.stderr)
    if plot_path:
        plot_day(plot_path, truths, f"{source}, seed {seed}")
