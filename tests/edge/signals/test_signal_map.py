"""What a signal map says of trust: protection, senders, invalid numbers, and every mistake in it with its line."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from edge.errors import SignalMapError
from edge.signals.catalogue import load_catalogue
from edge.signals.loading import read_database
from edge.signals.protection import KINDS, Checksum, Counter
from edge.signals.signal_map import MapReader

DBC = """VERSION ""

BU_: E

BO_ 256 Status: 8 E
 SG_ Crc : 0|8@1+ (1,0) [0|0] "" E
 SG_ Count : 8|4@1+ (1,0) [0|0] "" E
 SG_ Half : 12|4@1+ (1,0) [0|0] "" E
 SG_ Volts : 16|16@1+ (0.1,0) [0|0] "V" E
 SG_ Crc16 : 32|16@1+ (1,0) [0|0] "" E
 SG_ Count8 : 48|8@1+ (1,0) [0|0] "" E
 SG_ Tiny : 56|3@1+ (1,0) [0|0] "" E
 SG_ Odd : 59|5@1- (1,0) [0|0] "A" E

BO_ 2566840064 Pack: 8 E
 SG_ Amps : 0|16@1+ (1,0) [0|0] "A" E
 SG_ Sum : 60|4@1+ (1,0) [0|0] "" E
 SG_ Turn : 56|4@1+ (1,0) [0|0] "" E
 SG_ Exact : 16|32@1- (1,0) [0|0] "V" E

