"""`ayaz soc`: the estimator over laboratory or field data, and its errors where the truth is known."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress

from edge.battery.against_cell import check_against_cell
from edge.battery.estimator import GIVEN_SD, PackEstimator
from edge.battery.health import Health
from edge.battery.model import CellModel, FloatArray, load_cell
from edge.battery.soc_plot import SUFFIXES, Pictured, plot_soc
from edge.command import finite, whole_file
from edge.errors import DataError
from edge.measured import FLAGS, SIGNS, Measured, load_measured

TWO_SIDED_95 = 1.96
SETTLING_S = 600.0
BLOCK_S = 10.0  # of the file at a time, for the capacity
Progressed = Callable[[float], None]  # the part that is done, 0 to 1


@dataclass(frozen=True)
class SocRun:
    """The estimate beside the data: [rows] each."""

    time_s: FloatArray
    soc: FloatArray
    soc_sd: FloatArray
    truth: FloatArray | None
    final: dict[str, float]
    seconds: float


def estimate_soc(
    data: Measured,
    cell: CellModel,
    initial_soc: float | None = None,
    capacity_ah: float | None = None,
    start_s: float = 0.0,
    progress: Progressed | None = None,
    initial_soc_sd: float | None = None,
) -> SocRun:
    """Run the estimator over `data` from `start_s` on; what came before is not looked at.

    A row's current flowed since the row before it. The first row's is only its voltage's load.

    Raises
    ------
    DataError
        Nothing is left after `start_s`.
    """
    data = data.since(start_s)
    estimator = PackEstimator(cell, [0], initial_soc, initial_soc_sd, capacity_ah=capacity_ah)
    begun = time.perf_counter()
    soc, sd = _replay(estimator, data, progress)
    seconds = time.perf_counter() - begun
    final = {"soc": float(soc[-1]), "soc_sd": float(sd[-1]), "r0_ohm": float(estimator.r0_ohm[0])}
    return SocRun(data.time_s, soc, sd, data.soc, final, seconds)


def _replay(
    estimator: PackEstimator, data: Measured, progress: Progressed | None
) -> tuple[FloatArray, FloatArray]:
    """SoC and its sd after each row. Before the row at the end of a gap goes another, that knows nothing: what
    flowed in the gap is unknown, and must not be taken for that row's current."""
    gaps = np.flatnonzero(data.after_gap)
    columns = (data.current_a, data.voltage_v, data.temp_degc)
    times = np.insert(data.time_s, gaps, data.time_s[gaps])
    current, voltage, temp = (np.insert(column, gaps, np.nan)[:, None] for column in columns)
    soc, sd = estimator.run(times, current, voltage, temp, progress)
    unknown = gaps + np.arange(len(gaps))
    return np.delete(soc[:, 0], unknown), np.delete(sd[:, 0], unknown)


def measure_capacity(
    data: Measured, cell: CellModel, capacity_ah: float | None = None, progress: Progressed | None = None
) -> tuple[float, float]:
    """Capacity and its sd, Ah, from the charge between rests (`Health`); without two such rests, what was assumed, and
    wide."""
    health = Health(cell, [0], rated_ah=capacity_ah)
    step = np.diff(data.time_s, prepend=data.time_s[0])
    gaps = data.after_gap
    flown = np.where(gaps | np.isnan(data.current_a), 0.0, step)
    block = np.floor((data.time_s - data.time_s[0]) / BLOCK_S)
    starts = np.flatnonzero(np.diff(block, prepend=-1.0) + gaps)
    ends = np.append(starts[1:], len(step)) - 1
    lasted = np.add.reduceat(np.where(gaps, 0.0, step), starts)
    counted = np.add.reduceat(flown, starts)
    moved = np.add.reduceat(np.nan_to_num(data.current_a) * flown, starts)
    current = np.where(counted > 0, moved / np.maximum(counted, 1e-9), data.current_a[ends])
    unknown = np.full(1, np.nan)
    for k, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        if gaps[start]:
            health.step(step[start], unknown, unknown, unknown)
        row = slice(end, end + 1)
        health.step(lasted[k], current[k : k + 1], data.voltage_v[row], data.temp_degc[row])
        if progress is not None and not k % 100:
            progress(k / len(starts))
    return float(health.capacity_ah[0]), float(health.capacity_sd_ah[0])


