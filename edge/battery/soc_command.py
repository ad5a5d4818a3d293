"""`ayaz soc`: the estimator over laboratory or field data."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from edge.battery.estimator import PackEstimator
from edge.battery.measured import Measured, load_measured
from edge.battery.model import CellModel, load_cell
from edge.errors import DataError

FloatArray = npt.NDArray[np.float64]
SETTLED_PCT = 5.0
SETTLE_S = 600.0
BAND_95 = 1.959964


def estimate(model: CellModel, data: Measured, initial_soc: float | None) -> dict[str, FloatArray]:
    """One cell over measured data: soc and soc_sd after every row, r0_ohm at the end, steps_per_s.

    A given start is trusted to 2 %; without one it comes from the first voltage, with a wide band.
    """
    sd = 0.02 if initial_soc is not None else None
    estimator = PackEstimator(model, np.zeros(1, np.int64), initial_soc, sd)
    n = len(data.time_s)
    dt = np.diff(data.time_s, prepend=data.time_s[0])
    soc, soc_sd = np.zeros(n), np.zeros(n)
    current, voltage, temp = data.current_a[:, None], data.voltage_v[:, None], data.temp_degc[:, None]
    begin = time.perf_counter()
    for k in range(n):
        estimator.step(dt[k], current[k], voltage[k], temp[k])
        soc[k], soc_sd[k] = estimator.soc[0], estimator.soc_sd[0]
    rate = n / max(time.perf_counter() - begin, 1e-9)
    return {"soc": soc, "soc_sd": soc_sd, "r0_ohm": estimator.r0_ohm(), "steps_per_s": np.array([rate])}


def errors(time_s: FloatArray, error_pct: FloatArray, sd_pct: FloatArray) -> dict[str, Any]:
    """The figures of `ayaz soc --json` that compare with a known truth."""
    late = error_pct[time_s - time_s[0] >= SETTLE_S]
    far = np.flatnonzero(np.abs(error_pct) >= SETTLED_PCT)
    settled = 0 if not len(far) else int(far[-1]) + 1
    return _size(error_pct) | {
        "mae_pct": _rounded(np.mean(np.abs(error_pct))),
        "time_to_5pct_s": _rounded(time_s[settled] - time_s[0]) if settled < len(time_s) else None,
        "after_600s": _size(late) if len(late) else {"rmse_pct": None, "max_abs_pct": None},
        "coverage95": _rounded(np.mean(np.abs(error_pct) <= BAND_95 * sd_pct)),
    }


def _size(error_pct: FloatArray) -> dict[str, Any]:
    return {
        "rmse_pct": _rounded(np.sqrt(np.mean(error_pct**2))),
        "max_abs_pct": _rounded(np.max(np.abs(error_pct))),
    }


def _rounded(value: Any) -> float:
    return round(float(value), 4)


NO_TRUTH = dict.fromkeys(
    ("rmse_pct", "max_abs_pct", "mae_pct", "time_to_5pct_s", "after_600s", "coverage95"), None
)


def report(model: CellModel, data: Measured, result: dict[str, FloatArray]) -> dict[str, Any]:
    """Everything that `ayaz soc --json` prints; errors are null where the data has no soc."""
    sd_pct = result["soc_sd"] * 100
    known = np.isfinite(data.soc) if data.soc is not None else np.zeros(len(data.time_s), bool)
    compared: dict[str, Any] = NO_TRUTH
    if data.soc is not None and known.any():
        error = (result["soc"] - data.soc)[known] * 100
        compared = errors(data.time_s[known], error, sd_pct[known])
    return {
        "rows": len(data.time_s),
        **compared,
        "half_width95_pct": _rounded(BAND_95 * np.mean(sd_pct)),
        "final": {
            "soc": round(float(result["soc"][-1]), 6),
            "soc_sd": round(float(result["soc_sd"][-1]), 6),
            "capacity_ah": model.capacity_ah,
            "capacity_sd_ah": None,  # not estimated yet: it is what the cell's file or --capacity-ah says
            "r0_ohm": round(float(result["r0_ohm"][0]), 6),
        },
        "steps_per_s": round(float(result["steps_per_s"][0])),
    }


def _write(path: Path, data: Measured, result: dict[str, FloatArray]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["time_s", "soc", "soc_sd", *(["soc_measured"] if data.soc is not None else [])])
            for k, t in enumerate(data.time_s.tolist()):
                row = [t, f"{result['soc'][k]:.6f}", f"{result['soc_sd'][k]:.6f}"]
                writer.writerow(row + ([f"{data.soc[k]:.6f}"] if data.soc is not None else []))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None


@click.command()
@click.argument("path", metavar="DATA.csv", type=click.Path(path_type=Path))
@click.option("--cell", required=True, help="A cell that we ship, or a path to a .toml.")
@click.option("--initial-soc", type=click.FloatRange(0, 1), help="0 to 1; without it, from the first voltage.")
@click.option("--capacity-ah", type=click.FloatRange(min=0, min_open=True), help="Instead of the cell's own.")
@click.option("--start-s", type=float, default=0.0, show_default=True, help="Begin here, in the middle of things.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("-o", "out", type=click.Path(path_type=Path), help="CSV with the estimate of every row.")
def soc(
    path: Path, cell: str, initial_soc: float | None, capacity_ah: float | None, start_s: float, as_json: bool,
    out: Path | None,
) -> None:  # fmt: skip
    """The estimator over lab or field data; errors where the file has a soc column.

    \b
    Example:  ayaz soc drive.csv.gz --cell lg_hg2 --initial-soc 1
    """
    model = load_cell(Path(cell) if "/" in cell or cell.endswith(".toml") else cell)
    model = model.with_capacity(capacity_ah) if capacity_ah else model
    data = _from(load_measured(path), start_s, path)
    result = estimate(model, data, initial_soc)
    if out:
        _write(out, data, result)
    summary = report(model, data, result)
    if as_json:
        print(json.dumps(summary))
        return
    for name, value in summary.items():
        for key, part in value.items() if isinstance(value, dict) else [("", value)]:
            print(f"{(name + ' ' + key).strip():>24}  {'-' if part is None else part}")


def _from(data: Measured, start_s: float, path: Path) -> Measured:
    first = int(np.searchsorted(data.time_s, data.time_s[0] + start_s))
    if first >= len(data.time_s):
        raise DataError(f"{path}: ends before --start-s {start_s:g}")
    part = slice(first, None)
    soc_part = data.soc[part] if data.soc is not None else None
    return Measured(data.time_s[part], data.current_a[part], data.voltage_v[part], data.temp_degc[part], soc_part)
