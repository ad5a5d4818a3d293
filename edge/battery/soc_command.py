"""`ayaz soc`: the estimator over laboratory or field data, and its errors where the truth is known."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress

from edge.battery.estimator import PackEstimator
from edge.battery.measured import Measured, load_measured
from edge.battery.model import CellModel, FloatArray, load_cell
from edge.command import finite, whole_file
from edge.errors import DataError

TWO_SIDED_95 = 1.96
SETTLING_S = 600.0


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
    progress: Any = None,
) -> SocRun:
    """Run the estimator over `data` from `start_s` on.

    Raises
    ------
    DataError
        Nothing is left after `start_s`.
    """
    first = int(np.searchsorted(data.time_s, start_s))
    if first >= len(data.time_s):
        raise DataError(f"the data end at {data.time_s[-1]:g} s, before --start-s {start_s:g}")
    times = data.time_s[first:]
    steps = np.diff(times, prepend=times[0]).tolist()
    columns = (data.current_a[first:, None], data.voltage_v[first:, None], data.temp_degc[first:, None])
    estimator = PackEstimator(cell, [0], initial_soc=initial_soc, capacity_ah=capacity_ah)
    soc, sd = np.empty(len(times)), np.empty(len(times))
    begun = time.perf_counter()
    for k, (dt, current, voltage, temp) in enumerate(zip(steps, *columns, strict=True)):
        estimator.step(dt, current, voltage, temp)
        soc[k], sd[k] = estimator.soc[0], estimator.soc_sd[0]
        if progress is not None and not k % 5000:
            progress(k / len(times))
    seconds = time.perf_counter() - begun
    capacity = float(estimator.capacity_ah[0])
    final = {
        "soc": float(soc[-1]),
        "soc_sd": float(sd[-1]),
        "capacity_ah": capacity,
        "capacity_sd_ah": capacity * cell.capacity_rel_sd,
        "r0_ohm": float(estimator.r0_ohm[0]),
    }
    return SocRun(times, soc, sd, None if data.soc is None else data.soc[first:], final, seconds)


def soc_report(run: SocRun) -> dict[str, Any]:
    """What `--json` prints. Errors are in % of soc, over the rows whose true soc is known; null without."""
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
    out["final"] = run.final
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


def _text(report: dict[str, Any], cell: CellModel) -> str:
    final = report["final"]
    lines = [
        f"{report['rows']} rows, cell {cell.name} ({cell.chemistry}), {report['steps_per_s']} steps/s",
        f"final SoC {100 * final['soc']:.2f} % ± {196 * final['soc_sd']:.2f} (95 %), "
        f"R0 {1000 * final['r0_ohm']:.2f} mohm",
    ]
    if report["rmse_pct"] is not None:
        settled = report["time_to_5pct_s"]
        lines += [
            f"error: RMSE {report['rmse_pct']:.2f} %, MAE {report['mae_pct']:.2f} %, "
            f"largest {report['max_abs_pct']:.2f} %",
            "never stays below 5 %" if settled is None else f"stays below 5 % after {settled:.0f} s",
            f"within our 95 % band: {100 * report['coverage95']:.1f} % of the rows "
            f"(mean half width {report['half_width95_pct']:.2f} %)",
        ]
    return "\n".join(lines)


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
    "--capacity-ah",
    type=click.FloatRange(0, min_open=True),
    callback=finite,
    help="The cell's capacity, where known.",
)
@click.option("--start-s", type=float, default=0.0, callback=finite, help="Begin at this time of the data.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="CSV, a row for each row of DATA."
)
def soc(
    data: Path,
    cell_name: str,
    initial_soc: float | None,
    capacity_ah: float | None,
    start_s: float,
    as_json: bool,
    out: Path | None,
) -> None:
    """The estimator over laboratory or field data (CSV, CSV.gz, Parquet).

    Prints the errors where the file has a `soc` column.

    \b
    Example:
      ayaz soc US06_-10.csv.gz --cell lg_hg2 --start-s 600 --json
    """
    cell = load_cell(cell_name)
    measured = load_measured(data)
    with Progress(console=Console(stderr=True), transient=True, disable=not os.isatty(2)) as bar:
        task = bar.add_task("estimating", total=1.0)
        run = estimate_soc(
            measured, cell, initial_soc, capacity_ah, start_s, lambda done: bar.update(task, completed=done)
        )
    report = soc_report(run)
    if out is not None:
        _write(out, run)
    click.echo(json.dumps(report) if as_json else _text(report, cell))
