"""The fit's report: one HTML page with the errors per file and, where matplotlib is there, pictures."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np

from edge.battery.fitting.joint import OCV_SOC, R_SOC, TAU_S
from edge.battery.fitting.run import Fitted
from edge.command import whole_file
from edge.errors import DataError

NO_PICTURES = (
    "no pictures in the report: they need matplotlib (pip install 'ayaz[files]'); all else is written"
)
DRAWN_ROWS = 4000
PROCESSES = ("R0", "Rct", *(f"R at {tau:g} s" for tau in TAU_S))


def write_report(path: Path, fitted: Fitted) -> str:
    """Into a folder (report.html and PNG files) or one HTML file. A message where pictures lack, else "".

    Raises
    ------
    DataError
        It cannot be written.
    """
    pictures = _pictures(fitted)
    single = path.suffix.lower() in (".html", ".htm")
    try:
        if single:
            sources = {
                k: "data:image/png;base64," + base64.b64encode(v).decode() for k, v in pictures.items()
            }
            _put(path, _page(fitted, sources).encode())
        else:
            path.mkdir(parents=True, exist_ok=True)
            for name, data in pictures.items():
                _put(path / f"{name}.png", data)
            _put(path / "report.html", _page(fitted, {k: f"{k}.png" for k in pictures}).encode())
    except OSError as error:
        raise DataError(f"{path}: the report cannot be written: {error.strerror}") from None
    return "" if pictures else NO_PICTURES


def _put(path: Path, data: bytes) -> None:
    with whole_file(path) as part:
        part.write_bytes(data)


# Pictures


def _pictures(fitted: Fitted) -> dict[str, bytes]:
    """name -> PNG; none without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return {}

    def png(draw: Any, size: tuple[float, float]) -> bytes:
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure, fitted)
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=90)
        return out.getvalue()

    drawn = {
        "ocv": png(_draw_ocv, (10, 4)),
        "resistance": png(_draw_resistance, (12, 7)),
        "errors": png(_draw_errors, (10, 4)),
    }
    for k, record in enumerate(fitted.records):
        safe = "".join(c if c.isalnum() or c in "+-_" else "_" for c in record.name)
        drawn[f"file_{k:02d}_{safe}"] = png(lambda figure, f, k=k: _draw_file(figure, f, k), (11, 4))
    return drawn


def _colours(count: int) -> list[tuple[float, float, float]]:
    """Cold is blue, warm is red."""
    return [(x, 0.25, 1 - x) for x in np.linspace(0, 1, max(count, 2)).tolist()]


def _measured_nodes(fitted: Fitted) -> list[int]:
    """The nodes of temperature near which something was measured."""
    nodes = fitted.joint.layout.temp_degc
    medians = [float(np.median(r.temp_degc)) for r in fitted.records]
    return sorted({int(np.argmin(np.abs(nodes - m))) for m in medians})


def _draw_ocv(figure: Any, fitted: Fitted) -> None:
    left, right = figure.subplots(1, 2)
    ocv, near = fitted.cell["ocv"], _measured_nodes(fitted)
    middle = ocv["voltage_v"][min(near, key=lambda t: abs(ocv["temp_degc"][t] - 25))]
    for t, colour in zip(near, _colours(len(near)), strict=False):
        label = f"{ocv['temp_degc'][t]:.0f} °C"
        left.plot(OCV_SOC, ocv["voltage_v"][t], color=colour, label=label)
        right.plot(OCV_SOC, 1e3 * (ocv["voltage_v"][t] - middle), color=colour, label=label)
    if "hysteresis_v" in ocv:
        left.fill_between(
            OCV_SOC,
            middle - ocv["hysteresis_v"][0],
            middle + ocv["hysteresis_v"][0],
            alpha=0.3,
            color="grey",
            label="hysteresis",
        )
    left.set(xlabel="SoC", ylabel="V", title="OCV")
    right.set(xlabel="SoC", ylabel="mV", title="OCV less that nearest 25 °C", ylim=(-60, 60))
    left.legend(fontsize=8)


def _draw_resistance(figure: Any, fitted: Fitted) -> None:
    dynamics, near = fitted.cell["dynamics"], _measured_nodes(fitted)
    tables = [dynamics["r0_ohm"], dynamics["rct_ohm"], *dynamics["relaxation_ohm"]]
    parts = figure.subplots(2, 4).ravel()
    for axis, table, name in zip(parts, tables, PROCESSES, strict=False):
        for t, colour in zip(near, _colours(len(near)), strict=False):
            axis.semilogy(
                R_SOC, 1e3 * table[t], ".-", color=colour, label=f"{dynamics['temp_degc'][t]:.0f} °C"
            )
        axis.set(xlabel="SoC", ylabel="mΩ", title=name)
    parts[0].legend(fontsize=7)
    half = int(np.argmin(np.abs(R_SOC - 0.5)))
    for table, name in zip(tables, PROCESSES, strict=True):
        parts[6].semilogy(dynamics["temp_degc"], [1e3 * row[half] for row in table], ".-", label=name)
    parts[6].set(xlabel="°C", ylabel="mΩ", title=f"at SoC {R_SOC[half]:g}")
    parts[6].legend(fontsize=7)
    parts[7].semilogy(dynamics["temp_degc"], dynamics["knee_a"], ".-")
    parts[7].set(xlabel="°C", ylabel="A", title="knee")
    for t in near:
        parts[6].axvline(dynamics["temp_degc"][t], color="lightgrey", zorder=0)


