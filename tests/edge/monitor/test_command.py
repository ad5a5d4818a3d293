"""`ayaz monitor` without a terminal: one picture, as text or JSON; what is wrong usage."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge.cli import run_command
from edge.config import load
from edge.monitor.command import _agents_memory
from edge.telemetry.spool import Spool
from tests.conftest import AYAZ, ROOT, simulate


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert run_command(["monitor", *arguments, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    result: dict[str, object] = json.loads(out, parse_constant=pytest.fail)
    return result


def test_one_picture_of_a_log(day: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json_of(capsys, str(day), "-c", str(config))
    assert run_command(["replay", str(day), "-c", str(config), "--json"]) == 0
    replayed = json.loads(capsys.readouterr().out)
    battery, channels = result["battery"], result["channels"]
    assert isinstance(battery, dict)
    assert isinstance(channels, list)
    assert round(battery["soc"], 4) == replayed["final"]["soc"]
    assert sum(c["counts"]["received"] for c in channels) == replayed["frames"]
    assert len(battery["cells"]) == 352
    assert all(0 < c["load"] < 0.5 for c in channels)


def test_at_a_moment_of_the_log(day: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    early = json_of(capsys, str(day), "-c", str(config), "--after", "5")
    whole = json_of(capsys, str(day), "-c", str(config))
    assert early["elapsed_s"] == pytest.approx(5, abs=0.11)
    assert whole["elapsed_s"] == pytest.approx(20, abs=0.21)


def test_as_text(day: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["monitor", str(day), "-c", str(config), "--once"]) == 0
    out = capsys.readouterr().out
    assert all(f"== {name}" in out for name in ("Overview", "Messages", "Signals", "Battery"))
    assert "BMS_PackStatus" in out
    assert max(map(len, out.splitlines())) <= 120


def test_with_databases_only(day: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json_of(
        capsys,
        str(day),
        "--dbc",
        str(ROOT / "dbc" / "bms.dbc"),
        "--dbc",
        str(ROOT / "dbc" / "vehicle.dbc"),
        "--j1939",
    )
    assert result["battery"] is None
    signals = result["signals"]
    assert isinstance(signals, list)
    assert {"PackVoltage", "HvessVoltageLevel"} <= {s["signal"] for s in signals}


def test_live_over_python_cans_virtual_bus(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop = threading.Event()
    sim = threading.Thread(
        target=simulate,
        args=("winter_day", "virtual:monitor"),
        kwargs={"stop": stop, "duration_s": 60.0, "speed": 1.0},
    )
    sim.start()
    try:
        result = json_of(capsys, "-c", str(config), "--after", "3")
    finally:
        stop.set()
        sim.join(10)
    channels, messages = result["channels"], result["messages"]
    assert isinstance(channels, list)
    assert isinstance(messages, list)
    assert [c["state"] for c in channels] == ["up"] * 3
    assert all(c["counts"]["received"] > 0 for c in channels)
    assert max(m["age_s"] for m in messages if m["name"] == "BMS_PackStatus") < 2
    assert not list(config.parent.glob("state*"))  # it looks, and leaves nothing behind


def test_live_begins_with_the_agents_memory(config: Path) -> None:
    loaded = load(config)
    assert _agents_memory(loaded) is None
    loaded.state_dir.mkdir()
    spool = Spool(loaded.state_dir / "spool.db")
    spool.put_state(b"what the agent knew")
    assert _agents_memory(loaded) == b"what the agent knew"  # beside the running agent
    spool.close()


def test_a_log_that_breaks_off_gives_its_picture_and_status_1(
    day: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.log"
    lines = day.read_text("ascii").splitlines(keepends=True)
    broken.write_text("".join(lines[:2000]) + "(1700000000.0 bms 123#zz", "ascii")
    assert run_command(["monitor", str(broken), "-c", str(config), "--json"]) == 1
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert sum(c["counts"]["received"] for c in result["channels"]) == 2000
    assert "broken.log" in result["trouble"]
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["x.log"], ["--dbc", "x.dbc"], ["-c", "x.toml", "--dbc", "x.dbc", "x.log"], ["--depot", "mqtt://x", "x.log"],
        ["-c", "x.toml", "--speed", "nan"], ["-c", "x.toml", "--speed", "0"], ["-c", "x.toml", "--after", "-1"],
    ],
)  # fmt: skip
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["monitor", *arguments]) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["none.log", "-c", "{config}"],
        ["-c", "none.toml"],
        ["none.log", "--dbc", "none.dbc"],
        ["{config}", "-c", "{config}"],
    ],
)
def test_what_is_not_there_is_one_line(
    arguments: list[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["monitor", *(a.format(config=config) for a in arguments), "--once"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_without_a_terminal_it_says_so(day: Path, config: Path, term: str) -> None:
    done = subprocess.run(
        [*AYAZ, "monitor", str(day), "-c", str(config)], capture_output=True, text=True, check=False, cwd=ROOT,
        stdin=subprocess.DEVNULL, env=os.environ | {"TERM": term},
    )  # fmt: skip
    assert done.returncode == 2
    assert "no terminal" in done.stderr
    assert "--once" in done.stderr
    assert done.stdout == ""


def test_a_command_that_needs_nothing_of_the_depot() -> None:
    code = "import sys, edge.monitor.command; print(sorted(m for m in sys.modules if m.split('.')[0] in ('nicegui', 'amqtt', 'depot')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
