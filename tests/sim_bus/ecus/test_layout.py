"""What is wrong with a folder of databases is one error that names the file and the signal."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from edge.errors import ScenarioError
from sim_bus.ecus.layout import CHANNELS, load_layout
from sim_bus.ecus.names import home, needed, scalars


def folder(where: Path, name: str, old: str, new: str) -> str:
    """Our databases, one of them changed."""
    for n in CHANNELS:
        text = (resources.files("dbc") / f"{n}.dbc").read_text("ascii")
        if n == name:
            text, count = re.subn(old, new, text)
            assert count
        (where / f"{n}.dbc").write_text(text, "ascii")
    return str(where)


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("vehicle", " SG_ AmbientAirTemp .*\n", "", r"vehicle\.dbc: no signal AmbientAirTemp"),
        ("bms", " SG_ String2_Cell017_Voltage .*\n", "", r"bms\.dbc: no signal String2_Cell017_Voltage"),
        ("bms", " SG_ String2_Temp07 .*\n", "", r"bms\.dbc: no signal String2_Temp07"),
        (
            "inverter",
            r"SG_ MotorTemp : 0\|8@1",
            "SG_ MotorTemp : 7|8@0",
            r"INV_Temps\.MotorTemp: only little-endian",
        ),
        (
            "inverter",
            "MotorTemp",
            "Boost",
            r"inverter\.dbc: INV_Temps\.Boost: the simulator has no such value",
        ),
        ("inverter", "INV_Temps: 4 INV", "INV_Temps: 4 ABC", r"INV_Temps is sent by 'ABC'"),
        ("inverter", "BO_ 770", "BO BO", r"inverter\.dbc: is no database"),
    ],
)
def test_one_error_names_file_and_signal(tmp_path: Path, name: str, old: str, new: str, says: str) -> None:
    with pytest.raises(ScenarioError, match=says) as caught:
        load_layout(folder(tmp_path, name, old, new), 2, 176)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("strings", "cells"), [(1, 176), (3, 176), (2, 175), (2, 177), (2, 16)])
def test_another_battery_than_the_databases(strings: int, cells: int) -> None:
    with pytest.raises(ScenarioError, match=r"bms\.dbc: .*String|bms\.dbc: no signal String"):
        load_layout(None, strings, cells)


def test_a_smaller_battery_has_databases_of_its_own(tmp_path: Path) -> None:
    """One string of 16 cells and 4 sensors, out of ours."""
    here = folder(tmp_path, "bms", r" SG_ String(2_|1_Cell(?!Count|0(0\d|1[0-6])_)|1_Temp(?!0[1-4])).*\n", "")
    bms = (tmp_path / "bms.dbc").read_text("ascii")
    (tmp_path / "bms.dbc").write_text(re.sub(r"(?m)^(CM_|VAL_).* String2_.*\n", "", bms), "ascii")
    layout = load_layout(here, 1, 16)
    assert (layout.sensors, layout.slots()) == (4, len(scalars(1)) + 2 * 16 + 4)
    pages = {s.name: s.row[-2] for s in layout.sent}
    assert (pages["BMS_CellVoltages1"], pages["BMS_CellTemps1"], pages["BMS_Balancing1"]) == (4, 1, 1)


def test_other_places_and_periods_are_the_databases_business(tmp_path: Path) -> None:
    here = folder(tmp_path, "inverter", r'"GenMsgCycleTime" BO_ 768 20', '"GenMsgCycleTime" BO_ 768 50')
    rows = {s.name: s.row for s in load_layout(here, 2, 176).sent}
    assert rows["INV_Torque"][0] == 50_000


def test_each_name_is_in_its_database() -> None:
    for name in scalars(2):
        assert f" SG_ {name} " in (resources.files("dbc") / f"{home(name)}.dbc").read_text("ascii"), name
    assert needed(2) < set(scalars(2))
    assert needed(3) - needed(2) == {"String3_Contactor", "String3_CellCount"}
