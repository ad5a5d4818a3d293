"""Decoded signals into CSV, JSON lines and Parquet.

A row is one signal of one frame. A writer takes rows as arrays, with the frames that they index, and a
`Columns` that says what a slot is and what its value is for people; slots and channels may be added
between two calls.

CSV and Parquet have a row for each: t (s), channel, id, message, signal, value. Where a value is a text (a choice, "not
available", "error") CSV has it as the value; Parquet, whose columns have one type, has a seventh column
`text`, and exactly one of value and text is not null. JSON lines have an object for each message, with null
where a signal has no number: not available, in error, or a float that is none.

`id` is the frame's identifier: under J1939 its low byte is the source address, also of a transported
message, whose row has the identifier of the packet that completed it.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edge.can._text import TextRows
from edge.can.frames import Frames
from edge.errors import LogError
from edge.signals.validity import ERROR, GOOD, NOT_AVAILABLE

TEXT_ROWS = 1 << 15  # rendered at a time
PARQUET_ROWS = 1 << 19  # in a row group
COLUMNS = ("t", "channel", "id", "message", "signal", "value")
TEXT_OF_STATE = {int(NOT_AVAILABLE): "not available", int(ERROR): "error"}

Value = float | int | str | None


class Rows(NamedTuple):
    """Decoded signals, in frame order: arrays of one length. `frame` is an index into the frames."""

    frame: npt.NDArray[np.int32]
    slot: npt.NDArray[np.int32]
    raw: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    state: npt.NDArray[np.uint8]

    def take(self, which: Any) -> Rows:
        """The rows of a mask, a slice or some indices."""
        return Rows(*(column[which] for column in self))


class Column(NamedTuple):
    """What a slot is. Slots with the same `group` belong to one message."""

    message: str
    signal: str
    group: int
    kind: str  # of its good values: "float" always, "number", or "any", where some are texts


class Columns(Protocol):
    """The slots of all rows, and the names of the frames' channels by their numbers."""

    channels: list[str]
    columns: list[Column]

    def for_people(self, slot: int, raw: int, value: float, state: int) -> Value:
        """The value as cantools gives it; None where it is not good."""


class Writer(Protocol):
    """One output."""

    def write(self, frames: Frames, rows: Rows) -> None:
        """Write rows; their frames hold the times, channels and identifiers."""

    def close(self) -> None:
        """Write what is left. The file itself stays open."""

    def discard(self) -> None:
        """Close without more: the file will be thrown away, or its reader is gone."""


class _Text:
    """What CSV and JSON lines share."""

    def __init__(self, file: IO[bytes], columns: Columns, text: TextRows) -> None:
        self._file, self._columns, self._text = file, columns, text
        self._channels = self._slots = 0

    def write(self, frames: Frames, rows: Rows) -> None:
        """See `Writer`."""
        for name in self._columns.channels[self._channels :]:
            self._text.add_channel(self.channel_head(name))
        self._channels = len(self._columns.channels)
        for column in self._columns.columns[self._slots :]:
            self._text.add_slot(column.group, column.kind == "float", *self.heads(column))
        self._slots = len(self._columns.columns)
        begin = 0
        while begin < len(rows.frame):  # in pieces, each whole frames, so that the text stays small
            last = rows.frame[min(begin + TEXT_ROWS, len(rows.frame)) - 1]
            end = int(np.searchsorted(rows.frame, last, "right"))
            self._file.write(self._text.render(frames, *rows.take(slice(begin, end))))
            begin = end

    def close(self) -> None:
        """See `Writer`."""
        self._file.flush()

    def discard(self) -> None:
        """See `Writer`."""

    def channel_head(self, name: str) -> bytes:
        """What stands between a frame's time and its identifier."""
        raise NotImplementedError

    def heads(self, column: Column) -> tuple[bytes, bytes]:
        """What stands before a message's first signal, and before a signal's value."""
        raise NotImplementedError


class Csv(_Text):
    """The csv module's own dialect: CR LF, quotes where needed."""

    def __init__(self, file: IO[bytes], columns: Columns) -> None:
        super().__init__(file, columns, TextRows(True, b"", b",", self._value))
        self._begun = False

    def write(self, frames: Frames, rows: Rows) -> None:
        """See `Writer`."""
        self._begin()
        super().write(frames, rows)

    def close(self) -> None:
        """See `Writer`."""
        self._begin()
        super().close()

    def _begin(self) -> None:
        if not self._begun:  # not before there is a log to decode
            self._begun = True
            self._file.write(_cells(COLUMNS) + b"\r\n")

    def channel_head(self, name: str) -> bytes:
        """See `_Text`."""
        return _cells(("", name, ""))

    def heads(self, column: Column) -> tuple[bytes, bytes]:
        """See `_Text`."""
        return b"", _cells((column.message, column.signal, ""))

    def _value(self, slot: int, raw: int, value: float, state: int) -> bytes:
        text = TEXT_OF_STATE.get(state) or self._columns.for_people(slot, raw, value, state)
        return _cells(("", text))[1:]


