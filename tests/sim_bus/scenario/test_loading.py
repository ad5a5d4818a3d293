"""A scenario is read whole, or every mistake of it is named with its file and line."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge.errors import ScenarioError
from sim_bus.scenario import load_scenario
from sim_bus.scenario.loading import KEYS, TABLES
from sim_bus.scenario.model import (
    BatteryPlan,
    BusPlan,
    Entry,
    FaultPlan,
    Scenario,
    Table,
    Weather,
)

GOOD = 'about = "x"\n[weather]\nambient_degc = -20\n[battery]\ntemp_degc = -12\nsoc = 0.8\n'
LINES = GOOD.count("\n")
CORNERS = [
    (name, key)
    for name, kind in TABLES.items()
    for key, (_, wanted, _) in KEYS[kind].items()
    if wanted in (int, float)
]


@dataclass
class Parameter:
    default: Any
    low: float = 0.0
    high: float = 10.0
    unit: str = "ohm"
    about: str = "of something"
    choices: tuple[str, ...] = ()


@dataclass
class Kind:
    name: str
    parameters: dict[str, Parameter] = field(default_factory=dict)


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three kinds of faults: so these tests need not change with the catalogue."""
    kinds = [
        Kind("short", {"ohm": Parameter(2.5), "cell": Parameter(1, high=1000)}),
        Kind("swap", {"with_what": Parameter("it"), "bus": Parameter("bms", choices=("bms", "vehicle"))}),
        Kind("games", {"shortest_s": Parameter(1), "longest_s": Parameter(5)}),
    ]
    monkeypatch.setattr("sim_bus.scenario.loading.CATALOGUE", {kind.name: kind for kind in kinds})


def load(tmp_path: Path, text: str | bytes, name: str = "s.toml") -> Scenario:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_scenario(str(path))


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        load(tmp_path, text)
    assert all("\n" not in one for one in caught.value.problems)
    return [one.replace(f"{tmp_path}/", "") for one in caught.value.problems]


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD) == Scenario(
        "x", weather=Weather(((0.0, -20.0),)), battery=BatteryPlan(0.8, -12.0)
    )


def test_tables_lists_and_times(tmp_path: Path) -> None:
    text = GOOD.replace("-20", "[[0, -20], [2.5, -10]]") + (
        'cells = 96\n[bus]\nheating = "fuel"\nfirst_cabin_degc = 3\n'
        '[[timetable]]\nat = "22:10:30"\ndo = "drive"\n'
        '[[timetable]]\nat = "0:05"\ndo = "charge"\ncharger_kw = 50\ncharger = "depot_ac"\n'
        '[[timetable]]\nat = "09:00"\ndo = "off"\n'
        '[[faults]]\nkind = "short"\nat_s = 60\nohm = 3\ncell = 4\n[[faults]]\nkind = "swap"\nwith_what = "it"'
    )
    got = load(tmp_path, text)
    assert got.weather.ambient_degc == ((0.0, -20.0), (2.5, -10.0))
    assert got.bus == BusPlan(heating="fuel", first_cabin_degc=3.0)
    assert got.battery.cells == 96
    assert got.clock_s == 22 * 3600 + 10 * 60 + 30
    assert got.timetable == (
        Entry(0.0, "drive"),
        Entry(6870.0, "charge", "depot_ac", 50.0),
        Entry(38_970.0, "off"),
    )
    assert got.faults == (
        FaultPlan("short", 60.0, parameters={"ohm": 3.0, "cell": 4}),
        FaultPlan("swap", parameters={"with_what": "it"}),
    )
    assert isinstance(got.faults[0].parameters["ohm"], float)


