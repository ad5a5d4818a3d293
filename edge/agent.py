"""The agent on the bus: the loop that joins the rooms.

    sources → frames → Core → items → Spool → Uplink → depot

The loop owns the sources, the core and the spool; the uplink's thread reads the spool on its own
connection. The agent never sends a CAN frame: sources here can only receive. One agent has a loop of its own
(`Agent.run`); many in one process share one (`edge.fleet`).
"""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click
import numpy as np

from edge import __version__, clock
from edge.battery.model import load_cell
from edge.can.frames import FRAME, Frames
from edge.can.sources import Source, open_source
from edge.config import CanConfig, Config, load
from edge.core import TICK_US, Core, Setup
from edge.errors import AyazError, ConfigError, SourceError, SpoolError
from edge.events.limits import Limits
from edge.pack_inputs import find_layout
from edge.recording import Recorder
from edge.signals.catalogue import Catalogue, load_catalogue
from edge.telemetry.batch import Item
from edge.telemetry.spool import Spool
from edge.telemetry.uplink import Uplink

log = logging.getLogger("ayaz")
T = TypeVar("T")

IDLE_S = 0.005
CLOCK_EVERY_S = 10.0
STEP_MS = 20  # a wall clock that moved by more than this is told to the core
MEMORY_EVERY_S = 60.0
REOPEN_EVERY_S = 1.0
STATUS_EVERY_S = 1.0
DRAIN_S = 1.5
MAX_UNSPOOLED = 1000  # items held in memory while the disk refuses: an hour or two of one bus


def make_setup(config: Config) -> Setup:
    """Everything that a core needs, from a configuration.

    Raises
    ------
    ConfigError
        Every mistake of the DBCs, the signal maps and the cell model.
    """
    problems: list[str] = []
    catalogue = _or_problem(
        lambda: load_catalogue([(c.name, _beside(config, c.dbc)) for c in config.can]), problems
    )
    cell = _or_problem(lambda: load_cell(_beside(config, config.battery.cell)), problems)
    if catalogue is not None:
        problems += _misfits(config, catalogue)
    if catalogue is None or cell is None or problems:
        raise ConfigError(problems)
    return Setup(
        operator=config.operator,
        bus=config.bus,
        catalogue=catalogue,
        cell=cell,
        parallel=config.battery.parallel,
        capacity_ah=config.battery.capacity_ah,
        initial_soc=config.battery.initial_soc,
        series=config.battery.series,
        batch_interval_s=config.batch.interval_s,
        limits=Limits(**asdict(config.events)),
    )


def _misfits(config: Config, catalogue: Catalogue) -> list[str]:
    """Where the maps and the configuration's battery do not fit each other."""
    try:
        find_layout(catalogue.signals, config.battery.series)
    except ConfigError as error:
        return [f"{config.path}: {problem}" for problem in error.problems]
    return []


