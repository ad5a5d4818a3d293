"""The loader: what comes back from the process that reads is what cantools reads; what is wrong is one line."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from edge.errors import DatabaseError
from edge.signals import databases
from edge.signals.databases import find_database, load_database, shipped_folder, understand
from edge.signals.loading import MAX_MESSAGE_BYTES, cpu_seconds, read_database

ROOT = Path(__file__).parent.parent.parent.parent
SEED = 5
HEAD = 'VERSION ""\n\nBU_: E\n\nBO_ 256 M: 8 E\n'
SIGNAL_FIELDS = (
    "name", "start", "length", "byte_order", "is_signed", "is_float", "scale", "offset", "minimum", "maximum",
    "unit", "choices", "multiplexer_ids", "multiplexer_signal", "is_multiplexer", "comment", "spn",
)  # fmt: skip
MESSAGE_FIELDS = (
    "name", "frame_id", "length", "is_extended_frame", "is_fd", "is_container", "protocol", "cycle_time",
    "comment", "signal_tree", "senders", "send_type",
)  # fmt: skip


def fields(database: Any) -> Any:
    return [
        ([repr(getattr(m, f)) for f in MESSAGE_FIELDS], [[repr(getattr(s, f)) for f in SIGNAL_FIELDS] for s in m.signals])
        for m in database.messages
    ]  # fmt: skip


def decoded(database: Any) -> list[str]:
    rng = random.Random(SEED)
    texts = []
    for message in database.messages:
        for _ in range(5):
            try:
                texts.append(repr(message.decode(rng.randbytes(message.length))))
            except Exception as error:
                texts.append(repr(error))
    return texts


@pytest.mark.parametrize("name", ["j1939.dbc", "the_homer.kcd", "jopp-6.0.sym", "system-float-values.arxml"])
def test_what_comes_back_is_what_cantools_reads(name: str) -> None:
    print("seed", SEED)
    path = ROOT / "tests/data/databases" / name
    here, apart = read_database(path), load_database(path)
    assert fields(here) == fields(apart)
    assert len(here.messages) > 0
    assert decoded(here) == decoded(apart)


def test_those_that_we_ship_need_no_process_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "_read_apart", None)
    for path in shipped_folder().glob("*.dbc"):
        assert load_database(path).messages


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("scale.dbc", HEAD + ' SG_ S : 0|8@1+ (1e400,0) [0|0] "" E\n', "M.S: scale or offset is no finite number"),
        ("offset.dbc", HEAD + f' SG_ S : 0|8@1+ (1,1{"0" * 400}) [0|0] "" E\n', "M.S: scale or offset"),
        ("long.dbc", HEAD.replace(" 8 ", " 100000000 "), r"long\.dbc:5: a message of over 1785 bytes"),
        ("long.kcd", None, "no such identifier or length"),
        ("signal.dbc", HEAD + ' SG_ S : 0|99999@1+ (1,0) [0|0] "" E\n', r"signal\.dbc:6: a signal beyond"),
        ("page.dbc", HEAD + ' SG_ X M : 0|8@1+ (1,0) [0|0] "" E\n SG_ S m9999999999999999999 : 8|8@1+ (1,0) [0|0] "" E\n', "over 64 bits"),
        ("broken.dbc", "BO_ 256 M 8 E\n", "not a database that we can read"),
        ("wrong.arxml", HEAD, "not a database that we can read"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    path = tmp_path / name
    if text is None:
        homer = (ROOT / "tests/data/databases/the_homer.kcd").read_text()
        text = homer.replace('length="8"', f'length="{MAX_MESSAGE_BYTES + 1}"')
        assert text != homer
    path.write_text(text)
    with pytest.raises(DatabaseError, match=says) as caught:
        load_database(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_scale_of_zero_is_loaded(tmp_path: Path) -> None:
    """Real databases have them; a signal map refuses the signal (test_catalogue.py)."""
    path = tmp_path / "zero.dbc"
    path.write_text(HEAD + ' SG_ S : 0|8@1+ (0,0) [0|0] "" E\n')
    assert load_database(path).messages[0].signals[0].scale == 0


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "ghost.dbc", Path("a\0b.dbc")):
        with pytest.raises(DatabaseError):
            load_database(path)
    with pytest.raises(DatabaseError, match="bms, inverter, vehicle"):
        find_database("ghost")


def test_a_reader_that_says_nothing_is_waited_for_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pipe.dbc"
    os.mkfifo(path)
    monkeypatch.setattr(databases, "PATIENCE", 1)
    with pytest.raises(DatabaseError, match="not read after"):
        load_database(path)


def test_a_reader_that_dies_is_no_database() -> None:
    for status, answer in ((-11, b""), (1, b""), (0, b""), (-11, b"Dhalf"), (0, b"?")):
        with pytest.raises(DatabaseError, match="its reader died"):
            understand(Path("x.dbc"), status, answer)


def test_a_larger_file_may_take_longer(tmp_path: Path) -> None:
    path = tmp_path / "x.dbc"
    seconds = []
    for size in (0, 250_000, 250_001, 1_000_000):
        path.write_bytes(b" " * size)
        seconds.append(cpu_seconds(path))
    assert seconds[0] == seconds[1] < seconds[2] < seconds[3]
