"""A day's picture: a page of its own with SVG plots, nothing else needed, nothing from the internet.

It draws what columns there are. Shaded are the times in which a fault acted, each in a lane of its own at the top.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import ScenarioError
from sim_bus.doors import EnergyJ, FloatArray
from sim_bus.files import WholeFile
from sim_bus.truth import Account

WIDTH, HEIGHT = 960, 168
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 10, 24  # margins around the axes
LANE = 20  # a fault's height
POINTS = 900  # a longer line is drawn as the least and the most of each stretch
MOST_ROWS = 50_000  # kept of a run; of a longer one every 2nd, 4th ... row
MOST_LANES = 12

BLUE, ORANGE, GREEN, VIOLET, RED, TEAL, GREY = (
    "#3b82f6", "#f97316", "#10b981", "#8b5cf6", "#ef4444", "#06b6d4", "#94a3b8",
)  # fmt: skip
SHARES = (
    "#3b82f6",
    "#10b981",
    "#f97316",
    "#8b5cf6",
    "#ef4444",
    "#06b6d4",
    "#eab308",
    "#ec4899",
    "#94a3b8",
    "#84cc16",
)
STYLE = """:root{--ink:#0f172a;--soft:#64748b;--grid:#e2e8f0;--zero:#94a3b8;--page:#f8fafc;--card:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e2e8f0;--soft:#94a3b8;--grid:#26334a;--zero:#64748b;--page:#0b1220;--card:#131c2e}}
*{box-sizing:border-box}body{font:14px/1.4 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1040px;margin:0 auto;
padding:28px 20px 40px}h1{font-size:22px;font-weight:650;margin:0 0 14px;letter-spacing:-.01em}
.facts{display:flex;flex-wrap:wrap;gap:10px;margin-bottom:16px}.facts div,section{background:var(--card);border:1px solid var(--grid);border-radius:10px}
.facts div{padding:9px 14px;min-width:118px}.facts b{display:block;font-size:18px;font-weight:600;font-variant-numeric:tabular-nums}
.facts span{color:var(--soft);font-size:12px}section{padding:10px 16px 4px;margin-bottom:12px}
h2{font-size:13px;font-weight:600;margin:0;display:flex;flex-wrap:wrap;gap:4px 16px;align-items:baseline}
h2 small{color:var(--soft);font-weight:400;font-size:12px}h2 i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
h2 i.band{height:9px;opacity:.35}svg{display:block;width:100%;height:auto}text{font-size:11px;fill:var(--soft);font-variant-numeric:tabular-nums}
line{stroke:var(--grid)}line.zero{stroke:var(--zero)}polyline{fill:none;stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}
polygon{opacity:.22}polygon.fill{opacity:.13}rect.fault{fill:#ef4444;opacity:.09}rect.lane{fill:#ef4444;opacity:.75}
.bar{display:flex;height:22px;border-radius:6px;overflow:hidden;margin:10px 0 8px;gap:2px}.bar div{min-width:2px}
table{border-collapse:collapse;font-size:13px;margin:0 0 8px;font-variant-numeric:tabular-nums}td{padding:2px 18px 2px 0}td.n{text-align:right}
td i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:8px}"""


@dataclass(frozen=True)
class Line:
    """A column, in the panel's unit; `filled` down to zero."""

    label: str
    colour: str
    column: str
    factor: float = 1.0
    filled: bool = False


@dataclass(frozen=True)
class Band:
    """Between two columns."""

    label: str
    colour: str
    low: str
    high: str
    factor: float = 1.0


@dataclass(frozen=True)
class Panel:
    """One plot."""

    title: str
    unit: str
    least_span: float  # of its axis
    lines: tuple[Line, ...]
    bands: tuple[Band, ...] = ()


PANELS = (
    Panel(
        "State of charge", "%", 5,
        (Line("truth", BLUE, "soc", 100), Line("BMS", ORANGE, "bms_soc", 100)),
        (Band("all cells", BLUE, "cell_min_soc", "cell_max_soc", 100),),
    ),
    Panel(
        "Power at the battery", "kW", 20,
        (
            Line("positive on discharge", GREEN, "power_w", 1e-3, True),
            Line("charger", VIOLET, "charger_w", 1e-3),
        ),
    ),
    Panel("Speed", "km/h", 20, (Line("", TEAL, "speed_kmh", 1, True),)),
    Panel(
        "Cell voltage", "V", 0.1,
        (Line("mean", TEAL, "cell_mean_v"),), (Band("lowest to highest", TEAL, "cell_min_v", "cell_max_v"),),
    ),
    Panel(
        "Temperature", "°C", 5,
        (
            Line("battery, mean", RED, "temp_degc"), Line("cabin", GREEN, "cabin_degc"),
            Line("outside", GREY, "ambient_degc"),
        ),
        (Band("coldest to warmest cell", RED, "cell_min_degc", "cell_max_degc"),),
    ),
)  # fmt: skip
ENERGY = {
    "rolling": "rolling", "air": "air", "friction_brakes": "friction brakes", "drivetrain": "motor, inverter, reducer",
    "cabin": "cabin heating and cooling", "battery_heat": "battery heating and cooling",
    "auxiliaries": "auxiliaries", "height": "height gained", "kinetic": "still in motion",
}  # fmt: skip
assert set(ENERGY) == {one.name for one in fields(EnergyJ)} - {"charger"}


class Picture:
    """A recorder (see truth.py): the last row of each second, as many as can be seen."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._at = {name: n for n, name in enumerate(columns)}
        self._rows: list[FloatArray] = []
        self._every = 1
        self._count = 0
        self._account = Account(columns)

    def first(self, row: FloatArray) -> None:
        """The row of t = 0."""
        self._account.first(row)
        self._rows.append(row)

    def add(self, rows: FloatArray, labels: tuple[str, ...]) -> None:
        """The rows of one second."""
        self._account.add(rows, labels)
        self._count += 1
        if self._count % self._every == 0:
            self._rows.append(rows[-1])
        if len(self._rows) > MOST_ROWS:
            self._rows = self._rows[::2]
            self._every *= 2

    def write(self, path: Path, title: str) -> None:
        """Write the page.

        Raises
        ------
        ScenarioError
            The file can't be written.
        """
        with _Page(path) as page:
            page.write(self.page(title))

    def page(self, title: str) -> str:
        """The page as HTML."""
        table = np.array(self._rows)
        axis = _Axis(max(float(table[-1, 0]), 1.0))
        spans = self._account.spans.found
        parts = [
            _facts(self._account.summary()),
            _lanes(axis, spans),
            *(_panel(panel, self._at, table, axis, spans) for panel in PANELS),
            _shares(self._account),
        ]
        title = html.escape(title)
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{''.join(parts)}</html>\n"
        )


class _Page(WholeFile):
    def __init__(self, path: Path) -> None:
        super().__init__(path, ScenarioError)

    def write(self, text: str) -> None:
        with self.guard():
            self.part.write_text(text, "utf-8")

    def close(self) -> None:
        """All is written."""


class _Axis:
    """The time's axis."""

    def __init__(self, end_s: float) -> None:
        self.end_s = end_s
        unit_s, self.unit = next(
            (k, unit)
            for k, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
            if end_s >= 2 * k or k == 1
        )
        found = _ticks(0, end_s / unit_s, 0, 10, (1, 2, 3, 5, 10))
        self.ticks = [(t * unit_s, f"{t:g}") for t in found if t * unit_s <= end_s * 1.001]

    def x(self, time_s: float) -> float:
        return LEFT + time_s / self.end_s * (WIDTH - LEFT - RIGHT)

    def labels(self, y: float) -> str:
        last = len(self.ticks) - 1
        return "".join(
            f'<text x="{self.x(t):.0f}" y="{y:.0f}" text-anchor="{"end" if t > 0.97 * self.end_s else "middle"}">'
            f"{text}{' ' + self.unit if n == last else ''}</text>"
            for n, (t, text) in enumerate(self.ticks)
        )

    def shades(self, spans: Sequence[tuple[str, float, float]], height: float) -> str:
        return "".join(
            f'<rect class="fault" x="{self.x(begin):.1f}" y="{TOP}" width="{max(self.x(end) - self.x(begin), 1):.1f}" '
            f'height="{height:.0f}"><title>{html.escape(label)}</title></rect>'
            for label, begin, end in spans
        )


def _facts(summary: dict[str, Any]) -> str:
    def percent(name: str) -> str:
        first, last = summary[name]["first"], summary[name]["last"]
        return "" if first is None or last is None else f"{100 * first:.1f} → {100 * last:.1f} %"

    used = summary["kwh_per_km"]
    facts = [
        (f"{summary['seconds'] / 3600:.2f} h" if summary["seconds"] else "", "simulated"),
        (f"{summary['distance_km']:.1f} km" if summary["distance_km"] else "", "driven"),
        (f"{used:.2f} kWh/km" if used is not None else "", "from battery and charger"),
        (percent("soc"), "state of charge"),
        (percent("bms_soc"), "as the BMS has it"),
        (str(len(summary["faults"])) if summary["faults"] else "", "faults"),
    ]
    shown = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in facts if value)
    return f'<div class="facts">{shown}</div>'


