"""`ayaz sim`: the simulated bus on a CAN interface or into a log."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from edge.command import finite
from sim_bus.fleet import fleet_jobs, live_fleet
from sim_bus.job import Job, Moment, live
from sim_bus.laboratory import TEMPS, parse_temps, run_laboratory
from sim_bus.sinks import STDOUT, is_live


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
    """Live a scenario (its name or path, as text) or play measured data back (a Path) into a sink; see `Job`.

    `speed` is the factor on real time, None as fast as it goes. Ends after `duration_s`, at the data's or the scenario's end, or when
    `stop` is set.

    Raises
    ------
    ScenarioError, DataError, SourceError, LogError
    """
    job = Job(source, to, seed, duration_s, speed, truth_path, parallel=parallel)
    live(job, stop or threading.Event())


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run in order; a second one at once, though a pipe may not take what is under way."""

    def handle(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handle) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _line(*columns: ProgressColumn, total: float | None) -> Iterator[Callable[[float, str], None]]:
    """A line on stderr, on a terminal only: `show(completed, text)`."""
    text = TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True))
    console = Console(stderr=True)
    with Progress(
        text, *columns, console=console, expand=True, transient=True, disable=not console.is_terminal
    ) as view:
        task = view.add_task("", total=total)
        yield lambda completed, text: view.update(task, completed=completed, description=text)


def live_text(moment: Moment) -> str:
    """What the bus does, in one line."""
    value = moment.account.value
    soc, bms = (f"{x * 100:.1f} %" if x == x else "unknown" for x in (value("soc"), value("bms_soc")))
    parts = [
        moment.doing,
        f"SoC {soc}, BMS {bms}",
        f"{value('power_w') / 1000:.1f} kW",
        f"{value('temp_degc'):.1f} °C",
        f"{moment.factor:.3g} × real time",
        clock(moment.t_s),
    ]
    return "  ".join([*moment.labels, *parts])


