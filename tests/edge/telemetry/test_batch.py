"""Sealed items: what goes in comes out; garbage is one typed error."""

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BatchError
from edge.telemetry.batch import (
    MAX_COMPRESSED,
    Acknowledged,
    BatchBuilder,
    Column,
    EventPayload,
    Item,
    Schema,
    decode_ack,
    decode_batch,
    decode_event,
    decode_schema,
    encode_ack,
    pack,
    physical,
    unpack,
)

COLUMNS = (
    Column("Vehicle.Speed", "km/h", "raw", scale=0.5, offset=-10, source="a.b.c"),
    Column("Vehicle.X", "V", "bits"),
    Column("Vehicle.Speed", "", "validity", of=0),
)
SCHEMA = Schema(COLUMNS)


def sealed(samples: list[tuple[int, int, int]], seq: int = 1) -> list[Item]:
    builder = BatchBuilder("o", "b", "boot", SCHEMA)
    for sample in samples:
        builder.add(*sample)
    return builder.seal(seq, 1000, 1_700_000_000_000, "ntp", {"can": {}})


INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), INT64), min_size=1, max_size=50), st.integers(0, 2))
def test_samples_survive_exactly(samples: list[tuple[int, int]], column: int) -> None:
    times, values = sorted(t for t, _ in samples), [v for _, v in samples]
    items = sealed([(column, t, v) for t, v in zip(times, values, strict=True)])
    batch = decode_batch(items[0].payload)
    got_times, got_values = batch.samples(column)
    assert got_times.tolist() == times
    assert got_values.tolist() == values
    assert batch.samples(99)[0].tolist() == []


def test_physical_values() -> None:
    assert physical(COLUMNS[0], np.array([30])).tolist() == [5.0]
    assert physical(COLUMNS[1], np.array([3.25]).view(np.int64)).tolist() == [3.25]


def test_nothing_sampled_seals_nothing() -> None:
    assert sealed([]) == []


def test_same_samples_same_bytes() -> None:
    samples = [(0, k, k * k) for k in range(500)]
    assert sealed(samples)[0].payload == sealed(samples)[0].payload


def test_a_flood_is_split_and_nothing_is_lost() -> None:
    rng = np.random.default_rng(3)
    schema = Schema(tuple(Column(f"Vehicle.C{n}", "", "raw") for n in range(400)))
    builder = BatchBuilder("o", "b", "boot", schema)
    for column in range(400):
        for k in range(100):
            builder.add(column, k, int(rng.integers(0, 1 << 40)))
    items = builder.seal(5, 0, 0, "ntp", {})
    assert [i.seq for i in items] == list(range(5, 5 + len(items)))
    assert len(items) > 1
    assert all(len(i.payload) <= MAX_COMPRESSED for i in items)
    assert sum(len(decode_batch(i.payload).samples(c)[0]) for i in items for c in range(400)) == 40_000


def test_schema_round_trip_and_its_hash() -> None:
    item = SCHEMA.to_item("o", "b", "boot", 1)
    decoded = decode_schema(item.payload)
    assert decoded.columns == COLUMNS
    assert item.topic_leaf == f"schema/{SCHEMA.hash}"
    plain = msgspec.json.decode(unpack(item.payload))
    plain["columns"][0]["scale"] = 0.25
    with pytest.raises(BatchError, match="hash"):
        decode_schema(zstandard.compress(msgspec.json.encode(plain)))


def test_ack_round_trip() -> None:
    held = {"x": Acknowledged(5, [(7, 9)])}
    assert decode_ack(encode_ack(held)).boots == held


def bad(change: dict[str, object]) -> bytes:
    plain = msgspec.json.decode(unpack(sealed([(0, 0, 1)])[0].payload))
    return zstandard.compress(msgspec.json.encode(plain | change))


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"seq": 0},
        {"seq": "x"},
        {"bus": None},
        {"s": {"0": [[1, 2], [1]]}},
        {"s": {"0": [[1, -2], [1, 1]]}},
        {"s": {"x": [[1], [1]]}},
        {"s": {"0": [[1], ["a"]]}},
        {"s": {"0": [[1, 1], [1, "1"]]}},
        {"s": {"0": [[1], [1 << 70]]}},
        {"s": []},
        {"t0_ms": 1 << 80},
    ],
)
def test_a_batch_that_breaks_a_rule_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BatchError):
        decode_batch(bad(change))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_one_typed_error(data: bytes) -> None:
    for decode in (decode_batch, decode_schema, decode_ack):
        with pytest.raises(BatchError):
            decode(data)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_never_passes_as_another_batch(at: int, flip: int) -> None:
    whole = sealed([(0, k, k) for k in range(20)])[0].payload
    payload = bytearray(whole)
    at %= len(payload)
    payload[at] ^= flip
    try:
        batch = decode_batch(bytes(payload))
    except BatchError:
        return
    assert batch == decode_batch(whole)  # a flip that means nothing, in the zstd frame's own header


def test_bombs_and_giants_are_refused() -> None:
    with pytest.raises(BatchError):
        decode_batch(zstandard.compress(bytes(1 << 26)))
    with pytest.raises(BatchError):
        decode_batch(bytes(MAX_COMPRESSED + 1))


OPENED = EventPayload(
    v=1, bus="b", boot="boot", seq=7, event=7, change="opened", severity="warning", what="cell_deviates", thing="X.Cell001",
    text="A cell deviates", t_ms=9000, since_ms=4000, wall_ms=1_700_000_009_000, clock="ntp",
    evidence={"soc_deviation_pct": -4.5, "resistance_score": float("nan"), "note": "x"},
)  # fmt: skip


def test_an_event_comes_back_as_it_was() -> None:
    item = OPENED.to_item("o")
    assert (item.kind, item.topic_leaf, item.operator, item.bus, item.boot, item.seq) == (
        "event", "event/warning", "o", "b", "boot", 7,
    )  # fmt: skip
    got = decode_event(item.payload)
    assert got.evidence == {"soc_deviation_pct": -4.5, "resistance_score": None, "note": "x"}, "NaN is null"
    assert msgspec.structs.replace(got, evidence=OPENED.evidence) == OPENED


@pytest.mark.parametrize(
    "wrong",
    [
        {"v": 2}, {"event": 8}, {"event": 3}, {"change": "closed"}, {"change": "closed", "event": 3}, {"why": "over"},
        {"severity": "bad"}, {"what": "Not a name"}, {"what": ""}, {"text": "x" * 2000}, {"evidence": {"a": [1]}},
        {"evidence": {str(n): 1.0 for n in range(99)}}, {"seq": 0}, {"t_ms": 1 << 60},
    ],
)  # fmt: skip
def test_what_is_no_event(wrong: dict[str, object]) -> None:
    plain = msgspec.json.decode(unpack(OPENED.to_item("o").payload))
    with pytest.raises(BatchError):
        decode_event(pack(plain | wrong))
