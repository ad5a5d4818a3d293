"""The battery: what the core knows of the pack, and a map of every cell."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edge.monitor.bus import BatteryPicture
from edge.monitor.page import LEVELS, Page, Span, bar
from edge.monitor.search import Listing, scrolled
from edge.monitor.text import number

LEAST_SPAN_V, LEAST_SPAN_SOC = 0.020, 0.02  # of a cell map's scale, so that noise looks like noise


def battery_view(page: Page, pack: BatteryPicture | None, by_soc: bool, listing: Listing) -> None:
    """The pack's estimate beside the BMS's, its extremes, and a map of every cell."""
    if pack is None:
        page.add((" No battery here: the signal map of a configuration (-c) names its cells.", "dim"))
        return
    whole = Page(page.width, 10_000, page.ascii_only)
    _pack(whole, pack)
    _extremes(whole, pack)
    if not len(pack.cell_v):
        scrolled(page, whole, listing)
        return
    whole.add()
    values, least, name, unit, scale = (
        (pack.cell_soc, LEAST_SPAN_SOC, "state of charge", "%", 100.0)
        if by_soc
        else (pack.cell_v, LEAST_SPAN_V, "voltage", "V", 1.0)
    )
    low, high = span(values, least)
    digits = ".1f" if by_soc else ".3f"
    whole.add(
        (f" cells by {name}   ", "head"),
        f"{LEVELS[0]} {number(low * scale, digits, unit)}   {LEVELS[-1]} {number(high * scale, digits, unit)}",
        ("   · not heard or stale", "dim"),
    )
    cell_map(whole, pack, values, low, high)
    scrolled(page, whole, listing)


def _pack(page: Page, pack: BatteryPicture) -> None:
    wide = max(min(page.width - 46, 40), 10)
    soc = number(pack.soc * 100, "5.1f")
    band = f" ± {pack.soc_sd * 100:.1f} %" if math.isfinite(pack.soc_sd) else " %"
    filled = bar(pack.soc if math.isfinite(pack.soc) else 0.0, wide)
    page.add(" ", ("state of charge  ", "head"), (page.cell(f"{soc}{band}", 18), "good"), (filled, "good"))
    shown = pack.bms_soc_pct
    filled = bar(shown / 100 if math.isfinite(shown) else 0.0, wide)
    page.add(" ", ("BMS shows        ", "dim"), page.cell(number(shown, "5.1f", "%"), 18), (filled, "dim"))
    power = pack.voltage_v * pack.current_a / 1000
    flow = (
        ""
        if not math.isfinite(power)
        else "discharging"
        if power > 0.05
        else "charging"
        if power < -0.05
        else "idle"
    )
    page.add(
        " ", ("pack             ", "dim"),
        f"{number(pack.voltage_v, '.1f', 'V')}   {number(pack.current_a, '.1f', 'A')}   ",
        f"{number(power, '.1f', 'kW')}   ", (flow, "dim"),
    )  # fmt: skip
    if len(pack.string_soc) > 1:
        names = np.unique(pack.string).tolist() or range(1, len(pack.string_soc) + 1)
        parts = [
            f"{s}: {number(v * 100, '.1f', '%')}"
            for s, v in zip(names, pack.string_soc.tolist(), strict=True)
        ]
        page.add(" ", ("strings          ", "dim"), "   ".join(parts))


def _extremes(page: Page, pack: BatteryPicture) -> None:
    def place(n: int) -> str:
        return f"string {int(pack.string[n])} cell {int(pack.index[n])}"

    def sensor(n: int) -> str:
        return f"string {int(pack.temp_string[n])} sensor {int(pack.temp_index[n])}"

    low_v, high_v = extremes(pack.cell_v)
    low_t, high_t = extremes(pack.temp_degc)
    for name, style, cell, temp in (("lowest", "low", low_v, low_t), ("highest", "high", high_v, high_t)):
        spans: list[Span | str] = [" ", (f"{name:<17}", "dim")]
        if cell is not None:
            spans += [(f"{pack.cell_v[cell]:.3f} V", style), page.cell(f"  {place(cell)}", 24)]
        if temp is not None:
            spans += [(f"{pack.temp_degc[temp]:6.1f} °C", style), f"  {sensor(temp)}"]
        page.add(*spans)
    spread, mean = "", ""
    if low_v is not None and high_v is not None:
        spread = f"{(pack.cell_v[high_v] - pack.cell_v[low_v]) * 1000:.0f} mV"
    if low_t is not None:
        mean = f"{np.nanmean(pack.temp_degc):6.1f} °C"
    page.add(" ", (f"{'spread, mean':<17}", "dim"), page.cell(spread, 31), mean)
    if pack.weakest is not None:
        charge = number(float(pack.cell_soc[pack.weakest]) * 100, ".1f", "%")
        page.add(" ", (f"{'empty first':<17}", "dim"), f"{charge}   {place(pack.weakest)}")


def extremes(values: npt.NDArray[np.float64]) -> tuple[int | None, int | None]:
    """Where the lowest and the highest value are; None where none is known."""
    if not np.isfinite(values).any():
        return None, None
    return int(np.nanargmin(values)), int(np.nanargmax(values))


def span(values: npt.NDArray[np.float64], least: float) -> tuple[float, float]:
    """The scale of a map: from the lowest to the highest value, at least so wide; NaN where there is none."""
    if not np.isfinite(values).any():
        return math.nan, math.nan
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    grow = max(least - (high - low), 0.0) / 2
    return low - grow, high + grow


def cell_map(
    page: Page, pack: BatteryPicture, values: npt.NDArray[np.float64], low: float, high: float
) -> None:
    """One sign per cell, a string after the other; the lowest and highest cell stand out."""
    known = np.isfinite(values)
    lowest, highest = extremes(values)
    styles = {lowest: "low", highest: "high"}
    level = np.zeros(len(values), dtype=np.int64)
    level[known] = np.round((values[known] - low) / (high - low) * (len(LEVELS) - 1)).astype(np.int64)
    per_line = max((page.width - 12) // 11 * 10, 10)
    for string in np.unique(pack.string).tolist():
        mine = np.flatnonzero(pack.string == string)
        for begin in range(0, len(mine), per_line):
            part = mine[begin : begin + per_line].tolist()
            name = f"string {string}" if not begin else ""
            spans: list[Span | str] = [f" {page.cell(name, 9)}", (f"{int(pack.index[part[0]]):>4} ", "dim")]
            for place, n in enumerate(part):
                gap = " " if place and place % 10 == 0 else ""
                sign = LEVELS[level[n]] if known[n] else "·"
                spans += [gap, (sign, styles.get(n, "" if known[n] else "dim"))]
            page.add(*_joined(spans))


def _joined(spans: Sequence[Span | str]) -> list[Span]:
    """Neighbours of one style as one span: fewer escapes on a slow line."""
    out: list[Span] = []
    for span_ in spans:
        text, style = (span_, "") if isinstance(span_, str) else span_
        if not text:
            continue
        if out and out[-1][1] == style:
            out[-1] = (out[-1][0] + text, style)
        else:
            out.append((text, style))
    return out
