"""A damaged recording is one typed error, never half a replay in silence."""

import json
import random
from pathlib import Path

import pytest

from edge.cli import run_command
from edge.recording import inputs_path
from sim_bus.command import run_simulation
from tests.conftest import bus_config

CONFIG = bus_config({"bms": "virtual:x"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration and a recording of two seconds."""
    (tmp_path / "ayaz.toml").write_text(CONFIG)
    log = tmp_path / "day.log"
    run_simulation("winter_day", str(log), duration_s=2, speed=None)
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
