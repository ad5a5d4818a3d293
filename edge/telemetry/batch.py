"""Sealed items: the batch, the schema and the event, and the depot's acknowledgement.

An item's payload is one JSON object, compressed with zstd. It is sealed once; its key
(operator, bus, boot, seq) follows it to the depot's table.

A batch:

    {"v": 1, "bus": "bus-7", "boot": "9f..", "seq": 12, "t0_ms": 1000, "wall0_ms": 1764000000000,
     "clock": "ntp", "schema": "0123456789abcdef", "ledger": {...},
     "s": {"0": [[0, 1000, 1000], [6512, 1, -3]], "17": ["bits", ...]}}

`s` maps a column's number (its place in the schema) to two lists of integers, both deltas: times in ms,
the first from `t0_ms`; values, the first from 0. So sample k was taken at t0_ms + sum(dt[:k+1]) and has
the raw value sum(dv[:k+1]). A float, or an integer over 53 bits, travels as its raw 64 bits in a decimal
string, not as a delta, because JSON numbers can't carry it.

A schema:  {"v": 1, "bus", "boot", "seq", "hash", "columns": [{"path", "unit", "encoding", ...}]}
An event:  {"v": 1, "bus", "boot", "seq", "event", "change": "opened" or "closed", "what", "thing", ...}; see
           docs/events.md. It is small, and a person may have to act on it: it goes ahead of all batches.

Encodings:  raw      a DBC signal's raw integer:      physical = raw * scale + offset
            quantum  an estimate rounded to `quantum`: physical = raw * scale + offset
            bits     a float signal's bits (IEEE 754 binary64): physical = float * scale + offset
            validity what column `of` is worth: a number of edge.signals.validity (docs/protocol.md)

Invariants: a payload is at most 64 KiB compressed and 16 MiB plain; times in a column never fall;
both lists of a column have the same length; a schema's hash is the first 16 hex digits of the SHA-256 of
its columns' canonical JSON.
"""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

from edge.errors import BatchError

VERSION = 1
MAX_COMPRESSED = 64 * 1024
MAX_PLAIN = 16 * 1024 * 1024
BITS = 1 << 53
ZSTD_LEVEL = 9

Encoding = Annotated[
    Literal["raw", "quantum", "bits", "validity"],
    msgspec.Meta(
        description="validity: column `of` is 0 never heard, 1 good, 2 stale, 3 not available, 4 error, 5 suspect"
    ),
]
Kind = Literal["batch", "schema", "event"]
Severity = Literal["info", "warning", "critical"]
T = TypeVar("T", "Batch", "SchemaPayload", "EventPayload", "Ack")
IntArray = npt.NDArray[np.int64]
Seq = Annotated[int, msgspec.Meta(ge=1, lt=BITS)]
Millis = Annotated[int, msgspec.Meta(ge=-BITS, le=BITS)]
Delta = Annotated[int, msgspec.Meta(ge=-(1 << 40), le=1 << 40)]  # 16 MiB of them can't leave 64 bits
Count = Annotated[int, msgspec.Meta(ge=0)]