def clock(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _show_list() -> None:
    from sim_bus.scenario import summaries

    found = summaries()
    width = max(map(len, found))
    for group in dict.fromkeys(group for _, group in found.values()):
        print(f"{group}:")
        for name, (about, of) in found.items():
            if of == group:
                print(f"  {name:<{width}}  {about}")


def _live(job: Job, stop: threading.Event, as_json: bool) -> None:
    """One bus, with a live line."""
    columns = (BarColumn(bar_width=20), TimeRemainingColumn(compact=True))
    with _line(*columns, total=None) as show:

        def watch(moment: Moment) -> None:
            share = moment.t_s / moment.end_s if math.isfinite(moment.end_s) else 0.0
            show(share, live_text(moment))

        with _signals(stop):
            summary = live(job, stop, watch)
    _report([summary], as_json, job.to)


def _live_fleet(jobs: list[tuple[str, Job]], stop: threading.Event, as_json: bool) -> None:
    columns = (BarColumn(bar_width=20), TimeRemainingColumn(compact=True))
    with _line(*columns, total=len(jobs)) as show, _signals(stop):
        show(0, f"0 of {len(jobs)} buses")
        summaries = live_fleet(jobs, stop, lambda done: show(done, f"{done} of {len(jobs)} buses"))
    if as_json:
        print(json.dumps({"buses": summaries}))
    else:
        _report(summaries, False, None)


def _report(summaries: list[dict[str, Any]], as_json: bool, to: str | None) -> None:
    """A JSON object, or a line for each bus; on stderr where stdout is the log."""
    if as_json:
        print(json.dumps(summaries[0]))
        return
    for summary in summaries:
        print(said(summary, to), file=sys.stderr if to == STDOUT else sys.stdout)


def said(summary: dict[str, Any], to: str | None = None) -> str:
    """A summary in one line."""
    name = summary.get("scenario") or summary["playback"]
    places = [to] if is_live(to) and to else []
    places += summary["files"] or ([] if places else ["stdout"] if to == STDOUT else [to or ""])
    parts = [
        f"{clock(summary['seconds'] or 0)} h"
        if (summary["seconds"] or 0) >= 3600
        else f"{summary['seconds'] or 0:g} s"
    ]
    parts.append(f"{summary['frames']:,} frames")
    if summary["kwh_per_km"] is not None:
        parts.append(f"{summary['distance_km']:.1f} km at {summary['kwh_per_km']:.2f} kWh/km")
    if summary["faults"]:
        parts.append(f"faults: {', '.join(dict.fromkeys(fault['label'] for fault in summary['faults']))}")
    if summary["left_out"]:
        parts.append(f"{summary['left_out']:,} frames left out that this format can't hold")
    bus = f"{summary['bus']}: " if "bus" in summary else ""
    stopped = "stopped; " if summary["stopped"] else ""
    return f"{bus}{name}, seed {summary['seed']}: {stopped}{', '.join(parts)}; written to {', '.join(places)}"


def _every(context: click.Context, option: click.Parameter, value: float) -> float:
    from edge.errors import ScenarioError
    from sim_bus.truth import steps_of

    try:
        steps_of(value)
    except ScenarioError as error:
        raise click.BadParameter(str(error), context, option) from None
    return value


def _check_usage(
    scenario: str | None,
    playback: Path | None,
    fleet: int | None,
    as_json: bool,
    places: list[Any],
    to: str | None,
) -> None:
    """What contradicts itself.

    Raises
    ------
    click.UsageError
    """
    if (scenario is None) == (playback is None):
        raise click.UsageError("give a SCENARIO (ayaz sim --list shows them) or --playback DATA.csv")
    if not any(places):
        raise click.UsageError(
            "say where to: --to vcan0, --to INTERFACE:CHANNEL or --to FILE.log (or --truth, --plot)"
        )
    if as_json and to == STDOUT:
        raise click.UsageError("--json and --to - both want stdout")
    if fleet is not None and (playback is not None or to == STDOUT or is_live(to)):
        raise click.UsageError("a --fleet lives a SCENARIO, into files only (--to logs/{bus}.log)")


PATH = click.Path(path_type=Path)


def _live_laboratory(
    cell: str, scenario: str | None, playback: Path | None, to: str | None, temps: str | None, seed: int, as_json: bool
) -> None:  # fmt: skip
    """Its tests, a line for each file on a terminal."""
    if to is None or scenario is not None or playback is not None:
        raise click.UsageError("--laboratory CELL wants --to FOLDER, and neither SCENARIO nor --playback")

    def show(path: Path) -> None:
        if sys.stderr.isatty():
            print(path, file=sys.stderr)

    chosen = parse_temps(temps) if temps is not None else TEMPS
    files = run_laboratory(cell, Path(to), chosen, seed, show)
    if as_json:
        print(json.dumps({"laboratory": cell, "seed": seed, "files": [str(path) for path in files]}))
    else:
        print(f"{cell}, seed {seed}: {len(files)} tests written to {to}")


@click.command()
@click.argument("scenario", required=False)
@click.option("--to", help="vcan0, INTERFACE:CHANNEL, FILE.log, .blf, .asc, .mf4 or .trc, or - for stdout.")
@click.option("--playback", type=PATH, help="Measured cell data instead of a scenario.")
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
    help="Simulated seconds; else as the scenario says, on a CAN interface until Ctrl-C.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0.001),
    callback=finite,
    help="Factor on real time; else 1 on a CAN interface, and as fast as it goes into a file.",
)
@click.option("--truth", type=PATH, help="What really is, as CSV, or Parquet where it ends in .parquet.")
@click.option(
    "--truth-every",
    type=float,
    default=1.0,
    show_default=True,
    callback=_every,
    help="Seconds between its rows; 0.1 is every step.",
)
@click.option("--plot", type=PATH, help="A picture of the day, as HTML.")
@click.option(
    "--fleet", type=click.IntRange(1, 10_000), help="So many buses, each different; {bus} in names."
)
@click.option("--laboratory", help="Tests of one simulated CELL into the folder --to, for `ayaz fit-cell`.")
@click.option("--temps", help="With --laboratory: its temperatures in degC.  [default: -20,-10,0,10,25,40]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end.")
@click.option("--list", "listing", is_flag=True, help="What scenarios there are, and what each is for.")
def sim(
    scenario: str | None, to: str | None, playback: Path | None, parallel: int, seed: int, duration: float | None,
    speed: float | None, truth: Path | None, truth_every: float, plot: Path | None, fleet: int | None, as_json: bool,
    listing: bool, laboratory: str | None, temps: str | None,
) -> None:  # fmt: skip
    """The simulated bus on a CAN interface or into a log, with its truth beside it.

    \b
    Example:  ayaz sim winter_day --to day.log --duration 600 --truth truth.csv
              ayaz sim spring_day --to virtual:bus-1
              ayaz sim winter_day --plot day.html
              ayaz sim winter_day --to - --duration 60 | canplayer vcan0=bms
              ayaz sim winter_day --fleet 100 --to "{bus}.blf" --truth "{bus}.parquet"
              ayaz sim --playback US06_-10.csv.gz --to udp_multicast:239.74.163.2
              ayaz sim --laboratory lfp_280 --temps=-20,0,25 --to lab
    """
    if listing:
        _show_list()
        return
    if laboratory is not None:
        _live_laboratory(laboratory, scenario, playback, to, temps, seed, as_json)
        return
    _check_usage(scenario, playback, fleet, as_json, [to, truth, plot], to)
    job = Job(
        source=playback if playback is not None else str(scenario),
        to=to,
        seed=seed,
        duration_s=duration,
        speed=speed if speed is not None else 1.0 if is_live(to) else None,
        truth_path=truth,
        truth_every_s=truth_every,
        plot_path=plot,
        parallel=parallel,
    )
    stop = threading.Event()
    if fleet is not None:
        _live_fleet(fleet_jobs(job, fleet), stop, as_json)
    else:
        _live(job, stop, as_json)
