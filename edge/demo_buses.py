"""The demo's buses: what each lives, and the process that hosts many, each with an agent of its own."""

from __future__ import annotations

import gc
import json
import logging
import signal
import threading
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.can.frames import Frames
from edge.core import Setup

if TYPE_CHECKING:
    from sim_bus.run import Run

OPERATOR = "demo"
CHANNELS = ("bms", "inverter", "vehicle")
PARALLEL = 80  # measured cells in parallel: they make a bus's battery
AGENT_DRAIN_S = 10.0
FOLLOW_S = 0.1


@dataclass(frozen=True)
class Day:
    """What a bus of the demo lives, a scenario or a measured cell of `sim_bus/playbacks`, and its `[battery]`."""

    name: str
    battery: str = 'cell = "lfp_280"'
    measured: bool = False

    @property
    def source(self) -> str | Path:
        """As `sim_bus.job.Job` takes it. Our packages are never zipped: they have compiled kernels."""
        if not self.measured:
            return self.name
        return Path(str(resources.files("sim_bus.playbacks"))) / f"{self.name}.csv.gz"


DAYS = (
    Day("winter_day"),
    Day("lg_hg2_mixed1_-10degC", f'cell = "lg_hg2"\nparallel = {PARALLEL}', measured=True),
    Day("spring_day"),
    Day("opportunity_line"),
    Day("summer_day"),
    Day("winter_fuel"),
)


@dataclass(frozen=True)
class Place:
    """Where the demo's parts find each other."""

    folder: Path
    mqtt_port: int
    page_port: int
    page: bool
    password: str
    interval_s: float = 5.0  # of batches
    state_interval_s: float = 1.0

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder / 'depot.db'}"

    def result(self, bus: str) -> dict[str, Any]:
        """What the process that hosted a bus left of it."""
        found: dict[str, Any] = json.loads((self.folder / bus / "result.json").read_text("utf-8"))
        return found

    def truth(self, bus: str) -> Path:
        """A bus's truth, an array (seconds, 2): wall time in ms and state of charge, where each second begins."""
        return self.folder / bus / "truth.npy"


@dataclass(frozen=True)
class Bus:
    """One bus. Those beyond the first of their day are `varied`: another charge, age, load and weather."""

    name: str
    day: Day
    seed: int
    varied: bool

    def run(self) -> Run:
        """What it lives."""
        from sim_bus.fleet import vary
        from sim_bus.job import Job, make_run
        from sim_bus.scenario import load_scenario

        scenario = None
        if self.varied and not self.day.measured:
            scenario = vary(load_scenario(self.day.name), self.seed)
        return make_run(Job(self.day.source, seed=self.seed, parallel=PARALLEL, scenario=scenario))[0]


def fleet_of(count: int, seed: int) -> list[Bus]:
    """So many buses; the days in turn."""
    return [Bus(f"bus-{n + 1:03d}", DAYS[n % len(DAYS)], seed + n, n >= len(DAYS)) for n in range(count)]


def shares(buses: list[Bus], hosts: int) -> list[list[Bus]]:
    """The buses of each process, at most so many: neighbours, so that each has its share of every day."""
    hosts = min(hosts, len(buses))
    return [buses[n * len(buses) // hosts : (n + 1) * len(buses) // hosts] for n in range(hosts)]


def bus_config(place: Place, bus: str, battery: str) -> str:
    """The configuration of one bus, as its technician would write it; but its frames come from within the process."""
    channels = "\n".join(
        f'[[can]]\nname = "{c}"\nsource = "simulated:{bus}"\ndbc = "{c}"\nbitrate = {250000 if c == "vehicle" else 500000}\n'
        for c in CHANNELS
    )
    return f"""operator = "{OPERATOR}"
bus = "{bus}"
state_dir = "state"

{channels}
[battery]
{battery}

[batch]
interval_s = {place.interval_s}
state_interval_s = {place.state_interval_s}

[mqtt]
broker = "mqtt://127.0.0.1:{place.mqtt_port}"
version = 3
user = "{bus}"
password_file = "password"
"""


def followed(stop: Event) -> threading.Event:
    """An event of this process that is set when the conductor's is. Nobody waits on the conductor's own: its `set`
    waits for all who do, for ever where one was killed.
    """
    here = threading.Event()

    def follow() -> None:
        while not stop.is_set():
            time.sleep(FOLLOW_S)
        here.set()

    threading.Thread(target=follow, daemon=True).start()
    return here


class _Hosted:
    """A bus and its agent in this process."""

    def __init__(self, place: Place, bus: Bus, setups: dict[str, Setup]) -> None:
        from edge.agent import Agent, make_setup
        from edge.config import load
        from edge.fleet import Paced

        self.bus, self.place = bus, place
        folder = place.folder / bus.name
        folder.mkdir()
        (folder / "password").write_text(place.password, "utf-8")
        path = folder / "ayaz.toml"
        path.write_text(bus_config(place, bus.name, bus.day.battery), "utf-8")
        config = load(path)
        if bus.day.battery not in setups:
            setups[bus.day.battery] = make_setup(config)
        self.truth = array("d")
        self.paced = Paced(self._seconds(bus.run()))
        self.agent = Agent(config, setup=setups[bus.day.battery], inputs=[self.paced])

    def _seconds(self, run: Run) -> Iterator[Frames]:
        from edge import clock

        soc = run.columns.index("soc")
        for second in run.seconds():
            wall_ms = clock.monotonic_us() / 1000 + clock.wall_offset_ms()
            self.truth.extend((wall_ms, float(second.truth[0, soc])))
            yield second.frames

    def write_result(self, failed: str | None) -> None:
        """For the conductor."""
        np.save(self.place.truth(self.bus.name), np.array(self.truth).reshape(-1, 2))
        result = self.agent.counts() | {
            "day": self.bus.day.name,
            "stood_still_s": self.paced.late_us / 1e6,
            "failed": failed,
        }
        path = self.place.folder / self.bus.name / "result.json"
        path.write_text(json.dumps(result), "utf-8")


def host(place: Place, buses: list[Bus], stop: Event) -> None:
    """A process that hosts buses and their agents until `stop`; leaves a result.json and a truth.npy for each."""
    from edge.fleet import Fleet

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the conductor, which stops us in order
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    setups: dict[str, Setup] = {}
    hosted = [_Hosted(place, bus, setups) for bus in buses]
    gc.collect()
    gc.freeze()  # what is built stays to the end: looking through it again and again would hold all buses up
    fleet = Fleet({h.bus.name: h.agent for h in hosted})
    fleet.run(followed(stop), AGENT_DRAIN_S)
    for one in hosted:
        one.write_result(fleet.failed.get(one.bus.name))