@pytest.mark.parametrize(
    ("lines", "line", "expected"),
    [
        ("colour = 1", 1, "unknown key in [battery]: 'colour'; there are "),
        ("lekage_a = 1", 1, "unknown key in [battery]: 'lekage_a'; did you mean leakage_a?"),
        ("wet = 1", 1, "unknown key 'wet' in [battery]; it belongs into [weather]"),
        ('"odd\\nkey" = 3', 1, "unknown key in [battery]: 'odd\\nkey'; there are"),
        ("[wheather]\nwind = 3", 1, "unknown table: 'wheather'; did you mean weather?"),
        ("[[timetabel]]\nat = 3", 1, "unknown table: 'timetabel'; did you mean timetable?"),
        ("cells = 1.5", 1, "battery.cells must be a whole number, not 1.5"),
        ("cells = true", 1, "battery.cells must be a whole number, not True"),
        ("cells = 0x" + "f" * 3900, 1, "battery.cells must lie between 1 and 1000, not a number of thousands"),
        ("[route]\n\ndwell_s = 'long'", 3, "route.dwell_s must be a number, not 'long'"),
        ("[route]\ndwell_s = 1979-05-27", 2, "route.dwell_s must be a number"),
        ("[route]\ndwell_s = nan", 2, "route.dwell_s must lie between 0 and 3600 s, not nan"),
        ("[route]\ndwell_s = -inf", 2, "route.dwell_s must lie between 0 and 3600 s, not -inf"),
        ("[bus]\nheating = []", 2, "bus.heating must be a text, not []"),
        ("[bus]\nheating = 'fule'", 2, "bus.heating must be one of electric, heat_pump, fuel, not 'fule'; did"),
        ("[bus]\ncooled_degc = 12", 2, "bus.cooled_degc must not lie below bus.cabin_degc"),
        ("[can]\nfolder = ''", 2, "can.folder must be a text in one line"),
        ("[route]\nprofile = []", 2, "route.profile must have a row at least"),
        ("[route]\nprofile = [[0, 1],\n[2, 3, 4]]", 3, "route.profile: a row must be [km, m], not [2, 3, 4]"),
        ("[route]\nprofile = [[0, 1],\n[nan, 1]]", 3, "route.profile must lie between 0 and 500 km, not nan"),
        ("[route]\nprofile = [[0, 1],\n[0, 1]]", 3, "route.profile: km must rise, 0 follows 0"),
        ("[route]\nprofile = [[0, 1], [9, 3]]", 2, "route.profile must end as high as it begins"),
        ("[route]\nprofile = [[0, 1], [99, 1]]", 2, "route.profile goes to 99 km, beyond route.length_km 14"),
        ("[route]\nprofile = [[0, 1],\n[0.1, 21], [2, 1]]", 3, "route.profile: steeper than 15% before 0.1 km"),
        ("[timetable]\nat = 3", 1, "timetable must be [[timetable]] tables, not {'at': 3}"),
        ("[[timetable]]\nat = '5:00'\ndo = 'drive'\n[[timetable]]\nat = '5:00'\ndo = 'off'", 5, "timetable.at: times"),
        ("[[timetable]]\nat = '5:00'\ndo = 'drive'\n[[timetable]]\nat = '4:59'\ndo = 'off'", 5, "timetable.at: times"),
        ("[[timetable]]\nat = '24:00'\ndo = 'drive'", 2, "timetable.at must be a clock time such as"),
        ("[[timetable]]\nat = 05:00:00\ndo = 'drive'", 2, "timetable.at must be a clock time such as"),
        ("[[timetable]]\nat = '٠5:00'\ndo = 'drive'", 2, "timetable.at must be a clock time such as"),
        ("[[timetable]]\nat = '5:00'\ndo = 'fly'", 3, "timetable.do must be one of off, stand, drive, charge"),
        ("[[timetable]]\nat = '5:00'\n\n[[timetable]]\nat = '6:00'\ndo = 'off'", 1, "do is missing in [[timetable]]"),
        ("[[timetable]]\nat = '5:00'\ndo = 'off'\ncharger = 'depot_ac'", 4, 'charger belongs to do = "charge"'),
        ("[[timetable]]\nat = '5:00'\ndo = 'charge'\ncharger = 'depot'", 4, "timetable.charger must be one of"),
        ("[[timetable]]\nat = '5:00'\ndo = 'off'\nwhy = 1", 4, "unknown key in [[timetable]]: 'why'"),
        ("[[faults]]\nkind = 'swap'\n[[faults]]\nat_s = 3", 3, "kind is missing in [[faults]]"),
        ("[[faults]]\nkind = 'swap'\n[[faults]]\nkind = 'shot'", 4, "unknown fault kind: 'shot'; did you mean short?"),
        ("[[faults]]\nkind = 3", 2, "faults.kind must be a text, not 3"),
        ("[[faults]]\nkind = 'short'\nohms = 3", 3, "unknown parameter of short: 'ohms'; did you mean ohm?"),
        ("[[faults]]\nkind = 'short'\nohm = 11", 3, "faults.ohm must lie between 0 and 10 ohm, not 11"),
        ("[[faults]]\nkind = 'short'\ncell = 1.5", 3, "faults.cell must be a whole number, not 1.5"),
        ("[[faults]]\nkind = 'short'\ncell = 177", 3, "faults.cell must be at most 176, as the battery has, not 177"),
        ("[[faults]]\nkind = 'games'\nshortest_s = 6", 1, "faults.longest_s must not lie below"),
        ("[[faults]]\nkind = 'swap'\nbus = 'bsm'", 3, "faults.bus must be one of bms, vehicle, not 'bsm'; did you mean bms?"),
        ("[[faults]]\nkind = 'swap'\nwith_what = true", 3, "faults.with_what must be a text, not True"),
        ("[[faults]]\nkind = 'short'\nprobability = 1.1", 3, "faults.probability must lie between 0 and 1"),
        ("[[add_faults]]\nkind = 'swap'\n[[add_faults]]\nkind = 'none'", 4, "unknown fault kind: 'none'; there are"),
        ("[add_faults]\nkind = 'swap'", 1, "add_faults must be [[add_faults]] tables"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_once_with_its_line(tmp_path: Path, lines: str, line: int, expected: str) -> None:
    for ending in ("\n", "\r\n"):
        (message,) = problems(tmp_path, (GOOD + lines + "\n").replace("\n", ending))
        assert message.startswith(f"s.toml:{LINES + line}: {expected}")


def test_inline_lists_have_lines_too(tmp_path: Path) -> None:
    entries = 'timetable = [\n{at = "5:00", do = "drive"},\n{at = "6:00", do = "flee"},\n]\n'
    (message,) = problems(tmp_path, entries + GOOD)
    assert message.startswith("s.toml:3: timetable.do must be")
    (message,) = problems(tmp_path, "timetable = []\n" + GOOD)
    assert message.startswith("s.toml:1: timetable must have an entry")
    (message,) = problems(tmp_path, "faults = [1]\n" + GOOD)
    assert message.startswith("s.toml:1: [[faults]] must be a table, not 1")
    (message,) = problems(tmp_path, "bus = 1\n" + GOOD)
    assert message.startswith("s.toml:1: [bus] must be a table, not 1")


@pytest.mark.parametrize(("table", "key"), CORNERS)
def test_each_range_holds_at_both_ends(tmp_path: Path, table: str, key: str) -> None:
    _, wanted, rule = KEYS[TABLES[table]][key]
    base = 'about = "x"\n[weather]\nambient_degc = 1\n[battery]\nsoc = 0.5\ntemp_degc = 1\n'
    base = "".join(line for line in base.splitlines(True) if not line.startswith(key))
    base = base.replace(f"[{table}]\n", "") if f"[{table}]" not in base else base
    for end, beyond in ((rule.low, -1), (rule.high, 1)):
        for value, good in ((wanted(end), True), (wanted(end) + beyond, False)):
            line = f"{key} = {value}\n"
            text = base.replace(f"[{table}]\n", f"[{table}]\n{line}") if f"[{table}]" in base else base
            text = text if line in text else f"{base}[{table}]\n{line}"
            if table == "bus" and key in ("cabin_degc", "cooled_degc"):
                text += "cooled_degc = 40\n" if key == "cabin_degc" else "cabin_degc = 0\n"
            if good:
                assert getattr(getattr(load(tmp_path, text), table), key) == value
            else:
                (message,) = problems(tmp_path, text)
                assert f": {table}.{key} must lie between" in message


def test_every_key_says_what_it_means_and_every_number_has_a_range() -> None:
    for kind, keys in KEYS.items():
        for name, (_, wanted, key) in keys.items():
            assert key.about, (kind, name)
            if wanted in (int, float) and key.toml is None:
                assert key.low < key.high, (kind, name)
            if wanted == Table:
                assert key.x is not None
                assert key.x.low < key.x.high


def test_all_mistakes_come_at_once_in_the_files_order(tmp_path: Path) -> None:
    text = '[wheels]\n[battery]\nsoc = 2\ntemp_degc = "cold"\nclock_s = 1\n[weather]\n'
    found = [m.split(";")[0].split(" must")[0] for m in problems(tmp_path, text)]
    assert found == [
        "s.toml:1: about is missing: what this scenario is for, in a line",
        "s.toml:1: unknown table: 'wheels'",
        "s.toml:3: battery.soc",
        "s.toml:4: battery.temp_degc",
        "s.toml:5: unknown key in [battery]: 'clock_s'",
        "s.toml:6: ambient_degc is missing in [weather]: air temperature, over hours",
    ]


@pytest.mark.parametrize(
    ("garbage", "expected"),
    [
        (b"soc = ", "s.toml:1: not TOML"),
        (b"a = 1\nb = 'x\nc = 2", "s.toml:2: not TOML"),
        (b"a = 1\na = 2\n", "s.toml:2: not TOML: Cannot overwrite a value"),
        (b"a = 1\n\n[", "s.toml:3: not TOML"),
        (b"x = 1\na = '''\n\n\n", "s.toml:2: not TOML"),
        (b"x = 1\na = [1,\n{b = 2},\n#", "s.toml:2: not TOML"),
        (b'x = 1\na = [1,\n"""', "s.toml:2: not TOML"),
        (b"\n\xff\xfe", "s.toml:2: not UTF-8"),
        (b"\x00\x01", "s.toml:1: not TOML"),
        (b"a = " + b"[" * 3900, "s.toml:1: not TOML that we can read: nested too deeply"),
        (b"a = [" + b"[" * 500 + b"\n" + b"]" * 501, "s.toml:1: "),
        (b"\n" + b"a." * 2000 + b"b = 1", "s.toml:2: a line of over 4000 characters"),
        (b"a = 1979-13-45", "s.toml:1: not TOML"),
        (b"<html>", "s.toml:1: not TOML"),
        (b"#" * 5 + b"\n" * 300_000, "s.toml: over 256 kB"),
    ],
)
def test_garbage_is_one_line(tmp_path: Path, garbage: bytes, expected: str) -> None:
    assert problems(tmp_path, garbage)[0].startswith(expected)


def test_an_empty_file_misses_what_is_needed(tmp_path: Path) -> None:
    found = problems(tmp_path, "")
    assert all(one.startswith("s.toml:1: ") for one in found)
    assert [one.split()[1] for one in found] == ["about", "ambient_degc", "soc", "temp_degc"]


def test_what_is_no_file(tmp_path: Path) -> None:
    def wrong(where: str) -> str:
        with pytest.raises(ScenarioError) as caught:
            load_scenario(where)
        return str(caught.value)

    assert wrong("winterday") == (
        "no scenario 'winterday'; did you mean winter_day? ayaz sim --list shows ours, or give a path to a .toml"
    )
    assert "ayaz sim --list" in wrong("")
    assert "No such file" in wrong(str(tmp_path / "none.toml"))
    assert "is a directory" in wrong(f"{tmp_path}/")
    assert "cannot be read" in wrong("a/\0")
    os.mkfifo(tmp_path / "pipe.toml")
    assert "is not a file" in wrong(str(tmp_path / "pipe.toml"))
    assert "is not a file" in wrong("/dev/zero")


# based_on


def test_a_file_says_only_what_is_other(tmp_path: Path) -> None:
    day = load_scenario("winter_day")
    got = load(tmp_path, 'about = "y"\nbased_on = "winter_day"\n[bus]\nheating = "fuel"\n')
    assert got == Scenario(**{**vars(day), "about": "y", "bus": BusPlan(heating="fuel")})


def test_lists_replace_and_add_faults_adds(tmp_path: Path) -> None:
    fault = "kind = 'short'\nat_s = {}\n"
    (tmp_path / "base.toml").write_text(
        GOOD + "[[faults]]\n" + fault.format(1) + "[[timetable]]\nat = '5:00'\ndo = 'off'\n"
    )
    (tmp_path / "sub").mkdir()
    head = 'about = "y"\nbased_on = "../base.toml"\n'

    def times(text: str) -> list[float]:
        return [one.at_s for one in load(tmp_path, head + text, "sub/s.toml").faults]

    assert times("") == [1]
    assert times("[[faults]]\n" + fault.format(2)) == [2]
    assert times("[[add_faults]]\n" + fault.format(3) + "[[add_faults]]\n" + fault.format(4)) == [1, 3, 4]
    assert times("faults = []\n") == []
    assert times("[[faults]]\n" + fault.format(2) + "[[add_faults]]\n" + fault.format(3)) == [2, 3]
    got = load(tmp_path, head + "[[timetable]]\nat = '6:00'\ndo = 'drive'\n", "sub/s.toml")
    assert got.timetable == (Entry(0.0, "drive"),)
    assert got.clock_s == 21_600


def test_mistakes_are_named_where_they_stand(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        GOOD + "cells = 0\nstrings = 99\n[[faults]]\nkind = 'short'\nohm = 99\n"
    )
    found = problems(
        tmp_path,
        'about = "y"\nbased_on = "base.toml"\n[battery]\nstrings = 2\nage_years = -1\n[[add_faults]]\n\nkind = "no"',
    )
    assert [one.split(" must")[0].split(";")[0] for one in found] == [
        "s.toml:5: battery.age_years",
        "s.toml:8: unknown fault kind: 'no'",
        "base.toml:7: battery.cells",
        "base.toml:11: faults.ohm",
    ]
    (message,) = problems(tmp_path, 'about = "y"\nbased_on = "spring_day"\n[route]\nlength_km = 7\n')
    assert message.endswith("spring_day.toml:13: route.profile goes to 14 km, beyond route.length_km 7")


def test_what_is_replaced_has_its_new_place(tmp_path: Path) -> None:
    head = 'about = "y"\nbased_on = "winter_day"\n'
    (message,) = problems(tmp_path, head + "[weather]\nambient_degc = 99\n")
    assert message.startswith("s.toml:4: weather.ambient_degc must lie")
    fault = "[[faults]]\nkind = 'short'\n"
    (tmp_path / "base.toml").write_text(GOOD + fault * 3)
    (message,) = problems(
        tmp_path, 'about = "y"\nbased_on = "base.toml"\n' + fault + "[[add_faults]]\nkind = 'no'\n"
    )
    assert message.startswith("s.toml:6: unknown fault kind")


def test_the_purpose_is_each_files_own(tmp_path: Path) -> None:
    assert problems(tmp_path, 'based_on = "winter_day"')[0].startswith("s.toml:1: about is missing")


def test_a_base_that_cannot_be(tmp_path: Path) -> None:
    def wrong(value: str) -> str:
        (message,) = problems(tmp_path, f'about = "y"\nbased_on = {value}\n')
        assert message.startswith("s.toml:2: based_on")
        return message

    assert "did you mean winter_day" in wrong('"winter_dya"')
    assert "must be a scenario's name or a path, not 3" in wrong("3")
    assert "none.toml: cannot be read: No such file" in wrong('"none.toml"')
    assert "goes round in a circle: s.toml -> s.toml" in wrong('"./s.toml"')
    (tmp_path / "a.toml").write_text('based_on = "s.toml"')
    assert "a.toml:1: based_on: goes round in a circle: s.toml -> a.toml -> s.toml" in wrong('"a.toml"')
    (tmp_path / "a.toml").write_text("x = \n")
    assert "a.toml:1: not TOML" in wrong('"a.toml"')
    for n in range(20):
        (tmp_path / f"{n}.toml").write_text(f'based_on = "{n + 1}.toml"')
    assert "16 files deep" in wrong('"0.toml"')


def test_paths_are_from_the_file_that_says_them(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.toml").write_text(GOOD + 'cell = "my.toml"\n[can]\nfolder = "buses/mine"\n')
    text = 'about = "y"\nbased_on = "../base.toml"\n'
    got = load(tmp_path, text, "sub/s.toml")
    assert Path(got.battery.cell).resolve() == tmp_path / "my.toml"
    assert Path(got.can.folder or "").resolve() == tmp_path / "buses/mine"
    assert load(tmp_path, text + '[battery]\ncell = "lfp_280"\n', "sub/s.toml").battery.cell == "lfp_280"
    absolute = load(tmp_path, text + '[battery]\ncell = "/a/b.toml"\n', "sub/s.toml")
    assert absolute.battery.cell == "/a/b.toml"
