"""`ayaz monitor`: the options, and the loop that joins a feed, a model and the terminal."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import click
from cantools.database import Database

from edge.agent import make_setup
from edge.can.logs import open_log
from edge.command import finite
from edge.config import Config, load
from edge.errors import BrokerError, LogError, SpoolError
from edge.monitor.bus import Bus, BusPicture, ChannelInfo
from edge.monitor.feeds import FeedPicture, LiveFeed, LogFeed
from edge.monitor.fleet import FleetFeed
from edge.monitor.fleet_view import FleetState, fleet_page
from edge.monitor.page import Page
from edge.monitor.snapshot import bus_object, bus_text, fleet_object, fleet_text
from edge.monitor.terminal import Terminal, wants_ascii, wants_colour
from edge.monitor.views import VIEWS, BusState, bus_page
from edge.signals.catalogue import load_database
from edge.telemetry.spool import Spool

DRAW_S = 0.25
IDLE_S = 0.02
ONCE_LIVE_S = 3.0
DEFAULT_BITRATE = 500_000


class Desk(Protocol):
    """What the loop needs of something to watch."""

    def advance(self) -> bool:
        """Take what has arrived; whether more is waiting."""

    def key(self, name: str, rows: int) -> bool:
        """Take a key; whether it changed anything. `rows` is how many lines of a list are visible."""

    def page(self, width: int, height: int, ascii_only: bool) -> Page:
        """The screen now."""


def watch(desk: Desk, terminal: Terminal, ascii_only: bool) -> None:
    """Feed first, then keys, then a picture: four a second, and at once after a key."""
    next_draw = 0.0
    size = (0, 0)
    while not terminal.stopped:
        more = desk.advance()
        keys = terminal.wait(0.0 if more else IDLE_S)
        for key in keys:
            if desk.key(key, max(size[1] - 7, 1)):
                next_draw = 0.0
            elif key in ("q", "Q"):
                return
        now = time.monotonic()
        if terminal.size() != size or "ctrl-l" in keys:
            next_draw = 0.0
        if now >= next_draw and terminal.ready():
            next_draw = now + DRAW_S
            size = terminal.size()
            terminal.draw(desk.page(*size, ascii_only).lines)


def _switched(view: int, views: int, name: str) -> int | None:
    """The view that a key chooses; None where it chooses none."""
    if name.isdigit() and 0 < int(name) <= views:
        return int(name) - 1
    if name in ("tab", "shift-tab"):
        return (view + (1 if name == "tab" else -1)) % views
    return None


def _taken_first(state: BusState | FleetState, name: str, rows: int) -> bool | None:
    """What a search that is being typed, or the help, does with a key; None where neither is there."""
    if state.listing().editing:
        return state.listing().key(name, rows)
    if state.help:
        state.help = False
        return True
    return None


class BusDesk:
    """One bus, from its interfaces or a log."""

    def __init__(self, bus: Bus, feed: LiveFeed | LogFeed) -> None:
        self.state = BusState()
        self._bus, self._feed = bus, feed
        self._kept: tuple[BusPicture, FeedPicture] | None = None  # while paused

    def advance(self) -> bool:
        return self._feed.advance(self._bus)

    def key(self, name: str, rows: int) -> bool:
        state = self.state
        taken = _taken_first(state, name, rows)
        if taken is not None:
            return taken
        view = _switched(state.view, len(VIEWS), name)
        if view is not None:
            state.view = view
            return True
        if name == "?":
            state.help = True
        elif name == "a":
            state.heard_only = not state.heard_only
        elif name == "v":
            state.by_soc = not state.by_soc
        elif not self._feed.key(name):
            if name != "p":
                return state.listing().key(name, rows)
            state.paused = not state.paused
            self._kept = self._now() if state.paused else None
        return True

    def page(self, width: int, height: int, ascii_only: bool) -> Page:
        picture, feed = self._kept or self._now()
        return bus_page(picture, feed, self.state, width, height, ascii_only)

    def _now(self) -> tuple[BusPicture, FeedPicture]:
        return self._bus.picture(), self._feed.picture()


class FleetDesk:
    """The fleet, from a broker."""

    def __init__(self, feed: FleetFeed) -> None:
        self.state = FleetState()
        self._feed = feed
        self._picture = feed.picture()

    def advance(self) -> bool:
        self._feed.advance()
        return False

    def key(self, name: str, rows: int) -> bool:
        state = self.state
        taken = _taken_first(state, name, rows)
        if taken is not None:
            return taken
        view = _switched(state.view, 2, name)
        if name == "esc" and state.view and not state.bus.query:
            view = 0
        if name == "enter":
            view = 1
        if view is not None:
            state.view = view
            state.bus.first = 0
        elif name == "?":
            state.help = True
        elif name == "p":
            state.paused = not state.paused
        else:
            return state.listing().key(name, rows)
        return True

    def page(self, width: int, height: int, ascii_only: bool) -> Page:
        if not self.state.paused:
            self._picture = self._feed.picture()
        return fleet_page(self._picture, self.state, width, height, ascii_only)


# From options to a desk


def _live(config: Config) -> tuple[Bus, LiveFeed]:
    bus = Bus.of_setup(make_setup(config), _channels(config), _agents_memory(config))
    return bus, LiveFeed(config.can, f"{config.operator}/{config.bus}")


def _agents_memory(config: Config) -> bytes | None:
    """What the agent's estimator knew a minute ago at most, where there is an agent and we may look."""
    try:
        spool = Spool(config.state_dir / "spool.db", owner=False)
    except (SpoolError, OSError):
        return None
    try:
        return spool.get_state()
    finally:
        spool.close()


