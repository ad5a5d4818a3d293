"""A day's picture: a page of its own with SVG plots, nothing else needed."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from edge.errors import ScenarioError
from sim_bus.simulation import Truth

WIDTH, HEIGHT, LEFT = 900, 200, 60
PLOTS = (
    ("State of charge, % (blue: truth, orange: BMS)", (("soc", 100, "#2563eb"), ("bms_soc", 100, "#ea580c"))),
    ("Power, kW", (("power_w", 1e-3, "#16a34a"),)),
    ("Speed, km/h", (("speed_kmh", 1, "#7c3aed"),)),
    ("Battery temperature, °C", (("temp_degc", 1, "#dc2626"),)),
)


def plot_day(path: Path, truths: Sequence[Truth], title: str) -> None:
    """Write the picture.

    Raises
    ------
    ScenarioError
        The file can't be written.
    """
    parts = [
        _plot(
            name,
            [[getattr(t, f) * k for t in truths] for f, k, _ in lines],
            [c for *_, c in lines],
            truths[-1].t_s,
        )
        for name, lines in PLOTS
    ]
    page = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><body style='font-family:sans-serif'><h1>{html.escape(title)}</h1>{''.join(parts)}"
    try:
        path.write_text(page, "utf-8")
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be written: {error.strerror}") from None


def _plot(title: str, series: list[list[float]], colours: list[str], end_s: float) -> str:
    values = [v for line in series for v in line if v == v] or [0.0]
    low, high = min(values), max(values)
    span = max(high - low, 1e-6)
    lines = []
    for line, colour in zip(series, colours, strict=True):
        step = (WIDTH - LEFT) / max(len(line) - 1, 1)
        points = " ".join(
            f"{LEFT + n * step:.1f},{HEIGHT - 20 - (v - low) / span * (HEIGHT - 40):.1f}"
            for n, v in enumerate(line)
            if v == v
        )
        lines.append(f"<polyline fill=none stroke='{colour}' stroke-width=1.5 points='{points}'/>")
    labels = f"<text x=0 y=24>{high:.1f}</text><text x=0 y={HEIGHT - 20}>{low:.1f}</text><text x={WIDTH - 60} y={HEIGHT - 4}>{end_s:.0f} s</text>"
    return f"<h3>{html.escape(title)}</h3><svg width={WIDTH} height={HEIGHT}>{''.join(lines)}{labels}</svg>"
