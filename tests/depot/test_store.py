"""The store: once, whole, and askable."""

from pathlib import Path

import pytest

from depot.store import Store
from edge.errors import StoreError
from edge.telemetry.batch import BatchBuilder, Column, Item, Schema

SCHEMA = Schema((Column("Vehicle.Speed", "km/h", "raw", scale=0.5),))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path / 'depot.db'}")


def batch(seq: int, values: list[int], bus: str = "b") -> Item:
    builder = BatchBuilder("o", bus, "boot", SCHEMA)
    for k, value in enumerate(values):
        builder.add(0, 1000 * seq + k, value)
    return builder.seal(seq, 0, 1_700_000_000_000, "ntp", {"lost": {"unspooled": 2}})[0]


def schema() -> Item:
    return SCHEMA.to_item("o", "b", "boot", 1)


def put(store: Store, item: Item, bus: str = "b") -> str:
    return store.insert("o", bus, item.topic_leaf, item.payload)


def test_once_and_read_back(store: Store) -> None:
    assert put(store, batch(2, [1, 2])) == "parked"
    assert put(store, schema()) == "stored"
    assert put(store, batch(2, [1, 2])) == "stored"
    assert put(store, batch(2, [1, 2])) == "duplicate"
    assert put(store, batch(4, [7])) == "stored"
    held = store.acknowledged("o", "b")["boot"]
    assert (held.upto, held.ranges) == (2, [(4, 4)])
    times, values = store.series("o", "b", "Vehicle.Speed", 0, 1 << 62)
    assert values.tolist() == [0.5, 1.0, 3.5]
    assert times.tolist() == [1_700_000_002_000, 1_700_000_002_001, 1_700_000_004_000]
    report = store.verify()[0]
    assert report["gaps"] == [[3, 3]]
    assert report["lost"] == {"unspooled": 2}


def test_same_key_other_content_is_quarantined(store: Store) -> None:
    put(store, schema())
    put(store, batch(2, [1]))
    assert put(store, batch(2, [9])) == "quarantined"
    assert store.quarantined() == 1
    assert store.series("o", "b", "Vehicle.Speed", 0, 1 << 62)[1].tolist() == [0.5]


@pytest.mark.parametrize("payload", [b"", b"garbage", bytes(70_000)])
@pytest.mark.parametrize("leaf", ["batch", "schema/0123456789abcdef"])
def test_poison_blocks_nothing(store: Store, payload: bytes, leaf: str) -> None:
    assert store.insert("o", "b", leaf, payload) == "quarantined"
    assert put(store, schema()) == "stored"


def test_a_batch_of_another_bus_is_refused(store: Store) -> None:
    put(store, schema())
    assert put(store, batch(2, [1], bus="other")) == "quarantined"


def test_wrong_urls(tmp_path: Path) -> None:
    for url in ("mysql://x", f"sqlite:///{tmp_path}/none/x.db"):
        with pytest.raises(StoreError):
            Store(url)
