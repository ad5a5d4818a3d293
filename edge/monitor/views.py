"""Pictures into lines: one function per view, each filling a page. Nothing here reads a clock or a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge.can.decoder import COUNTS, REFUSALS
from edge.monitor.battery_view import battery_view
from edge.monitor.bus import BusPicture, Label
from edge.monitor.faults_view import faults_view
from edge.monitor.feeds import FeedPicture, SourcePicture
from edge.monitor.page import Column, Page, Span, bar
from edge.monitor.search import IntArray, Listing, found, scrolled
from edge.monitor.text import (
    clock_text,
    name_text,
    number,
    seconds,
    short_path,
    signal_text,
    unit_text,
    value_text,
)
from edge.monitor.traffic import EXTENDED_KEY
from edge.signals.validity import GOOD, NAMES, NEVER

VALIDITY_STYLES = {NEVER: "dim", GOOD: ""}  # any other is "warn"
# Of a channel's ledger, what is neither good nor bad: shown where there is any.
OTHERS = (
    "remote_frames",
    "transport",
    "messages_decoded",
    "messages_unknown",
    "messages_refused",
    "sessions_broken",
    "fallback",
)
LATE = 1.5  # a period this many times the map's is worth a look


@dataclass
class BusState:
    """What keys have made of the views of a bus."""

    view: int = 0
    paused: bool = False
    help: bool = False
    heard_only: bool = True
    by_soc: bool = False  # the cell map shows state of charge instead of voltage
    messages: Listing = field(default_factory=lambda: Listing(("id", "name", "rate", "age"), here=0))
    signals: Listing = field(default_factory=lambda: Listing(("order", "name", "age", "validity"), here=0))
    scroll: Listing = field(default_factory=lambda: Listing(("order",)))  # of the views that are no table

    def listing(self) -> Listing:
        """The list of the view that is shown."""
        return {"Messages": self.messages, "Signals": self.signals}.get(VIEWS[self.view][0], self.scroll)


# The frame of every page


def title(page: Page, names: Sequence[str], view: int, left: str, right: Span) -> None:
    """The two lines at the top: what is watched, and which views there are."""
    right = (f" {page.fit(right[0], page.width - 12)} ", right[1])
    left = page.fit(f" Ayaz  {left}", page.width - len(right[0]))
    page.add((left, "head"), " " * (page.width - len(left) - len(right[0])), right)
    spans: list[Span | str] = [" "]
    for n, name in enumerate(names):
        spans += [(f" {n + 1} {name} ", "bar" if n == view else ""), " "]
    page.add(*spans)


def footer(page: Page, keys: Sequence[tuple[str, str]]) -> None:
    """The line at the bottom: which keys there are; those that have no room are left to `?`."""
    spans: list[Span | str] = [" "]
    room = page.width - 1
    for key, what in keys:
        room -= len(key) + len(what) + 3
        if room < 0:
            break
        spans += [(key, "head"), (f" {what}  ", "dim")]
    page.add(*spans)


def bus_page(
    picture: BusPicture, feed: FeedPicture, state: BusState, width: int, height: int, ascii_only: bool
) -> Page:
    """The whole screen of one bus."""
    page = Page(width, height, ascii_only)
    names = [name for name, _ in VIEWS]
    if codes := picture.faults.codes:
        names[-1] += f": {codes}"
    title(page, names, state.view, feed.label, _progress(feed, state.paused))
    page.add()
    body = Page(width, max(height - 4 - bool(feed.trouble), 0), ascii_only)
    if state.help:
        _help(body)
    else:
        VIEWS[state.view][1](body, picture, feed, state)
    body.fill()
    page.lines += body.lines
    if feed.trouble:
        page.add((f" ! {feed.trouble}", "bad"))
    listing = state.listing()
    if listing.editing:
        page.add(
            (" find: ", "head"), listing.query, ("█", "dim"), ("   Enter keeps it, Esc clears it", "dim")
        )
    else:
        footer(page, _keys(feed, state))
    return page


def _progress(feed: FeedPicture, paused: bool) -> Span:
    if feed.live:
        return ("PAUSED, the bus goes on", "warn") if paused else ("▶ live", "good")
    place = clock_text(feed.elapsed_s)
    if feed.finished:
        return f"{place}  end of the log", "note"
    if feed.paused:
        return f"{place}  PAUSED", "warn"
    return f"{place}  ▶ {'to the end' if feed.hurrying else f'{feed.speed:g}×'}", "good"


def _keys(feed: FeedPicture, state: BusState) -> list[tuple[str, str]]:
    keys = [("q", "quit"), ("?", "help"), (f"1-{len(VIEWS)}", "view")]
    name = VIEWS[state.view][0]
    if name in ("Messages", "Signals"):
        keys += [("/", "find"), ("s", "sort")]
    if name == "Signals":
        keys.append(("a", "all" if state.heard_only else "heard only"))
    if name == "Battery":
        keys.append(("v", "voltage" if state.by_soc else "charge"))
    keys.append(("p", "go on" if state.paused or feed.paused else "pause"))
    return keys if feed.live else [*keys, ("+ -", "pace"), ("→", "10 s"), ("e", "end")]


def _help(page: Page) -> None:
    rows = (
        (f"1 to {len(VIEWS)}, Tab", "the views"),
        ("arrows, Page Up, Page Down, Home, End", "scroll"),
        ("/", "find as you type, each word anywhere; Enter keeps it, Esc clears it"),
        ("s", "sort by the next column"),
        ("a", "Signals: also those that were never heard"),
        ("v", "Battery: cells by voltage, or by state of charge"),
        ("p", "pause; a live bus is followed on in the background"),
        ("+ and -", "a log's pace, twice and half"),
        ("→ or >", "ten seconds on in a log"),
        ("e", "to the end of a log, as fast as it can be read"),
        ("q, Ctrl-C", "quit"),
    )
    for keys, what in rows:
        page.add(" ", (page.cell(keys, 38), "head"), what)
    page.add()
    page.add((" It only listens: nothing is ever sent on the bus.", "dim"))


# Overview


def overview(page: Page, picture: BusPicture, feed: FeedPicture, state: BusState) -> None:
    """Each channel: state, rate, load; what became of its frames; complaints."""
    whole = Page(page.width, 10_000, page.ascii_only)
    for n, channel in enumerate(picture.channels):
        source = feed.sources[n] if feed.sources else None
        _channel(whole, channel.name, channel.bitrate, picture, n, source)
    if picture.traffic.others:
        whole.add((f" {picture.traffic.others:,} frames of identifiers beyond what is listed", "warn"))
    if feed.strangers:
        whole.add((f" {feed.strangers:,} frames of channels that nobody named", "warn"))
    scrolled(page, whole, state.scroll)


def _channel(
    page: Page, name: str, bitrate: int, picture: BusPicture, n: int, source: SourcePicture | None
) -> None:
    counts, load = picture.counts[n], float(picture.traffic.load[n])
    frames_s = float(picture.traffic.frames_s[n])
    state = source.state if source else "log"
    style = {"up": "good", "log": "good", "error-active": "good", "unknown": "dim"}.get(state, "bad")
    wide = max(min(page.width - 72, 30), 6)
    page.add(
        " ", (page.cell(name, 10), "head"), " ", (page.cell(state, 13), style),
        page.cell(f"{frames_s:,.{0 if frames_s >= 10 else 1}f} frames/s", 16, right=True),
        f"  load {load * 100:5.1f} % ", (bar(load, wide), "warn" if load > 0.8 else "note"),
        (f" of {bitrate / 1000:g} kbit/s", "dim"),
    )  # fmt: skip
    figures: list[Span | str] = [f"   received {counts['received']:,}   decoded {counts['decoded']:,}"]
    for what in ("unknown", "refused", "error_frames"):
        figures.append((f"   {what.replace('_', ' ')} {counts[what]:,}", "warn" if counts[what] else "dim"))
    page.add(*figures)
    if others := {what: counts[what] for what in OTHERS if counts[what]}:
        page.add(("   " + _listed(others), "dim"))
    extra = {k: v for k in COUNTS if k in REFUSALS and (v := counts[k])}
    extra |= {k: v for k, v in (source.losses if source else {}).items() if v}
    if extra:
        page.add((f"   {_listed(extra)}", "bad"))
    if source and source.controller:
        page.add((f"   controller: {_listed(source.controller)}", "dim"))
    for complaint in source.complaints if source else ():
        page.add((f"   ! {complaint}", "bad"))
    page.add()


def _listed(counts: Mapping[str, int | bool]) -> str:
    return "   ".join(f"{name.replace('_', ' ')} {_count(value)}" for name, value in counts.items())


def _count(value: int | bool) -> str:
    return f"{value:,}" if not isinstance(value, bool) else "yes" if value else "no"


# Messages

MESSAGE_COLUMNS = (
    Column("bus", 9), Column("id", 8, right=True), Column("name", 0), Column("from", 4, right=True, from_width=90),
    Column("count", 10, right=True), Column("rate /s", 8, right=True),
    Column("period ms", 9, right=True), Column("map ms", 6, right=True), Column("age", 7, right=True),
)  # fmt: skip


def messages(page: Page, picture: BusPicture, feed: FeedPicture, state: BusState) -> None:
    """Each identifier that was heard."""
    table, listing = picture.messages, state.messages
    order = _message_order(picture, listing)
    columns = (
        MESSAGE_COLUMNS if page.width >= 84 else tuple(c for c in MESSAGE_COLUMNS if c.title != "map ms")
    )
    first, last = listing.window(len(order), page.left - 3)
    page.head(columns, {"rate": "rate /s"}.get(listing.sorted_by, listing.sorted_by))
    for place, row in enumerate(order[first:last].tolist(), first):
        label = table.labels[int(table.rows["label"][row])]
        cells = _message_cells(picture, row, label)
        here = place == listing.here
        if here:
            cells = [cell if isinstance(cell, str) else cell[0] for cell in cells]
        shown = [c for c, k in zip(cells, MESSAGE_COLUMNS, strict=True) if k in columns]
        page.row(columns, shown, "here" if here else "")
    while page.left > 2:
        page.add()
    page.add((f" {_about_message(picture, order, listing)}", "note"))
    _found_line(page, len(order), len(table.rows), "identifiers", first, last, listing.query)


def _message_order(picture: BusPicture, listing: Listing) -> IntArray:
    table = picture.messages
    labels = table.rows["label"]
    order = found([table.words[n] for n in labels.tolist()], listing.query)
    if listing.sorted_by == "name":
        names = [table.labels[n].name for n in labels[order].tolist()]
        order = order[sorted(range(len(order)), key=lambda n: (names[n] == "", names[n].lower()))]
    elif listing.sorted_by == "rate":
        order = order[np.argsort(-table.rate[order], kind="stable")]
    elif listing.sorted_by == "age":
        order = order[np.argsort(table.rows["last_us"][order], kind="stable")]
    return order


def _message_cells(picture: BusPicture, row: int, label: Label) -> list[Span | str]:
    line = picture.messages.rows[row]
    key = int(line["key"])
    age_s = (picture.now_us - int(line["last_us"])) / 1e6
    period_ms = float(line["period_us"]) / 1000
    late = bool(label.period_ms) and max(period_ms, age_s * 1000) > LATE * label.period_ms + 100
    frame_id = f"{key & 0x1FFFFFFF:08X}" if key & EXTENDED_KEY else f"{key & 0x7FF:03X}"
    return [
        picture.channels[key >> 40].name,
        frame_id,
        label.name or ("unknown", "warn"),
        "" if label.source is None else f"{label.source:02X}",
        f"{int(line['count']):,}",
        f"{float(picture.messages.rate[row]):.1f}",
        number(period_ms, ".0f" if period_ms >= 100 else ".1f"),
        f"{label.period_ms}" if label.period_ms else ("—", "dim"),
        (seconds(age_s), "warn" if late else ""),
    ]


def _about_message(picture: BusPicture, order: IntArray, listing: Listing) -> str:
    """What has no room in the chosen row."""
    if not 0 <= listing.here < len(order):
        return ""
    row = picture.messages.rows[order[listing.here]]
    label = picture.messages.labels[int(row["label"])]
    parts = [
        picture.channels[int(row["key"]) >> 40].name,
        label.name or "unknown: the database has no such message",
    ]
    if label.source is not None:
        name = picture.faults.names.get((int(row["key"]) >> 40, label.source))
        parts.append(f"from source address {label.source} (0x{label.source:02X})")
        parts.append(name_text(name) if name else "")
    return "  ".join(filter(None, parts))


def _found_line(
    page: Page, shown: int, total: int, what: str, first: int, last: int, query: str, more: str = ""
) -> None:
    where = f"{first + 1} to {last} of " if last - first < shown else ""
    of = f' of {total:,} {what} with "{query}"' if query else f" {what}"
    page.add((f" {where}{shown:,}{of}{more}", "dim"))


# Signals

SIGNAL_COLUMNS = (
    Column("signal", 0), Column("value", 14, right=True), Column("unit", 5),
    Column("age", 7, right=True), Column("validity", 13), Column("message", 20, from_width=130),
    Column("path", 0, from_width=100, ending=True),
)  # fmt: skip


def signals(page: Page, picture: BusPicture, feed: FeedPicture, state: BusState) -> None:
    """Each signal; below the list, what the chosen row has no room for."""
    table, listing = picture.signals, state.signals
    order = found(table.words[: len(table.raw)], listing.query)
    heard = order[table.validity[order] != NEVER]
    hidden = len(order) - len(heard)
    order = _signal_order(picture, heard if state.heard_only else order, listing)
    first, last = listing.window(len(order), page.left - 3)
    page.head(SIGNAL_COLUMNS, {"name": "signal"}.get(listing.sorted_by, listing.sorted_by))
    for place, n in enumerate(order[first:last].tolist(), first):
        _signal_row(page, picture, n, place == listing.here)
    while page.left > 2:
        page.add()
    page.add((f" {_about_signal(picture, order, listing)}", "note"))
    more = f", {hidden:,} never heard (a)" if hidden and state.heard_only else ""
    _found_line(page, len(order), len(table.raw), "signals", first, last, listing.query, more)


def _signal_order(picture: BusPicture, order: IntArray, listing: Listing) -> IntArray:
    table = picture.signals
    if listing.sorted_by == "name":
        names = [table.slots[n].signal.lower() for n in order.tolist()]
        return order[sorted(range(len(order)), key=names.__getitem__)]
    if listing.sorted_by == "age":
        return order[np.argsort(table.time_us[order], kind="stable")]
    if listing.sorted_by == "validity":
        return order[np.argsort(table.validity[order] == GOOD, kind="stable")]
    return order


def _signal_row(page: Page, picture: BusPicture, n: int, here: bool) -> None:
    table = picture.signals
    slot, state = table.slots[n], int(table.validity[n])
    style = VALIDITY_STYLES.get(state, "warn")
    value = "" if state == NEVER else value_text(slot, int(table.raw[n]), float(table.value[n]))
    age = "" if state == NEVER else seconds((picture.now_us - int(table.time_us[n])) / 1e6)
    valid: Span = (NAMES[state], "good" if state == GOOD else style)
    cells: list[Span | str] = [
        signal_text(slot), (value, style or "head"), unit_text(slot.unit), age, valid, (slot.message, "dim"), (short_path(table.paths[n]), "dim"),
    ]  # fmt: skip
    if here:  # one colour for the whole row
        cells = [cell if isinstance(cell, str) else cell[0] for cell in cells]
    page.row(SIGNAL_COLUMNS, cells, "here" if here else style)


def _about_signal(picture: BusPicture, order: IntArray, listing: Listing) -> str:
    """What has no room in the chosen row."""
    if not 0 <= listing.here < len(order):
        return ""
    n = int(order[listing.here])
    slot, raw = picture.signals.slots[n], int(picture.signals.raw[n])
    heard = picture.signals.validity[n] != NEVER
    path = picture.signals.paths[n]
    parts = [path, f"{picture.channels[slot.channel].name} {slot.message}"]
    parts += [f"raw {raw}"] if heard and not slot.is_float else []
    return "   ".join(filter(None, parts))


def battery(page: Page, picture: BusPicture, feed: FeedPicture, state: BusState) -> None:
    """The pack and its cells."""
    battery_view(page, picture.battery, state.by_soc, state.scroll)


def faults(page: Page, picture: BusPicture, feed: FeedPicture, state: BusState) -> None:
    """The active trouble codes of each source, with its lamps."""
    faults_view(page, picture, state.scroll)


View = Callable[[Page, BusPicture, FeedPicture, BusState], None]
VIEWS: tuple[tuple[str, View], ...] = (
    ("Overview", overview),
    ("Messages", messages),
    ("Signals", signals),
    ("Battery", battery),
    ("Faults", faults),
)