def _lanes(axis: _Axis, spans: Sequence[tuple[str, float, float]]) -> str:
    """A lane for each label, in the order of their beginnings."""
    labels = list(dict.fromkeys(label for label, _, _ in spans))
    if not labels:
        return ""
    shown, height = labels[:MOST_LANES], TOP + LANE * min(len(labels), MOST_LANES)
    shapes = []
    for n, label in enumerate(shown):
        y, mine = TOP + LANE * n, [(begin, end) for of, begin, end in spans if of == label]
        for begin, end in mine:
            width = max(axis.x(end) - axis.x(begin), 2)
            shapes.append(
                f'<rect class="lane" x="{axis.x(begin):.1f}" y="{y + 5}" width="{width:.1f}" height="8" rx="3"/>'
            )
        right = axis.x(mine[-1][1]) + 6
        late = right > WIDTH - RIGHT - 7 * len(label)
        place = (
            (axis.x(mine[0][0]) - 6, "end") if late and axis.x(mine[0][0]) > WIDTH / 3 else (right, "start")
        )
        if late and place[1] == "start":
            place = (axis.x(mine[0][0]) + 6, "start")
        shapes.append(
            f'<text x="{place[0]:.1f}" y="{y + 13}" text-anchor="{place[1]}">{html.escape(label)}</text>'
        )
    more = f"<small>and {len(labels) - len(shown)} more</small>" if len(labels) > len(shown) else ""
    return (
        f'<section><h2>Faults{more}</h2><svg viewBox="0 0 {WIDTH} {height + BOTTOM}">{"".join(shapes)}'
        f"{axis.labels(height + BOTTOM - 6)}</svg></section>"
    )


