"""`ayaz demo`: simulated buses, agents, an embedded broker, the depot and its page, in one go.

Processes: this one (conductor), the depot with the broker and the page, and one for each core, which hosts its share
of the buses and their agents (`edge.demo_buses`). At the end every bus's batches are looked for in the depot's store,
and our SoC and the BMS's are compared with the simulator's truth.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
import webbrowser
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import click
import numpy as np

from edge.demo_buses import OPERATOR, Bus, Place, fleet_of, followed, host, shares
from edge.errors import AyazError
from edge.pack import BMS_SOC, PACK_SOC

START_S = 30.0
DRAIN_S = 20.0
SEAL_S = 0.5  # for each bus, on a busy machine
BATCHES_PER_S, STATES_PER_S = (
    10,
    20,
)  # at most, of all buses together: the embedded broker takes them with ease


def _depot_process(place: Place, buses: list[str], ready: Event, stop: Event) -> None:
    """The embedded broker, the depot and its page."""
    from depot.broker import EmbeddedBroker
    from depot.command import run_depot

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.ERROR)
    users = dict.fromkeys(["depot", *buses], place.password)
    with EmbeddedBroker(place.mqtt_port, users):
        run_depot(
            broker=f"mqtt://depot:{place.password}@127.0.0.1:{place.mqtt_port}",
            store=place.store,
            host="127.0.0.1",
            port=place.page_port,
            headless=not place.page,
            ready=ready,
            stop=followed(stop),
            version=3,
        )


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _port_or_free(port: int) -> int:
    """The port, or a free one where another program has it."""
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return _free_port()
    return port


class _Show:
    """Starts the processes, watches them, and ends them in order."""

    def __init__(self, place: Place, buses: list[Bus]) -> None:
        self.place, self.buses = place, buses
        context: SpawnContext = multiprocessing.get_context("spawn")
        self.depot_ready, self.depot_stop, self.bus_stop = context.Event(), context.Event(), context.Event()
        self.depot: BaseProcess = context.Process(
            target=_depot_process,
            args=(place, [bus.name for bus in buses], self.depot_ready, self.depot_stop),
            name="depot",
        )
        self.hosts: list[BaseProcess] = [
            context.Process(target=host, args=(place, share, self.bus_stop), name=f"host of {share[0].name}")
            for share in shares(buses, os.cpu_count() or 1)
        ]

    def start(self) -> None:
        self.depot.start()
        deadline = time.monotonic() + START_S
        while not self.depot_ready.wait(0.2):
            if not self.depot.is_alive() or time.monotonic() > deadline:
                raise AyazError("the demo's depot did not start; what it printed above says why")
        for process in self.hosts:
            process.start()

    def watch(self, duration_s: float) -> None:
        """Until the time is over, a part dies, or Ctrl-C (which ends the demo in good order)."""
        end = time.monotonic() + duration_s
        with contextlib.suppress(KeyboardInterrupt):
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(0.2, left))
                for process in (self.depot, *self.hosts):
                    if not process.is_alive():
                        raise AyazError(f"the demo's {process.name} stopped by itself; see above")

    def stop_buses(self) -> dict[str, dict[str, Any]]:
        """Stop them; their results. What still waits on a bus then is for the store to show."""
        self.bus_stop.set()
        deadline = time.monotonic() + DRAIN_S + SEAL_S * len(self.buses)
        for process in self.hosts:
            process.join(max(deadline - time.monotonic(), 0))
            if process.exitcode != 0:
                raise AyazError(f"the demo's {process.name} did not stop in order; see above")
        return {bus.name: self.place.result(bus.name) for bus in self.buses}

    def close(self) -> None:
        self.bus_stop.set()
        self.depot_stop.set()
        for process in (*self.hosts, self.depot):
            if process.pid is None:
                continue
            process.join(10)
            if process.is_alive():
                process.kill()


def run_demo(buses: int, duration_s: float, seed: int, page: bool, port: int) -> dict[str, Any]:
    """Run the whole thing and return what `ayaz demo --json` prints.

    Raises
    ------
    AyazError
        A part did not start, or stopped by itself.
    """
    with tempfile.TemporaryDirectory(prefix="ayaz-demo-") as folder:
        place = Place(
            Path(folder),
            _free_port(),
            _port_or_free(port),
            page,
            secrets.token_hex(8),
            max(Place.interval_s, buses / BATCHES_PER_S),
            max(Place.state_interval_s, buses / STATES_PER_S),
        )
        show = _Show(place, fleet_of(buses, seed))
        try:
            show.start()
            if page:
                url = f"http://127.0.0.1:{place.page_port}/"
                print(f"{buses} buses are on the road: {url}   (Ctrl-C ends the demo)", file=sys.stderr)
                with contextlib.suppress(webbrowser.Error):
                    webbrowser.open(url)
            show.watch(duration_s)
            print("Stopping the buses, waiting for what they still hold ...", file=sys.stderr)
            results = show.stop_buses()
            return _compare(place, results, seed)
        finally:
            show.close()


def _compare(place: Place, results: dict[str, dict[str, Any]], seed: int) -> dict[str, Any]:
    """Batches sealed against batches stored, estimates against the truth."""
    from depot.store import Store

    store = Store(place.store)
    try:
        deadline = time.monotonic() + DRAIN_S
        while True:
            stored = {bus: store.keys(OPERATOR, bus, r["boot"]) for bus, r in results.items()}
            missing = {bus: set(range(1, r["sealed"] + 1)) - set(stored[bus]) for bus, r in results.items()}
            if not any(missing.values()) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        total = {k: sum(r[k] for r in results.values()) for k in ("sealed", "published", "redelivered")}
        count = sum(len(keys) for keys in stored.values())
        distinct = sum(len(set(keys)) for keys in stored.values())
        return {
            "seed": seed,
            "batches": total
            | {
                "stored": count,
                "lost": sum(len(m) for m in missing.values()),
                "duplicated": count - distinct,
            },
            "buses": [_bus_errors(place, store, bus, r) for bus, r in results.items()],
            "failed": {bus: r["failed"] for bus, r in results.items() if r["failed"]},
        }
    finally:
        store.close()


def _bus_errors(place: Place, store: Any, bus: str, result: dict[str, Any]) -> dict[str, Any]:
    truth = np.load(place.truth(bus))

    def rmse(path: str, to_cells: float = 1.0, low: float = 0.0) -> float | None:
        wall_ms, percent = store.series(OPERATOR, bus, path, 0, 1 << 62)
        if not len(wall_ms) or not len(truth):
            return None
        true = np.interp(wall_ms, truth[:, 0], truth[:, 1]) * 100
        error = low + np.asarray(percent) * to_cells - true
        return round(math.sqrt(float(np.mean(error**2))), 3)

    low, high = _bms_window()
    return {
        "bus": f"{OPERATOR}/{bus}",
        "day": result["day"],
        "soc_rmse_pct": rmse(PACK_SOC),
        "bms_soc_rmse_pct": rmse(BMS_SOC, high - low, low * 100),
        "frames": result["frames"],
        "stood_still_s": result["stood_still_s"],
    }


def _bms_window() -> tuple[float, float]:
    """The window of the cells' range that the BMS shows, from its signal map."""
    from edge.signals.catalogue import load_catalogue

    catalogue = load_catalogue([("bms", "bms")])
    return next((s.window for s in catalogue.signals if s.role == "bms_soc" and s.window), (0.0, 1.0))


