"""An event's whole way: frames, core, spool, uplink, a real broker, the depot's table; ahead of what waits."""

from pathlib import Path
from typing import Any

import pytest

from depot.store import Store
from depot.subscriber import Subscriber
from edge.core import Core, Setup
from edge.telemetry.batch import BatchBuilder, Column, Item, Schema
from edge.telemetry.spool import Spool
from edge.telemetry.uplink import Uplink
from tests.conftest import eventually
from tests.edge.telemetry.test_uplink import Broker
from tests.edge.test_oversight import settled, setup

__all__ = ["setup"]
pytestmark = pytest.mark.system
OLD = 400  # batches of a boot before, that no depot has taken yet


def old_batches() -> list[Item]:
    schema = Schema((Column("Vehicle.Speed", "km/h", "raw"),))
    items = [schema.to_item("o", "b", "before", 1)]
    for seq in range(2, OLD + 1):
        builder = BatchBuilder("o", "b", "before", schema)
        builder.add(0, seq, seq)
        items += builder.seal(seq, 0, 0, "ntp", {})
    return items


def test_the_event_overtakes_what_waits_and_is_open_then_closed_at_the_depot(
    mosquitto: Any, tmp_path: Path, setup: Setup
) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.append(old_batches())
    core = Core(setup, "boot")
    bus = settled(core)
    bus.pack["Insulation"] = 20
    bus.run(40)
    spool.append(bus.items)
    assert [i.kind for i in bus.items] == ["schema", "event"]

    store = Store(f"sqlite:///{tmp_path / 'depot.db'}")
    subscriber = Subscriber(mosquitto.url, store)
    subscriber.start()
    assert subscriber.connected.wait(10)
    uplink = Uplink(Broker(mosquitto.url), "o", "b", "boot", "1.0", spool.path)
    uplink.start()
    try:
        eventually(lambda: store.open_events() == {("o", "b"): {"critical": 1}}, 20)
        (event,) = store.events("o", "b", 0, 1 << 62)
        assert event.what == "insulation_falls"
        assert event.opened["evidence"]["resistance_kohm"] == 20
        assert len(store.keys("o", "b", "before")) < OLD / 2, "it did not wait for its turn"
        bus.pack["Insulation"] = 2000
        bus.run(310)
        spool.append([i for i in bus.items if i.seq > 2])
        uplink.look()
        eventually(lambda: store.open_events() == {}, 20)
        eventually(lambda: spool.count() == 0, 30)
        assert store.keys("o", "b", "before") == list(range(1, OLD + 1))
        assert store.keys("o", "b", "boot") == [1, 2, 3]
        assert store.quarantined() == 0
    finally:
        uplink.stop(2)
        subscriber.stop()
        store.close()
        spool.close()
