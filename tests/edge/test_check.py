"""`ayaz check` and `ayaz run`: what is wrong, all at once, each in a line with its place."""

from pathlib import Path

import pytest

from edge.cli import run_command
from tests.conftest import bus_config

GOOD = bus_config({"bms": "virtual:x"})


def run(folder: Path, command: str, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    path = folder / "ayaz.toml"
    path.write_text(text)
    status = run_command([command, "-c", str(path)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_good_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(tmp_path, "check", GOOD, capsys)
    assert status == 0
    assert "352 cells of" in out
    assert "good (" in out


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('dbc = "bms"', 'dbc = "./ghost.dbc"', ["ghost.dbc"]),
        ('cell = "lfp_bus"', 'cell = "unobtainium"', ["unobtainium"]),
        ('dbc = "bms"', 'dbc = "./ghost.dbc"\n', ["ghost.dbc"]),
        ("mqtt://127.0.0.1:1", "http://x", ["ayaz.toml:12: mqtt.broker"]),
        ('"mqtt://127.0.0.1:1"', '"mqtts://x"\nca = "ghost.pem"', ["ayaz.toml:13: mqtt.ca: no such file"]),
    ],
)
def test_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, old: str, new: str, says: list[str]
) -> None:
    status, _, err = run(tmp_path, command, GOOD.replace(old, new), capsys)
    assert status == 1
    assert "Traceback" not in err
    for text in says:
        assert text in err


def test_database_and_cell_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD.replace('dbc = "bms"', 'dbc = "./ghost.dbc"').replace("lfp_bus", "unobtainium")
    status, _, err = run(tmp_path, "check", text, capsys)
    assert status == 1
    assert "ghost.dbc" in err
    assert "unobtainium" in err


def test_a_certificate_that_is_none_stops_the_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    text = GOOD.replace('"mqtt://127.0.0.1:1"', '"mqtts://x"\nca = "ca.pem"')
    status, _, err = run(tmp_path, "run", text, capsys)
    assert status == 1
    assert "ca.pem" in err
    assert "certificate" in err


def test_a_state_dir_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").write_text("a file")
    status, _, err = run(tmp_path, "run", GOOD, capsys)
    assert status == 1
    assert "state_dir" in err
