"""The store: once, whole, and askable."""

from pathlib import Path

import numpy as np
import pytest

from depot.page import broken, thinned
from depot.store import Store
from edge.errors import StoreError
from edge.signals.validity import ERROR, GOOD, NOT_AVAILABLE, STALE, SUSPECT
from edge.telemetry.batch import BatchBuilder, Column, EventPayload, Item, Schema, Severity

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


WALL_MS = 1_700_000_000_000
WITH_VALIDITY = Schema((*SCHEMA.columns, Column("Vehicle.Speed", "", "validity", of=0)))


def told(store: Store, *batches: list[tuple[int, int, int]]) -> None:
    """Batches of (column, time in ms, value), from seq 2 on; a state says that the bus is there now."""
    item = WITH_VALIDITY.to_item("o", "b", "boot", 1)
    put(store, item)
    for seq, samples in enumerate(batches, 2):
        builder = BatchBuilder("o", "b", "boot", WITH_VALIDITY)
        for sample in samples:
            builder.add(*sample)
        assert put(store, builder.seal(seq, 0, WALL_MS, "ntp", {})[0]) in ("stored", "duplicate")
    store.put_live("o", "b", state={"t_ms": WALL_MS + 10_000})


@pytest.mark.parametrize("bad", [STALE, NOT_AVAILABLE, ERROR, SUSPECT])
def test_a_value_that_is_not_good_is_not_the_newest(store: Store, bad: int) -> None:
    told(store, [(0, 1000, 20), (1, 1000, GOOD)])
    assert store.newest("o", "b", "Vehicle.%") == {"Vehicle.Speed": 10.0}
    told(store, [(0, 1000, 20), (1, 1000, GOOD)], [(1, 5000, bad)])
    assert np.isnan(store.newest("o", "b", "Vehicle.%")["Vehicle.Speed"])
    told(store, [(0, 1000, 20), (1, 1000, GOOD)], [(1, 5000, bad)], [(0, 9000, 20), (1, 9000, GOOD)])
    assert store.newest("o", "b", "Vehicle.%") == {"Vehicle.Speed": 10.0}


def test_worth_holds_from_before_the_window(store: Store) -> None:
    told(store, [(1, 1000, GOOD), (1, 2000, STALE)], [(1, 7000, GOOD)])
    for begin, expected in ((0, [GOOD, STALE, GOOD]), (1500, [GOOD, STALE, GOOD]), (3000, [STALE, GOOD])):
        times, worth = store.worth("o", "b", "Vehicle.Speed", WALL_MS + begin, WALL_MS + 9000)
        assert worth.tolist() == expected, begin
        assert times[0] == WALL_MS + max(begin, 1000)
    assert store.worth("o", "b", "Vehicle.Other", 0, 1 << 62)[1].tolist() == []


def test_a_plot_has_a_gap_where_a_signal_is_not_good() -> None:
    times, values = np.array([0, 10, 50]), np.array([1.0, 2.0, 3.0])
    t_worth, worth = np.array([0, 20, 50]), np.array([GOOD, STALE, GOOD])
    t, v = broken(times, values, t_worth, worth, 99)
    assert thinned(t, v) == [[0, 1.0], [10, 2.0], [20, None], [50, 3.0], [99, 3.0]]
    t, v = broken(times[:2], values[:2], t_worth[:2], worth[:2], 99)
    assert thinned(t, v) == [[0, 1.0], [10, 2.0], [20, None]], "what is stale does not go on"


def test_gaps_outlive_thinning() -> None:
    values = np.arange(6000.0)
    values[1237] = np.nan
    assert [p for p in thinned(np.arange(6000), values) if p[1] is None] == [[1237, None]]


def test_losses_of_a_channel_are_in_the_report(store: Store) -> None:
    put(store, schema())
    ledger = {"can": {"bms": {"received": 9, "lost_socket": 3, "bus_off": 1}}, "lost": {"unspooled": 2}}
    builder = BatchBuilder("o", "b", "boot", SCHEMA)
    builder.add(0, 1, 1)
    put(store, builder.seal(2, 0, WALL_MS, "ntp", ledger)[0])
    assert store.verify()[0]["lost"] == {"unspooled": 2, "bms.lost_socket": 3}


