"""The fleet's views: all buses, and all that one of them says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge.monitor.fleet import FleetBus, FleetPicture
from edge.monitor.page import Column, Page, Span, bar
from edge.monitor.search import Listing, found
from edge.monitor.text import number, seconds, short_path
from edge.monitor.views import footer, title
from edge.pack import BMS_SOC, PACK, PACK_SOC, PACK_SOC_SD

OLD_S = 60.0  # a state is published every 5 to 10 s


@dataclass
class FleetState:
    """What keys have made of the views of a fleet."""

    view: int = 0
    paused: bool = False
    help: bool = False
    fleet: Listing = field(default_factory=lambda: Listing(("bus", "charge", "age"), here=0))
    bus: Listing = field(default_factory=lambda: Listing(("path",)))
    chosen: tuple[str, str] | None = None

    def listing(self) -> Listing:
        """The list of the view that is shown."""
        return self.bus if self.view else self.fleet


FLEET_COLUMNS = (
    Column("bus", 0, ending=True), Column("state", 7), Column("charge", 14, right=True), Column("", 10, from_width=100),
    Column("BMS", 7, right=True, from_width=72), Column("power", 9, right=True),
    Column("battery", 9, right=True), Column("outside", 9, right=True, from_width=90),
    Column("range", 8, right=True, from_width=110), Column("age", 7, right=True),
)  # fmt: skip
BATTERY_TEMP, OUTSIDE = f"{PACK}.Temperature.Average", "Vehicle.Exterior.AirTemperature"
RANGE = f"{PACK}.Range"
NAMES = ("Fleet", "Bus")


def fleet_page(picture: FleetPicture, state: FleetState, width: int, height: int, ascii_only: bool) -> Page:
    """The whole screen of a fleet."""
    page = Page(width, height, ascii_only)
    good = picture.link == "connected"
    link: Span = ("PAUSED", "warn") if state.paused else (picture.link, "good" if good else "bad")
    operator = _only_operator(picture)
    title(page, NAMES, state.view, f"{picture.broker}  {operator}", link)
    page.add()
    body = Page(width, max(height - 4, 0), ascii_only)
    if state.help:
        _help(body)
    else:
        (_bus if state.view else _fleet)(body, picture, state)
    body.fill()
    page.lines += body.lines
    listing = state.listing()
    if listing.editing:
        page.add(
            (" find: ", "head"), listing.query, ("█", "dim"), ("   Enter keeps it, Esc clears it", "dim")
        )
    else:
        footer(
            page,
            [("q", "quit"), ("?", "help"), ("Enter", "the bus"), ("1 2", "view"), ("/", "find"), ("s", "sort"),
             ("p", "go on" if state.paused else "pause")],
        )  # fmt: skip
    return page


def _help(page: Page) -> None:
    for keys, what in (
        ("arrows, Page Up, Page Down", "choose a bus, scroll"),
        ("Enter, 2", "all that the chosen bus says"),
        ("1, Esc", "back to the fleet"),
        ("/", "find as you type"),
        ("s", "sort: by name, by charge, by age"),
        ("p", "pause"),
        ("q, Ctrl-C", "quit"),
    ):
        page.add(" ", (page.cell(keys, 38), "head"), what)


def _fleet(page: Page, picture: FleetPicture, state: FleetState) -> None:
    listing = state.fleet
    buses = [picture.buses[n] for n in found([_words(b) for b in picture.buses], listing.query).tolist()]
    buses = sorted(buses, key=_sort_key(picture, listing.sorted_by))
    first, last = listing.window(len(buses), page.left - 2)
    state.chosen = (buses[listing.here].operator, buses[listing.here].name) if buses else None
    page.head(FLEET_COLUMNS, listing.sorted_by)
    alone = bool(_only_operator(picture))
    for n, bus in enumerate(buses[first:last], first):
        page.row(FLEET_COLUMNS, _cells(bus, picture, alone), "here" if n == listing.here else "")
    while page.left > 1:
        page.add()
    refused: Span = (f"   refused messages: {picture.refused:,}" if picture.refused else "", "warn")
    online = sum(bus.online is True for bus in picture.buses)
    page.add((f" {len(buses):,} of {len(picture.buses):,} buses, {online:,} online", "dim"), refused)


def _only_operator(picture: FleetPicture) -> str:
    """The operator, where all buses have the same: then the list needn't repeat it."""
    operators = {bus.operator for bus in picture.buses}
    return operators.pop() if len(operators) == 1 else ""


def _words(bus: FleetBus) -> str:
    return f"{bus.operator}/{bus.name} {_online(bus)[0]}".lower()


def _sort_key(picture: FleetPicture, by: str) -> Callable[[FleetBus], Any]:
    def charge(bus: FleetBus) -> Any:
        value = bus.value(PACK_SOC)
        return math.isnan(value), value

    def age(bus: FleetBus) -> Any:
        value = bus.age_s(picture.now_s, picture.wall_ms)
        return not math.isnan(value), -value

    return {"charge": charge, "age": age}.get(by, lambda bus: (bus.operator, bus.name))


def _online(bus: FleetBus) -> Span:
    return {True: ("online", "good"), False: ("offline", "bad"), None: ("—", "dim")}[bus.online]


def _cells(bus: FleetBus, picture: FleetPicture, alone: bool) -> list[Span | str]:
    soc, sd = bus.value(PACK_SOC), bus.value(PACK_SOC_SD)
    power_kw = bus.value(f"{PACK}.CurrentVoltage") * bus.value(f"{PACK}.CurrentCurrent") / 1000
    age_s = bus.age_s(picture.now_s, picture.wall_ms)
    band = "" if math.isnan(sd) else f" ± {sd:.1f}"
    return [
        bus.name if alone else f"{bus.operator}/{bus.name}", _online(bus), number(soc, ".1f") + band + ("" if math.isnan(soc) else " %"),
        ("" if math.isnan(soc) else bar(soc / 100, 10), "note"), number(bus.value(BMS_SOC), ".1f", "%"),
        number(power_kw, ".1f", "kW"), number(bus.value(BATTERY_TEMP), ".1f", "°C"),
        number(bus.value(OUTSIDE), ".1f", "°C"), number(bus.value(RANGE) / 1000, ".0f", "km"),
        (seconds(age_s), "warn" if age_s > OLD_S else ""),
    ]  # fmt: skip


BUS_COLUMNS = (Column("path", 0), Column("value", 18, right=True))


def _bus(page: Page, picture: FleetPicture, state: FleetState) -> None:
    bus = next((b for b in picture.buses if (b.operator, b.name) == state.chosen), None)
    if bus is None:
        page.add((" No bus is chosen: press 1.", "dim"))
        return
    age = seconds(bus.age_s(picture.now_s, picture.wall_ms))
    page.add(
        " ",
        (f"{bus.operator}/{bus.name}", "head"),
        "   ",
        _online(bus),
        f"   state {age} old",
        (f"   boot {bus.boot}   version {bus.version}   clock {bus.clock}", "dim"),
    )
    page.add()
    paths = sorted(bus.state)
    chosen = [paths[n] for n in found([p.lower() for p in paths], state.bus.query).tolist()]
    first, last = state.bus.window(len(chosen), page.left - 2)
    page.head(BUS_COLUMNS)
    for path in chosen[first:last]:
        page.row(BUS_COLUMNS, [short_path(path), (f"{bus.state[path]}", "head")])
    while page.left > 1:
        page.add()
    page.add((f" {len(chosen):,} of {len(paths):,} values", "dim"))
