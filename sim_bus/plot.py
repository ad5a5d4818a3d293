"""A day's picture: a page of its own with SVG plots, nothing else needed."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import ScenarioError
from sim_bus.battery import FloatArray
from sim_bus.simulation import Truth

WIDTH, HEIGHT = 900, 180
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 10, 26  # margins around the axes
POINTS = 800  # a longer line is drawn as the least and the most of each stretch
STYLE = """body{font:14px system-ui,sans-serif;color:#1f2937;max-width:900px;margin:24px auto;padding:0 16px}
h1{font-size:20px;margin:0 0 4px}h2{font-size:14px;margin:18px 0 2px}h2 span{font-weight:400;margin-left:12px}
svg{display:block;width:100%;height:auto}text{font-size:11px;fill:#6b7280}line{stroke:#e5e7eb}
line.zero{stroke:#9ca3af}polyline{fill:none;stroke-width:1.5;stroke-linejoin:round}"""


@dataclass(frozen=True)
class Line:
    """One line of a plot."""

    label: str
    colour: str
    value: Callable[[Truth], float]


PLOTS: tuple[tuple[str, float, tuple[Line, ...]], ...] = (  # title, least span of its axis, lines
    (
        "State of charge, %",
        5,
        (
            Line("truth", "#2563eb", lambda t: t.soc * 100),
            Line("BMS", "#ea580c", lambda t: t.bms_soc * 100),
        ),
    ),
    ("Power at the battery, kW", 20, (Line("", "#16a34a", lambda t: t.power_w / 1000),)),
    ("Speed, km/h", 20, (Line("", "#7c3aed", lambda t: t.speed_kmh),)),
    ("Mean cell voltage, V", 0.1, (Line("", "#0891b2", lambda t: t.voltage_v / 176),)),
    ("Battery temperature, °C", 5, (Line("", "#dc2626", lambda t: t.temp_degc),)),
)


def plot_day(path: Path, truths: Sequence[Truth], title: str) -> None:
    """Write the picture.

    Raises
    ------
    ScenarioError
        The file can't be written.
    """
    times = np.array([t.t_s for t in truths])
    parts = [
        _plot(name, span, lines, times, [np.array([line.value(t) for t in truths]) for line in lines])
        for name, span, lines in PLOTS
    ]
    title = html.escape(title)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style><h1>{title}</h1>{''.join(parts)}</html>\n"
    )
    try:
        path.write_text(page, "utf-8")
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be written: {error.strerror}") from None


def _plot(
    title: str, least_span: float, lines: Sequence[Line], times: FloatArray, series: Sequence[FloatArray]
) -> str:
    values = np.concatenate(series)
    if np.isnan(values).all():
        return ""
    ticks = _ticks(float(np.nanmin(values)), float(np.nanmax(values)), least_span, 5, (1, 2, 5, 10))
    end_s = max(float(times[-1]), 1.0)
    seconds, unit = _time_unit(end_s)
    hours = [t for t in _ticks(0, end_s / seconds, 0, 8, (1, 2, 3, 5, 10)) if t * seconds <= end_s + 1]

    def x(time: float) -> float:
        return LEFT + time / end_s * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (ticks[-1] - value) / (ticks[-1] - ticks[0]) * (HEIGHT - TOP - BOTTOM)

    shapes = [_level(y(tick), tick) for tick in ticks]
    shapes += [
        f'<text x="{x(t * seconds):.0f}" y="{HEIGHT - 6}" text-anchor="{"end" if t * seconds > 0.97 * end_s else "middle"}">'
        f"{t:g}{' ' + unit if t == hours[-1] else ''}</text>"
        for t in hours
    ]
    for line, whole in zip(lines, series, strict=True):
        points = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in _thin(times, whole))
        shapes.append(f'<polyline stroke="{line.colour}" points="{points}"/>')
    labels = "".join(f'<span style="color:{line.colour}">{line.label}</span>' for line in lines if line.label)
    return f'<h2>{html.escape(title)}{labels}</h2><svg viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(shapes)}</svg>'


def _level(y: float, value: float) -> str:
    kind = ' class="zero"' if value == 0 else ""
    return (
        f'<line{kind} x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    )


def _ticks(low: float, high: float, least_span: float, most: int, steps: tuple[int, ...]) -> list[float]:
    """Round numbers that enclose low and high, at most `most` steps between them, or one more."""
    room = max(least_span - (high - low), 0) / 2
    low, high = low - room, high + room
    raw = max(high - low, 1e-9) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(k * power for k in steps if k * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 9) for n in range(first, last + 1)]


def _time_unit(end_s: float) -> tuple[float, str]:
    return next(
        (k, unit) for k, unit in ((3600.0, "h"), (60.0, "min"), (1.0, "s")) if end_s >= 2 * k or k == 1
    )


def _thin(times: FloatArray, values: FloatArray) -> list[tuple[float, float]]:
    """The line's points; of each stretch of a long one, its least and its most."""
    known = ~np.isnan(values)
    times, values = times[known], values[known]
    stretches = np.array_split(np.arange(len(values)), POINTS // 2) if len(values) > POINTS else None
    keep = (
        range(len(values))
        if stretches is None
        else sorted({int(s[f(values[s])]) for s in stretches for f in (np.argmin, np.argmax)})
    )
    return [(float(times[n]), float(values[n])) for n in keep]
