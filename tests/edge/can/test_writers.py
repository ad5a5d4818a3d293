"""Rows of decoded signals as CSV, JSON lines and Parquet, against Python's own csv and json, row by row."""

import csv
import io
import json
import math
import struct
from typing import Any

import numpy as np
import pytest

from edge.can.frames import FRAME, Frames
from edge.can.writers import TEXT_OF_STATE, WRITERS, Column, Rows, Value
from edge.signals.validity import ERROR, GOOD, NOT_AVAILABLE

SEED = 3
CHANNELS = ["can0", 'odd, "name"', "Ж"]
GEARS = {0: "P", 1: "R, slowly", 2: 'the "N"', 3: ""}
# message, signal, group, kind, what the value is for people
SLOTS: list[tuple[str, str, int, str]] = [
    ("Engine", "Speed", 0, "float"),
    ("Engine", "Torque_Ж", 0, "float"),
    ("Engine", "Count", 0, "number"),
    ("Gear", "Gear", 1, "any"),
    ("Gear", "Big", 1, "number"),
    ("Gear, old", "Temp", 2, "float"),
]


class Known:
    """Columns with every kind of value."""

    def __init__(self) -> None:
        self.channels = CHANNELS
        self.columns = [Column(*slot) for slot in SLOTS]
        self.asked = 0

    def for_people(self, slot: int, raw: int, value: float, state: int) -> Value:
        self.asked += 1
        if state != GOOD:
            return None
        kind = SLOTS[slot][3]
        if kind == "any" and raw in GEARS:
            return GEARS[raw]
        return value if kind == "float" else raw


def make_rows(frames: int, seed: int) -> tuple[Frames, Rows]:
    """Random frames, each with one message; slots 0 to 2, 3 to 4 or 5; every sort of double."""
    rng = np.random.default_rng(seed)
    made = np.zeros(frames, FRAME)
    made["time_us"] = 1_600_000_000_000_000 + rng.integers(0, 10**9, frames).cumsum()
    made["id"], made["channel"] = rng.integers(0, 1 << 29, frames), rng.integers(0, len(CHANNELS), frames)
    first, count = np.array([(0, 3), (3, 2), (5, 1)])[rng.integers(0, 3, frames)].T
    frame = np.repeat(np.arange(frames), count)
    slot = np.concatenate([np.arange(f, f + c) for f, c in zip(first, count, strict=True)])
    n = len(frame)
    raw = np.where(rng.random(n) < 0.5, rng.integers(0, 6, n), rng.integers(-(1 << 62), 1 << 62, n))
    value = raw * 0.1 - 40  # as everywhere: a function of slot and raw
    value = np.where(slot == 1, raw.view(np.float64), value)  # all doubles there are
    value = np.where((slot == 4) | (slot == 2) | (slot == 3), raw.astype(np.float64), value)
    state = np.array([GOOD, GOOD, GOOD, NOT_AVAILABLE, ERROR])[rng.integers(0, 5, n)]
    types = (np.int32, np.int32, np.int64, np.float64, np.uint8)
    rows = (c.astype(t) for c, t in zip((frame, slot, raw, value, state), types, strict=True))
    return made, Rows(*rows)


def plain(
    frames: Frames, rows: Rows, known: Known
) -> list[tuple[float, str, int, str, str, Value, int, int]]:
    """t, channel, id, message, signal, value, state, (frame, group) of each row."""
    found = []
    for frame, slot, raw, value, state in zip(*(c.tolist() for c in rows), strict=True):
        message, signal, group, _ = SLOTS[slot]
        t, channel, frame_id = (int(frames[frame][k]) for k in ("time_us", "channel", "id"))
        one = known.for_people(slot, raw, value, state)
        found.append((t / 1e6, CHANNELS[channel], frame_id, message, signal, one, state, (frame, group)))
    return found


