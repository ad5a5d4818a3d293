"""The laboratory, and the model that a user makes from its tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge.cli import run_command
from edge.errors import ScenarioError
from edge.measured.reader import load_measured
from sim_bus.laboratory import parse_temps, run_laboratory


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    made = run_laboratory("lfp_280", folder, (0.0, 25.0), seed=1)
    assert len(made) == 6
    return folder


def test_a_model_made_of_them_knows_a_drive_that_it_has_not_seen(
    tests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {"--ocv": "slow", "--pulses": "pulses", "--drive": "drive"}
    files = [
        part for option, kind in kinds.items() for p in sorted(tests.glob(f"{kind}_*")) for part in (option, str(p))
    ]  # fmt: skip
    model = tmp_path / "mine.toml"
    command = ["fit-cell", "--name", "mine", "--chemistry", "LFP", "--capacity-ah", "280", *files]
    assert run_command([*command, "--voltage-min", "2.5", "--voltage-max", "3.65", "-o", str(model)]) == 0
    run_laboratory("lfp_280", tmp_path, (25.0,), seed=2)
    capsys.readouterr()
    drive = str(tmp_path / "drive_+25.csv.gz")
    assert run_command(["soc", drive, "--cell", str(model), "--initial-soc", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    print("seeds 1 and 2", said["rmse_pct"], said["max_abs_pct"])
    assert said["rmse_pct"] < 1.5
    assert said["max_abs_pct"] < 4


def test_the_same_seed_gives_the_same_bytes(tests: Path, tmp_path: Path) -> None:
    for path in run_laboratory("lfp_280", tmp_path, (25.0,), seed=1):
        assert path.read_bytes() == (tests / path.name).read_bytes()


def test_the_tests_are_what_they_say(tests: Path) -> None:
    slow, drive = (load_measured(tests / f"{kind}_+25.csv.gz") for kind in ("slow", "drive"))
    out = slow.current_a > 1
    assert float(np.sum(out)) * 10 * 14 / 3600 == pytest.approx(280, rel=0.02)
    assert slow.voltage_v.min() == pytest.approx(2.5, abs=0.05)
    assert slow.voltage_v.max() == pytest.approx(3.65, abs=0.05)
    assert drive.soc is not None
    assert drive.soc[0] > 0.99
    assert drive.soc[-1] < 0.1
    assert np.ptp(drive.current_a) > 280


def test_what_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="no_such"):
        run_laboratory("no_such", tmp_path)
    for text in ("a", "", "25,25", "-80", "nan"):
        with pytest.raises(ScenarioError, match="--temps"):
            parse_temps(text)
    (tmp_path / "file").write_text("")
    with pytest.raises(ScenarioError, match="cannot be written"):
        run_laboratory("lfp_280", tmp_path / "file", (25.0,))
    assert run_command(["sim", "--laboratory", "lfp_280"]) == 2
