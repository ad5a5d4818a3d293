"""The subscriber between a real Mosquitto and a real store."""

import json
import queue
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from depot.store import Store
from depot.subscriber import Subscriber
from edge.errors import BrokerError
from edge.telemetry.batch import BatchBuilder, Column, EventPayload, Item, Schema, decode_ack, pack, unpack
from tests.conftest import eventually

SCHEMA = Schema((Column("Vehicle.Speed", "km/h", "raw"),))


def batch(seq: int) -> Item:
    builder = BatchBuilder("o", "b", "boot", SCHEMA)
    builder.add(0, 1000 * seq, seq)
    return builder.seal(seq, 1000 * seq, 1_764_000_000_000 + 1000 * seq, "ntp", {})[0]


def event(seq: int) -> Item:
    """Every second one opens, the other one closes it."""
    closes = seq % 2
    return EventPayload(
        v=1, bus="b", boot="boot", seq=seq, event=seq - closes, change="closed" if closes else "opened", severity="critical",
        what="temperature_rises", thing="t", text="hot", t_ms=seq, since_ms=seq, wall_ms=seq, clock="ntp", evidence={"a": 1.0},
        why="over" if closes else "",
    ).to_item("o")  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'depot.db'}")
    yield opened
    opened.close()


@pytest.fixture
def subscriber(mosquitto: Any, store: Store) -> Iterator[Subscriber]:
    running = Subscriber(mosquitto.url, store)
    running.start()
    assert running.connected.wait(10)
    yield running
    running.stop()


class Bus:
    """A plain MQTT client that plays a bus."""

    def __init__(self, port: int) -> None:
        self.acks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda _c, _d, m: self.acks.put(m.payload)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe("ebus/v1/o/b/ack", qos=1)

    def say(self, leaf: str, payload: bytes) -> None:
        self.client.publish(f"ebus/v1/o/b/{leaf}", payload, qos=1).wait_for_publish(5)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def bus(mosquitto: Any, subscriber: Subscriber) -> Iterator[Bus]:
    one = Bus(mosquitto.port)
    yield one
    one.close()


def test_a_batch_before_its_schema_waits_for_it(bus: Bus, store: Store, subscriber: Subscriber) -> None:
    bus.say("batch", batch(2).payload)
    eventually(lambda: subscriber.counts.parked == 1, 10)
    assert store.keys("o", "b", "boot") == []
    assert bus.acks.empty()
    schema = SCHEMA.to_item("o", "b", "boot", 1)
    bus.say(schema.topic_leaf, schema.payload)
    eventually(lambda: store.keys("o", "b", "boot") == [1, 2], 10)
    while decode_ack(bus.acks.get(timeout=10)).boots["boot"].upto != 2:
        pass
    bus.say("batch", batch(2).payload)
    eventually(lambda: subscriber.counts.duplicate == 1, 10)
    bus.say("batch", batch(5).payload)
    while decode_ack(bus.acks.get(timeout=10)).boots["boot"].ranges != [(5, 5)]:
        pass


def test_an_event_needs_no_schema_and_is_acknowledged(bus: Bus, store: Store, subscriber: Subscriber) -> None:
    for item in (event(7), event(6), event(6)):
        bus.say(item.topic_leaf, item.payload)
    eventually(lambda: (subscriber.counts.stored, subscriber.counts.duplicate) == (2, 1), 10)
    while decode_ack(bus.acks.get(timeout=10)).boots["boot"].ranges != [(6, 7)]:
        pass
    (one,) = store.events("o", "b", 0, 1 << 62)
    assert one.opened
    assert one.closed


def test_poison_blocks_nothing(bus: Bus, store: Store, subscriber: Subscriber) -> None:
    poison = [
        ("batch", b""), ("batch", b"not zstd"), ("batch", pack({"v": 1})), ("batch", pack([])),
        ("schema/0123456789abcdef", SCHEMA.to_item("o", "b", "boot", 1).payload),
        ("state", b"\xff"), ("state", b"[]"), ("state", b'{"v":1,"t_ms":1e99}'), ("status", b"{"), ("event/x", b"?"),
        ("nonsense", b""),
    ]  # fmt: skip
    for leaf, payload in poison:
        bus.say(leaf, payload)
    for item in (SCHEMA.to_item("o", "b", "boot", 1), batch(2)):
        bus.say(item.topic_leaf, item.payload)
    bus.say("state", json.dumps({"v": 1, "t_ms": 5, "Vehicle.Speed": 7}).encode())
    eventually(lambda: store.keys("o", "b", "boot") == [1, 2], 10)
    eventually(lambda: [b.state.get("Vehicle.Speed") for b in store.fleet()] == [7], 10)
    assert subscriber.counts.refused == 4
    assert store.quarantined() == subscriber.counts.quarantined == 6


@pytest.mark.parametrize("url", ["", "mqtt://", "http://x", "mqtt://x:0", "mqtt://x:99999", "mqtt://[", "x"])
def test_what_is_no_broker(url: str, store: Store) -> None:
    with pytest.raises(BrokerError):
        Subscriber(url, store)


def mutated(value: Any, rng: random.Random) -> Any:
    """The same JSON with one thing changed somewhere."""
    extremes = [
        None,
        -1,
        0,
        1 << 62,
        1 << 63,
        -(1 << 70),
        1.5,
        "",
        "x" * 300,
        [],
        {},
        True,
        [[1], ["a"]],
        "0",
    ]
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        action = rng.random()
        if action < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if action < 0.2:
            return value | {rng.choice(["9", "-1", "x", "18446744073709551616"]): value[key]}
        return value | {key: mutated(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [mutated(v, rng) if n == place else v for n, v in enumerate(value)]
    return rng.choice(extremes)


def test_any_mutated_item_is_stored_parked_or_quarantined(store: Store) -> None:
    seed = 4
    print("seed", seed)
    rng = random.Random(seed)
    schema = SCHEMA.to_item("o", "b", "boot", 1)
    store.insert("o", "b", schema.topic_leaf, schema.payload)
    outcomes = set()
    for _ in range(3000):
        item = rng.choice([schema, batch(rng.randrange(2, 50)), event(rng.randrange(50, 99))])
        plain = msgspec.json.decode(unpack(item.payload))
        try:
            payload = pack(mutated(plain, rng))
        except (OverflowError, msgspec.MsgspecError):
            continue
        outcomes.add(store.insert("o", "b", item.topic_leaf, payload))
    assert outcomes == {"stored", "duplicate", "parked", "quarantined"}
    assert len(store.events("o", "b", 0, 1 << 62)) > 10
    assert all(b"payload" not in row for row in store.series("o", "b", "Vehicle.Speed", 0, 1 << 62))
