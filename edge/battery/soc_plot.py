"""The picture of `ayaz soc --plot`: what was estimated, how wrong it was, and what it was estimated from.

PNG, or HTML: a page of its own with the same picture as SVG and the figures as a table. Needs matplotlib (the
`files` extra). The same run gives the same bytes on the same release of matplotlib.
"""

from __future__ import annotations

import html
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.battery.model import FloatArray
from edge.command import whole_file
from edge.errors import DataError
from edge.measured import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".html")
BINS = 1600  # a longer line is drawn as the least and the most of each bin
TWO_SIDED_95 = 1.96
SETTLED_S = 600.0
INK, MUTED, GRID = "#1f2937", "#6b7280", "#e5e7eb"
OURS, BAND, TRUTH, COUNTED = "#2563eb", "#bfdbfe", "#111827", "#ea580c"
VOLTAGE, CURRENT, WARMTH = "#0891b2", "#16a34a", "#dc2626"
STYLE: Any = {
    "font.size": 9.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "ayaz",
    "font.family": "DejaVu Sans",
}
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body{{font:15px system-ui,sans-serif;color:#1f2937;max-width:1000px;margin:24px auto;padding:0 16px}}
svg{{display:block;width:100%;height:auto}}table{{border-collapse:collapse;margin:16px 0}}
td{{padding:4px 16px 4px 0;border-bottom:1px solid #e5e7eb}}td+td{{text-align:right;font-variant-numeric:tabular-nums}}
</style>{picture}<table>{rows}</table></html>
"""


@dataclass(frozen=True)
class Pictured:
    """What the picture shows: [rows] each; `counted` and `truth` are None where there is none.

    counted   soc counted from the initial soc with the file's current, and nothing else
    rows      name and text of each figure: the lines under the title, the table of the page
    """

    title: str
    data: Measured
    soc: FloatArray
    soc_sd: FloatArray
    truth: FloatArray | None
    counted: FloatArray | None
    figures: tuple[tuple[str, str], ...]


def plot_soc(path: Path, shown: Pictured) -> None:
    """Write the picture, whole or not at all.

    Raises
    ------
    DataError
        The file can't be written.
    ModuleNotFoundError
        matplotlib is not installed.
    """
    from matplotlib import rc_context

    with rc_context(STYLE):
        figure = _figure(shown)
        if path.suffix == ".html":
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
            content = _page(shown, text.getvalue()).encode()
        else:
            pixels = io.BytesIO()
            figure.savefig(pixels, format="png", dpi=150, metadata={"Software": "ayaz"})
            content = pixels.getvalue()
    try:
        with whole_file(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None


def _page(shown: Pictured, svg: str) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>" for name, text in shown.figures
    )
    return PAGE.format(title=html.escape(shown.title), picture=svg[svg.index("<svg") :], rows=rows)


def _figure(shown: Pictured) -> Figure:
    from matplotlib.figure import Figure

    panels: list[tuple[float, Callable[[Axes, Pictured, FloatArray], None]]] = [(3.2, _soc)]
    panels += [(1.6, _error)] if shown.truth is not None else []
    panels += [(1.2, _voltage), (1.2, _current)]
    panels += [(0.8, _warmth)] if np.isfinite(shown.data.temp_degc).any() else []
    heights = [height for height, _ in panels]
    figure = Figure(figsize=(11, 1.4 + 1.25 * sum(heights)), facecolor="white")
    top = 1 - 0.95 / float(figure.get_figheight())
    grid = figure.add_gridspec(
        len(panels), 1, height_ratios=heights, hspace=0.16, left=0.075, right=0.975, top=top, bottom=0.06
    )
    since = shown.data.time_s - shown.data.time_s[0]
    unit_s, unit = next(
        u for u in ((3600.0, "h"), (60.0, "min"), (1.0, "s")) if since[-1] >= 2 * u[0] or u[0] == 1
    )
    first: Axes | None = None
    for k, (_, draw) in enumerate(panels):
        axes = figure.add_subplot(grid[k], sharex=first)
        first = first or axes
        draw(axes, shown, since / unit_s)
        axes.margins(x=0)
        axes.tick_params(length=0, labelbottom=k == len(panels) - 1)
        axes.yaxis.set_label_coords(-0.045, 0.5)
    axes.set_xlabel(f"time since the start, {unit}")
    figure.text(0.075, 1 - 0.28 / figure.get_figheight(), shown.title, size=15, weight="bold", color=INK)
    summary = "   ·   ".join(f"{name} {text}" for name, text in shown.figures[:6])
    figure.text(0.075, 1 - 0.55 / figure.get_figheight(), summary, size=9.5, color=MUTED)
    return figure


def _soc(axes: Axes, shown: Pictured, time: FloatArray) -> None:
    half = TWO_SIDED_95 * shown.soc_sd
    at, low, high = _envelope(
        time, 100 * np.clip(shown.soc - half, 0, 1), 100 * np.clip(shown.soc + half, 0, 1)
    )
    axes.fill_between(at, low, high, color=BAND, linewidth=0, label="95 % band")
    if shown.counted is not None:
        axes.plot(*_thin(time, 100 * shown.counted), color=COUNTED, dashes=(4, 2), label="counting alone")
    axes.plot(*_thin(time, 100 * shown.soc), color=OURS, linewidth=1.6, label="estimate")
    if shown.truth is not None:
        axes.plot(*_thin(time, 100 * shown.truth), color=TRUTH, linewidth=1.1, label="measured")
    axes.set_ylabel("state of charge, %")
    axes.set_ylim(-2, 102)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, borderaxespad=0.2, handlelength=1.6)


def _error(axes: Axes, shown: Pictured, time: FloatArray) -> None:
    """The estimate less the truth, in the band in which it should lie; scaled to what remains after the start."""
    assert shown.truth is not None
    error, half = 100 * (shown.soc - shown.truth), TWO_SIDED_95 * 100 * shown.soc_sd
    at, low, high = _envelope(time, -half, half)
    axes.fill_between(at, low, high, color=BAND, linewidth=0)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    drawn = [error]
    if shown.counted is not None:
        drawn.append(100 * (shown.counted - shown.truth))
        axes.plot(*_thin(time, drawn[1]), color=COUNTED, dashes=(4, 2))
    axes.plot(*_thin(time, error), color=OURS, linewidth=1.4)
    since = shown.data.time_s - shown.data.time_s[0]
    settled = since >= min(SETTLED_S, since[-1] / 2)
    reach = max(1.0, *(float(np.nanmax(np.abs(e[settled]), initial=0.0)) for e in (*drawn, half)))
    axes.set_ylim(-1.1 * reach, 1.1 * reach)
    axes.set_ylabel("error, %")


def _voltage(axes: Axes, shown: Pictured, time: FloatArray) -> None:
    axes.plot(*_thin(time, shown.data.voltage_v), color=VOLTAGE, linewidth=0.7)
    axes.set_ylabel("voltage, V")


def _current(axes: Axes, shown: Pictured, time: FloatArray) -> None:
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.plot(*_thin(time, shown.data.current_a), color=CURRENT, linewidth=0.7)
    axes.set_ylabel("current, A")


def _warmth(axes: Axes, shown: Pictured, time: FloatArray) -> None:
    axes.plot(*_thin(time, shown.data.temp_degc), color=WARMTH)
    low, high = axes.get_ylim()
    room = max(0.0, 4 - (high - low)) / 2  # a sensor's last digit is no weather
    axes.set_ylim(low - room, high + room)
    axes.set_ylabel("cell, °C")


def _starts(rows: int) -> Any:
    """The first row of each bin."""
    return np.unique(np.linspace(0, rows, min(rows, BINS), endpoint=False).astype(np.int64))


def _thin(time: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The line; of a long one the least and the most of each bin, in their order."""
    if len(values) <= 2 * BINS:
        return time, values
    edges = [*_starts(len(values)).tolist(), len(values)]
    keep: list[int] = []
    for a, b in itertools.pairwise(edges):
        part = values[a:b]
        if np.isfinite(part).any():
            keep += sorted({a + int(np.nanargmin(part)), a + int(np.nanargmax(part))})
        else:
            keep.append(a)
    return time[keep], values[keep]


def _envelope(
    time: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    starts = _starts(len(time))
    return time[starts], np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
