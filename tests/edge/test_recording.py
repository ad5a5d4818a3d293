"""A damaged recording is one typed error, never half a replay in silence."""

import json
import logging
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.agent import Agent
from edge.can.frames import FRAME, Frames
from edge.cli import run_command
from edge.config import load
from edge.errors import LogError
from edge.recording import Recorder, inputs_path, pieces
from edge.telemetry.batch import decode_batch
from tests.conftest import bus_config, eventually, simulate, virtual

CONFIG = bus_config({"bms": "virtual:x"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration and a recording of two seconds."""
    (tmp_path / "ayaz.toml").write_text(CONFIG)
    log = tmp_path / "day.log"
    simulate("winter_day", log, duration_s=2)
    kept = [line for line in log.read_text().splitlines() if " bms " in line]
    log.write_text("\n".join(kept) + "\n")
    first = round(float(kept[0].split()[0].strip("()")) * 1e6)
    lines = [{"after": 0, "start": {"boot": "0011223344556677", "restored": None}}]
    lines += [{"after": len(kept) * n // 20, "tick": first + n * 100_000} for n in range(1, 21)]
    lines += [{"after": len(kept), "seal": True}]
    inputs_path(log).write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def replay(capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = run_command(["replay", "day.log", "-c", "ayaz.toml", "--json"])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_good_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = replay(capsys)
    assert status == 0, err
    result = json.loads(out)
    assert result["batches"] >= 1
    assert {"frames", "decoded", "unknown", "refused", "samples", "final", "cpu_s"} <= set(result)


@pytest.mark.parametrize(
    "line",
    ["[]", "{", '{"after": 1}', '{"after": "x", "tick": 1}', '{"after": 99999, "tick": 1}', '{"tick": 1}'],
)
def test_a_wrong_line(folder: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    path = inputs_path(folder / "day.log")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], line, *lines[5:]]) + "\n")
    status, _, err = replay(capsys)
    assert status == 1
    assert f"{path.name}:6" in err
    assert len(err.strip().splitlines()) == 1


def test_random_damage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = 9
    print("seed", seed)
    rng = random.Random(seed)
    path = inputs_path(folder / "day.log")
    good = path.read_bytes()
    for _ in range(25):
        data = bytearray(good[: rng.randrange(1, len(good))] if rng.random() < 0.3 else good)
        data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        status, _, err = replay(capsys)
        assert status in (0, 1)
        assert status == 0 or len(err.strip().splitlines()) == 1, err


@pytest.mark.parametrize("text", ["", '{"after": 0, "start"'])
def test_no_whole_line_of_inputs(folder: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    inputs_path(folder / "day.log").write_text(text)
    status, out, err = replay(capsys)
    assert (status, out) == (1, "")
    assert "day.log.inputs: holds no whole line" in err


def full_disk(path: Path, which: str) -> None:
    """Makes one of a recording's two files lie on a disk that has no room."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (path if which == "log" else inputs_path(path)).symlink_to("/dev/full")


@pytest.mark.parametrize("which", ["log", "inputs"])
def test_a_full_disk_ends_the_recording_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, which: str
) -> None:
    path = tmp_path / "rec.log"
    full_disk(path, which)
    recorder = Recorder(path, ["bms"])
    frames = np.zeros(1000, FRAME)
    frames["length"] = 8
    with caplog.at_level(logging.ERROR):
        recorder.start("boot", None)
        for n in range(1000):
            recorder.feed(frames)
            recorder.tick(n)
            recorder.loss({"x": n})
            recorder.clock(n, "ntp")
        recorder.seal()
        recorder.close()
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    assert recorder.missed > 0
    assert recorder.frames + recorder.missed == 1_000_000


def test_an_agent_whose_recording_fails_seals_its_open_batch_and_counts(tmp_path: Path) -> None:
    (tmp_path / "ayaz.toml").write_text(bus_config(virtual("full"), interval_s=1000))
    path = tmp_path / "rec.log"
    full_disk(path, "log")
    agent = Agent(load(tmp_path / "ayaz.toml"), record=path)
    kept: list[bytes] = []
    append = agent.spool.append
    agent.spool.append = lambda items: (kept.extend(i.payload for i in items), append(items))[1]  # type: ignore[method-assign]
    stop = threading.Event()
    runner = threading.Thread(target=agent.run, args=(stop,))
    runner.start()
    try:
        simulate("spring_day", "virtual:full", seed=5, duration_s=60, speed=20)
        eventually(lambda: agent.core.ledger()["lost"].get("unrecorded", 0) > 0)
        time.sleep(0.3)
    finally:
        stop.set()
        runner.join(20)
    assert not runner.is_alive()
    last = decode_batch(kept[-1])
    assert last.s, "the open batch must be sealed"
    assert last.ledger.lost["unrecorded"] > 0


def at(*times_us: int) -> Frames:
    frames = np.zeros(len(times_us), FRAME)
    frames["time_us"] = times_us
    return frames


def test_pieces_hold_every_frame_once_before_its_tick() -> None:
    rng = np.random.default_rng(4)
    whole = at(*np.cumsum(rng.integers(0, 60_000, 3000)).tolist())
    cuts = np.sort(rng.integers(0, len(whole), 20)).tolist()
    given = list(pieces(iter(np.split(whole, cuts))))
    assert (np.concatenate([frames for frames, _ in given]) == whole).all()
    ticks = [tick_us for _, tick_us in given if tick_us is not None]
    assert ticks == sorted(set(ticks))
    assert all(tick_us % 100_000 == 0 for tick_us in ticks)
    assert all((frames["time_us"] < tick_us).all() for frames, tick_us in given if tick_us is not None)
    assert ticks[-1] > whole["time_us"][-1]


def test_pieces_after_a_gap_and_with_time_running_backwards() -> None:
    given = list(pieces(iter([at(50_000, 20_000, 90_000_000, 90_000_001)])))
    assert [(len(frames), tick_us) for frames, tick_us in given] == [
        (2, 100_000), (2, None), (0, 90_100_000)
    ]  # fmt: skip
    assert given[0].frames["time_us"].tolist() == [50_000, 50_000]
    assert list(pieces(iter([]))) == []


def test_pieces_of_a_damaged_log_come_before_its_error() -> None:
    def chunks() -> Iterator[Frames]:
        yield at(10_000)
        raise LogError("breaks off")

    given = pieces(chunks())
    assert [(len(p.frames), p.tick_us) for p in (next(given), next(given))] == [(1, None), (0, 100_000)]
    with pytest.raises(LogError, match="breaks off"):
        next(given)