def _draw_errors(figure: Any, fitted: Fitted) -> None:
    axis, rows = figure.subplots(), np.arange(len(fitted.files))
    axis.bar(rows - 0.2, [f.rms_mv for f in fitted.files], 0.4, label="fitted")
    away = [f.left_out_rms_mv or 0.0 for f in fitted.files]
    axis.bar(rows + 0.2, away, 0.4, label="with this file left out")
    axis.set_xticks(rows, [f.name for f in fitted.files], rotation=90, fontsize=7)
    axis.set(ylabel="rms error, mV")
    axis.legend()


def _draw_file(figure: Any, fitted: Fitted, k: int) -> None:
    rows, record = fitted.joint.rows, fitted.records[k]
    part = slice(rows.edges[k], rows.edges[k + 1])
    some = np.arange(0, len(record.soc), max(1, len(record.soc) // DRAWN_ROWS))
    hours, error = np.cumsum(record.dt_s)[some] / 3600, fitted.joint.error_v[part][some]
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(hours, record.voltage_v[some], lw=0.7, label="measured")
    top.plot(hours, record.voltage_v[some] - error, lw=0.7, label="model")
    top.set(ylabel="V", title=f"{record.name}: {fitted.files[k].rms_mv:.1f} mV rms")
    top.legend(fontsize=7)
    bottom.plot(hours, 1e3 * error, lw=0.7)
    bottom.axhline(0, color="grey", lw=0.5)
    bottom.set(xlabel="h", ylabel="error, mV")


# The page

STYLE = """body{font:15px system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse}td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}img{max-width:100%}"""
COLUMNS = (
    ("file", "name", "{}"),
    ("kind", "kind", "{}"),
    ("°C", "temp_degc", "{:.1f}"),
    ("SoC from", "soc_from", "{:.3f}"),
    ("to", "soc_to", "{:.3f}"),
    ("rms, mV", "rms_mv", "{:.1f}"),
    ("slow, mV", "slow_mv", "{:.1f}"),
    ("left out: rms, mV", "left_out_rms_mv", "{:.1f}"),
    ("slow, mV", "left_out_slow_mv", "{:.1f}"),
    ("10 s pulses, %", "pulse_pct", "{:.1f}"),
)


def _page(fitted: Fitted, sources: dict[str, str]) -> str:
    cell = fitted.cell
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(cell["name"])}</title>',
        f"<style>{STYLE}</style><h1>{html.escape(cell['name'])}</h1>",
        f"<p>{html.escape(cell['summary'])}. {cell['chemistry']}, {cell['capacity_ah']:g} Ah.</p>",
        "<h2>Errors</h2><p>Measured less modelled voltage above 10 % SoC; slow: averaged over 150 s; left out: what "
        "a fit to the other files says of this one.</p>",
        _table(
            [c[0] for c in COLUMNS], [[_cell(f, key, form) for _, key, form in COLUMNS] for f in fitted.files]
        ),
        "<h2>What was assumed</h2>",
        _list([*fitted.missing, *fitted.remarks]),
        "<h2>What the filter is told of the model's errors (sd, mV)</h2>",
        _unsure(cell),
    ]
    parts += [f'<p><img alt="{html.escape(name)}" src="{source}"></p>' for name, source in sources.items()]
    if not sources:
        parts.append(f"<p>{html.escape(NO_PICTURES)}</p>")
    return "\n".join(parts) + "\n</html>\n"


def _cell(file: Any, key: str, form: str) -> str:
    value = getattr(file, key)
    return "" if value is None else form.format(value)


def _table(head: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    return "<table>" + line(head, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def _list(items: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(i)}</li>" for i in items) + "</ul>"


def _unsure(cell: dict[str, Any]) -> str:
    unsure = cell["uncertainty"]
    names = ("model_sd_v", "relaxation_sd_v", "sample_sd_v")
    rows = [
        [f"{t:.1f}", *(f"{1e3 * unsure[n][k]:.1f}" for n in names)]
        for k, t in enumerate(cell["dynamics"]["temp_degc"])
    ]
    return _table(["°C", "slow (model_sd_v)", "relaxation", "per sample"], rows)