SIG_VALTYPE_ 2566840064 Exact : 1;
"""
RULE = "period_ms = 100\ntimeout_ms = 1000\n"
IDS = ", ".join(str(n) for n in range(16))


def read(folder: Path, text: str) -> MapReader:
    (folder / "mine.dbc").write_text(DBC)
    (folder / "mine.toml").write_text(text)
    return MapReader(folder / "mine.toml", read_database(folder / "mine.dbc"), 0)


def load(folder: Path, text: str) -> MapReader:
    reader = read(folder, text)
    assert reader.problems == []
    return reader


def problems(folder: Path, text: str) -> list[str]:
    return read(folder, text).problems


def status(*lines: str) -> str:
    return "version = 1\n[messages.Status]\n" + RULE + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("lines", "counter", "checksum"),
    [
        (['counter = "Count"'], Counter("Count", 15), None),
        (['counter = { signal = "Count", last = 14 }'], Counter("Count", 14), None),
        (
            ['checksum = { signal = "Crc", kind = "crc8-sae-j1850" }'],
            None,
            Checksum("Crc", "crc8-sae-j1850", first_byte=0, last_byte=7),
        ),
        (
            ['checksum = { signal = "Crc", kind = "sum", bytes = [1, 5] }'],
            None,
            Checksum("Crc", "sum", first_byte=1, last_byte=5),
        ),
        (
            ['counter = "Count"', 'checksum = { signal = "Crc", kind = "autosar-e2e-1", data_id = 0x123 }'],
            Counter("Count", 14),
            Checksum("Crc", "autosar-e2e-1", (0x123,), "both", 0, 7),
        ),
        (
            [
                'counter = "Count"',
                'checksum = { signal = "Crc", kind = "autosar-e2e-11", data_id = 0x123, data_id_mode = "nibble", '
                'data_id_nibble = "Half" }',
            ],
            Counter("Count", 14),
            Checksum("Crc", "autosar-e2e-11", (0x123,), "nibble", 0, 7, "Half"),
        ),
        (
            [
                'counter = "Count"',
                f'checksum = {{ signal = "Crc", kind = "autosar-e2e-2", data_ids = [{IDS}] }}',
            ],
            Counter("Count", 15),
            Checksum("Crc", "autosar-e2e-2", tuple(range(16)), "", 0, 7),
        ),
        (
            [
                'counter = "Count8"',
                'checksum = { signal = "Crc16", kind = "autosar-e2e-5", data_id = 0xFFFF }',
            ],
            Counter("Count8", 255),
            Checksum("Crc16", "autosar-e2e-5", (0xFFFF,), "", 0, 7),
        ),
    ],
)
def test_protection(tmp_path: Path, lines: list[str], counter: Any, checksum: Any) -> None:
    (rule,) = load(tmp_path, status(*lines)).messages
    assert (rule.counter, rule.checksum) == (counter, checksum)


def test_protection_of_j1939(tmp_path: Path) -> None:
    text = 'counter = "Turn"\nchecksum = { signal = "Sum", kind = "j1939-tsc1" }\n'
    (rule,) = load(tmp_path, "version = 1\n[messages.Pack]\n" + RULE + text).messages
    assert rule.counter == Counter("Turn", 7)
    assert rule.checksum == Checksum("Sum", "j1939-tsc1", first_byte=0, last_byte=7)


E2E = 'counter = "Count"\nchecksum = { signal = "Crc", kind = "autosar-e2e-1", data_id = 1'


@pytest.mark.parametrize(
    ("lines", "at", "says"),
    [
        ("counter = 3", 5, "counter must be"),
        ('counter = { last = 3 }', 5, "counter must be"),
        ('counter = "Ghost"', 5, "no whole, unmultiplexed signal 'Ghost'"),
        ('counter = { signal = "Count", last = 16 }', 5, "last must be a whole number from 1 to 15"),
        ('counter = { signal = "Count", last = 0 }', 5, "last must be"),
        ("checksum = 3", 5, "checksum must be"),
        ('checksum = { signal = "Crc" }', 5, "checksum must be"),
        ('checksum = { signal = "Crc", kind = "md5" }', 5, "unknown kind 'md5'; there are autosar-e2e-1,"),
        ('checksum = { signal = "Crc", kind = ["sum"] }', 5, "unknown kind"),
        ('checksum = { signal = "Ghost", kind = "xor" }', 5, "no unmultiplexed signal 'Ghost' of 8 bits"),
        ('checksum = { signal = "Half", kind = "xor" }', 5, "'Half' of 8 bits"),
        ('checksum = { signal = "Crc16", kind = "xor" }', 5, "'Crc16' of 8 bits"),
        ('checksum = { signal = "Crc", kind = "xor", data_id = 1 }', 5, "unknown key 'data_id'"),
        ('checksum = { signal = "Crc", kind = "xor", bytes = [0, 8] }', 5, "within 0 and 7"),
        ('checksum = { signal = "Crc", kind = "xor", bytes = [5, 4] }', 5, "bytes must be"),
        ('checksum = { signal = "Crc", kind = "xor", bytes = 3 }', 5, "bytes must be"),
        ('checksum = { signal = "Crc", kind = "autosar-e2e-1", data_id = 1 }', 5, "needs the message's counter"),
        ('counter = "Count8"\n' + E2E.split("\n")[1] + " }", 6, "has 4 bits, not 8"),
        (E2E.replace("= 1", "= 65536") + " }", 6, "needs data_id, a number from 0 to 0xFFFF"),
        (E2E.replace(", data_id = 1", " }"), 6, "needs data_id"),
        (E2E + ', data_id_mode = "some" }', 6, "unknown data_id_mode 'some'"),
        (E2E.replace("= 1", "= 4096") + ', data_id_mode = "nibble" }', 6, "at most 0xFFF"),
        (E2E + ', data_id_nibble = "Half" }', 6, "goes with data_id_mode"),
        (E2E + ', data_id_mode = "nibble", data_id_nibble = "Crc" }', 6, "no unmultiplexed signal 'Crc' of 4 bits"),
        (E2E.replace("e2e-1", "e2e-2").replace("data_id = 1", "data_ids = [1, 2] }"), 6, "a list of 16 numbers"),
        ('counter = "Half"\nchecksum = { signal = "Tiny", kind = "j1939-tsc1" }', 6, "must lie in the checksum's"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_protection_has_its_line(tmp_path: Path, lines: str, at: int, says: str) -> None:
    found = problems(tmp_path, status(lines))
    assert [p for p in found if says in p and f"mine.toml:{at}: " in p], found


def test_every_kind_is_explained_and_every_example_is_one() -> None:
    readme = (Path(__file__).parent.parent.parent.parent / "dbc/README.md").read_text("utf-8")
    for kind in KINDS:
        assert f"`{kind}`" in readme, kind
    examples = re.findall(r"^((?:counter|checksum|address|not_available|error) = .*)", readme, re.MULTILINE)
    assert len(examples) > 10
    for example in examples:
        (value,) = tomllib.loads(example).values()
        if isinstance(value, dict) and "kind" in value:
            assert value["kind"] in KINDS


# Senders, invalid numbers, frozen signals


def amps(*lines: str, path: str = "CurrentCurrent", signal: str = "Amps", head: str = "") -> str:
    entry = f'[[signals]]\nsource = "Pack.{signal}"\npath = "Vehicle.Powertrain.TractionBattery.{path}"\n'
    return head + entry + "\n".join(lines) + "\n"


HEAD = 'version = 1\nprotocol = "j1939"\n[messages.Pack]\n' + RULE


def test_two_senders_of_one_signal(tmp_path: Path) -> None:
    text = HEAD + amps("s = '1..2'", "address = { s = [0xF3, 0xF4] }", path="String{s}.Current")
    assert [(s.path[-15:], s.address, s.name) for s in load(tmp_path, text).signals] == [
        ("String1.Current", 0xF3, None),
        ("String2.Current", 0xF4, None),
    ]
    one, two = amps("address = 243"), amps('address = "0xF4"', path="String1.Current")
    assert [s.address for s in load(tmp_path, HEAD + one + two).signals] == [0xF3, 0xF4]
    by_name = amps('name = "0x8000000000000001"') + amps("name = 7", path="String1.Current")
    assert [s.name for s in load(tmp_path, HEAD + by_name).signals] == [1 << 63 | 1, 7]


def test_the_same_sender_twice(tmp_path: Path) -> None:
    (tmp_path / "mine.dbc").write_text(DBC)
    text = HEAD + amps("address = 1") + amps("address = 1", path="String1.Current")
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(SignalMapError, match=r"Pack\.Amps of address 0x1 is named before"):
        load_catalogue([("bus", tmp_path / "mine.dbc")])


def test_the_map_marks_a_database_as_j1939(tmp_path: Path) -> None:
    messages = load(tmp_path, HEAD + amps())._database.messages
    assert {m.name: m.protocol for m in messages} == {"Status": None, "Pack": "j1939"}
    assert any("mine.toml:2: protocol must" in p for p in problems(tmp_path, HEAD.replace("j1939", "kwp")))


def test_what_a_sender_says_instead_of_a_number(tmp_path: Path) -> None:
    text = HEAD + amps("not_available = 0xFFFF", "error = [0xFE00, 0xFEFF]", "frozen_s = 30")
    (signal,) = load(tmp_path, text).signals
    assert (signal.not_available, signal.error, signal.frozen_s) == ((65535, 65535), (0xFE00, 0xFEFF), 30)
    text = HEAD + amps("not_available = nan", "error = [1e38, inf]", signal="Exact", path="CurrentVoltage")
    (signal,) = load(tmp_path, text).signals
    assert signal.not_available
    assert all(n != n for n in signal.not_available)
    assert signal.error == (1e38, float("inf"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("address = 254", "address must be that of a J1939 sender, a number from 0 to 0xFD"),
        ("address = -1", "address must be"),
        ('address = "F3"', "address must be"),
        ("address = true", "address must be"),
        ("address = { s = [1] }", "one for each value of the loop"),
        ('s = "1..2"\naddress = { s = [1] }', "one for each value of the loop"),
        ('s = "1..2"\naddress = { s = [1, 300] }', "address must be"),
        ("name = 0x10000000000000000", "name must be"),
        ("name = 1\naddress = 1", "give one"),
        ("not_available = 65536", "Amps holds whole numbers from 0 to 65535"),
        ("not_available = [3, 2]", "not_available must be"),
        ("not_available = 1.5", "holds whole numbers"),
        ("error = nan", "holds whole numbers"),
        ('error = "FE"', "error must be"),
        ("error = [1, 2, 3]", "error must be"),
        ("frozen_s = -1", "frozen_s must be"),
        ('open = "no"', "open must be a number, or [LOWEST, HIGHEST]"),
        ("open = nan", "open must be"),
        ("open = 0", "only role 'contactors' and 'string_contactor' has open"),
        ("current_a = 0.1", "only role 'balancing' has current_a"),
        ("resistance_ohm = 33", "only role 'balancing' has resistance_ohm"),
        ("current_a = 0", "current_a must be a number above 0"),
        ("resistance_ohm = 1\ncurrent_a = 1", "say the same thing: give one"),
    ],
)
def test_a_mistake_in_a_signal_has_its_line(tmp_path: Path, line: str, says: str) -> None:
    path = "String{s}.Current" if line.startswith("s =") else "CurrentCurrent"
    found = problems(tmp_path, HEAD + amps(line, path=path))
    number = 9 + line.count("\n") if "\n" in line and not line.startswith("name") else 9
    assert [p for p in found if says in p and f"mine.toml:{number}: " in p], found


def balancing(*lines: str, path: str) -> str:
    return amps('role = "balancing"', 'string = "1"', 'index = "2"', *lines, path=f"String1.Cell002.{path}")


def test_contactors_and_balancing(tmp_path: Path) -> None:
    contactor = amps('role = "contactors"', "open = [0, 2]", 'unit = ""', path="Bms.IsContactorClosed")
    (signal,) = load(tmp_path, HEAD + contactor).signals
    assert signal.open == (0, 2)
    (signal,) = load(tmp_path, HEAD + contactor.replace("open = [0, 2]", "")).signals
    assert signal.open == (0, 0)
    switch = balancing("resistance_ohm = 33", 'unit = ""', path="IsBalancing")
    (signal,) = load(tmp_path, HEAD + switch).signals
    assert (signal.current_a, signal.resistance_ohm) == (None, 33)
    (signal,) = load(tmp_path, HEAD + balancing("sign = -1", path="BalancingCurrent")).signals
    assert (signal.current_a, signal.resistance_ohm, signal.factor) == (None, None, -1)


@pytest.mark.parametrize(
    ("line", "path"), [("current_a = 1", "BalancingCurrent"), ('unit = ""', "IsBalancing")]
)
def test_balancing_is_a_switch_or_a_current(tmp_path: Path, line: str, path: str) -> None:
    found = problems(tmp_path, HEAD + balancing(line, path=path))
    assert any("mine.toml:9: a balancing current has a path in A; a switch" in p for p in found), found


@pytest.mark.parametrize("role", ["cell_voltage_min", "cell_voltage_mean", "cell_count", "pack_serial"])
def test_one_of_the_pack_or_one_of_each_string(tmp_path: Path, role: str) -> None:
    one = amps(f'role = "{role}"')
    two = amps(f'role = "{role}"', 'string = "1"', path="String1.Current", signal="Turn", head="").replace(
        "[[signals]]", '[[signals]]\nunit = "A"'
    )
    assert [s.string for s in load(tmp_path, HEAD + one + two).signals] == [None, 1]


def test_a_signal_without_a_scale_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "mine.dbc").write_text(DBC.replace("0|16@1+ (1,0)", "0|16@1+ (0,0)"))
    (tmp_path / "mine.toml").write_text(HEAD + amps())
    reader = MapReader(tmp_path / "mine.toml", read_database(tmp_path / "mine.dbc"), 0)
    assert [p for p in reader.problems if "mine.toml:7: Amps: the database's scale or offset" in p], (
        reader.problems
    )


def test_only_j1939_has_senders(tmp_path: Path) -> None:
    found = problems(tmp_path, HEAD.replace('protocol = "j1939"\n', "") + amps("address = 1"))
    assert any("mine.toml:8: address: Pack is no J1939 message" in p for p in found), found
