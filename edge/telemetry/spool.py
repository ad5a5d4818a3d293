"""The spool: sealed items on disk until the depot has acknowledged them.

One SQLite file, WAL, synchronous=FULL:

    item  (boot, seq) primary key, id (order of arrival), kind, leaf, payload
    memory  one row: the estimator's state for the next boot

Invariants: an item is in the file, synced, before anyone may publish it; it leaves only by `settle`.
One agent owns the file (a lock file beside it); reading commands may look at the same time.
"""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from edge.errors import BatchError, SpoolError
from edge.telemetry.batch import Item, Kind, unpack
from edge.telemetry.sqlite import transaction

SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
    id INTEGER PRIMARY KEY AUTOINCREMENT, operator TEXT NOT NULL, bus TEXT NOT NULL, boot TEXT NOT NULL,
    seq INTEGER NOT NULL, kind TEXT NOT NULL, leaf TEXT NOT NULL, payload BLOB NOT NULL,
    UNIQUE (boot, seq));
CREATE INDEX IF NOT EXISTS event ON item (id) WHERE kind = 'event';
CREATE TABLE IF NOT EXISTS memory (one INTEGER PRIMARY KEY CHECK (one = 1), state BLOB NOT NULL);
"""
COLUMNS = "id, kind, operator, bus, boot, seq, payload, leaf"


class Spool:
    """The spool of one bus, owned by one agent; with `owner=False` one that looks and settles.

    Raises
    ------
    SpoolError
        The file can't be opened, is no spool, or another agent owns it.
    """

    def __init__(self, path: Path, max_bytes: int = 512_000_000, *, owner: bool = True) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self._lock: IO[str] | None = None
        if not owner and not path.exists():
            raise SpoolError(f"{path}: no spool here; give the agent's with --spool")
        if owner:
            self._lock = _locked(path)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
            self._db.execute("PRAGMA synchronous=FULL")
            if owner:
                self._db.execute("PRAGMA page_size=1024")
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.executescript(SCHEMA)
            self._db.execute("SELECT count(*) FROM item").fetchone()
        except sqlite3.Error as error:
            self.close()
            raise SpoolError(f"{path}: cannot be opened: {error}; move it away to begin a new one") from None

    def append(self, items: Sequence[Item]) -> None:
        """Write items and sync them, all or none.

        Raises
        ------
        SpoolError
            The disk refused, or the spool is full (`max_bytes`): nothing was written.
        """
        rows = [(i.operator, i.bus, i.boot, i.seq, i.kind, i.topic_leaf, i.payload) for i in items]
        if self.size_bytes() + sum(len(i.payload) for i in items) > self.max_bytes:
            raise SpoolError(
                f"{self.path}: full ({self.max_bytes / 1e6:.0f} MB); the depot must acknowledge first"
            )
        try:
            with transaction(self._db):
                self._db.executemany(
                    "INSERT INTO item (operator, bus, boot, seq, kind, leaf, payload) VALUES (?,?,?,?,?,?,?)",
                    rows,
                )
        except sqlite3.Error as error:
            raise SpoolError(f"{self.path}: cannot be written: {error}") from None

    def pending(self, limit: int, after: int = 0) -> list[tuple[int, Item]]:
        """Up to `limit` items in order of arrival with an id above `after`."""
        rows = self._ask(f"SELECT {COLUMNS} FROM item WHERE id > ? ORDER BY id LIMIT ?", after, limit)
        return [(row[0], _item(row)) for row in rows]

    def schemas(self) -> list[tuple[int, Item]]:
        """The schemas that still wait, in order of arrival."""
        rows = self._ask(f"SELECT {COLUMNS} FROM item WHERE kind = 'schema' ORDER BY id")
        return [(row[0], _item(row)) for row in rows]

    def events(self, limit: int) -> list[Item]:
        """The first events that still wait, in order of arrival; from an index, for the uplink asks all the time."""
        rows = self._ask(f"SELECT {COLUMNS} FROM item WHERE kind = 'event' ORDER BY id LIMIT ?", limit)
        return [_item(row) for row in rows]

    def settle(self, boot: str, upto: int, ranges: Iterable[tuple[int, int]] = ()) -> int:
        """Forget what the depot has acknowledged; returns how many items left.

        Raises
        ------
        SpoolError
            The disk refused.
        """
        gone = 0
        try:
            with transaction(self._db):
                for first, last in [(1, upto), *ranges]:
                    if last < first or last >= 1 << 63:
                        continue
                    where = "DELETE FROM item WHERE boot = ? AND seq BETWEEN ? AND ?"
                    gone += self._db.execute(where, (boot, first, last)).rowcount
        except sqlite3.Error as error:
            raise SpoolError(f"{self.path}: cannot be written: {error}") from None
        return gone

    def count(self) -> int:
        """How many items wait."""
        return int(self._ask("SELECT count(*) FROM item")[0][0])

    def size_bytes(self) -> int:
        """How many bytes of payload wait."""
        return int(self._ask("SELECT coalesce(sum(length(payload)), 0) FROM item")[0][0])

    def boots(self) -> list[dict[str, Any]]:
        """What waits, per boot: first and last seq, items, bytes."""
        rows = self._ask(
            "SELECT boot, min(seq), max(seq), count(*), sum(length(payload)) FROM item GROUP BY boot ORDER BY min(id)"
        )
        return [dict(zip(("boot", "first", "last", "items", "bytes"), row, strict=True)) for row in rows]

    def verify(self) -> list[str]:
        """Every fault found in the file and in the items; empty when all is well."""
        faults = [f"file: {row[0]}" for row in self._ask("PRAGMA integrity_check") if row[0] != "ok"]
        for _, item in self.pending(1 << 62):
            try:
                unpack(item.payload)
            except BatchError as error:
                faults.append(f"boot {item.boot} seq {item.seq}: {error}")
        return faults

    def put_state(self, state: bytes) -> None:
        """Keep the estimator's memory.

        Raises
        ------
        SpoolError
            The disk refused.
        """
        try:
            self._db.execute("INSERT OR REPLACE INTO memory VALUES (1, ?)", (state,))
        except sqlite3.Error as error:
            raise SpoolError(f"{self.path}: cannot be written: {error}") from None

    def get_state(self) -> bytes | None:
        """The estimator's memory of the boot before, if any."""
        rows = self._ask("SELECT state FROM memory")
        return rows[0][0] or None if rows else None

    def close(self) -> None:
        """Close the file and give it free."""
        self._db.close()
        if self._lock:
            self._lock.close()

    def _ask(self, question: str, *values: Any) -> list[Any]:
        try:
            return self._db.execute(question, values).fetchall()
        except sqlite3.Error as error:
            raise SpoolError(f"{self.path}: cannot be read: {error}") from None


def _locked(path: Path) -> IO[str]:
    try:
        lock = path.with_name(path.name + ".lock").open("w")
    except OSError as error:
        raise SpoolError(
            f"{path}: cannot be opened: {error.strerror}; give the agent a state_dir of its own"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise SpoolError(f"{path}: another agent is running on it; stop that one first") from None
    return lock


def _item(row: Any) -> Item:
    _, kind, operator, bus, boot, seq, payload, leaf = row
    known: Kind = kind
    return Item(known, operator, bus, boot, seq, payload, leaf)
