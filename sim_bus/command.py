"""`ayaz sim`: the simulated bus on a CAN interface or into a log."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from edge.can.frames import FRAME, Frames
from edge.command import finite
from edge.errors import ScenarioError
from sim_bus.playback import Playback
from sim_bus.plot import plot_day
from sim_bus.scenario import load_scenario, names
from sim_bus.simulation import STEP_S, Run, Simulation, Truth
from sim_bus.sinks import TruthFile, open_sink

PACE_US = 20_000  # on a bus, frames are sent in slices of this length


def make_run(source: str | Path, seed: int, parallel: int = 80) -> Run:
    """A simulation of a scenario's name or path, or the playback of a data file.

    Raises
    ------
    ScenarioError
    """
    if isinstance(source, Path):
        return Playback(source, seed, parallel)
    return Simulation(load_scenario(source), seed)


def run_simulation(
    source: str | Path,
    to: str | None,
    seed: int = 1,
    duration_s: float | None = None,
    speed: float | None = 1.0,
    truth_path: Path | None = None,
    stop: threading.Event | None = None,
    parallel: int = 80,
) -> None:
    """`make_run`, then `run_into`.

    Raises
    ------
    ScenarioError, SourceError, LogError
    """
    run_into(make_run(source, seed, parallel), to, duration_s, speed, truth_path, stop)


def run_into(
    run: Run,
    to: str | None,
    duration_s: float | None,
    speed: float | None,
    truth_path: Path | None,
    stop: threading.Event | None = None,
    on_truth: Callable[[Truth], None] = lambda truth: None,
) -> None:
    """Live a scenario, or play data back, into a sink; the truth once a second.

    `speed` is the factor on real time, None as fast as it goes. Ends after `duration_s`, at the data's
    end, or when `stop` is set.

    Raises
    ------
    ScenarioError, SourceError, LogError
    """
    stop = stop or threading.Event()
    with ExitStack() as stack:
        sink = stack.enter_context(open_sink(to))
        truth_file = stack.enter_context(TruthFile(truth_path)) if truth_path else None
        begin = time.monotonic()
        for n, frames in enumerate(_until(run, duration_s)):
            for part in [frames] if speed is None else _slices(frames):
                if speed is not None and len(part):
                    stop.wait(max(begin + int(part["time_us"][0]) / 1e6 / speed - time.monotonic(), 0))
                if stop.is_set():
                    return
                sink.write(part)
            if n % round(1 / STEP_S) == 0 and run.truth.t_s <= (duration_s or math.inf):
                on_truth(run.truth)
                if truth_file:
                    truth_file.write(run.truth)


def _until(run: Run, duration_s: float | None) -> Iterator[Frames]:
    """No frames for time 0, then each step's; none at or after duration_s."""
    yield np.zeros(0, FRAME)
    for n, frames in enumerate(run.steps(), 1):
        if duration_s is None or n * STEP_S < duration_s - 1e-9:
            yield frames
        else:
            yield frames[frames["time_us"] < round(duration_s * 1e6)]
            return


def _slices(frames: Frames) -> list[Frames]:
    """Frames of the same 20 ms together."""
    return np.split(frames, np.flatnonzero(np.diff(frames["time_us"] // PACE_US)) + 1)


def _check_paths(playback: Path | None, files: dict[str, Path | None]) -> None:
    """Refuse what would fail, or destroy something, only after a long run."""
    taken = {playback.resolve(): "--playback"} if playback else {}
    for option, path in files.items():
        if path is None:
            continue
        if not path.parent.is_dir() or path.is_dir():
            raise ScenarioError(f"{option} {path}: cannot be written: no such folder, or it is one itself")
        if path.resolve() in taken:
            raise ScenarioError(f"{option} {path}: is {taken[path.resolve()]} already")
        taken[path.resolve()] = option


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run in order."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _progress(total_s: float | None) -> Iterator[Callable[[Truth], None]]:
    """What happens now and the time left, on stderr, only on a terminal."""
    bar = [] if total_s is None else [BarColumn(), TimeRemainingColumn()]
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), *bar, console=console, disable=not sys.stderr.isatty()
    ) as view:
        task = view.add_task("", total=total_s)

        def show(truth: Truth) -> None:
            soc, bms = (f"{x * 100:.1f} %" if x == x else "unknown" for x in (truth.soc, truth.bms_soc))
            text = f"{truth.t_s:.0f} s  SoC {soc}  BMS {bms}  {truth.power_w / 1000:.1f} kW  {truth.temp_degc:.1f} °C"
            view.update(task, completed=truth.t_s, description=text)

        yield show


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
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--duration",
    type=click.FloatRange(min=0.1),
    callback=finite,
    help="Simulated seconds; a log needs one, but for playback.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0.001),
    callback=finite,
    help="Factor on real time; a log goes as fast as it can.",
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
              ayaz sim winter_day --duration 28800 --plot day.html
              ayaz sim --playback US06_-10.csv.gz --to udp_multicast:239.74.163.2
    """
    if listing:
        for name in names():
            print(f"{name:<14} {load_scenario(name).about}")
        return
    if (scenario is None) == (playback is None):
        raise click.UsageError("give a SCENARIO (ayaz sim --list shows them) or --playback DATA.csv")
    if to is None and truth_path is None and plot_path is None:
        raise click.UsageError("say where to: --to vcan0, --to INTERFACE:CHANNEL or --to FILE.log")
    is_file = to is None or to.endswith(".log")
    if is_file and duration is None and playback is None:
        raise click.UsageError("a log needs an end: --duration SECONDS")
    log = Path(to) if to and is_file else None
    _check_paths(playback, {"--to": log, "--truth": truth_path, "--plot": plot_path})
    source: str | Path = playback if playback is not None else str(scenario)
    pace = speed if speed is not None or is_file else 1.0
    run = make_run(source, seed, parallel)
    truths: list[Truth] = []
    stop = threading.Event()
    total = min(duration or math.inf, run.duration_s)
    with _signals(stop), _progress(total if math.isfinite(total) else None) as show:

        def on_truth(truth: Truth) -> None:
            show(truth)
            if plot_path:
                truths.append(truth)

        run_into(run, to, duration, pace, truth_path, stop, on_truth)
    if plot_path:
        plot_day(plot_path, truths, f"{source}, seed {seed}")
    written = ", ".join(str(place) for place in (to, truth_path, plot_path) if place)
    print(f"{source}, seed {seed}: {'stopped; ' if stop.is_set() else ''}written to {written}")