def _channels(config: Config) -> list[ChannelInfo]:
    return [ChannelInfo(c.name, c.bitrate, c.data_bitrate or c.bitrate) for c in config.can]


def _log_of_config(path: Path, config: Config, speed: float, hurry: bool) -> tuple[Bus, LogFeed]:
    bus = Bus.of_setup(make_setup(config), _channels(config))
    log = open_log(path)
    return bus, LogFeed(log, iter(log), [c.name for c in config.can], speed, hurry)


def _log_of_dbc(
    path: Path, dbcs: Sequence[Path], j1939: bool, bitrate: int, speed: float, hurry: bool
) -> tuple[Bus, LogFeed]:
    """The same databases for each channel that the log's beginning has."""
    database = _joined(dbcs, j1939)
    log = open_log(path)
    chunks = iter(log)
    first = next(chunks, None)
    if first is None:
        raise LogError(f"{path}: holds no frames")
    names = list(log.channels)
    bus = Bus.of_databases([ChannelInfo(name, bitrate, bitrate) for name in names], database)
    return bus, LogFeed(log, itertools.chain([first], chunks), names, speed, hurry)


def _joined(dbcs: Sequence[Path], j1939: bool) -> Database:
    database = load_database(dbcs[0])
    for path in dbcs[1:]:
        database.messages.extend(load_database(path).messages)
    for message in database.messages if j1939 else ():
        if message.is_extended_frame:
            message.protocol = "j1939"
    return database


def _once(bus: Bus, feed: LiveFeed | LogFeed, after_s: float | None, as_json: bool) -> None:
    try:
        if isinstance(feed, LogFeed):
            feed.run_to(bus, after_s)
        else:
            end = time.monotonic() + (ONCE_LIVE_S if after_s is None else after_s)
            while time.monotonic() < end:
                if not feed.advance(bus):
                    time.sleep(IDLE_S)
        picture, about = bus.picture(), feed.picture()
    finally:
        feed.close()
    print(json.dumps(bus_object(picture, about)) if as_json else bus_text(picture, about))
    if about.trouble:
        raise LogError(about.trouble)


def _fleet_once(feed: FleetFeed, after_s: float | None, as_json: bool) -> None:
    try:
        end = time.monotonic() + (ONCE_LIVE_S if after_s is None else after_s)
        while time.monotonic() < end:
            feed.advance()
            time.sleep(IDLE_S)
        picture = feed.picture()
        if not feed.connected:
            raise BrokerError(f"broker {picture.broker}: {picture.link}")
    finally:
        feed.close()
    print(json.dumps(fleet_object(picture)) if as_json else fleet_text(picture))


