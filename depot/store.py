"""The depot's store: every item once, its samples ready to be asked for.

SQLite, one file. Uniqueness lives in `batch`: primary key (operator, bus, boot, seq). A batch's samples
enter in its transaction, one row per column: packed int64 times (wall ms) and float64 values, so that one
signal over a day is a few thousand small blocks. What a signal is worth lies beside it, as PATH#validity. The same
key with other content goes to `quarantine`. An event has one row, made by whichever of its two items comes first and
completed by the other; it is open where it has not closed and its boot is still the bus's own.
A batch whose schema is not known yet is parked: neither stored nor acknowledged.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edge.errors import BatchError, StoreError
from edge.signals.validity import GOOD
from edge.telemetry.batch import Acknowledged, Column, decode_batch, decode_event, decode_schema, physical
from edge.telemetry.sqlite import transaction

TABLES = """
CREATE TABLE IF NOT EXISTS batch (
    operator TEXT, bus TEXT, boot TEXT, seq INTEGER, kind TEXT NOT NULL, sha256 BLOB NOT NULL,
    wall0_ms INTEGER, clock TEXT, ledger TEXT, received_ms INTEGER NOT NULL, payload BLOB NOT NULL,
    PRIMARY KEY (operator, bus, boot, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS schema (hash TEXT PRIMARY KEY, columns TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS path (id INTEGER PRIMARY KEY, path TEXT UNIQUE NOT NULL, unit TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS block (
    operator TEXT, bus TEXT, path INTEGER, t0_ms INTEGER, boot TEXT, seq INTEGER, t1_ms INTEGER NOT NULL,
    times BLOB NOT NULL, numbers BLOB NOT NULL,
    PRIMARY KEY (operator, bus, path, t0_ms, boot, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
    operator TEXT, bus TEXT, boot TEXT, event INTEGER, severity TEXT NOT NULL, what TEXT NOT NULL, thing TEXT NOT NULL,
    since_ms INTEGER NOT NULL, opened_ms INTEGER, opened TEXT, closed_ms INTEGER, closed TEXT,
    PRIMARY KEY (operator, bus, boot, event)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY, operator TEXT, bus TEXT, received_ms INTEGER, why TEXT, payload BLOB);
CREATE TABLE IF NOT EXISTS live (
    operator TEXT, bus TEXT, state TEXT, state_ms INTEGER, status TEXT, PRIMARY KEY (operator, bus)) WITHOUT ROWID;
"""
VALIDITY = "#validity"  # after a path: what it is worth from a time on, a number of edge.signals.validity
Outcome = Literal["stored", "duplicate", "parked", "quarantined"]


@dataclass(frozen=True)
class Live:
    """The newest of one bus: its retained state and status, and when the state came (wall ms)."""

    operator: str
    bus: str
    state: dict[str, Any]
    state_ms: int
    online: bool


@dataclass(frozen=True)
class Event:
    """One event of a bus; times are wall ms. `opened` and `closed` are the payloads of its items (docs/events.md), {}
    where one has not come; `is_open` where it has not closed and its boot has not ended."""

    severity: str
    what: str
    thing: str
    since_ms: int
    is_open: bool
    opened: dict[str, Any]
    closed: dict[str, Any]

    @property
    def text(self) -> str:
        """The newest sentence about it."""
        return str((self.closed or self.opened)["text"])


class Store:
    """The store behind `sqlite:///PATH`. May be used from several threads.

    Raises
    ------
    StoreError
        The URL is not one that we know, or the file can't be opened.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith("sqlite:///"):
            raise StoreError(f"{url}: give sqlite:///PATH")
        self.path = Path(url.removeprefix("sqlite:///"))
        self._lock = threading.RLock()
        self._columns: dict[str, tuple[Column, ...]] = {}
        self._paths: dict[str, int] = {}
        try:
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=30)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(TABLES)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be opened: {error}") from None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def insert(self, operator: str, bus: str, leaf: str, payload: bytes) -> Outcome:
        """One sealed item from its topic. Commits.

        Raises
        ------
        StoreError
            The disk refused: nothing was stored.
        """
        try:
            if leaf.startswith("schema/"):
                return self._insert_schema(operator, bus, leaf, payload)
            if leaf.startswith("event/"):
                return self._insert_event(operator, bus, leaf, payload)
            return self._insert_batch(operator, bus, payload)
        except BatchError as error:
            self._quarantine(operator, bus, str(error), payload)
            return "quarantined"
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be written: {error}") from None

    def _insert_schema(self, operator: str, bus: str, leaf: str, payload: bytes) -> Outcome:
        schema = decode_schema(payload)
        if schema.bus != bus or leaf != f"schema/{schema.hash}":
            raise BatchError("the schema is of another bus, or on another topic")
        with self._lock, transaction(self._db):
            columns = msgspec.json.encode(schema.columns).decode()
            self._db.execute("INSERT OR IGNORE INTO schema VALUES (?, ?)", (schema.hash, columns))
            row = (operator, bus, schema.boot, schema.seq, "schema", None, None, None)
            return self._insert_item(row, payload)

    def _insert_batch(self, operator: str, bus: str, payload: bytes) -> Outcome:
        batch = decode_batch(payload)
        if batch.bus != bus:
            raise BatchError(f"a batch of bus {batch.bus} on the topic of {bus}")
        with self._lock:
            columns = self._columns_of(batch.schema)
            if columns is None:
                return "parked"
            if any(int(n) >= len(columns) for n in batch.s):
                raise BatchError("a column that its schema has not")
            with transaction(self._db):
                ledger = msgspec.json.encode(batch.ledger).decode()
                row = (operator, bus, batch.boot, batch.seq, "batch", batch.wall0_ms, batch.clock, ledger)
                outcome = self._insert_item(row, payload)
                if outcome == "stored":
                    self._insert_samples(operator, batch, columns)
                return outcome

    def _insert_event(self, operator: str, bus: str, leaf: str, payload: bytes) -> Outcome:
        event = decode_event(payload)
        if event.bus != bus or leaf != f"event/{event.severity}":
            raise BatchError("the event is of another bus, or on another topic")
        plain = msgspec.json.encode(event).decode()
        side = event.change  # the name of its columns, too
        with self._lock, transaction(self._db):
            row = (operator, bus, event.boot, event.seq, "event", event.wall_ms, event.clock, None)
            outcome = self._insert_item(row, payload)
            if outcome == "stored":
                since_ms = event.wall_ms - (event.t_ms - event.since_ms)
                self._db.execute(
                    f"INSERT INTO event (operator, bus, boot, event, severity, what, thing, since_ms, {side}_ms, {side}) "
                    f"VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET {side}_ms=excluded.{side}_ms, {side}=excluded.{side}",
                    (operator, bus, event.boot, event.event, event.severity, event.what, event.thing, since_ms, event.wall_ms, plain),
                )  # fmt: skip
            return outcome

    def _insert_item(self, row: tuple[Any, ...], payload: bytes) -> Outcome:
        digest = hashlib.sha256(payload).digest()
        operator, bus, boot, seq, kind, wall0_ms, clock, ledger = row
        known = self._db.execute(
            "SELECT sha256 FROM batch WHERE operator=? AND bus=? AND boot=? AND seq=?",
            (operator, bus, boot, seq),
        ).fetchone()
        if known:
            if known[0] == digest:
                return "duplicate"
            raise BatchError(f"boot {boot} seq {seq} came before with other content")
        self._db.execute(
            "INSERT INTO batch VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (operator, bus, boot, seq, kind, digest, wall0_ms, clock, ledger, _now_ms(), payload),
        )
        return "stored"

    def _insert_samples(self, operator: str, batch: Any, columns: tuple[Column, ...]) -> None:
        to_wall = batch.wall0_ms - batch.t0_ms
        rows = []
        for name in batch.s:
            column = columns[int(name)]
            times, raw = batch.samples(int(name))
            if not len(times):
                continue
            times = times + to_wall
            numbers = physical(column, raw)
            span = (int(times[0]), batch.boot, batch.seq, int(times[-1]))
            rows.append(
                (operator, batch.bus, self._path_id(column), *span, times.tobytes(), numbers.tobytes())
            )
        self._db.executemany("INSERT INTO block VALUES (?,?,?,?,?,?,?,?,?)", rows)

    def _columns_of(self, schema: str) -> tuple[Column, ...] | None:
        if schema not in self._columns:
            row = self._db.execute("SELECT columns FROM schema WHERE hash=?", (schema,)).fetchone()
            if row is None:
                return None
            self._columns[schema] = msgspec.json.decode(row[0], type=tuple[Column, ...])
        return self._columns[schema]

    def _path_id(self, column: Column) -> int:
        path = column.path + VALIDITY if column.encoding == "validity" else column.path
        if path not in self._paths:
            self._db.execute("INSERT OR IGNORE INTO path (path, unit) VALUES (?,?)", (path, column.unit))
            row = self._db.execute("SELECT id FROM path WHERE path=?", (path,)).fetchone()
            self._paths[path] = int(row[0])
        return self._paths[path]

    def _quarantine(self, operator: str, bus: str, why: str, payload: bytes) -> None:
        row = (operator, bus, _now_ms(), why, payload[:65536])
        with self._writing():
            self._db.execute(
                "INSERT INTO quarantine (operator, bus, received_ms, why, payload) VALUES (?,?,?,?,?)", row
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise StoreError(f"{self.path}: cannot be written: {error}") from None

    def put_live(
        self,
        operator: str,
        bus: str,
        *,
        state: dict[str, Any] | None = None,
        status: dict[str, Any] | None = None,
    ) -> None:
        """Keep the newest retained state or status of a bus.

        Raises
        ------
        StoreError
            The disk refused.
        """
        with self._writing():
            self._db.execute("INSERT OR IGNORE INTO live VALUES (?,?,'{}',0,'{}')", (operator, bus))
            if state is not None:
                values = (json.dumps(state), int(state.get("t_ms", _now_ms())), operator, bus)
                self._db.execute("UPDATE live SET state=?, state_ms=? WHERE operator=? AND bus=?", values)
            if status is not None:
                self._db.execute(
                    "UPDATE live SET status=? WHERE operator=? AND bus=?", (json.dumps(status), operator, bus)
                )

    def fleet(self) -> list[Live]:
        """Every bus that was ever heard, by name."""
        rows = self._ask("SELECT operator, bus, state, state_ms, status FROM live ORDER BY operator, bus")
        return [Live(o, b, json.loads(s), ms, bool(json.loads(st).get("online"))) for o, b, s, ms, st in rows]

    def acknowledged(self, operator: str, bus: str, boots: int = 8) -> dict[str, Acknowledged]:
        """What is stored of the bus's newest boots: all up to `upto`, and ranges above."""
        newest = self._ask(
            "SELECT boot FROM batch WHERE operator=? AND bus=? GROUP BY boot ORDER BY max(received_ms) DESC LIMIT ?",
            operator, bus, boots,
        )  # fmt: skip
        return {boot: _spans(self.keys(operator, bus, boot)) for (boot,) in newest}

    def keys(self, operator: str, bus: str, boot: str) -> list[int]:
        """Every stored seq of one boot, ascending."""
        rows = self._ask(
            "SELECT seq FROM batch WHERE operator=? AND bus=? AND boot=? ORDER BY seq", operator, bus, boot
        )
        return [row[0] for row in rows]

    def series(
        self, operator: str, bus: str, path: str, begin_ms: int, end_ms: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """One signal over time: wall times in ms, ascending, and values in the path's unit, shape (n,)."""
        rows = self._ask(
            "SELECT times, numbers FROM block JOIN path ON path.id = block.path "
            "WHERE operator=? AND bus=? AND path.path=? AND t0_ms<=? AND t1_ms>=? ORDER BY t0_ms",
            operator, bus, path, end_ms, begin_ms,
        )  # fmt: skip
        times = np.frombuffer(b"".join(r[0] for r in rows), np.int64)
        numbers = np.frombuffer(b"".join(r[1] for r in rows), np.float64)
        inside = (times >= begin_ms) & (times <= end_ms)
        order = np.argsort(times[inside], kind="stable")
        return times[inside][order], numbers[inside][order]

    def worth(
        self, operator: str, bus: str, path: str, begin_ms: int, end_ms: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """The changes of a signal's validity: as `series`, and before them the one that held at `begin_ms`.

        Both are empty where nothing is known of it: an estimate has no validity of its own.
        """
        before = self._ask(
            "SELECT times, numbers FROM block JOIN path ON path.id = block.path "
            "WHERE operator=? AND bus=? AND path.path=? AND t0_ms<? ORDER BY t0_ms DESC LIMIT 1",
            operator, bus, path + VALIDITY, begin_ms,
        )  # fmt: skip
        times, numbers = self.series(operator, bus, path + VALIDITY, begin_ms, end_ms)
        for block_times, block_numbers in before:
            n = int(np.searchsorted(np.frombuffer(block_times, np.int64), begin_ms))
            held = np.frombuffer(block_numbers, np.float64)[n - 1]
            times, numbers = np.append(begin_ms, times), np.append(held, numbers)
        return times, numbers

    def newest(self, operator: str, bus: str, like: str) -> dict[str, float]:
        """The newest value of every path that matches an SQL LIKE pattern; NaN where it is not good any more."""
        rows = self._ask(
            "SELECT path.path, numbers, max(t1_ms) FROM path JOIN block ON block.path = path.id AND operator=? AND bus=? "
            "WHERE path.path LIKE ? AND path.path NOT LIKE '%#validity' AND t0_ms > (SELECT max(state_ms) FROM live WHERE operator=? AND bus=?) - 120000 "
            "GROUP BY path.path",
            operator, bus, like, operator, bus,
        )  # fmt: skip
        worth = self._ask(
            "SELECT path.path, numbers, max(t0_ms) FROM path JOIN block ON block.path = path.id AND operator=? AND bus=? "
            "WHERE path.path LIKE ? GROUP BY path.path",
            operator, bus, like + VALIDITY,
        )  # fmt: skip
        bad = {path for path, numbers, _ in worth if np.frombuffer(numbers, np.float64)[-1] != GOOD}
        return {
            path: math.nan if path + VALIDITY in bad else float(np.frombuffer(numbers, np.float64)[-1])
            for path, numbers, _ in rows
        }

    def events(self, operator: str, bus: str, begin_ms: int, end_ms: int) -> list[Event]:
        """The events of a bus that are open, whenever they began, and those that opened or closed in a time (wall ms);
        open ones first, then the newest."""
        live = self._ask("SELECT state, status FROM live WHERE operator=? AND bus=?", operator, bus)
        boot = _boot(*live[0]) if live else None
        rows = self._ask(
            "SELECT severity, what, thing, since_ms, boot = ? AND closed IS NULL AS is_open, opened, closed FROM event "
            "WHERE operator=? AND bus=? AND (is_open OR opened_ms BETWEEN ? AND ? OR closed_ms BETWEEN ? AND ?) "
            "ORDER BY is_open DESC, max(coalesce(opened_ms, 0), coalesce(closed_ms, 0)) DESC, event DESC LIMIT 1000",
            boot or "", operator, bus, begin_ms, end_ms, begin_ms, end_ms,
        )  # fmt: skip
        return [
            Event(severity, what, thing, since_ms, bool(is_open), json.loads(opened or "{}"), json.loads(closed or "{}"))
            for severity, what, thing, since_ms, is_open, opened, closed in rows
        ]  # fmt: skip

    def open_events(self) -> dict[tuple[str, str], dict[str, int]]:
        """How many events are open, by bus and severity."""
        live = self._ask("SELECT operator, bus, state, status FROM live")
        counts: dict[tuple[str, str], dict[str, int]] = {}
        for operator, bus, state, status in live:
            rows = self._ask(
                "SELECT severity, count(*) FROM event WHERE operator=? AND bus=? AND boot=? AND closed IS NULL GROUP BY severity",
                operator, bus, _boot(state, status) or "",
            )  # fmt: skip
            if rows:
                counts[operator, bus] = dict(rows)
        return counts

    def verify(self) -> list[dict[str, Any]]:
        """Per bus and boot: what is stored, the gaps in it, and what the bus's own ledger says was lost."""
        rows = self._ask("SELECT operator, bus, boot FROM batch GROUP BY operator, bus, boot")
        result = []
        for operator, bus, boot in rows:
            keys = self.keys(operator, bus, boot)
            held = _spans(keys)
            starts = [(1, held.upto), *held.ranges]
            gaps = [[a[1] + 1, b[0] - 1] for a, b in itertools.pairwise(starts)]
            ledger = self._ask(
                "SELECT ledger FROM batch WHERE operator=? AND bus=? AND boot=? AND ledger IS NOT NULL ORDER BY seq DESC LIMIT 1",
                operator, bus, boot,
            )  # fmt: skip
            lost = _lost(json.loads(ledger[0][0])) if ledger else {}
            result.append(
                {
                    "operator": operator,
                    "bus": bus,
                    "boot": boot,
                    "stored": len(keys),
                    "last": keys[-1],
                    "gaps": gaps,
                    "lost": lost,
                }
            )
        return result

    def quarantined(self) -> int:
        """How many items were put aside."""
        return int(self._ask("SELECT count(*) FROM quarantine")[0][0])

    def _ask(self, question: str, *values: Any) -> list[Any]:
        try:
            with self._lock:
                return self._db.execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be read: {error}") from None


def _boot(state: str, status: str) -> str | None:
    """The boot that a bus is in: what its status says, which is told at once on connecting, else its state."""
    boot = json.loads(status).get("boot") or json.loads(state).get("boot")
    return boot if isinstance(boot, str) else None


def _lost(ledger: dict[str, Any]) -> dict[str, Any]:
    """What a ledger says was lost, by name; what a CAN channel lost as CHANNEL.NAME."""
    lost = dict(ledger.get("lost", {}))
    for channel, counts in ledger.get("can", {}).items():
        lost |= {f"{channel}.{name}": n for name, n in counts.items() if name.startswith("lost_")}
    return lost


def _spans(keys: list[int]) -> Acknowledged:
    """[1, 2, 3, 5, 6] as upto 3 and the range 5 to 6."""
    spans: list[list[int]] = []
    for key in keys:
        if spans and key == spans[-1][1] + 1:
            spans[-1][1] = key
        else:
            spans.append([key, key])
    upto = spans.pop(0)[1] if spans and spans[0][0] == 1 else 0
    return Acknowledged(upto, [(a, b) for a, b in spans])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