def plain_csv(frames: Frames, rows: Rows, known: Known) -> bytes:
    """The twin of the kernel: the csv module, a row at a time."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["t", "channel", "id", "message", "signal", "value"])
    for *row, value, state, _ in plain(frames, rows, known):
        writer.writerow([*row, TEXT_OF_STATE.get(state, value)])
    return file.getvalue().encode()


def plain_jsonl(frames: Frames, rows: Rows, known: Known) -> bytes:
    """The twin of the kernel: the json module, an object at a time."""
    lines: dict[Any, dict[str, Any]] = {}
    for t, channel, frame_id, message, signal, value, _, key in plain(frames, rows, known):
        head = {"t": t, "channel": channel, "id": frame_id, "message": message, "signals": {}}
        finite = not isinstance(value, float) or math.isfinite(value)
        lines.setdefault(key, head)["signals"][signal] = value if finite else None
    return "".join(json.dumps(line) + "\n" for line in lines.values()).encode()


def written(fmt: str, frames: Frames, rows: Rows, known: Known) -> bytes:
    file = io.BytesIO()
    writer: Any = WRITERS[fmt](file, known)
    middle = int(np.searchsorted(rows.frame, len(frames) // 2))
    writer.write(frames, rows.take(slice(0, middle)))
    writer.write(frames, rows.take(slice(middle, None)))
    writer.close()
    return file.getvalue()


@pytest.mark.parametrize(("fmt", "twin"), [("csv", plain_csv), ("jsonl", plain_jsonl)])
def test_text_is_what_pythons_own_modules_write(fmt: str, twin: Any) -> None:
    frames, rows = make_rows(30_000, SEED)
    assert written(fmt, frames, rows, Known()) == twin(frames, rows, Known())


@pytest.mark.parametrize(("fmt", "twin"), [("csv", plain_csv), ("jsonl", plain_jsonl)])
def test_times_of_every_size(fmt: str, twin: Any) -> None:
    """repr writes an exponent below 100 µs and from 1e16 s; beyond 2^32 s a double has gaps of over 1 µs."""
    edges = [0, 1, 9, 10, 99, 100, 101, 999_999, 10**6, 10**6 + 1, 10**12, 2**52, 4 * 10**15 - 1, 4 * 10**15]
    times = [*edges, 4 * 10**15 + 1, 2**53 + 1, 10**17 + 3, 2**62 + 7, -1, -100, -(10**15)]
    frames, rows = make_rows(len(times), SEED)
    frames["time_us"] = times
    assert written(fmt, frames, rows, Known()) == twin(frames, rows, Known())


def test_a_value_is_asked_for_once_however_often_it_comes() -> None:
    frames, rows = make_rows(2_000, SEED)
    known = Known()
    small = rows.take((rows.raw >= 0) & (rows.raw < 6))
    written("csv", frames, small, known)
    assert 0 < known.asked <= len(SLOTS) * 6 * 3


def test_slots_and_channels_may_come_later() -> None:
    frames, rows = make_rows(1_000, SEED)
    for fmt in WRITERS:
        known = Known()
        known.columns, late = known.columns[:3], known.columns[3:]
        file = io.BytesIO()
        writer: Any = WRITERS[fmt](file, known)
        writer.write(frames, rows.take(rows.slot < 3))
        known.columns += late
        writer.write(frames, rows.take(rows.slot >= 3))
        writer.close()
        assert b"Temp" in file.getvalue() or fmt == "parquet"


def test_parquet_has_one_type_a_column_and_either_a_value_or_a_text() -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    frames, rows = make_rows(30_000, SEED)
    table = parquet.read_table(io.BytesIO(written("parquet", frames, rows, Known())))
    name = arrow.dictionary(arrow.int32(), arrow.string())
    number = arrow.float64()
    assert table.schema.types == [number, name, arrow.uint32(), name, name, number, name]
    wanted = []
    for *row, value, state, _ in plain(frames, rows, Known()):
        text = TEXT_OF_STATE.get(state) or (value if isinstance(value, str) else None)
        wanted.append((*row, None if text is not None else float(value), text))  # type: ignore[arg-type]
    for ours, theirs in zip(table.to_pylist(), wanted, strict=True):
        *same, value, text = ours.values()
        assert (*same, text) == (*theirs[:5], theirs[6])
        if value is None or theirs[5] is None:
            assert value is theirs[5]
        else:
            assert struct.pack("d", value) == struct.pack("d", theirs[5])


@pytest.mark.parametrize("fmt", list(WRITERS))
def test_nothing_decoded_is_a_table_without_rows(fmt: str) -> None:
    file = io.BytesIO()
    writer: Any = WRITERS[fmt](file, Known())
    writer.close()
    if fmt == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        assert parquet.read_table(file).num_rows == 0
    else:
        assert file.getvalue() == (b"t,channel,id,message,signal,value\r\n" if fmt == "csv" else b"")
