"""Many buses into files, each with its seed and its own values, over all cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import ScenarioError
from sim_bus.job import Job, live, load
from sim_bus.scenario.model import Scenario
from sim_bus.streams import Streams

BUS = "{bus}"
POLL_S = 0.2
# what is drawn: one standard deviation around the scenario's own value, and the bounds
SOC = (0.08, 0.10, 0.98)
AMBIENT_DEGC = 2.0  # the whole table is moved: another part of the town
PASSENGERS = (0.3, 0.0, 90.0)  # of the scenario's own number
TRAFFIC = (0.1, 0.0, 1.0)
AGE_YEARS = (0.0, 8.0)  # even between them
EMPTY_KG = (0.02, 8_000.0, 20_000.0)  # of the scenario's own
SOC_ERROR = (0.03, -0.2, 0.2)
CURRENT_BIAS_A = (0.6, -5.0, 5.0)
CURRENT_GAIN = (0.003, 0.9, 1.1)
ODOMETER_KM_A_YEAR = 62_000.0

_stop: Event | None = None  # of a worker process


def vary(scenario: Scenario, seed: int) -> Scenario:
    """The same day of another bus: charge, age (and with it the odometer), weight, passengers, traffic, weather and the errors
    of its BMS are drawn; the route, the timetable and the faults stay. Each value has a stream of its own.
    """
    streams = Streams(seed)

    def around(name: str, mean: float, bounds: tuple[float, float, float], share: bool = False) -> float:
        sd, low, high = bounds
        drawn = mean + streams(f"fleet.{name}").normal() * sd * (mean if share else 1.0)
        return float(np.clip(drawn, low, high))

    age = float(streams("fleet.age").uniform(*AGE_YEARS))
    warmer = float(streams("fleet.ambient").normal() * AMBIENT_DEGC)
    battery, bms = scenario.battery, scenario.bms
    return replace(
        scenario,
        weather=replace(
            scenario.weather,
            ambient_degc=tuple((hour, degc + warmer) for hour, degc in scenario.weather.ambient_degc),
        ),
        battery=replace(
            battery,
            soc=around("soc", battery.soc, SOC),
            temp_degc=battery.temp_degc + warmer,
            age_years=age,
        ),
        bus=replace(
            scenario.bus,
            empty_kg=around("empty_kg", scenario.bus.empty_kg, EMPTY_KG, share=True),
            odometer_km=round(age * ODOMETER_KM_A_YEAR, 1),
        ),
        route=replace(
            scenario.route,
            passengers=around("passengers", scenario.route.passengers, PASSENGERS, share=True),
            traffic=around("traffic", scenario.route.traffic, TRAFFIC),
        ),
        bms=replace(
            bms,
            soc_error=around("soc_error", bms.soc_error, SOC_ERROR),
            current_bias_a=around("current_bias", bms.current_bias_a, CURRENT_BIAS_A),
            current_gain=around("current_gain", bms.current_gain, CURRENT_GAIN),
        ),
    )


def fleet_jobs(job: Job, count: int) -> list[tuple[str, Job]]:
    """(bus-001, its job), and so on: seeds from the job's own on, `{bus}` in the places replaced.

    Raises
    ------
    ScenarioError
        Several buses would write into one file.
    """
    given = {"--to": job.to, "--truth": job.truth_path, "--plot": job.plot_path}
    for option, place in given.items():
        if place is not None and BUS not in str(place):
            raise ScenarioError(
                f"{option} {place}: all buses of the fleet would write into it; put {BUS} into the name: "
                f"{Path(str(place)).with_stem(Path(str(place)).stem + '-' + BUS)}"
            )
    found = []
    scenario = load(job)
    for n in range(count):
        name = f"bus-{n + 1:03d}"

        def named(path: Path | None, name: str = name) -> Path | None:
            return None if path is None else Path(str(path).replace(BUS, name))

        bus = replace(
            job,
            to=None if job.to is None else job.to.replace(BUS, name),
            truth_path=named(job.truth_path),
            plot_path=named(job.plot_path),
            seed=job.seed + n,
            scenario=vary(scenario, job.seed + n),
        )
        bus.check()
        found.append((name, bus))
    return found


def live_fleet(
    jobs: list[tuple[str, Job]],
    stop: threading.Event,
    done: Callable[[int], None] = lambda count: None,
    workers: int | None = None,
) -> list[dict[str, Any]]:
    """Live all; the summaries of those that lived, each with its `bus`, in order. The first error stops the others; what
    was whole stays. To be called in the main thread.

    Raises
    ------
    ScenarioError, DataError, SourceError, LogError
    """
    context = multiprocessing.get_context("spawn")
    halt = context.Event()
    count = min(workers or os.cpu_count() or 1, len(jobs))
    with ProcessPoolExecutor(count, context, _begin, (halt,)) as pool:
        with _no_interrupt():
            futures = [pool.submit(_live_one, name, job) for name, job in jobs]
        try:
            waiting = set(futures)
            while waiting:
                ready, waiting = wait(waiting, POLL_S, FIRST_COMPLETED)
                _raise_error(ready)
                done(len(futures) - len(waiting))
                if stop.is_set():
                    _end(halt, futures)
        except BrokenProcessPool:
            raise ScenarioError(
                "a worker process of the fleet was killed (out of memory?); fewer buses, or a shorter --duration"
            ) from None
        finally:
            _end(halt, futures)
    results = [future.result() for future in futures if not future.cancelled()]
    return [result for result in results if result is not None]


def _raise_error(futures: set[Future[Any]]) -> None:
    for future in futures:
        if not future.cancelled():
            future.result()


def _end(halt: Event, futures: list[Future[Any]]) -> None:
    halt.set()
    for future in futures:
        future.cancel()


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Processes that begin inside do not hear Ctrl-C: it reaches the parent, which stops them in order."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(halt: Event) -> None:
    """A worker's beginning."""
    global _stop
    _stop = halt


class _Halt(threading.Event):
    """The parent's word."""

    def is_set(self) -> bool:
        assert _stop is not None
        return _stop.is_set()


def _live_one(name: str, job: Job) -> dict[str, Any] | None:
    """None where it was stopped before it began."""
    stop = _Halt()
    return None if stop.is_set() else {"bus": name, **live(job, stop)}
