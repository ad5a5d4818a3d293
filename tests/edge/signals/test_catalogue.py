"""Signal maps and databases from outside: every mistake at once with its place, garbage one typed error."""

import random
from pathlib import Path

import pytest

from edge.errors import AyazError, DatabaseError, SignalMapError
from edge.signals.catalogue import load_catalogue

ROOT = Path(__file__).parent.parent.parent.parent
DBC = (ROOT / "dbc/bms.dbc").read_text("utf-8")
MAP = (ROOT / "dbc/bms.toml").read_text("utf-8")
SEED = 8

HEAD = """version = 1
[messages.BMS_PackStatus]
period_ms = 100
timeout_ms = 1000
"""
GOOD = """
[[signals]]
source = "BMS_PackStatus.PackVoltage"
path = "Vehicle.Powertrain.TractionBattery.CurrentVoltage"
role = "pack_voltage"
rate_s = 1
"""


def load(folder: Path, text: str | bytes, dbc: str | bytes = DBC) -> object:
    for suffix, content in ((".dbc", dbc), (".toml", text)):
        path = folder / f"mine{suffix}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_catalogue([("bms", folder / "mine.dbc")])


def test_a_good_one(tmp_path: Path) -> None:
    assert load(tmp_path, HEAD + GOOD)


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("PackVoltage", "PackVolts", 6, "PackVolts"),
        ("BMS_PackStatus.", "BMS_Nothing.", 6, "BMS_Nothing"),
        ("CurrentVoltage", "Nonsense", 6, "Nonsense"),
        ('"pack_voltage"', '"captain"', 6, "captain"),
        ("rate_s = 1", "rate_s = -1", 6, "rate_s"),
        ("rate_s = 1", 'rate_s = "x"', 6, "rate_s"),
        ("rate_s = 1", "speed = 1", 6, "speed"),
        ("rate_s = 1", "sign = 2", 6, "sign"),
        ('source = "BMS_PackStatus.PackVoltage"\n', "", 6, "source"),
        ("timeout_ms = 1000", "timeout_ms = 0", 2, "timeout_ms"),
        ("[messages.BMS_PackStatus]", "[messages.BMS_Ghost]", 2, "BMS_Ghost"),
        ("version = 1", "version = 9", 1, "version"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert old in HEAD + GOOD
    with pytest.raises(SignalMapError) as caught:
        load(tmp_path, (HEAD + GOOD).replace(old, new))
    assert any(says in problem for problem in caught.value.problems)
    places = [int(problem.split(":")[1]) for problem in caught.value.problems if "mine.toml:" in problem]
    assert places
    assert min(abs(place - line) for place in places) <= 5


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    entries = [("CurrentVoltage", "Nope"), ("rate_s", "rate"), ("pack_voltage", "king")]
    with pytest.raises(SignalMapError) as caught:
        load(tmp_path, HEAD + "".join(GOOD.replace(old, new) for old, new in entries))
    said = "\n".join(caught.value.problems)
    assert all(new in said for _, new in entries)


def test_the_same_path_or_role_twice(tmp_path: Path) -> None:
    with pytest.raises(SignalMapError, match="is named before"):
        load(tmp_path, HEAD + GOOD + GOOD)


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe", b"= 1", b"[" * 5000, b"version = 1\nsignals = 3\nmessages = []"]
)
def test_what_is_no_map(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(SignalMapError, match=r"mine\.toml"):
        load(tmp_path, text)


def test_missing_map_and_missing_database(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="ghost"):
        load_catalogue([("bms", tmp_path / "ghost.dbc")])
    (tmp_path / "alone.dbc").write_text(DBC)
    with pytest.raises(SignalMapError, match=r"alone\.toml"):
        load_catalogue([("bms", tmp_path / "alone.dbc")])
    with pytest.raises(DatabaseError, match="bms, inverter, vehicle"):
        load_catalogue([("bms", "nosuch")])


def test_damaged_maps_and_databases_are_typed_errors(tmp_path: Path) -> None:
    print("seed", SEED)
    rng = random.Random(SEED)
    outcomes = {"good": 0, "refused": 0}
    for n in range(60):
        dbc, text = bytearray(DBC.encode()), bytearray(MAP.encode())
        target = (dbc, text)[n % 2]
        target[rng.randrange(len(target))] = rng.randrange(32, 127)
        try:
            load(tmp_path, bytes(text), bytes(dbc))
            outcomes["good"] += 1
        except AyazError:
            outcomes["refused"] += 1
    print(outcomes)
    assert min(outcomes.values()) > 3
