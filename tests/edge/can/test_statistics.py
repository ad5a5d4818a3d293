"""Statistics over chunks of frames, against sums over one frame after another."""

import io
import json
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Any

import cantools
import numpy as np
import pytest
from rich.console import Console

from edge.can import statistics
from edge.can.decoder import Counts
from edge.can.frames import ERROR, EXTENDED, FRAME, REMOTE, Frames
from edge.can.load import bits_on_bus
from edge.can.statistics import Statistics, print_tables

SEED = 5
CHANNELS = ["a", "b"]
BITRATES = {"": (500_000, 2_000_000), "b": (250_000, 250_000)}


def near(value: float) -> Any:
    """As the result rounds it."""
    return pytest.approx(value, abs=10**-statistics.DIGITS)


def some_frames(n: int, seed: int, start_us: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    frames = np.zeros(n, FRAME)
    frames["time_us"] = start_us + rng.integers(0, 2_000, n).cumsum()
    frames["channel"] = rng.integers(0, 2, n)
    frames["id"] = rng.choice([1, 2, 0x7FF], n)
    frames["flags"] = rng.choice([0, EXTENDED, EXTENDED, ERROR, REMOTE], n)
    frames["length"] = rng.integers(0, 9, n)
    frames["data"][:, :8] = rng.integers(0, 256, (n, 8)) * (np.arange(8) < frames["length"][:, None])
    return frames


DATABASE: Any = cantools.database.load_string(
    'VERSION ""\nBU_:\nBO_ 1 Known: 2 X\n SG_ S : 0|8@1+ (1,0) [0|0] "" X\nBO_ 2 Empty: 0 X\n', "dbc"
)


def message_of(number: int, frame_id: int, extended: bool) -> Any:
    known = frame_id in (1, 2) and not extended
    return DATABASE.get_message_by_frame_id(frame_id) if known else None


def result_of(*logs: Frames, chunk: int = 700) -> dict[str, Any]:
    found = Statistics(CHANNELS, BITRATES)
    for number, log in enumerate(logs):
        for begin in range(0, len(log), chunk):
            part = log[begin : begin + chunk]
            found.add(part, part["length"] >= 2, number)
    return found.result(Counts(2), message_of)


def test_timing_and_load_are_what_a_frame_at_a_time_gives() -> None:
    logs = [some_frames(5_000, SEED), some_frames(3_000, SEED + 1, start_us=10**12)]
    times: dict[Any, list[list[int]]] = {}
    bus_s: dict[Any, float] = {}
    short: dict[Any, int] = {}
    span_s = sum(int(log["time_us"][-1] - log["time_us"][0]) for log in logs) / 1e6
    for n, log in enumerate(logs):
        nominal, data = bits_on_bus(log)
        for frame, slow, fast in zip(log, nominal.tolist(), data.tolist(), strict=True):
            channel = CHANNELS[frame["channel"]]
            rate = BITRATES.get(channel, BITRATES[""])
            seconds = slow / rate[0] + fast / rate[1]
            bus_s[channel] = bus_s.get(channel, 0) + seconds
            if frame["flags"] & (ERROR | REMOTE) == 0:
                key = channel, int(frame["id"]), bool(frame["flags"] & EXTENDED)
                times.setdefault(key, [[], []])[n].append(int(frame["time_us"]))
                short[key] = short.get(key, 0) + int(frame["length"] < 2)
                bus_s[key] = bus_s.get(key, 0) + seconds
    result = result_of(*logs)
    assert result["span_s"] == near(span_s)
    assert {(i["channel"], i["id"], i["extended"]) for i in result["ids"]} == set(times)
    for one in result["ids"]:
        key = one["channel"], one["id"], one["extended"]
        steps = [b - a for part in times[key] for a, b in pairwise(part)]
        assert one["frames"] == sum(map(len, times[key]))
        assert one["period_ms"] == near(fmean(steps) / 1e3)
        assert one["jitter_ms"] == near(pstdev(steps) / 1e3)
        assert (one["shortest_ms"], one["longest_ms"]) == (min(steps) / 1e3, max(steps) / 1e3)
        assert one["load_pct"] == near(100 * bus_s[key] / span_s)
        assert one["message"] == {(1, False): "Known", (2, False): "Empty"}.get(key[1:])
        assert one["refused"] == (short[key] if one["message"] == "Known" else 0)
    for bus in result["channels"]:
        assert bus["load_pct"] == near(100 * bus_s[bus["channel"]] / span_s)


def test_the_busiest_second() -> None:
    """One frame every 100 ms, and 1,000 more in the fourth second, whatever the chunks."""
    times = sorted([*range(0, 10_000_000, 100_000), *range(3_000_000, 4_000_000, 1_000)])
    frames = np.zeros(len(times), FRAME)
    frames["time_us"], frames["length"] = times, 8
    bits = int(bits_on_bus(frames[:1])[0][0])
    for chunk in (1, 7, 500, 5_000):
        bus = result_of(frames, chunk=chunk)["channels"][0]
        assert bus["busiest_second_pct"] == near(100 * 1_010 * bits / 500_000)


def test_a_log_of_garbage_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MAX_IDS", 100)
    frames = np.zeros(1_000, FRAME)
    frames["id"] = np.arange(1_000)
    result = result_of(frames)
    assert len(result["ids"]) == 100
    assert result["frames_of_other_ids"] == 900


def test_one_frame_has_no_period_and_no_load() -> None:
    result = result_of(np.zeros(1, FRAME))
    assert [(one["period_ms"], one["load_pct"]) for one in result["ids"]] == [(None, None)]
    assert result_of()["ids"] == []
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_terminal(width: int) -> None:
    file = io.StringIO()
    print_tables(Console(file=file, width=width), result_of(some_frames(5_000, SEED)))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert any("unknown" in line and "00000002" in line for line in lines)
    assert any("Known" in line and "001" in line for line in lines)
    assert "refused" in lines[0]
    assert not any("…" in line for line in lines)
