"""`ayaz sim` on the command line, with a small bus in the place of the simulation."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import can
import numpy as np
import pytest

from edge.can.logs import open_log
from edge.cli import run_command
from sim_bus import job
from sim_bus.command import run_simulation
from sim_bus.scenario import names
from tests.conftest import ROOT
from tests.sim_bus.small_run import small

SMALL_AYAZ = [sys.executable, "-m", "tests.sim_bus.small_run"]


@pytest.fixture(autouse=True)
def small_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "make_run", small)


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that must fail."""
    assert run_command(["sim", *arguments]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert error.startswith("ayaz: ")
    return error


def test_list_shows_every_scenario_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sim", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split() for line in lines if line.startswith("  ")]
    assert sorted(words[0] for words in shown) == sorted(names())
    assert all(len(words) > 3 for words in shown)
    assert lines[0] == "days:"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["winter_day"],
        ["winter_day", "--playback", "x.csv", "--to", "a.log"],
        ["winter_day", "--to", "a.log", "--duration", "nan"],
        ["winter_day", "--to", "a.log", "--duration", "inf"],
        ["winter_day", "--to", "a.log", "--duration", "0"],
        ["winter_day", "--to", "virtual:x", "--speed", "nan"],
        ["winter_day", "--to", "virtual:x", "--seed", "-1"],
        ["winter_day", "--to", "virtual:x", "--parallel", "0"],
        ["winter_day", "--truth", "t.csv", "--truth-every", "0.15"],
        ["winter_day", "--truth", "t.csv", "--truth-every", "nan"],
        ["winter_day", "--to", "-", "--json"],
        ["winter_day", "--to", "virtual:{bus}", "--fleet", "2"],
        ["--playback", "x.csv", "--to", "{bus}.log", "--fleet", "2"],
        ["winter_day", "--to", "{bus}.log", "--fleet", "0"],
    ],
)
def test_wrong_usage_is_status_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["sim", *arguments]) == 2
    assert "Error: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unknown_scenario_points_to_the_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "make_run", lambda of: (job.load(of), 0))
    assert "ayaz sim --list" in failed(capsys, "wintr_day", "--to", "virtual:x")


@pytest.mark.parametrize("option", ["--to", "--truth", "--plot"])
def test_a_file_that_cannot_be_written_is_said_before_the_run(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"--to": tmp_path / "o.log", "--truth": tmp_path / "t.csv", "--plot": tmp_path / "p.html"}
    files[option] = tmp_path / "none" / files[option].name
    words = [word for pair in files.items() for word in map(str, pair)]
    error = failed(capsys, "winter_day", "--duration", "1e9", *words)
    assert f"{option} {files[option]}: cannot be written" in error
    assert not list(tmp_path.iterdir())


def test_one_file_is_not_written_twice_nor_the_data_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "d.csv"
    data.write_text("kept")
    assert "is --playback already" in failed(capsys, "--playback", str(data), "--truth", str(data))
    assert data.read_text() == "kept"
    both = str(tmp_path / "a.log")
    assert "is --to already" in failed(capsys, "winter_day", "--duration", "1", "--to", both, "--truth", both)


def test_a_log_a_truth_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"--to": tmp_path / "o.blf", "--truth": tmp_path / "t.csv", "--plot": tmp_path / "p.html"}
    words = [word for pair in files.items() for word in map(str, pair)]
    assert run_command(["sim", "winter_day", "--duration", "4.5", "--seed", "9", *words]) == 0
    out, error = capsys.readouterr()
    places = ", ".join(map(str, files.values()))
    assert out == f"winter_day, seed 9: 4.5 s, 675 frames, faults: weak cell 1.17; written to {places}\n"
    assert error == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.blf", "p.html", "t.csv"]


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "o.log"
    assert run_command(["sim", "winter_day", "--duration", "60", "--to", str(log), "--json"]) == 0
    out, error = capsys.readouterr()
    found = json.loads(out, parse_constant=pytest.fail)
    assert error == ""
    assert found["frames"] == sum(map(len, open_log(log))) == 9000
    assert found["seconds"] == 60
    assert found["faults"] == [{"label": "weak cell 1.17", "from_s": 3.0, "to_s": 7.0}]
    assert found["kwh_per_km"] == pytest.approx(3.0, abs=0.01)
    assert found["files"] == [str(log)]
    assert (found["scenario"], found["seed"], found["stopped"]) == ("winter_day", 1, False)