def _panel(
    panel: Panel,
    at: dict[str, int],
    table: FloatArray,
    axis: _Axis,
    spans: Sequence[tuple[str, float, float]],
) -> str:
    lines = [
        (line, table[:, at[line.column]] * line.factor)
        for line in panel.lines
        if line.column in at and np.isfinite(table[:, at[line.column]]).any()
    ]
    bands = [
        (band, table[:, at[band.low]] * band.factor, table[:, at[band.high]] * band.factor)
        for band in panel.bands
        if band.low in at and np.isfinite(table[:, at[band.low]]).any()
    ]
    if not lines and not bands:
        return ""
    values = np.concatenate([series for _, *many in [*lines, *bands] for series in many])
    values = values[np.isfinite(values)]
    ticks = _ticks(float(values.min()), float(values.max()), panel.least_span, 5, (1, 2, 5, 10))

    def y(value: float) -> float:
        return TOP + (ticks[-1] - value) / (ticks[-1] - ticks[0]) * (HEIGHT - TOP - BOTTOM)

    shapes = [axis.shades(spans, HEIGHT - TOP - BOTTOM)]
    shapes += [_level(y(tick), tick) for tick in ticks]
    for band, low, high in bands:
        upper, lower = _envelope(table[:, 0], low, high)
        edge = _points([*upper, *reversed(lower)], axis, y)
        shapes.append(f'<polygon fill="{band.colour}" points="{edge}"/>')
    for line, series in lines:
        points = _thin(table[:, 0], series)
        if line.filled:
            zero = min(max(0.0, ticks[0]), ticks[-1])
            area = _points([(points[0][0], zero), *points, (points[-1][0], zero)], axis, y)
            shapes.append(f'<polygon class="fill" fill="{line.colour}" points="{area}"/>')
        shapes.append(f'<polyline stroke="{line.colour}" points="{_points(points, axis, y)}"/>')
    legend = "".join(_key(line.label, line.colour, "") for line, _ in lines if line.label)
    legend += "".join(_key(band.label, band.colour, ' class="band"') for band, *_ in bands)
    return (
        f"<section><h2>{panel.title}, {panel.unit}{legend}</h2>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(shapes)}{axis.labels(HEIGHT - 6)}</svg></section>'
    )