def _check(log: Path | None, path: Path | None, dbcs: Sequence[Path], depot: str | None) -> None:
    """Which of the sources it is must be plain.

    Raises
    ------
    click.UsageError
    """
    if depot and (log or path or dbcs):
        raise click.UsageError("--depot stands alone: it shows a fleet, not a bus")
    if path and dbcs:
        raise click.UsageError("either -c or --dbc: a configuration has its own databases")
    if dbcs and not log:
        raise click.UsageError("--dbc needs a log; for a live bus give its configuration with -c")
    if not (depot or path or dbcs):
        raise click.UsageError(
            "what is to be watched? Give -c ayaz.toml, a LOG with -c or --dbc, or --depot URL"
        )


@click.command()
@click.argument("log", required=False, type=click.Path(path_type=Path))
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), help="ayaz.toml")
@click.option(
    "--dbc",
    "dbcs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="For a LOG without -c; may be given again.",
)
@click.option("--j1939", is_flag=True, help="With --dbc: match 29 bit messages by PGN.")
@click.option(
    "--bitrate",
    type=click.IntRange(10_000, 10_000_000),
    default=DEFAULT_BITRATE,
    show_default=True,
    help="With --dbc: for the bus load.",
)
@click.option("--depot", metavar="URL", help="The fleet, from a broker: mqtt://[USER:PASSWORD@]HOST[:PORT]")
@click.option(
    "--speed",
    type=click.FloatRange(0, 1000, min_open=True),
    default=1.0,
    show_default=True,
    callback=finite,
    help="Pace of a log.",
)
@click.option("--end", is_flag=True, help="Begin at the log's end.")
@click.option("--once", is_flag=True, help="Print one picture and end; needs no terminal.")
@click.option(
    "--after",
    type=click.FloatRange(0, 86_400),
    callback=finite,
    help="With --once: after so many seconds (of a log: its own). Default: the log's end, or 3 s.",
)
@click.option("--json", "as_json", is_flag=True, help="As --once, but one JSON object.")
@click.option("--ascii", "ascii_only", is_flag=True, help="Draw with ASCII only, whatever the locale says.")
def monitor(
    log: Path | None, path: Path | None, dbcs: tuple[Path, ...], j1939: bool, bitrate: int, depot: str | None,
    speed: float, end: bool, once: bool, after: float | None, as_json: bool, ascii_only: bool,
) -> None:  # fmt: skip
    """A technician's live view in the terminal: a bus, a log, or the fleet. It only listens.

    \b
    Example:  ayaz monitor -c /etc/ayaz/ayaz.toml
              ayaz monitor day.log -c ayaz.toml --speed 10
              ayaz monitor drive.blf --dbc j1939.dbc --j1939
              ayaz monitor --depot mqtts://user:password@depot.example
              ayaz monitor day.log -c ayaz.toml --json
    """
    _check(log, path, dbcs, depot)
    once = once or as_json
    ascii_only = ascii_only or wants_ascii(os.environ)
    terminal = Terminal(wants_colour(os.environ))
    if depot:
        fleet = FleetFeed(depot)
        if once:
            _fleet_once(fleet, after, as_json)
            return
        try:
            with terminal:
                watch(FleetDesk(fleet), terminal, ascii_only)
        finally:
            fleet.close()
        return
    feed: LiveFeed | LogFeed
    if path and log:
        bus, feed = _log_of_config(log, load(path), speed, end)
    elif path:
        bus, feed = _live(load(path))
    else:
        assert log is not None
        bus, feed = _log_of_dbc(log, dbcs, j1939, bitrate, speed, end)
    if once:
        _once(bus, feed, after, as_json)
        return
    try:
        with terminal:
            watch(BusDesk(bus, feed), terminal, ascii_only)
    finally:
        feed.close()
