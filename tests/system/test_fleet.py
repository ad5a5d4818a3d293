"""Buses of the simulator and their agents in one process, a real broker, the depot: what was sealed is stored once."""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depot.store import Store
from depot.subscriber import Subscriber
from edge.demo_buses import DAYS, OPERATOR, Place, fleet_of, host, shares
from edge.errors import SpoolError
from edge.telemetry.spool import Spool
from tests.conftest import eventually

pytestmark = pytest.mark.system
SEED = 21
BUSES = 6


def test_six_buses_in_one_process_lose_nothing(tmp_path: Path, mosquitto: Any) -> None:
    """The broker is away while they join: what they seal meanwhile waits, and comes too."""
    print("seed", SEED)
    mosquitto.stop()
    place = Place(tmp_path, mosquitto.port, 0, False, "any", interval_s=1.0)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    buses = fleet_of(BUSES, SEED)
    process = context.Process(target=host, args=(place, buses, stop))
    process.start()
    store = Store(place.store)
    subscriber = Subscriber(mosquitto.url, store)
    try:
        spools = [tmp_path / bus.name / "state/spool.db" for bus in buses]
        eventually(lambda: all(waiting(path) > 3 for path in spools))
        mosquitto.start()
        subscriber.start()
        eventually(lambda: all(stored(store, bus.name) > 6 for bus in buses))
    finally:
        stop.set()
        process.join(60)
    assert process.exitcode == 0
    results = {bus.name: place.result(bus.name) for bus in buses}
    try:
        eventually(lambda: all(stored(store, name) == result["sealed"] for name, result in results.items()))
        report = {row["bus"]: row for row in store.verify()}
    finally:
        subscriber.stop()
        store.close()
    assert len(report) == BUSES
    assert store_is_whole(report, results)
    for name, result in results.items():
        assert result["failed"] is None
        assert result["frames"] > 100
        truth = np.load(place.truth(name))
        assert len(truth) >= 4
        assert ((truth[:, 1] >= 0) & (truth[:, 1] <= 1)).all()


def waiting(path: Path) -> int:
    try:
        spool = Spool(path, owner=False)
    except SpoolError:
        return 0  # not made yet
    try:
        return spool.count()
    finally:
        spool.close()


def stored(store: Store, bus: str) -> int:
    """Up to which seq all of the bus is stored."""
    held = store.acknowledged(OPERATOR, bus)
    return max((h.upto for h in held.values()), default=0)


def store_is_whole(report: dict[str, Any], results: dict[str, Any]) -> bool:
    return all(
        not row["gaps"] and row["stored"] == row["last"] == results[bus]["sealed"]
        for bus, row in report.items()
    )


def test_each_process_has_neighbours() -> None:
    days = len(DAYS)
    buses = fleet_of(days + 3, SEED)
    assert sorted(len(share) for share in shares(buses, 2)) == [(days + 3) // 2, (days + 4) // 2]
    assert [bus for share in shares(buses, 2) for bus in share] == buses
    assert [len(share) for share in shares(buses[:1], 4)] == [1]
    assert len({bus.seed for bus in buses}) == days + 3
    assert [bus.varied for bus in buses] == [False] * days + [True] * 3