def count_soc(data: Measured, initial_soc: float, capacity_ah: float) -> FloatArray:
    """[rows] what counting alone makes of `initial_soc`: unknown current counts as none."""
    steps = np.where(data.after_gap, 0.0, np.diff(data.time_s, prepend=data.time_s[0]))
    return np.asarray(initial_soc - np.cumsum(np.nan_to_num(data.current_a) * steps) / (3600 * capacity_ah))


def soc_report(run: SocRun, capacity: tuple[float, float], flags: dict[str, int]) -> dict[str, Any]:
    """What `--json` prints; `capacity` and its sd in Ah. Errors are in % of soc, over the rows whose true soc is known; null without."""
    out: dict[str, Any] = {"rows": len(run.time_s)}
    truth = np.full(len(run.time_s), np.nan) if run.truth is None else run.truth
    error = 100 * (run.soc - truth)
    known = np.isfinite(error)
    since = run.time_s - run.time_s[0]
    out |= _errors(error[known], ("rmse_pct", "max_abs_pct", "mae_pct"))
    out["time_to_5pct_s"] = _settled(since[known], np.abs(error[known]))
    out["after_600s"] = _errors(error[known & (since >= SETTLING_S)], ("rmse_pct", "max_abs_pct"))
    half = TWO_SIDED_95 * 100 * run.soc_sd
    out["coverage95"] = float(np.mean(np.abs(error[known]) <= half[known])) if known.any() else None
    out["half_width95_pct"] = float(half.mean())
    out["final"] = run.final | {"capacity_ah": capacity[0], "capacity_sd_ah": capacity[1]}
    out["flags"] = flags
    out["steps_per_s"] = round(len(run.time_s) / max(run.seconds, 1e-9))
    return out


def _errors(error: FloatArray, names: tuple[str, ...]) -> dict[str, float | None]:
    if not len(error):
        return dict.fromkeys(names)
    size = np.abs(error)
    every = {
        "rmse_pct": math.sqrt(float(np.mean(error**2))),
        "max_abs_pct": float(size.max()),
        "mae_pct": float(size.mean()),
    }
    return {name: every[name] for name in names}


def _settled(since_s: FloatArray, size_pct: FloatArray) -> float | None:
    """The time after which the error stays below 5 %; None if never."""
    if not len(since_s):
        return None
    outside = np.flatnonzero(size_pct >= 5.0)
    if not len(outside):
        return 0.0
    return float(since_s[outside[-1] + 1]) if outside[-1] + 1 < len(since_s) else None


def _write(path: Path, run: SocRun) -> None:
    """Under another name first, so that nothing half written bears the right one."""
    try:
        with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["time_s", "soc", "soc_sd", *([] if run.truth is None else ["soc_true"])])
            columns = [run.time_s, run.soc, run.soc_sd, *([] if run.truth is None else [run.truth])]
            for row in zip(*(c.tolist() for c in columns), strict=True):
                writer.writerow([f"{row[0]:.3f}", *("" if math.isnan(v) else f"{v:.6f}" for v in row[1:])])
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None


def _figures(report: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """The report for a person: name and text of each figure, those that matter most first."""
    final = report["final"]
    out = []
    if report["rmse_pct"] is not None:
        settled = report["time_to_5pct_s"]
        out += [
            ("RMSE", f"{report['rmse_pct']:.2f} %"),
            ("largest error", f"{report['max_abs_pct']:.2f} %"),
            ("within 5 %", "never" if settled is None else f"after {settled:.0f} s"),
            ("truth in the 95 % band", f"{100 * report['coverage95']:.1f} % of the rows"),
        ]
    out += [
        ("half width of the band", f"{report['half_width95_pct']:.2f} %"),
        ("final SoC", f"{100 * final['soc']:.2f} % ± {196 * final['soc_sd']:.2f} %"),
    ]
    if report["rmse_pct"] is not None:
        after = report["after_600s"]
        out.append(("mean absolute error", f"{report['mae_pct']:.2f} %"))
        if after["rmse_pct"] is not None:
            out.append(
                ("from 600 s on", f"RMSE {after['rmse_pct']:.2f} %, largest {after['max_abs_pct']:.2f} %")
            )
    out += [
        ("capacity", f"{final['capacity_ah']:.3f} Ah ± {1.96 * final['capacity_sd_ah']:.3f} Ah"),
        ("R0", f"{1000 * final['r0_ohm']:.2f} mohm"),
        ("rows", f"{report['rows']} ({report['steps_per_s']} a second)"),
    ]
    out += [("flagged", f"{count} {FLAGS[kind]}") for kind, count in report["flags"].items()]
    return tuple(out)


def _text(figures: tuple[tuple[str, str], ...]) -> str:
    width = max(len(name) for name, _ in figures)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in figures)


