"""`ayaz check` and `ayaz run`: what is wrong, all at once, each in a line with its place."""

from pathlib import Path

import pytest

from edge.cli import run_command
from tests.conftest import bus_config
from tests.edge.bus_of_cells import make_setup

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


def few(folder: Path, parts: list[str], battery: str) -> str:
    """A configuration of one channel, whose map has these parts (tests/edge/bus_of_cells.py), of two strings."""
    make_setup(folder, parts, strings=2, series=24)
    text = bus_config({"bus": "virtual:x"}, battery=f'cell = "lfp_bus"\n{battery}')
    return text.replace('dbc = "bus"', 'dbc = "./bus.dbc"')


@pytest.mark.parametrize(
    ("parts", "battery", "says"),
    [
        (["pack_current", "cells"], "series = 24", "48 cells of lfp_bus, 1 in parallel, 2 strings"),
        (["pack_current", "min", "max"], "", "lowest and highest cell of lfp_bus, 1 in parallel, 1 string"),
        (
            ["string_current", "string_voltage"],
            "series = 24",
            "mean of 24 cells of lfp_bus, 1 in parallel, 2",
        ),
        (["pack_current", "string_current", "mean"], "parallel = 3", "lfp_bus, 6 in parallel, 1 string"),
        (["bms_soc"], "", "no estimate: no role gives it a voltage and a current"),
        (["cells"], "", "no estimate"),
    ],
)
def test_what_the_estimator_has_to_go_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: list[str], battery: str, says: str
) -> None:
    status, out, _ = run(tmp_path, "check", few(tmp_path, parts, battery), capsys)
    assert status == 0
    assert says in out


@pytest.mark.parametrize(
    ("parts", "battery", "says"),
    [
        (
            ["pack_current", "cells"],
            "series = 23",
            "series is 23, but the maps name 24 cell voltages of string 1",
        ),
        (["pack_current", "pack_voltage"], "", "battery.series is missing"),
        (["string_current", "cells1"], "", "the currents of strings 1, 2, but the voltages of 1"),
        (["pack_current", "cells1", "string_contactor"], "", "give string 2 role 'string_contactor'"),
        (["pack_current", "drain2", "cells1"], "", "balancing of a cell that has no cell voltage"),
        (["pack_current", "cells"], "series = 0", "battery.series"),
    ],
)
def test_cells_that_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parts: list[str], battery: str, says: str
) -> None:
    text = few(tmp_path, [p.rstrip("12") for p in parts], battery)
    path = tmp_path / "bus.toml"
    if "cells1" in parts:  # string 1 only
        head, *entries = path.read_text().split("[[signals]]")
        kept = [e.replace('s = "1..2"', 's = "1..1"') if "cell_voltage" in e else e for e in entries]
        kept = [
            e.replace('index = "1"', 'index = "99"') if "drain2" in parts and "Drain" in e else e
            for e in kept
        ]
        path.write_text("[[signals]]".join([head, *kept]))
    status, _, err = run(tmp_path, "check", text, capsys)
    assert status == 1
    assert says in err
    assert "ayaz.toml:" in err
    assert "Traceback" not in err


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