def _key(label: str, colour: str, kind: str) -> str:
    return f'<small><i{kind} style="background:{colour}"></i>{label}</small>'


def _level(y: float, value: float) -> str:
    kind = ' class="zero"' if value == 0 else ""
    return (
        f'<line{kind} x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    )


def _shares(account: Account) -> str:
    """Where the energy went, the largest first."""
    found = {name: account.value(f"{key}_kwh") for key, name in ENERGY.items()}
    kept = sorted(((kwh, name) for name, kwh in found.items() if kwh == kwh and kwh > 0), reverse=True)
    total = sum(kwh for kwh, _ in kept)
    if total < 0.005:
        return ""
    colours = dict(zip((name for _, name in kept), SHARES, strict=False))
    bar = "".join(
        f'<div style="width:{100 * kwh / total:.2f}%;background:{colours[name]}" title="{name}"></div>'
        for kwh, name in kept
    )
    rows = "".join(
        f'<tr><td><i style="background:{colours[name]}"></i>{name}</td><td class="n">{kwh:.2f} kWh</td>'
        f'<td class="n">{100 * kwh / total:.1f} %</td></tr>'
        for kwh, name in kept
    )
    fuel = account.value("fuel_l")
    note = f"<small>and {fuel:.2f} l of the heater's fuel</small>" if fuel > 0 else ""
    return (
        f'<section><h2>Where {total:.1f} kWh went{note}</h2><div class="bar">{bar}</div>'
        f"<table>{rows}</table></section>"
    )


def _ticks(low: float, high: float, least_span: float, most: int, steps: tuple[int, ...]) -> list[float]:
    """Round numbers that enclose low and high, at most `most` steps between them, or one more."""
    room = max(least_span - (high - low), 0) / 2
    low, high = low - room, high + room
    raw = max(high - low, 1e-9) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(k * power for k in steps if k * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 9) + 0.0 for n in range(first, max(last, first + 1) + 1)]


def _points(points: Sequence[tuple[float, float]], axis: _Axis, y: Any) -> str:
    return " ".join(f"{axis.x(t):.1f},{y(v):.1f}" for t, v in points)


def _thin(times: FloatArray, values: FloatArray) -> list[tuple[float, float]]:
    """The line's points; of each stretch of a long one, its least and its most."""
    known = np.isfinite(values)
    times, values = times[known], values[known]
    keep: Sequence[int] = range(len(values))
    if len(values) > POINTS:
        stretches = np.array_split(np.arange(len(values)), POINTS // 2)
        keep = sorted({int(s[f(values[s])]) for s in stretches for f in (np.argmin, np.argmax)})
    return [(float(times[n]), float(values[n])) for n in keep]


def _envelope(
    times: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """The upper and the lower edge of a band; of each stretch of a long one, the most and the least."""
    known = np.isfinite(low) & np.isfinite(high)
    times, low, high = times[known], low[known], high[known]
    begins = np.linspace(0, len(times), min(len(times), POINTS // 2), endpoint=False).astype(int)
    middle = times[begins].tolist()
    upper, lower = np.maximum.reduceat(high, begins), np.minimum.reduceat(low, begins)
    return list(zip(middle, upper.tolist(), strict=True)), list(zip(middle, lower.tolist(), strict=True))
