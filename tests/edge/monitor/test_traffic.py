"""Counts, rates, periods and load per identifier, bounded."""

import numpy as np
import pytest

from edge.can.frames import ERROR, EXTENDED, FRAME, Frames
from edge.can.load import bus_load
from edge.monitor import traffic
from edge.monitor.traffic import Traffic, key_of


def frames(times_us: list[int], frame_id: int, channel: int = 0, flags: int = 0) -> Frames:
    made = np.zeros(len(times_us), FRAME)
    made["time_us"], made["id"], made["channel"], made["flags"] = times_us, frame_id, channel, flags
    made["length"] = 8
    return made


def row(picture: traffic.TrafficPicture, key: int) -> int:
    return picture.rows["key"].tolist().index(key)


def run(watched: Traffic, all_frames: Frames, until_us: int, chunk: int) -> None:
    """As a feed does: chunks, and a tick each 100 ms."""
    next_us = 100_000
    for n in range(0, len(all_frames), chunk):
        part = all_frames[n : n + chunk]
        watched.take(part)
        while next_us <= part["time_us"][-1]:
            watched.tick(next_us)
            next_us += 100_000
    watched.tick(until_us)


@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_rates_periods_and_load(chunk: int) -> None:
    fast = frames(list(range(0, 10_000_000, 10_000)), 0x100)
    slow = frames(list(range(3, 10_000_000, 1_000_000)), 0x18FEF100, channel=1, flags=EXTENDED)
    both = np.concatenate([fast, slow])
    both = both[np.argsort(both["time_us"], kind="stable")]
    watched = Traffic([(500_000, 500_000), (250_000, 250_000)])
    run(watched, both, 10_000_000, chunk)
    picture = watched.picture(10_000_000)
    n, m = row(picture, key_of(0, 0x100, False)), row(picture, key_of(1, 0x18FEF100, True))
    assert picture.rows["count"].tolist() == [1000, 10]
    assert picture.rows["last_us"][[n, m]].tolist() == [9_990_000, 9_000_003]
    assert picture.rows["period_us"][[n, m]].tolist() == pytest.approx([10_000, 1_000_000])
    within = 0.005 * chunk + 0.01  # a chunk is counted when it comes
    assert picture.rate[n] == pytest.approx(100, rel=within)
    assert picture.frames_s[0] == pytest.approx(100, rel=within)
    assert picture.load[0] == pytest.approx(bus_load(fast, 10, 500_000), rel=within)
    assert picture.rate[m] == pytest.approx(1)


def test_what_has_stopped_falls_to_zero() -> None:
    watched = Traffic([(500_000, 500_000)])
    run(watched, frames(list(range(0, 2_000_000, 100_000)), 1), 2_000_000, 3)
    for now_us in range(2_000_000, 9_000_000, 100_000):
        watched.tick(now_us)
    picture = watched.picture(9_000_000)
    assert picture.rate.tolist() == [0]
    assert picture.load.tolist() == [0]
    assert picture.rows["count"].tolist() == [20]


def test_the_same_id_extended_and_not_are_two() -> None:
    watched = Traffic([(500_000, 500_000)] * 2)
    for flags, channel in ((0, 0), (EXTENDED, 0), (0, 1)):
        watched.take(frames([5], 0x7F, channel, flags))
    assert watched.picture(10).rows["key"].tolist() == sorted(
        [key_of(0, 0x7F, False), key_of(0, 0x7F, True), key_of(1, 0x7F, False)]
    )


def test_error_frames_are_no_identifier_and_no_frames_change_nothing() -> None:
    watched = Traffic([(500_000, 500_000)])
    watched.take(np.zeros(0, FRAME))
    watched.take(frames([1, 2], 4, flags=ERROR))
    picture = watched.picture(10)
    assert len(picture.rows) == 0
    assert watched.picture(5).rate.tolist() == []


def test_a_flood_of_identifiers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "MAX_IDS", 100)
    watched = Traffic([(500_000, 500_000)])
    flood = frames(list(range(1000)), 0, flags=EXTENDED)
    flood["id"] = np.arange(1000)
    watched.take(flood)
    watched.take(flood)
    picture = watched.picture(2000)
    assert len(picture.rows) == 100
    assert picture.rows["count"].sum() + picture.others == 2000
    assert len(np.unique(picture.rows["label"])) == 100
