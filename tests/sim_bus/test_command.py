"""`ayaz sim` on the command line."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import can
import numpy as np
import pytest

from edge.cli import run_command
from sim_bus.command import run_simulation
from sim_bus.scenario import names
from sim_bus.sinks import bus_channels
from tests.conftest import AYAZ


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that must fail."""
    assert run_command(["sim", *arguments]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert error.startswith("ayaz: ")
    return error


def test_list_shows_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sim", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["winter_day"],
        ["winter_day", "--to", "a.log"],
        ["winter_day", "--playback", "x.csv", "--to", "a.log"],
        ["winter_day", "--to", "a.log", "--duration", "nan"],
        ["winter_day", "--to", "a.log", "--duration", "inf"],
        ["winter_day", "--to", "a.log", "--duration", "0"],
        ["winter_day", "--to", "virtual:x", "--speed", "nan"],
        ["winter_day", "--to", "virtual:x", "--seed", "-1"],
        ["winter_day", "--to", "virtual:x", "--parallel", "0"],
    ],
)
def test_wrong_usage_is_status_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["sim", *arguments]) == 2
    assert "Error: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unknown_scenario_points_to_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ayaz sim --list" in failed(capsys, "wintr_day", "--to", "virtual:x")


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("day.csv", "neither a file that ends in .log nor INTERFACE:CHANNEL"),
        ("no/such/thing", "neither a file"),
        ("tin:can", "neither a file"),
        ("virtual:", "neither a file"),
        ("virtual:a,b", "three channels are needed: bms, inverter, vehicle"),
        ("virtual:a,,c", "three channels are needed"),
        ("nocan7", "socketcan:nocan7: cannot be opened"),
        ("nocan7", "sudo ip link add dev vcan0 type vcan"),
        ("udp_multicast:not an address", "cannot be opened"),
        ("udp_multicast:239.74.163.255", "cannot be opened"),
        ("slcan:/dev/none", "neither a file"),
        ("pcan:PCAN_USBBUS1", "cannot be opened"),
        ("kvaser:0", "cannot be opened"),
        ("vector:0", "cannot be opened"),
    ],
)
def test_a_wrong_interface_is_one_line(
    to: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tmp_path / "t.csv"
    assert expected in failed(capsys, "winter_day", "--to", to, "--duration", "1", "--truth", str(truth))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--to", "--truth", "--plot"])
def test_a_file_that_cannot_be_written_is_said_before_the_run(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"--to": tmp_path / "o.log", "--truth": tmp_path / "t.csv", "--plot": tmp_path / "p.html"}
    files[option] = tmp_path / "none" / files[option].name
    words = [word for pair in files.items() for word in map(str, pair)]
    error = failed(capsys, "winter_day", "--duration", "1e6", *words)
    assert "cannot be written" in error
    assert str(files[option]) in error
    assert not list(tmp_path.iterdir())


def test_one_file_is_not_written_twice_nor_the_data_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "d.csv"
    data.write_text("time_s,current_A,voltage_V,temperature_C\n0,1,3.3,20\n5,1,3.3,20\n")
    before = data.read_text()
    assert "is --playback already" in failed(capsys, "--playback", str(data), "--truth", str(data))
    assert data.read_text() == before
    both = str(tmp_path / "a.log")
    assert "is --to already" in failed(capsys, "winter_day", "--duration", "1", "--to", both, "--truth", both)


def test_a_full_disk_is_one_line_and_leaves_no_log(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = tmp_path / "o.log"
    log.write_text("an older log")
    (tmp_path / "o.log.part").symlink_to("/dev/full")
    assert "No space left" in failed(capsys, "winter_day", "--duration", "100", "--to", str(log))
    assert not log.is_symlink()
    assert log.read_text() == "an older log"
    assert [p.name for p in tmp_path.iterdir()] == ["o.log"]


def test_a_log_a_truth_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"--to": tmp_path / "o.log", "--truth": tmp_path / "t.csv", "--plot": tmp_path / "p.html"}
    words = [word for pair in files.items() for word in map(str, pair)]
    assert run_command(["sim", "winter_day", "--duration", "3", "--seed", "9", *words]) == 0
    out, error = capsys.readouterr()
    assert out == f"winter_day, seed 9: written to {', '.join(map(str, files.values()))}\n"
    assert error == ""
    page = files["--plot"].read_text()
    assert page.count("<svg") == page.count("</svg>") == 5
    assert "nan" not in page
    assert "http" not in page, "nothing from the internet"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.log", "p.html", "t.csv"]


def test_a_picture_of_a_long_day_is_small_and_a_short_one_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from sim_bus.plot import plot_day
    from sim_bus.scenario import load_scenario
    from sim_bus.simulation import Simulation

    row = Simulation(load_scenario("winter_day"), 1).truth
    day = [replace(row, t_s=float(n), power_w=1e5 * (n % 60 == 7), soc=float("nan")) for n in range(86_400)]
    plot_day(tmp_path / "day.html", day, "a <day>")
    page = (tmp_path / "day.html").read_text()
    assert len(page) < 200_000
    assert "a &lt;day&gt;" in page
    assert "24 h" in page
    plot_day(tmp_path / "one.html", day[:1], "one row")
    assert "<svg" in (tmp_path / "one.html").read_text()


def test_ctrl_c_leaves_a_whole_log(tmp_path: Path, decode_log: Any) -> None:
    log, truth = tmp_path / "o.log", tmp_path / "t.csv"
    command = [*AYAZ, "sim", "winter_day", "--to", str(log), "--truth", str(truth), "--duration", "1e6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        part = tmp_path / "o.log.part"
        while (not part.exists() or part.stat().st_size < 100_000) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (0, "")
    assert "stopped" in out
    assert log.read_text().endswith("\n")
    times = decode_log(log).times
    assert (np.diff(times) >= 0).all()
    assert len(truth.read_text().splitlines()) - 1 == int(times[-1] + 0.1) + 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.log", "t.csv"]


def on_a_terminal(*arguments: str) -> str:
    """What a command shows on a terminal of 120 columns."""
    main, sub = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        [*AYAZ, "sim", *arguments], stdout=subprocess.DEVNULL, stderr=sub, env=environment
    ) as process:
        os.close(sub)
        shown = b""
        while True:
            try:
                piece = os.read(main, 4096)
            except OSError:
                break
            shown += piece
        assert process.wait(20) == 0
    os.close(main)
    return shown.decode()


def test_progress_with_the_time_left_is_for_a_terminal(tmp_path: Path) -> None:
    shown = on_a_terminal("winter_day", "--to", str(tmp_path / "o.log"), "--duration", "100")
    assert "SoC" in shown
    assert "━" in shown
    assert "0:00:0" in shown, "the time left"
    data = tmp_path / "d.csv"
    data.write_text("time_s,current_A,voltage_V,temperature_C\n0,1,3.3,20\n60,1,3.3,20\n")
    assert "━" in on_a_terminal("--playback", str(data), "--to", str(tmp_path / "o.log"))


def test_a_bus_is_paced(tmp_path: Path) -> None:
    """Frames leave near their own time, not a step's at once."""
    with can.Bus(interface="virtual", channel="paced-bms") as bus:
        runner = threading.Thread(
            target=run_simulation, args=("winter_day", "virtual:paced"), kwargs={"duration_s": 3.0}
        )
        runner.start()
        arrived = []
        while (message := bus.recv(1.0)) is not None:
            if message.arbitration_id == 0x200:
                arrived.append(time.monotonic())
        runner.join(10)
    assert len(arrived) == 150
    assert np.median(np.diff(arrived)) == pytest.approx(0.02, abs=0.008)


def test_channels_of_an_interface() -> None:
    assert bus_channels("vcan0") == ("socketcan", ["vcan0", "vcan1", "vcan2"])
    assert bus_channels("virtual:x1") == ("virtual", ["x1-bms", "x1-inverter", "x1-vehicle"])
    assert bus_channels("udp_multicast:239.74.163.2")[1] == [f"239.74.163.{n}" for n in (2, 3, 4)]
    assert bus_channels("socketcan:a,b,c") == ("socketcan", ["a", "b", "c"])