class Column(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one column of a batch means: physical = raw * scale + offset, in `unit`."""

    path: str
    unit: str
    encoding: Encoding
    scale: float = 1.0
    offset: float = 0.0
    quantum: float | None = None
    source: str = ""
    of: int | None = None


class SchemaPayload(msgspec.Struct, frozen=True):
    """A schema item's JSON."""

    v: int
    bus: str
    boot: str
    seq: Seq
    hash: str
    columns: tuple[Column, ...]


class EventPayload(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event item's JSON: something that a person must know was found, or is over.

    `event` is the seq of the item that opened it: its name within the boot. Times are the core's monotonic ms, and
    the wall's; `since_ms` is when it began as far as we saw.
    """

    v: int
    bus: str
    boot: str
    seq: Seq
    event: Seq
    change: Literal["opened", "closed"]
    severity: Severity
    what: Annotated[
        str, msgspec.Meta(pattern="^[a-z0-9_]{1,64}$", description="what was found: docs/events.md")
    ]
    thing: Annotated[str, msgspec.Meta(max_length=256, description="what it is about: a VSS path or branch")]
    text: Annotated[str, msgspec.Meta(max_length=1024, description="one sentence for people")]
    t_ms: Millis
    since_ms: Millis
    wall_ms: Millis
    clock: str
    evidence: Annotated[
        dict[str, float | str | None], msgspec.Meta(max_length=64, description="the numbers that made it")
    ]
    why: Annotated[
        Literal["", "over", "worse", "milder"],
        msgspec.Meta(description="of a closed one; worse and milder: another severity of it opened"),
    ] = ""

    def to_item(self, operator: str) -> Item:
        """The event as a sealed item."""
        leaf = f"event/{self.severity}"
        return Item("event", operator, self.bus, self.boot, self.seq, pack(self), leaf)


class Ledger(msgspec.Struct, frozen=True):
    """Counts since the boot, of each CAN channel and of the rest; docs/protocol.md says what each is."""

    can: dict[str, dict[str, Count]] = {}
    lost: dict[str, Count] = {}
    memory_refused: Count = 0
    events_held_back: Count = 0
    battery: dict[str, Count] = {}


class Batch(msgspec.Struct, frozen=True):
    """A decoded batch, checked."""

    v: int
    bus: str
    boot: str
    seq: Seq
    t0_ms: Millis
    wall0_ms: Millis
    clock: str
    schema: str
    ledger: Ledger
    s: dict[str, tuple[list[Delta], list[int | str]]]

    def samples(self, column: int) -> tuple[IntArray, IntArray]:
        """Monotonic times in ms and raw values of one column, int64, shape (n,); empty where it has none.

        Raises
        ------
        BatchError
            The column's numbers don't fit 64 bits.
        """
        times, values = self.s.get(str(column), ([], []))
        return _cumulated(times, self.t0_ms), _values(values)


@dataclass(frozen=True)
class Item:
    """A sealed item on its way: never changed after this."""

    kind: Kind
    operator: str
    bus: str
    boot: str
    seq: int
    payload: bytes
    topic_leaf: str


@dataclass(frozen=True)
class Schema:
    """The columns of a boot's batches, in order."""

    columns: tuple[Column, ...]

    @property
    def hash(self) -> str:
        """16 hex digits over the columns' canonical JSON."""
        # Decoded and encoded again, so that an offset of -10 and one of -10.0 are the same.
        columns = msgspec.json.decode(msgspec.json.encode(self.columns), type=tuple[Column, ...])
        return hashlib.sha256(msgspec.json.encode(columns, order="deterministic")).hexdigest()[:16]

    def to_item(self, operator: str, bus: str, boot: str, seq: int) -> Item:
        """The schema as a sealed item."""
        payload = SchemaPayload(VERSION, bus, boot, seq, self.hash, self.columns)
        return Item("schema", operator, bus, boot, seq, pack(payload), f"schema/{self.hash}")


class BatchBuilder:
    """Collects samples of one bus and boot, and seals them."""

    def __init__(self, operator: str, bus: str, boot: str, schema: Schema) -> None:
        self._operator, self._bus, self._boot = operator, bus, boot
        self._schema = schema
        self._hash = schema.hash
        self._text = [c.encoding == "bits" for c in schema.columns]
        self._samples: dict[int, tuple[list[int], list[int]]] = {}  # column -> times, values

    def add(self, column: int, t_ms: int, value: int) -> None:
        """One sample. Times of one column must not fall."""
        times, values = self._samples.setdefault(column, ([], []))
        times.append(t_ms)
        values.append(value)

    def seal(self, seq: int, t0_ms: int, wall0_ms: int, clock: str, ledger: dict[str, Any]) -> list[Item]:
        """Close what was collected into items numbered from `seq` on; none where nothing was.

        Almost always one; as many as keep each payload within 64 KiB.
        """
        parts = [(c, *self._samples[c]) for c in sorted(self._samples)]
        self._samples = {}
        head = {
            "v": VERSION,
            "bus": self._bus,
            "boot": self._boot,
            "t0_ms": t0_ms,
            "wall0_ms": wall0_ms,
            "clock": clock,
            "schema": self._hash,
            "ledger": ledger,
        }
        items: list[Item] = []
        waiting = [parts] if parts else []
        while waiting:
            part = waiting.pop(0)
            number = seq + len(items)
            columns = {str(c): self._coded(c, t, v, t0_ms) for c, t, v in part}
            packed = _packed(head | {"seq": number, "s": columns})
            if len(packed) > MAX_COMPRESSED:
                waiting[:0] = _halves(part)
            else:
                items.append(Item("batch", self._operator, self._bus, self._boot, number, packed, "batch"))
        return items

    def _coded(self, column: int, times: list[int], values: list[int], t0_ms: int) -> list[list[Any]]:
        exact = self._text[column] or max(values) >= BITS or min(values) <= -BITS
        return [_deltas(times, t0_ms), [str(v) for v in values] if exact else _deltas(values, 0)]


_Part = list[tuple[int, list[int], list[int]]]


def _halves(part: _Part) -> list[_Part]:
    """Half of the columns each; of a single column, half of its samples."""
    if len(part) > 1:
        return [part[: len(part) // 2], part[len(part) // 2 :]]
    column, times, values = part[0]
    if len(times) < 2:
        raise BatchError("what surrounds the samples (the ledger?) is over 64 KiB by itself")
    half = len(times) // 2
    return [[(column, times[:half], values[:half])], [(column, times[half:], values[half:])]]


def _deltas(values: list[int], first: int) -> list[int]:
    return list(map(operator.sub, values, [first, *values]))


def _cumulated(deltas: list[int], first: int) -> IntArray:
    try:
        values = np.array([first, *deltas], dtype=np.int64)
    except OverflowError:
        raise BatchError("a time in the batch does not fit 64 bits") from None
    return np.cumsum(values)[1:]


def _values(values: list[int | str]) -> IntArray:
    try:
        if values and isinstance(values[0], str):
            return np.array([int(v) for v in values], dtype=np.int64)
        return np.cumsum(np.array(values, dtype=np.int64))
    except (OverflowError, ValueError, TypeError):
        raise BatchError("a value in the batch is no 64 bit integer") from None


def physical(column: Column, raw: IntArray) -> npt.NDArray[np.float64]:
    """Physical values in the column's unit."""
    numbers = raw.view(np.float64) if column.encoding == "bits" else raw.astype(np.float64)
    return numbers * column.scale + column.offset


def pack(payload: Any) -> bytes:
    """A payload's bytes: deterministic JSON, then zstd.

    Raises
    ------
    BatchError
        The result would be over 64 KiB.
    """
    packed = _packed(payload)
    if len(packed) > MAX_COMPRESSED:
        raise BatchError(f"a sealed item of {len(packed)} bytes is over {MAX_COMPRESSED}")
    return packed


def _packed(payload: Any) -> bytes:
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
    return compressor.compress(msgspec.json.encode(payload, order="sorted"))


def unpack(payload: bytes) -> bytes:
    """The plain JSON of a payload, bounded in size.

    Raises
    ------
    BatchError
        Too large, not zstd, damaged, or a bomb.
    """
    if len(payload) > MAX_COMPRESSED:
        raise BatchError(f"payload of {len(payload)} bytes is over {MAX_COMPRESSED}")
    try:
        size = zstandard.frame_content_size(payload)
        if not 0 <= size <= MAX_PLAIN:
            raise BatchError("payload does not state a size, or one over 16 MiB")
        return zstandard.ZstdDecompressor().decompress(payload, max_output_size=MAX_PLAIN)
    except zstandard.ZstdError as error:
        raise BatchError(f"payload is not zstd: {error}") from None


def decode_batch(payload: bytes) -> Batch:
    """A batch from its payload.

    Raises
    ------
    BatchError
        Anything about it is not as the format says.
    """
    batch = _decoded(unpack(payload), Batch)
    for name, (times, values) in batch.s.items():
        if not (name.isascii() and name.isdigit() and len(name) <= 6):
            raise BatchError(f"column {name!r} is no number")
        if len(times) != len(values):
            raise BatchError(f"column {name}: {len(times)} times, {len(values)} values")
        if len({type(v) for v in values}) > 1:
            raise BatchError(f"column {name}: numbers and texts together")
        if any(t < 0 for t in times[1:]):
            raise BatchError(f"column {name}: time runs backwards")
        batch.samples(int(name))
    return batch


def decode_schema(payload: bytes) -> SchemaPayload:
    """A schema from its payload.

    Raises
    ------
    BatchError
        Anything about it is not as the format says, its hash included.
    """
    schema = _decoded(unpack(payload), SchemaPayload)
    if Schema(schema.columns).hash != schema.hash:
        raise BatchError("the schema's hash is not that of its columns")
    return schema


def decode_event(payload: bytes) -> EventPayload:
    """An event from its payload.

    Raises
    ------
    BatchError
        Anything about it is not as the format says.
    """
    event = _decoded(unpack(payload), EventPayload)
    if event.event > event.seq or (event.change == "opened") != (event.event == event.seq):
        raise BatchError(
            f"event {event.event} was {event.change} by item {event.seq}: an event is named after its opening"
        )
    if (event.change == "closed") != bool(event.why):
        raise BatchError("an event says why it closed, and only then")
    return event


class Acknowledged(msgspec.Struct, frozen=True):
    """What the depot holds of one boot: all up to `upto`, and these closed ranges above it."""

    upto: int
    ranges: list[tuple[int, int]] = []


class Ack(msgspec.Struct, frozen=True):
    """The retained acknowledgement of one bus."""

    v: int
    boots: dict[str, Acknowledged]


def encode_ack(boots: dict[str, Acknowledged]) -> bytes:
    """An acknowledgement as plain JSON."""
    return msgspec.json.encode(Ack(VERSION, boots), order="sorted")


def decode_ack(payload: bytes) -> Ack:
    """An acknowledgement from its bytes.

    Raises
    ------
    BatchError
        Anything about it is not as the format says.
    """
    if len(payload) > MAX_COMPRESSED:
        raise BatchError(f"acknowledgement of {len(payload)} bytes is over {MAX_COMPRESSED}")
    ack = _decoded(payload, Ack)
    for boot, held in ack.boots.items():
        if held.upto < 0 or any(a < 1 or b < a for a, b in held.ranges):
            raise BatchError(f"acknowledgement of boot {boot}: ranges are not ranges")
    return ack


def _decoded(plain: bytes, kind: type[T]) -> T:
    try:
        value = msgspec.json.decode(plain, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BatchError(f"not a {kind.__name__.lower()}: {error}") from None
    if value.v != VERSION:
        raise BatchError(f"version {value.v} is not one that we read; ours is {VERSION}")
    return value