def _plottable(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    """A picture's name says its format, and what draws it is there before hours of work.

    Raises
    ------
    click.BadParameter
    ModuleNotFoundError
    """
    if path is not None:
        if path.suffix not in SUFFIXES:
            raise click.BadParameter(f"{path} must end in {' or '.join(SUFFIXES)}.")
        import matplotlib  # noqa: F401
    return path


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--cell", "cell_name", required=True, help="A cell model's name, or its TOML file.")
@click.option(
    "--initial-soc",
    type=click.FloatRange(0, 1),
    callback=finite,
    help="SoC at the start; else unknown. A wrong one is overruled by the voltages.",
)
@click.option(
    "--initial-soc-sd",
    type=click.FloatRange(0, 1, min_open=True),
    callback=finite,
    help=f"How well it is known (standard deviation); else {GIVEN_SD:g}.",
)
@click.option(
    "--capacity-ah",
    type=click.FloatRange(0, min_open=True),
    callback=finite,
    help="The cell's capacity, where known.",
)
@click.option(
    "--current-sign",
    type=click.Choice(list(SIGNS)),
    help="Which way the file counts its current; else as its column names say, checked against its voltage.",
)
@click.option("--start-s", type=float, default=0.0, callback=finite, help="Begin at this time of the data.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_plottable,
    help="A picture, PNG or HTML: SoC and its band, errors, voltage, current, temperature.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="CSV, a row for each row of DATA."
)
def soc(
    data: Path,
    cell_name: str,
    initial_soc: float | None,
    initial_soc_sd: float | None,
    capacity_ah: float | None,
    current_sign: str | None,
    start_s: float,
    plot: Path | None,
    as_json: bool,
    out: Path | None,
) -> None:
    """The estimator over laboratory or field data (CSV, CSV.gz, Parquet).

    Prints the errors where the file has a `soc` column, and what in it was missing or impossible.

    \b
    Example:
      ayaz soc US06_-10.csv.gz --cell lg_hg2 --start-s 600 --plot US06.png
    """
    if initial_soc is None and initial_soc_sd is not None:
        raise click.UsageError("--initial-soc-sd needs --initial-soc")
    cell = load_cell(cell_name)
    measured = check_against_cell(data, load_measured(data, current_sign), cell, capacity_ah)
    with Progress(console=Console(stderr=True), transient=True, disable=not os.isatty(2)) as bar:
        task = bar.add_task("estimating", total=2.0)
        run = estimate_soc(
            measured,
            cell,
            initial_soc,
            capacity_ah,
            start_s,
            lambda done: bar.update(task, completed=done),
            initial_soc_sd,
        )
        used = measured.since(start_s)
        capacity = measure_capacity(
            used, cell, capacity_ah, lambda done: bar.update(task, completed=1 + done)
        )
    report = soc_report(run, capacity, measured.flags)
    begin = "unknown" if initial_soc is None else f"{100 * initial_soc:g} %"
    figures = (("cell", f"{cell.name} ({cell.chemistry})"), ("start", begin), *_figures(report))
    if out is not None:
        _write(out, run)
    if plot is not None:
        used = measured.since(start_s)
        counted = (
            None if initial_soc is None else count_soc(used, initial_soc, capacity_ah or cell.capacity_ah)
        )
        plot_soc(plot, Pictured(data.name, used, run.soc, run.soc_sd, run.truth, counted, figures))
    click.echo(json.dumps(report) if as_json else _text(figures))
