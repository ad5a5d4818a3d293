"""The whole of a fit: files in, a cell model and what is to be said about it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.battery.fitting import axes, cell, defaults, joint
from edge.battery.fitting.joint import Joint, Record
from edge.battery.model import FloatArray
from edge.errors import DataError

Progress = Callable[[str, float], None]
SLOW_S = 150.0
PULSE_S = 10.0


@dataclass(frozen=True)
class Request:
    """What is to be fitted."""

    name: str
    chemistry: str
    """one of defaults.CHEMISTRIES"""
    capacity_ah: float
    """at 25 degC and a low rate"""
    ocv: list[Path] = field(default_factory=list)
    pulses: list[Path] = field(default_factory=list)
    drive: list[Path] = field(default_factory=list)
    voltage_min_v: float | None = None
    voltage_max_v: float | None = None
    summary: str = ""
    data: str = ""
    licence: str = ""


@dataclass(frozen=True)
class FileError:
    """How well one file is met. mV over the rows above 10 % of soc, but those of `pulse_pct`."""

    name: str
    kind: str
    temp_degc: float
    soc_from: float
    soc_to: float
    rms_mv: float
    slow_mv: float
    """rms of the error low-passed over 150 s"""
    left_out_rms_mv: float | None
    """the same with this file left out of the fit"""
    left_out_slow_mv: float | None
    pulse_pct: float | None
    """rms error of the resistance over 10 s of the pulses in the file, where there are some"""


@dataclass(frozen=True)
class Fitted:
    cell: dict[str, Any]
    files: list[FileError]
    remarks: list[str]
    """what was assumed of files"""
    missing: list[str]
    """what is missing, and what that costs"""
    joint: Joint
    records: list[Record]


def fit_cell(request: Request, progress: Progress = lambda _what, _done: None) -> Fitted:
    """Fit a cell model.

    Raises
    ------
    DataError
        A file is no usable test, or its state of charge cannot be told; there is no file.
    """
    kind = defaults.CHEMISTRIES[request.chemistry]
    paths = [(p, k) for k in ("ocv", "pulses", "drive") for p in getattr(request, k)]
    if not paths:
        raise DataError("nothing to fit: give files with --ocv, --pulses or --drive")
    remarks: list[str] = []
    files = []
    for k, (path, what) in enumerate(paths):
        progress(f"reading {path.name}", 0.3 * k / len(paths))
        files.append(axes.read(path, what, remarks))
    found = axes.Axes(files, request.capacity_ah, kind.full_below_v, remarks)
    records = found.records()
    if not records:
        raise DataError("none of the files says how the voltage follows the state of charge")
    nodes = axes.nodes(found.temps)
    fitted, rate = _best(request, records, nodes, progress)
    progress("leaving out each file", 0.85)
    fitted = joint.fit(
        records, nodes, request.capacity_ah, defaults.prior(kind), rate, x=fitted.x, steps=3, left_out=True
    )
    limits = (
        kind.voltage_min_v if request.voltage_min_v is None else request.voltage_min_v,
        kind.voltage_max_v if request.voltage_max_v is None else request.voltage_max_v,
    )
    table, more = cell.model(
        fitted,
        records,
        name=request.name,
        chemistry=request.chemistry,
        capacity_ah=request.capacity_ah,
        rate=rate,
        limits_v=limits,
        summary=request.summary or f"{request.chemistry} cell of {request.capacity_ah:g} Ah",
        sources=[_source(request)],
    )
    met = [_file_error(fitted, k, request.capacity_ah) for k in range(len(records))]
    return Fitted(
        table, met, remarks + more, missing(request, records, found.temps), fitted, fitted.rows.records
    )


def _source(request: Request) -> dict[str, Any]:
    """Which files made the model."""
    used = {k: [p.name for p in getattr(request, k)] for k in ("ocv", "pulses", "drive")}
    return {
        "data": request.data or "measurements given to ayaz fit-cell",
        "licence": request.licence or "not stated",
        "used_for": "all tables, on: " + "; ".join(f"{k}: {', '.join(v)}" for k, v in used.items() if v),
    }


def _best(
    request: Request, records: list[Record], nodes: FloatArray, progress: Progress
) -> tuple[Joint, float | None]:
    """The fit, with the rate of the hysteresis that meets the data best."""
    kind = defaults.CHEMISTRIES[request.chemistry]
    prior = defaults.prior(kind)
    rates = defaults.HYSTERESIS_RATES if kind.hysteresis_v else (None,)
    best: tuple[Joint, float | None] | None = None
    for k, rate in enumerate(rates):
        progress("fitting", 0.3 + 0.5 * k / len(rates))
        start = None if best is None else best[0].x
        one = joint.fit(records, nodes, request.capacity_ah, prior, rate, x=start, left_out=False)
        if best is None or one.cost < best[0].cost:
            best = one, rate
    assert best is not None
    return best


def _file_error(fitted: Joint, k: int, capacity_ah: float) -> FileError:
    record = fitted.rows.records[k]
    a, b = fitted.rows.edges[k], fitted.rows.edges[k + 1]
    use = record.used & (record.soc > cell.NEAR_EMPTY)
    use = use if use.any() else record.used

    def sizes(error: FloatArray) -> tuple[float, float]:
        slow = joint.low_pass(np.where(record.used, error, 0.0), record.dt_s, SLOW_S)
        return tuple(1e3 * float(np.sqrt(np.mean(e[use] ** 2))) for e in (error, slow))  # type: ignore[return-value]

    rms, slow = sizes(fitted.error_v[a:b])
    away = sizes(fitted.left_out_v[a:b]) if len(fitted.rows.records) > 1 else (None, None)
    found = pulses(record, fitted.error_v[a:b], capacity_ah)
    return FileError(
        name=record.name,
        kind=record.kind,
        temp_degc=float(np.median(record.temp_degc)),
        soc_from=float(record.soc[record.used][0]),
        soc_to=float(record.soc[record.used][-1]),
        rms_mv=rms,
        slow_mv=slow,
        left_out_rms_mv=away[0],
        left_out_slow_mv=away[1],
        pulse_pct=100 * float(np.sqrt(np.mean([(m / r - 1) ** 2 for _, r, m in found]))) if found else None,
    )


def pulses(record: Record, error_v: FloatArray, capacity_ah: float) -> list[tuple[float, float, float]]:
    """(soc, resistance over 10 s, the model's) of the discharge pulses that follow a rest.

    Both are the change of voltage from the last row at rest over the current: as in HPPC. The model's is what
    its own voltage, `error_v` less than the measured, does in the same rows.
    """
    if record.kind != "pulses":
        return []
    time, current = np.cumsum(record.dt_s), record.current_a
    rest = np.abs(current) < 0.02 * capacity_ah
    out = []
    for k in np.flatnonzero(rest[:-1] & (current[1:] > 0.2 * capacity_ah)).tolist():
        if k < 2 or not rest[max(0, int(np.searchsorted(time, time[k] - 30))) : k].all():
            continue
        end = int(np.searchsorted(time, time[k] + PULSE_S + 0.01)) - 1
        run = current[k + 2 : end + 1]
        if end <= k + 3 or time[end] - time[k] < 0.7 * PULSE_S or np.ptp(run) > 0.05 * run.mean():
            continue
        if not (record.used[k] and record.used[end] and 0.15 <= record.soc[k] <= 0.95):
            continue
        fell = record.voltage_v[k] - record.voltage_v[end]
        model = fell - (error_v[k] - error_v[end])
        out.append((float(record.soc[k]), float(fell / run.mean()), float(model / run.mean())))
    return out


def missing(request: Request, records: list[Record], temps: FloatArray) -> list[str]:
    """What was not measured, what stands in for it, and what that costs."""
    kinds = {r.kind for r in records}
    out = []
    loaded = [r for r in records if r.kind != "ocv"]
    if not loaded:
        out.append(
            "no pulses and no drive: the resistances are typical ones of the chemistry, scaled by the capacity, and may "
            "be wrong by a factor of two: the SoC under load comes from the rests mostly, power limits from a guess"
        )
    elif "drive" not in kinds:
        out.append(
            "no drive: the slow relaxation and the bend at high currents come from pulses alone; errors of 10 to "
            "30 mV under a drive's load are usual"
        )
    if "ocv" not in kinds:
        out.append(
            "no slow charge or discharge: the OCV comes from what the other files show under load, and beyond the "
            "soc they reach it is a typical curve"
        )
    else:
        out += _branches(request, [r for r in records if r.kind == "ocv"])
    if len(temps) == 1:
        out.append(
            f"one temperature ({temps[0]:.0f} degC): Arrhenius's law with a typical activation energy stands for all "
            "others; 20 degC away the resistances may be wrong by a factor of 1.5"
        )
    else:
        out.append(
            f"measured from {temps[0]:.0f} to {temps[-1]:.0f} degC; below and above, Arrhenius's law goes on, and the "
            "errors that the file states grow with the distance and with the voltage drop"
        )
    if loaded:
        low = min(float(r.soc[r.used].min()) for r in loaded)
        high = max(float(r.soc[r.used].max()) for r in loaded)
        if low > 0.1 or high < 0.9:
            out.append(
                f"under load only soc from {low:.2f} to {high:.2f} was seen: beyond, the resistances hold or grow"
            )
    return out


def _branches(request: Request, slow: list[Record]) -> list[str]:
    out = any(np.ptp(r.soc[r.current_a > 0]) > 0.5 for r in slow if (r.current_a > 0).any())
    back = any(np.ptp(r.soc[r.current_a < 0]) > 0.5 for r in slow if (r.current_a < 0).any())
    if out and back:
        return []
    which = "discharge" if out else "charge"
    if defaults.CHEMISTRIES[request.chemistry].hysteresis_v:
        return [
            f"slow {which} only: the hysteresis is a typical one, and the OCV is wrong by as much (about 10 mV)"
        ]
    return [f"slow {which} only: the OCV is that branch, corrected by the resistances that were found"]
