"""The depot's page: the fleet at a glance, and a page for each bus. NiceGUI, nothing from outside.

Every number is read from the store; the page refreshes itself once a second (plots every five). What is not good
(stale, not available, error, suspect) is not shown: a retained state does not hold it, a plot has a gap there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from nicegui import ui

from depot.store import Event, Live, Store
from edge.signals.validity import GOOD

PACK = "Vehicle.Powertrain.TractionBattery"
SOC = f"{PACK}.StateOfCharge.Current"
SOC_SD = f"{PACK}.StateOfCharge.StandardDeviation"
BMS_SOC = f"{PACK}.StateOfCharge.Displayed"
BMS_DIFFERENCE, BMS_DIFFERENCE_SD = f"{BMS_SOC}Difference", f"{BMS_SOC}DifferenceStandardDeviation"
BMS_DRIFT, BMS_IS_OFF = f"{BMS_SOC}Drift", f"{PACK}.StateOfCharge.IsDisplayedOff"
IMBALANCE = f"{PACK}.StateOfCharge.Imbalance"
SOH, SOH_SD = f"{PACK}.StateOfHealth", f"{PACK}.StateOfHealthStandardDeviation"
VOLTAGE = f"{PACK}.CurrentVoltage"
CURRENT = f"{PACK}.CurrentCurrent"
WINDOWS_MIN = {"10 min": 10, "1 h": 60, "8 h": 480, "24 h": 1440}
MAX_POINTS = 600
FRESH_S, LATE_S = 15, 120
BAND_95 = 1.96
CELLS_A_ROW = 22
SEVERITIES = {
    "critical": ("#dc2626", "error"),
    "warning": ("#d97706", "warning"),
    "info": ("#2563eb", "info"),
}
OVER = ("#64748b", "check_circle")
EVENTS_SHOWN = 20
STYLE = """
<style>
  body { font-family: Inter, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
  .ayaz-card { border-radius: 14px; min-width: 300px; flex: 1 1 320px; max-width: 520px; transition: transform .1s; }
  .ayaz-card:hover { transform: translateY(-2px); }
  .ayaz-alone .ayaz-card { max-width: none; }
  .ayaz-soc { font-size: 3.6rem; font-weight: 700; line-height: 1; font-variant-numeric: tabular-nums; }
  .ayaz-number { font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums; }
  .ayaz-label { font-size: .75rem; opacity: .65; text-transform: uppercase; letter-spacing: .05em; }
  .ayaz-bar { position: relative; height: 14px; border-radius: 7px; background: rgba(128,128,128,.22); width: 100%; overflow: hidden; }
  .ayaz-bms { position: absolute; top: 0; bottom: 0; width: 3px; margin-left: -1.5px; background: #ea580c; }
  .ayaz-fill, .ayaz-band { position: absolute; top: 0; bottom: 0; }
  .ayaz-band { background: repeating-linear-gradient(45deg, rgba(255,255,255,.55) 0 4px, rgba(0,0,0,.25) 4px 8px); }
</style>
"""


def number(state: dict[str, Any], path: str) -> float | None:
    """A number of a retained state, or None."""
    value = state.get(path)
    return float(value) if isinstance(value, int | float) else None


def text(value: float | None, digits: int, unit: str) -> str:
    """A number as people read it."""
    return "–" if value is None else f"{value:.{digits}f} {unit}".rstrip()


def age_text(seconds: float) -> str:
    """How long ago."""
    for limit, size, unit in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{max(seconds, 0) / size:.0f} {unit} ago"
    return f"{seconds / 86400:.0f} days ago"


def colour(soc: float | None) -> str:
    """What a state of charge means for the day."""
    return "#64748b" if soc is None else "#dc2626" if soc < 15 else "#d97706" if soc < 30 else "#16a34a"


def freshness(bus: Live, now_ms: float) -> tuple[str, str]:
    """Words and colour for whether a bus is heard."""
    if not bus.state_ms:
        return "no state yet", "#64748b"
    age = (now_ms - bus.state_ms) / 1000
    shade = "#16a34a" if bus.online and age < FRESH_S else "#d97706" if age < LATE_S else "#dc2626"
    return f"{'online' if bus.online else 'offline'}, {age_text(age)}", shade


def bar(soc: float | None, sd: float | None, bms: float | None = None) -> str:
    """The state of charge as a bar, its 95 % band hatched over it, and a mark where the BMS sees it."""
    if soc is None:
        return '<div class="ayaz-bar"></div>'
    half = BAND_95 * (sd or 0)
    low, high = max(soc - half, 0), min(soc + half, 100)
    return (
        f'<div class="ayaz-bar"><div class="ayaz-fill" style="left:0;width:{soc:.1f}%;background:{colour(soc)}"></div>'
        f'<div class="ayaz-band" style="left:{low:.1f}%;width:{high - low:.1f}%"></div>'
        + ("" if bms is None else f'<div class="ayaz-bms" style="left:{min(max(bms, 0), 100):.1f}%"></div>')
        + "</div>"
    )


def bms_of_cells(state: dict[str, Any]) -> float | None:
    """What the BMS says of the cells' range, in %: what it shows is a window of that."""
    soc, off = number(state, SOC), number(state, BMS_DIFFERENCE)
    return None if soc is None or off is None else soc + off


def off_text(state: dict[str, Any]) -> str:
    """How far the BMS is off, with the 95 % band of that."""
    off, sd = number(state, BMS_DIFFERENCE), number(state, BMS_DIFFERENCE_SD)
    return "–" if off is None or sd is None else f"{off:+.1f} ± {BAND_95 * sd:.1f} %"


def health_text(state: dict[str, Any]) -> str:
    """The capacity that is left of a new battery's, with its 95 % band; it takes a wide swing between two rests to measure."""
    health, sd = number(state, SOH), number(state, SOH_SD)
    if number(state, SOC) is None:
        return "–"
    return "not yet measured" if health is None or sd is None else f"{health:.1f} ± {BAND_95 * sd:.1f} %"


def opinion(state: dict[str, Any]) -> str:
    """The second opinion of the BMS, as a sentence."""
    shown, said, off = number(state, BMS_SOC), bms_of_cells(state), number(state, BMS_DIFFERENCE)
    if shown is None or said is None or off is None:
        return ""
    worth = (
        "which is significant" if state.get(BMS_IS_OFF) is True else "which is within what can be explained"
    )
    drift = number(state, BMS_DRIFT)
    grows = "" if drift is None else f"; it changes by {drift:+.1f} % an hour"
    return (
        f"The BMS shows {shown:.1f} %, which stands for {said:.1f} % of the cells' range: it is off by "
        f"{off_text(state)}, {worth}{grows}."
    )


def power_kw(state: dict[str, Any]) -> float | None:
    """Battery power, positive on discharge."""
    volts, amps = number(state, VOLTAGE), number(state, CURRENT)
    return None if volts is None or amps is None else volts * amps / 1000


FACTS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("Power", lambda s: text(power_kw(s), 0, "kW")),
    ("Battery", lambda s: text(number(s, f"{PACK}.Temperature.Average"), 0, "°C")),
    ("Outside", lambda s: text(number(s, "Vehicle.Exterior.AirTemperature"), 0, "°C")),
    ("Speed", lambda s: text(number(s, "Vehicle.Speed"), 0, "km/h")),
    ("BMS shows", lambda s: text(number(s, BMS_SOC), 0, "%")),
    ("BMS is off by", off_text),
    ("Cells differ by", lambda s: text(number(s, IMBALANCE), 1, "%")),
    ("Lowest cell", lambda s: text(number(s, f"{PACK}.CellVoltage.Min"), 3, "V")),
    ("Health", health_text),
)


def header(title: str) -> None:
    """The top of every page, with the choice of light and dark."""
    ui.add_head_html(STYLE)
    dark = ui.dark_mode(None)
    with ui.header().classes("items-center justify-between bg-slate-800 text-white q-px-md"):
        with ui.row().classes("items-center gap-3"):
            ui.link("❄ Ayaz", "/").classes("text-xl font-bold text-white no-underline")
            ui.label(title).classes("text-base opacity-80")
        with ui.row().classes("items-center gap-1"):
            ui.button(icon="light_mode", on_click=dark.disable).props(
                "flat round dense color=white aria-label=light"
            )
            ui.button(icon="dark_mode", on_click=dark.enable).props(
                "flat round dense color=white aria-label=dark"
            )


class _Card:
    """One bus in the fleet."""

    def __init__(self, bus: Live) -> None:
        card = ui.card().classes("ayaz-card cursor-pointer q-pa-md").props(f'data-bus="{bus.bus}"')
        card.on("click", lambda: ui.navigate.to(f"/bus/{bus.operator}/{bus.bus}"))
        with card:
            with ui.row().classes("w-full items-center justify-between no-wrap"):
                ui.label(bus.bus).classes("text-lg font-semibold")
                self.heard = ui.label().classes("text-sm")
            with ui.row().classes("items-baseline gap-2"):
                self.soc = ui.label().classes("ayaz-soc")
                self.band = ui.label().classes("text-lg opacity-70")
            self.events = ui.row().classes("gap-2")
            self.bar = ui.html("", sanitize=False).classes("w-full")
            with ui.grid(columns=3).classes("w-full gap-x-4 gap-y-1 q-mt-sm"):
                self.facts = []
                for name, _ in FACTS:
                    with ui.column().classes("gap-0"):
                        ui.label(name).classes("ayaz-label")
                        self.facts.append(ui.label().classes("ayaz-number"))
        self._events: dict[str, int] = {}
        self.show(bus, {})

    def show(self, bus: Live, open_events: dict[str, int]) -> None:
        soc, sd = number(bus.state, SOC), number(bus.state, SOC_SD)
        words, shade = freshness(bus, time.time() * 1000)
        self.heard.set_text(f"● {words}")
        self.heard.style(f"color:{shade}")
        self.soc.set_text(text(soc, 1, "%"))
        self.soc.style(f"color:{colour(soc)}")
        self.band.set_text("" if sd is None else f"± {BAND_95 * sd:.1f}")
        self.bar.set_content(bar(soc, sd, bms_of_cells(bus.state)))
        off = bus.state.get(BMS_IS_OFF) is True
        for label, (_, show) in zip(self.facts, FACTS, strict=True):
            label.set_text(show(bus.state))
            label.style(f"color:{SEVERITIES['warning'][0] if off and show is off_text else 'inherit'}")
        if open_events != self._events:
            self._events = open_events
            self.events.clear()
            with self.events:
                for severity, (shade, icon) in SEVERITIES.items():
                    if n := open_events.get(severity):
                        ui.chip(f"{n} {severity}", icon=icon, color=shade, text_color="white").props("dense")


def fleet_page(store: Store) -> None:
    """The fleet at a glance."""
    header("Fleet")
    summary = ui.label().classes("text-base opacity-70 q-ma-sm")
    area = ui.row().classes("w-full gap-4 items-stretch")
    cards: dict[tuple[str, str], _Card] = {}

    def refresh() -> None:
        fleet = store.fleet()
        online = sum(bus.online for bus in fleet)
        summary.set_text(f"{len(fleet)} buses, {online} online" if fleet else "Waiting for the first bus …")
        open_events = store.open_events()
        for bus in fleet:
            key = (bus.operator, bus.bus)
            if key not in cards:
                with area:
                    cards[key] = _Card(bus)
            cards[key].show(bus, open_events.get(key, {}))

    refresh()
    ui.timer(1.0, refresh)


def held(at: Any, times: Any, values: Any) -> Any:
    """The values at other times: each holds until the next (samples are sent on change)."""
    return values[np.clip(np.searchsorted(times, at, side="right") - 1, 0, None)]


def broken(times: Any, values: Any, worth_times: Any, worth: Any, held_to_ms: int) -> tuple[Any, Any]:
    """Samples with a gap (NaN) from wherever the signal is not good; a last good one holds until `held_to_ms`."""
    bad = worth_times[worth != GOOD]
    times, values = np.append(times, bad), np.append(values, np.full(len(bad), np.nan))
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    if len(times) and times[-1] < held_to_ms and not np.isnan(values[-1]):
        times, values = np.append(times, held_to_ms), np.append(values, values[-1])
    return times, values


def thinned(times: Any, values: Any) -> list[list[float | None]]:
    """Points for a plot, at most MAX_POINTS of them and all gaps."""
    step = max(len(times) // MAX_POINTS, 1)
    kept = (np.arange(len(times)) % step == 0) | np.isnan(values)
    return [
        [int(t), None if np.isnan(v) else round(float(v), 3)]
        for t, v in zip(times[kept], values[kept], strict=True)
    ]


def chart(title: str, unit: str, series: list[dict[str, Any]], legend: bool = True) -> dict[str, Any]:
    """Options of a time plot."""
    return {
        "animation": False,
        "title": {"text": title, "left": 8, "top": 4, "textStyle": {"fontSize": 14, "color": "#94a3b8"}},
        "legend": {
            "show": legend,
            "bottom": 4,
            "itemWidth": 16,
            "itemGap": 8,
            "textStyle": {"color": "#94a3b8"},
        },
        "tooltip": {"trigger": "axis"},
        "grid": {"left": 56, "right": 20, "top": 52, "bottom": 58 if legend else 32},
        "xAxis": {"type": "time", "axisLabel": {"color": "#94a3b8", "hideOverlap": True}},
        "yAxis": {
            "type": "value",
            "scale": True,
            "name": unit,
            "axisLabel": {"color": "#94a3b8"},
            "nameTextStyle": {"color": "#94a3b8"},
            "splitLine": {"lineStyle": {"color": "rgba(148,163,184,.2)"}},
        },
        "series": series,
    }


def line(name: str, points: list[list[float | None]], shade: str, **more: Any) -> dict[str, Any]:
    """One line of a plot."""
    style = {"color": shade, "width": 2, **more.pop("lineStyle", {})}
    return {
        "name": name,
        "type": "line",
        "showSymbol": False,
        "data": points,
        "itemStyle": {"color": shade},
        "lineStyle": style,
        **more,
    }


class _BusPlots:
    """The plots of one bus, filled from the store."""

    def __init__(self, store: Store, operator: str, bus: str) -> None:
        self.store, self.operator, self.bus = store, operator, bus
        self.minutes = 10
        self.window_ms = (0, 0)
        self.held_to_ms = 0  # the bus's newest estimate: until then a last sample holds
        with (
            ui.grid()
            .classes("w-full gap-4")
            .style("grid-template-columns: repeat(auto-fit, minmax(min(100%, max(46%, 420px)), 1fr))")
        ):
            self.soc, self.power, self.temps = (self._plot() for _ in range(3))
            self.cells = self._plot(height=360)

    def _plot(self, height: int = 300) -> Any:
        with ui.card().classes("w-full q-pa-sm").style("border-radius:14px"):
            return ui.echart({"series": []}).style(f"height:{height}px").classes("w-full")

    def refresh(self) -> None:
        now_ms = int(time.time() * 1000)
        self.window_ms = (now_ms - self.minutes * 60_000, now_ms + 60_000)
        t, _ = self._samples(SOC)
        self.held_to_ms = int(t[-1]) if len(t) else 0
        self._show(self.soc, self._soc())
        self._show(self.power, self._power())
        self._show(self.temps, self._temps())
        self._show(self.cells, self._cells())

    def _show(self, plot: Any, options: dict[str, Any]) -> None:
        plot.options.clear()
        plot.options.update(options)
        plot.update()

    def _samples(self, path: str) -> tuple[Any, Any]:
        return self.store.series(self.operator, self.bus, path, *self.window_ms)

    def _series(self, path: str) -> tuple[Any, Any]:
        """Samples of the window shown, with gaps where the signal was not good."""
        worth = self.store.worth(self.operator, self.bus, path, *self.window_ms)
        return broken(*self._samples(path), *worth, self.held_to_ms)

    def _soc(self) -> dict[str, Any]:
        t, soc = self._series(SOC)
        t_sd, sd = self._series(SOC_SD)
        t_off, off = self._samples(BMS_DIFFERENCE)
        half = BAND_95 * held(t, t_sd, sd) if len(t_sd) else np.zeros(len(t))
        hidden = {"opacity": 0}
        low, high = np.clip(soc - half, 0, 100), np.clip(soc + half, 0, 100)
        band = {"stack": "band", "silent": True, "lineStyle": hidden, "tooltip": {"show": False}}
        options = chart("State of charge", "%", [
            line("low", thinned(t, low), "#2563eb", **band),
            line("95 % band", thinned(t, high - low), "#2563eb", areaStyle={"color": "rgba(37,99,235,.22)"}, **band),
            line("Ayaz", thinned(t, soc), "#2563eb"),
            line("BMS shows", thinned(*self._series(BMS_SOC)), "#94a3b8", lineStyle={"type": "dotted"}, step="end"),
            line("BMS, cells", thinned(t_off, held(t_off, t, soc) + off if len(t) else off), "#ea580c", lineStyle={"type": "dashed"}),
        ])  # fmt: skip
        options["legend"]["data"] = ["Ayaz", "95 % band", "BMS, cells", "BMS shows"]
        return options

    def _power(self) -> dict[str, Any]:
        t, amps = self._series(CURRENT)
        t_v, volts = self._series(VOLTAGE)
        kw = amps * held(t, t_v, volts) / 1000 if len(t_v) else np.zeros(len(t))
        return chart(
            "Battery power (positive: discharging)",
            "kW",
            [line("power", thinned(t, kw), "#16a34a", step="end")],
            legend=False,
        )

    def _temps(self) -> dict[str, Any]:
        names = {
            "warmest cell": ("Max", "#dc2626"),
            "mean": ("Average", "#d97706"),
            "coldest cell": ("Min", "#2563eb"),
        }
        lines = [
            line(n, thinned(*self._series(f"{PACK}.Temperature.{leaf}")), shade, step="end")
            for n, (leaf, shade) in names.items()
        ]
        return chart("Temperatures", "°C", lines)

    def _cells(self) -> dict[str, Any]:
        newest = self.store.newest(self.operator, self.bus, f"{PACK}.String%.Cell%.Voltage")
        volts = [newest[path] for path in sorted(newest)]
        good = {n: v * 1000 for n, v in enumerate(volts) if not np.isnan(v)}  # the others stay empty
        points = [[n % CELLS_A_ROW, n // CELLS_A_ROW, round(v)] for n, v in good.items()]
        low, high = (min(good.values()), max(good.values())) if good else (0, 1)
        rows = -(-len(volts) // CELLS_A_ROW)
        per_string = max(rows // 2, 1)
        names = [f"S{n // per_string + 1}  {n % per_string * CELLS_A_ROW + 1}" for n in range(rows)]
        options = chart("Cell voltages", "", [], legend=False)
        options |= {
            "tooltip": {"position": "top"},
            "grid": {"left": 56, "right": 84, "top": 40, "bottom": 28},
            "xAxis": {"type": "category", "data": [str(n + 1) for n in range(CELLS_A_ROW)], "axisLabel": {"color": "#94a3b8"}},
            "yAxis": {"type": "category", "data": names, "inverse": True, "axisLabel": {"color": "#94a3b8"}},
            "visualMap": {"min": round(low), "max": max(round(high), round(low) + 1), "calculable": False, "orient": "vertical", "right": 4, "top": "middle", "text": [f"{high:.0f} mV", f"{low:.0f} mV"], "textStyle": {"color": "#94a3b8"}, "inRange": {"color": ["#312e81", "#2563eb", "#22d3ee", "#a3e635", "#facc15"]}},
            "series": [{"name": "mV", "type": "heatmap", "data": points, "itemStyle": {"borderWidth": 1, "borderColor": "rgba(255,255,255,.15)"}}],
        }  # fmt: skip
        return options


class _Events:
    """The events of one bus: those that are open, then the newest of those that are over."""

    def __init__(self, store: Store, operator: str, bus: str) -> None:
        self._store, self._operator, self._bus = store, operator, bus
        self._shown: list[Event] | None = None
        with ui.card().classes("w-full q-pa-md").style("border-radius:14px").props('data-events="1"'):
            ui.label("Events").classes("text-base font-semibold")
            self._list = ui.column().classes("w-full gap-1")

    def refresh(self, minutes: int) -> None:
        now_ms = int(time.time() * 1000)
        events = self._store.events(self._operator, self._bus, now_ms - minutes * 60_000, now_ms + 60_000)
        rank = {severity: n for n, severity in enumerate(SEVERITIES)}
        events = sorted(events, key=lambda e: rank.get(e.severity, 0) if e.is_open else len(rank))[
            :EVENTS_SHOWN
        ]
        if events == self._shown:
            return
        self._shown = events
        self._list.clear()
        with self._list:
            if not events:
                ui.label("None.").classes("opacity-70")
            for event in events:
                self._line(event)

    @staticmethod
    def _line(event: Event) -> None:
        shade, icon = SEVERITIES.get(event.severity, OVER) if event.is_open else OVER
        about = event.thing.removeprefix(f"{PACK}.")
        since = time.strftime("%H:%M:%S", time.localtime(event.since_ms / 1000))
        evidence = (event.closed or event.opened)["evidence"]
        numbers = ", ".join(f"{name} {value}" for name, value in evidence.items() if value is not None)
        with ui.row().classes("items-center gap-3 w-full no-wrap").tooltip(numbers):
            ui.icon(icon).style(f"color:{shade}").classes("text-xl")
            with ui.column().classes("gap-0"):
                ui.label(event.text).classes("" if event.is_open else "opacity-70")
                ended = "" if event.is_open else ", over"
                ui.label(f"{event.severity}, {about}, since {since}{ended}").classes("text-xs opacity-70")


def bus_page(store: Store, operator: str, bus: str) -> None:
    """One bus: its card, its plots."""
    header(f"{operator} / {bus}")
    known = {(b.operator, b.bus): b for b in store.fleet()}
    if (operator, bus) not in known:
        ui.label(f"No bus {operator}/{bus} has ever been heard.").classes("text-lg q-ma-md")
        return
    with ui.row().classes("w-full items-stretch gap-4 ayaz-alone"):
        card = _Card(known[operator, bus])
    events = _Events(store, operator, bus)
    second = ui.label().classes("text-base opacity-80").props('data-opinion="1"')
    with ui.row().classes("items-center gap-2"):
        ui.label("Show the last").classes("opacity-70")
        window = ui.toggle(list(WINDOWS_MIN), value="10 min").props("dense no-caps")
    plots = _BusPlots(store, operator, bus)

    def choose() -> None:
        plots.minutes = WINDOWS_MIN[str(window.value)]
        plots.refresh()

    def refresh_card() -> None:
        now = {(b.operator, b.bus): b for b in store.fleet()}[operator, bus]
        card.show(now, store.open_events().get((operator, bus), {}))
        second.set_text(opinion(now.state))
        events.refresh(plots.minutes)

    window.on_value_change(choose)
    refresh_card()
    plots.refresh()
    ui.timer(1.0, refresh_card)
    ui.timer(5.0, plots.refresh)


def add_pages(store: Store) -> None:
    """Register the pages over a store."""

    @ui.page("/", title="Ayaz: fleet")
    def fleet() -> None:
        fleet_page(store)

    @ui.page("/bus/{operator}/{bus}", title="Ayaz: bus")
    def one(operator: str, bus: str) -> None:
        bus_page(store, operator, bus)