def _or_problem(make: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return make()
    except AyazError as error:
        problems += error.problems
        return None


def _beside(config: Config, name: str) -> str | Path:
    """A name that we ship, or a path relative to the configuration file."""
    return config.path.parent / name if "/" in name or "." in name else name


class Input(Protocol):
    """Where an agent's frames come from: one CAN channel, or all of a bus's. Never blocks."""

    def read(self) -> Frames:
        """What has arrived; times are monotonic microseconds and never run backwards."""

    def losses(self) -> dict[str, int]:
        """Cumulative counts of what was lost before the core, as CHANNEL.NAME."""

    def close(self) -> None:
        """Nothing is read any more; the losses are still asked for."""


class Agent:
    """One bus: `open`, then `turn` again and again, then `finish` and `close`; or `run`, which is all of it.

    Parameters
    ----------
    record: also write frames and the core's other inputs there, for `ayaz replay`.
    setup: what `make_setup` made of a configuration that differs in nothing but the bus's name; many buses
        in a process share it.
    inputs: instead of the configuration's CAN interfaces.

    Raises
    ------
    AyazError
        Something that the agent cannot start without is wrong: configuration, spool.
    """

    def __init__(
        self,
        config: Config,
        record: Path | None = None,
        *,
        setup: Setup | None = None,
        inputs: Sequence[Input] | None = None,
    ) -> None:
        self.config = config
        setup = make_setup(config) if setup is None else replace(setup, bus=config.bus)
        boot = secrets.token_hex(8)
        spool = config.state_dir / "spool.db"
        self.uplink = Uplink(config.mqtt, config.operator, config.bus, boot, __version__, spool)
        config.state_dir.mkdir(parents=True, exist_ok=True)
        self.spool = Spool(spool, int(config.spool.max_mb * 1e6))
        restored = self.spool.get_state()
        self.core = Core(setup, boot, restored)
        self.recorder = Recorder(record, [c.name for c in config.can]) if record else None
        if self.recorder:
            self.recorder.start(boot, restored)
        self.inputs = [_Channel(c, n) for n, c in enumerate(config.can)] if inputs is None else inputs
        self.unspooled: list[Item] = []
        self.dropped_unspooled = 0
        self._disk_refused = False
        self.waiting = 0  # what was still in the spool at the end
        self._next_tick = self._next_clock = self._next_memory = self._next_state = 0.0
        self._wall_offset_ms: int | None = None
        self._loss: dict[str, int] = {}

    def run(self, stop: threading.Event) -> None:
        """Take turns until `stop` is set; returns when everything is on disk."""
        self.open()
        try:
            while not stop.is_set():
                if not self.turn():
                    stop.wait(IDLE_S)
        finally:
            self.finish()
            self.close()

    def open(self) -> None:
        """Begin."""
        self.uplink.start()
        self._next_tick = time.monotonic()
        self._next_state = self._next_tick + self.config.batch.state_interval_s

    @property
    def due_s(self) -> float:
        """Monotonic time of the next tick: until then a turn does no more than read."""
        return self._next_tick

    def turn(self) -> bool:
        """Read, and do what is due: tick, spool, tell; whether anything was read. Does not wait for frames."""
        got = self._read()
        now = time.monotonic()
        if now >= self._next_clock:
            self._next_clock = now + CLOCK_EVERY_S
            self._tell_clock()
        if now >= self._next_tick:
            self._next_tick = max(self._next_tick + TICK_US / 1e6, now)
            self._tick()
        if now >= self._next_state:
            self._next_state = now + self.config.batch.state_interval_s
            self.uplink.publish_state(self._state())
        if now >= self._next_memory:
            self._next_memory = now + MEMORY_EVERY_S
            self._remember()
        return got

    def finish(self, drain_s: float = DRAIN_S) -> None:
        """The last turn: seal and spool what is open; the uplink has `drain_s` for what waits. Does not wait for it."""
        for i in self.inputs:
            i.close()
        self._tell_loss()
        if self.recorder:
            self.recorder.seal()
            self.recorder.close()
        self._keep(self.core.seal())
        self._remember()
        self.uplink.drain(drain_s)

    def close(self) -> None:
        """After `finish`: wait for the uplink's end and give the spool free."""
        self.uplink.join()
        self.waiting = self.spool.count()
        self.spool.close()

    def counts(self) -> dict[str, Any]:
        """What went through, for the demo and for `--json`."""
        return {
            "boot": self.core.boot,
            "sealed": self.core.seq,
            "frames": self.core.counts.total()["received"],
            "published": self.uplink.published,
            "redelivered": self.uplink.redelivered,
            "waiting": self.waiting,
        }

    def _read(self) -> bool:
        parts = [part for i in self.inputs if len(part := i.read())]
        for frames in parts:
            if self.recorder:
                self.recorder.feed(frames)
            self.core.feed(frames)
        return bool(parts)

    def _tick(self) -> None:
        self._tell_loss()
        now_us = clock.monotonic_us()
        if self.recorder:
            self.recorder.tick(now_us)
        self._keep(self.core.tick(now_us))

    def _tell_clock(self) -> None:
        offset, quality = clock.wall_offset_ms(), clock.wall_quality()
        if self._wall_offset_ms is None or abs(offset - self._wall_offset_ms) > STEP_MS:
            self._wall_offset_ms = offset
            if self.recorder:
                self.recorder.clock(offset, quality)
            self.core.set_clock(offset, quality)

    def _tell_loss(self) -> None:
        loss = {name: n for i in self.inputs for name, n in i.losses().items()}
        loss["unspooled"] = self.dropped_unspooled
        if self.recorder:
            loss["unrecorded"] = self.recorder.missed
        if loss != self._loss:
            self._loss = loss
            if self.recorder:
                self.recorder.loss(loss)
            self.core.set_loss(loss)

    def _keep(self, items: Sequence[Item]) -> None:
        """To disk before anything else; in memory, bounded and counted, while the disk refuses."""
        self.unspooled += items
        if not self.unspooled:
            return
        try:
            self.spool.append(self.unspooled)
            self.uplink.look()
            self.unspooled = []
            self._disk_refused = False
        except SpoolError as error:
            if not self._disk_refused:  # said once, not ten times a second
                log.error("%s; what is sealed waits in memory", error)
            self._disk_refused = True
            excess = max(len(self.unspooled) - MAX_UNSPOOLED, 0)
            self.dropped_unspooled += excess
            del self.unspooled[:excess]

    def _state(self) -> dict[str, Any]:
        wall_ms = time.time_ns() // 1_000_000
        about = {"v": 1, "t_ms": wall_ms, "boot": self.core.boot, "clock": clock.wall_quality()}
        return about | {"events": self.core.open_events()} | self.core.snapshot()

    def _remember(self) -> None:
        try:
            self.spool.put_state(self.core.dump())
        except SpoolError as error:
            log.error("%s; the estimator's memory is not saved", error)


class _Channel:
    """One CAN channel that comes back by itself after its interface went away.

    What its source complains of is logged once, and again where it came back.
    """

    def __init__(self, config: CanConfig, number: int) -> None:
        self.config, self.number = config, number
        self.reopened = 0
        self._source: Source | None = None
        self._opened = self._failed = False
        self._next_try = self._next_look = 0.0
        self._complaints: tuple[str, ...] = ()
        self._losses: dict[str, int] = {}

    def read(self) -> Frames:
        """Frames that have arrived; none while the interface is away."""
        try:
            if not self._opened and not self._open():
                return np.zeros(0, FRAME)
            assert self._source is not None
            return self._source.read(0.0)
        except SourceError as error:
            if not self._failed:
                log.error("%s; trying again every second", error)
            self._failed = True
            self.close()
            return np.zeros(0, FRAME)

    def _open(self) -> bool:
        now = time.monotonic()
        if now < self._next_try:
            return False
        self._next_try = now + REOPEN_EVERY_S
        if self._source is None:
            c = self.config
            self._source = open_source(
                c.source,
                self.number,
                c.bitrate,
                data_bitrate=c.data_bitrate,
                filters=c.filters,
                listen_only=c.listen_only,
            )
        self._source.open()
        self._opened = True
        if self._failed:
            self.reopened += 1
            self._failed = False
            log.info("%s is back", self.config.source)
        return True

    def losses(self) -> dict[str, int]:
        """See Input; asked of the source once a second."""
        now = time.monotonic()
        if self._source is not None and now >= self._next_look:
            self._next_look = now + STATUS_EVERY_S
            self._look(self._source)
        losses = self._losses | {"reopened": self.reopened}
        return {f"{self.config.name}.{what}": n for what, n in losses.items()}

    def _look(self, source: Source) -> None:
        status = source.status()
        for complaint in set(status.complaints) - set(self._complaints):
            log.warning("%s", complaint)
        self._complaints = status.complaints
        self._losses = status.losses()

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
            self._look(self._source)
        self._opened = False


@click.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), required=True, help="ayaz.toml")
@click.option(
    "--record", type=click.Path(path_type=Path), help="Also record frames and inputs, for `ayaz replay`."
)
@click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
def run(path: Path, record: Path | None, verbose: bool) -> None:
    """The agent on a bus: decode, estimate, seal, publish, until Ctrl-C or SIGTERM.

    \b
    Example:  ayaz run -c /etc/ayaz/ayaz.toml
    """
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("can").setLevel(logging.WARNING)
    config = load(path)
    try:
        agent = Agent(config, record)
    except OSError as error:
        raise ConfigError(f"{path}: state_dir {config.state_dir}: {error.strerror}") from None
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    log.info("bus %s/%s, boot %s, %d channels", config.operator, config.bus, agent.core.boot, len(config.can))
    agent.run(stop)
    log.info("stopped: %s", ", ".join(f"{k} {v}" for k, v in agent.counts().items()))