def test_a_scenario_has_its_own_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sim", "winter_day", "--to", str(tmp_path / "a.log"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] == 30


def test_the_speed_changes_no_byte(tmp_path: Path) -> None:
    for name, speed in (("a", None), ("b", 20.0)):
        run_simulation("x", str(tmp_path / f"{name}.log"), 2, 3.05, speed, tmp_path / f"{name}.csv")
    for suffix in ("log", "csv"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    times = np.concatenate(list(open_log(tmp_path / "a.log")))["time_us"]
    assert times[-1] - times[0] == 3_040_000, "frames before the end"
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + 4


def test_what_a_format_cannot_hold_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sim", "winter_day", "--duration", "2", "--to", str(tmp_path / "a.trc")]) == 0
    assert "180 frames left out that this format can't hold" in capsys.readouterr().out


# As a process of its own


def start(*arguments: str, **how: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SMALL_AYAZ, "sim", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


def test_ctrl_c_leaves_a_whole_log(tmp_path: Path) -> None:
    log, truth = tmp_path / "o.log", tmp_path / "t.csv"
    with start("winter_day", "--to", str(log), "--truth", str(truth), "--duration", "1e9") as process:
        deadline, part = time.monotonic() + 30, tmp_path / "o.log.part"
        while (not part.exists() or part.stat().st_size < 100_000) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (0, "")
    assert "stopped" in out
    times = np.concatenate(list(open_log(log)))["time_us"]
    assert (np.diff(times) >= 0).all()
    seconds = (times[-1] - times[0]) / 1e6
    assert len(truth.read_text().splitlines()) - 2 == round(seconds + 0.02)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.log", "t.csv"]


def test_stdout_takes_candump_lines_and_its_reader_may_go(tmp_path: Path) -> None:
    with start("winter_day", "--to", "-", "--duration", "3") as process:
        out, error = process.communicate(timeout=30)
    assert process.returncode == 0
    assert error.startswith("winter_day, seed 1: 3 s, 450 frames")
    (tmp_path / "a.log").write_text(out)
    assert sum(map(len, open_log(tmp_path / "a.log"))) == 450
    with start("winter_day", "--to", "-", "--duration", "1e9") as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().startswith("(1700000000.000000) bms 200#")
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == ""


def on_a_terminal(*arguments: str) -> str:
    """What a command shows on a terminal of 160 columns."""
    main, sub = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    with subprocess.Popen(
        [*SMALL_AYAZ, "sim", *arguments], stdout=subprocess.DEVNULL, stderr=sub, env=environment, cwd=ROOT
    ) as process:
        os.close(sub)
        shown = b""
        while True:
            try:
                piece = os.read(main, 4096)
            except OSError:
                break
            shown += piece
        assert process.wait(30) == 0
    os.close(main)
    return shown.decode()


def test_the_live_line_says_what_the_bus_does(tmp_path: Path) -> None:
    shown = on_a_terminal("winter_day", "--to", str(tmp_path / "o.log"), "--duration", "4", "--speed", "4")
    for text in (
        "driving to stop 1",
        "SoC 80.0 %, BMS 75.0 %",
        "kW",
        "°C",
        "× real time",
        "━",
        "weak cell 1.17",
    ):
        assert text in shown, text


def test_a_bus_is_paced() -> None:
    """Frames leave near their own time, not a second's at once."""
    with can.Bus(interface="virtual", channel="paced-bms") as bus:
        runner = threading.Thread(
            target=run_simulation, args=("winter_day", "virtual:paced"), kwargs={"duration_s": 2.0}
        )
        runner.start()
        arrived = []
        while (message := bus.recv(1.0)) is not None:
            arrived.append((time.monotonic(), message.arbitration_id))
        runner.join(10)
    times = [at for at, _ in arrived]
    assert len(times) == 100
    assert np.median(np.diff(times)) == pytest.approx(0.02, abs=0.008)
    assert times[-1] - times[0] == pytest.approx(1.98, abs=0.3)


def test_a_stop_ends_a_paced_bus() -> None:
    stop = threading.Event()
    runner = threading.Thread(target=run_simulation, args=("x", "virtual:stopped"), kwargs={"stop": stop})
    runner.start()
    time.sleep(0.2)
    stop.set()
    runner.join(5)
    assert not runner.is_alive()