def _cells(cells: tuple[Value, ...]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue().encode("utf-8", "surrogateescape")


class JsonLines(_Text):
    """One object per decoded message."""

    def __init__(self, file: IO[bytes], columns: Columns) -> None:
        text = TextRows(False, b'{"t": ', b', "message": ', self._value)
        super().__init__(file, columns, text)

    def channel_head(self, name: str) -> bytes:
        """See `_Text`."""
        return b', "channel": %b, "id": ' % _json(name)

    def heads(self, column: Column) -> tuple[bytes, bytes]:
        """See `_Text`."""
        return b'%b, "signals": {' % _json(column.message), _json(column.signal) + b": "

    def _value(self, slot: int, raw: int, value: float, state: int) -> bytes:
        found = self._columns.for_people(slot, raw, value, state)
        return _json(None if isinstance(found, float) and not math.isfinite(found) else found)


def _json(value: Value) -> bytes:
    return json.dumps(value).encode()


class Parquet:
    """Names as dictionaries, numbers as float64, texts in a column of their own."""

    def __init__(self, file: IO[bytes] | Path, columns: Columns) -> None:
        try:
            self._arrow: Any = importlib.import_module("pyarrow")
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ModuleNotFoundError:
            raise LogError("Parquet needs pyarrow; install it with: pip install 'ayaz[files]'") from None
        name = self._arrow.dictionary(self._arrow.int32(), self._arrow.string())
        number = self._arrow.float64()
        types = (number, name, self._arrow.uint32(), name, name, number, name)
        self._schema = self._arrow.schema(list(zip((*COLUMNS, "text"), types, strict=True)))
        repeated = ["channel", "id", "message", "signal", "text"]
        self._writer = parquet.ParquetWriter(file, self._schema, use_dictionary=repeated, compression="zstd")
        self._columns = columns
        self._messages, self._signals, self._texts = _Dictionary(), _Dictionary(), _Dictionary()
        self._of_slot = np.zeros((0, 3), np.int32)  # message, signal, may be a text
        self._parts: list[tuple[npt.NDArray[Any], ...]] = []
        self._rows = 0

    def write(self, frames: Frames, rows: Rows) -> None:
        """See `Writer`."""
        if new := self._columns.columns[len(self._of_slot) :]:
            codes = [(self._messages[c.message], self._signals[c.signal], c.kind == "any") for c in new]
            self._of_slot = np.concatenate([self._of_slot, np.array(codes, np.int32)])
        message, signal, has_texts = self._of_slot[rows.slot].T
        text = self._text_codes(rows, has_texts != 0)
        of_frame = frames[["time_us", "channel", "id"]][rows.frame]
        self._parts.append(
            (
                of_frame["time_us"] / 1e6,
                of_frame["channel"],
                of_frame["id"],
                message,
                signal,
                rows.value,
                text,
            )
        )
        self._rows += len(rows.frame)
        if self._rows >= PARQUET_ROWS:
            self._flush()

    def _text_codes(self, rows: Rows, has_texts: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
        """Each row's text, as its code; -1 where it is a number."""
        codes = np.full(len(rows.frame), -1, np.int32)
        for state, text in TEXT_OF_STATE.items():
            if (found := rows.state == state).any():
                codes[found] = self._texts[text]
        which = np.flatnonzero(has_texts & (rows.state == GOOD))
        which = which[np.lexsort((rows.raw[which], rows.slot[which]))]
        some = rows.take(which)
        first = np.ones(len(which), bool)  # each (slot, raw) is asked for once
        first[1:] = (np.diff(some.slot) != 0) | (np.diff(some.raw) != 0)
        distinct = some.take(first)
        texts = [
            self._columns.for_people(*row) for row in zip(*(c.tolist() for c in distinct[1:]), strict=True)
        ]
        of_distinct = np.array([self._texts[t] if isinstance(t, str) else -1 for t in texts], np.int32)
        codes[which] = of_distinct[np.cumsum(first) - 1] if len(which) else of_distinct
        return codes

    def close(self) -> None:
        """See `Writer`."""
        self._flush()
        self._writer.close()

    def discard(self) -> None:
        """See `Writer`."""
        with suppress(Exception):  # an open pyarrow writer would write once more when it is collected
            self._writer.close()

    def _flush(self) -> None:
        if not self._parts:
            return
        t, channel, frame_id, message, signal, value, text = map(
            np.concatenate, zip(*self._parts, strict=True)
        )
        self._parts, self._rows = [], 0
        array = self._arrow.array
        columns = [
            array(t), self._named(channel, self._columns.channels), array(frame_id),
            self._named(message, self._messages), self._named(signal, self._signals),
            array(value, mask=text >= 0), self._named(text, self._texts),
        ]  # fmt: skip
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))

    def _named(self, codes: npt.NDArray[Any], names: Any) -> Any:
        indices = self._arrow.array(codes.astype(np.int32), mask=codes < 0)
        return self._arrow.DictionaryArray.from_arrays(indices, self._arrow.array(list(names), "string"))


class _Dictionary(dict[str, int]):
    """Names numbered in the order in which they are first asked for."""

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]


WRITERS: dict[str, type[Csv] | type[JsonLines] | type[Parquet]] = {
    "csv": Csv,
    "jsonl": JsonLines,
    "parquet": Parquet,
}