@pytest.mark.parametrize(
    "ledger", [[], {"can": []}, {"can": {"bms": 3}}, {"lost": {"x": "y"}}, {"lost": {"x": -1}}]
)
def test_a_ledger_that_is_none_is_quarantined(store: Store, ledger: object) -> None:
    put(store, schema())
    builder = BatchBuilder("o", "b", "boot", SCHEMA)
    builder.add(0, 1, 1)
    assert put(store, builder.seal(2, 0, WALL_MS, "ntp", ledger)[0]) == "quarantined"  # type: ignore[arg-type]
    assert store.verify()[0]["lost"] == {}


def event(
    seq: int, of: int | None = None, boot: str = "boot", severity: Severity = "warning", t_ms: int = 0
) -> Item:
    """Opened by `seq`, or closed by it where it is `of` another."""
    return EventPayload(
        v=1, bus="b", boot=boot, seq=seq, event=of or seq, change="closed" if of else "opened", severity=severity,
        what="insulation_falls", thing="pack", text="over" if of else "low", t_ms=t_ms + 5000, since_ms=t_ms + 2000,
        wall_ms=WALL_MS + t_ms + 5000, clock="ntp", evidence={"ohm_per_v": 400.0}, why="over" if of else "",
    ).to_item("o")  # fmt: skip


def in_boot(store: Store, boot: str) -> None:
    store.put_live("o", "b", state={"t_ms": WALL_MS}, status={"v": 1, "online": True, "boot": boot})


def test_an_event_is_stored_once_and_open_until_it_closes(store: Store) -> None:
    in_boot(store, "boot")
    assert put(store, event(5)) == "stored", "it needs no schema"
    assert put(store, event(5)) == "duplicate"
    assert store.keys("o", "b", "boot") == [5]
    (one,) = store.events("o", "b", 0, 1)  # open ones, whenever they began
    assert one.is_open
    assert (one.severity, one.what, one.thing, one.text) == ("warning", "insulation_falls", "pack", "low")
    assert one.since_ms == WALL_MS + 2000
    assert one.opened["evidence"] == {"ohm_per_v": 400.0}
    assert store.open_events() == {("o", "b"): {"warning": 1}}
    put(store, event(9, of=5, t_ms=60_000))
    assert store.open_events() == {}
    assert store.events("o", "b", 0, 1) == []
    (one,) = store.events("o", "b", WALL_MS, WALL_MS + 100_000)
    assert not one.is_open
    assert (one.text, one.since_ms, one.closed["why"]) == ("over", WALL_MS + 2000, "over")


def test_its_closing_may_come_first(store: Store) -> None:
    in_boot(store, "boot")
    put(store, event(9, of=5))
    assert store.open_events() == {}
    put(store, event(5))
    assert store.open_events() == {}
    (one,) = store.events("o", "b", 0, 1 << 62)
    assert one.opened
    assert one.closed


def test_events_end_with_their_boot(store: Store) -> None:
    in_boot(store, "boot")
    put(store, event(5))
    put(store, event(6, severity="critical"))
    assert store.open_events() == {("o", "b"): {"critical": 1, "warning": 1}}
    in_boot(store, "next")
    assert store.open_events() == {}
    assert [e.is_open for e in store.events("o", "b", 0, 1 << 62)] == [False, False]
    put(store, event(2, boot="next"))
    put(store, event(7))  # of the old boot, late
    assert store.open_events() == {("o", "b"): {"warning": 1}}


@pytest.mark.parametrize("leaf", ["event/critical", "event/warning"])
def test_an_event_on_a_wrong_topic_is_quarantined(store: Store, leaf: str) -> None:
    item = event(5)
    bus = "other" if leaf == item.topic_leaf else "b"
    assert store.insert("o", bus, leaf, item.payload) == "quarantined"
    assert store.events("o", bus, 0, 1 << 62) == []


def test_another_event_of_the_same_key_is_quarantined(store: Store) -> None:
    put(store, event(5))
    assert put(store, event(5, t_ms=1)) == "quarantined"
    (one,) = store.events("o", "b", 0, 1 << 62)
    assert one.opened["t_ms"] == 5000
