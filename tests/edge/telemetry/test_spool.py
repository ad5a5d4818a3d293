"""The spool keeps what it was given until it is told to forget."""

from pathlib import Path

import pytest

from edge.errors import SpoolError
from edge.telemetry.batch import Column, Item, Schema
from edge.telemetry.spool import Spool

SCHEMA = Schema((Column("Vehicle.Speed", "km/h", "raw"),))


def items(boot: str, first: int, last: int) -> list[Item]:
    return [SCHEMA.to_item("o", "b", boot, n) for n in range(first, last + 1)]


def test_survives_closing_and_settles_ranges(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.append(items("x", 1, 9))
    spool.put_state(b"memory")
    spool.close()
    spool = Spool(tmp_path / "spool.db")
    assert [i.seq for _, i in spool.pending(100)] == list(range(1, 10))
    assert spool.settle("x", 3, [(5, 6)]) == 5
    assert spool.settle("other", 100) == 0
    assert [i.seq for _, i in spool.pending(100)] == [4, 7, 8, 9]
    assert spool.get_state() == b"memory"
    assert spool.verify() == []
    assert spool.boots()[0]["items"] == 4
    spool.close()


def test_events_are_found_among_all_that_waits(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    assert spool.events(9) == []
    event = [Item("event", "o", "b", "x", n, b"e", "event/warning") for n in (3, 5, 6)]
    spool.append([*items("x", 1, 2), event[0], *items("x", 4, 4), *event[1:]])
    assert spool.events(2) == event[:2]
    spool.settle("x", 3)
    assert spool.events(9) == event[1:]
    plan = spool._ask("EXPLAIN QUERY PLAN SELECT id FROM item WHERE kind = 'event' ORDER BY id LIMIT 8")
    assert "INDEX event" in plan[0][-1], "found without a look at the batches that wait"
    spool.close()


def test_all_or_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.append(items("x", 1, 2))
    with pytest.raises(SpoolError):
        spool.append(items("x", 3, 3) + items("x", 2, 2))
    assert spool.count() == 2
    spool.close()


def test_full_is_said(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", max_bytes=10)
    with pytest.raises(SpoolError, match="full"):
        spool.append(items("x", 1, 1))
    spool.close()


def test_one_agent_at_a_time(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    with pytest.raises(SpoolError, match="another agent"):
        Spool(tmp_path / "spool.db")
    reader = Spool(tmp_path / "spool.db", owner=False)
    reader.close()
    spool.close()


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\x00" + bytes(5000)])
def test_damaged_file_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spool.db").write_bytes(content)
    with pytest.raises(SpoolError):
        Spool(tmp_path / "spool.db")


def test_none_there(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="no spool"):
        Spool(tmp_path / "none.db", owner=False)