@click.command()
@click.option("--buses", type=click.IntRange(1, 500), default=3, show_default=True, help="How many buses.")
@click.option("--duration", type=click.FloatRange(min=1), help="Seconds; without it, until Ctrl-C.")
@click.option("--headless", is_flag=True, help="No page; with no --duration, 60 s.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the simulated buses.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="Of the page.")
def demo(buses: int, duration: float | None, headless: bool, as_json: bool, seed: int, port: int) -> None:
    """Simulated buses, agents, an embedded broker, the depot and its page, in one go.

    \b
    Example:  ayaz demo --buses 3
              ayaz demo --buses 3 --duration 60 --headless --json
    """
    for module in ("amqtt", "nicegui"):
        if importlib.util.find_spec(module) is None:  # one line here, not a traceback in a process
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    duration_s = duration or (60.0 if headless else math.inf)
    result = run_demo(buses, duration_s, seed, not headless, port)
    if as_json:
        print(json.dumps(result))
    else:
        _show_result(result)
    if result["batches"]["lost"] or result["batches"]["duplicated"]:
        raise AyazError("batches were lost or stored twice: this must never be; please report it")
    if result["failed"]:
        names = ", ".join(result["failed"])
        raise AyazError(f"these failed on the way, what was printed above says why: {names}")


def _show_result(result: dict[str, Any]) -> None:
    print("batches   " + ", ".join(f"{k} {v}" for k, v in result["batches"].items()))
    for bus in result["buses"]:
        errors = [
            f"{name} {'-' if bus[k] is None else f'{bus[k]:.2f} %'}"
            for name, k in (("ours", "soc_rmse_pct"), ("the BMS's", "bms_soc_rmse_pct"))
        ]
        print(
            f"{bus['bus']:<14} {bus['frames']:>8,} frames   {bus['day']:<22} SoC error (RMS): {', '.join(errors)}"
        )
