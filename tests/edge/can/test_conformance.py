"""A seeded slice of the conformance suite, all files; all of it with AYAZ_CAMPAIGN=1 (conformance.py)."""

import os
from pathlib import Path
from typing import Any

import cantools
import numpy as np
import pytest
from cantools.database import Database

from edge.can.decoder import Counts, Decoder
from edge.can.frames import FRAME
from edge.errors import DecodeError
from tests.conftest import ROOT
from tests.edge.can.conformance import databases, parts_of, plain_raw, run_all

SEED = 2


@pytest.mark.whole
def test_conformance_campaign(shared_data: Path) -> None:
    check(shared_data / "can", payloads=1000)


def test_conformance_slice(shared_data: Path) -> None:
    check(shared_data / "can", payloads=2)


@pytest.mark.parametrize("folder", ["dbc", "tests/data/databases", "tests/fuzz"])
def test_conformance_of_what_lies_here(folder: str) -> None:
    print("seed", SEED)
    parts = [part for path in databases(ROOT / folder) for part in parts_of(path)]
    results = list(run_all(parts, 20, SEED, ROOT, jobs=1))
    assert not [line for result in results for line in result.different]
    assert sum(r.decodes for r in results) > 10_000


def check(folder: Path, payloads: int) -> None:
    print("seed", SEED)
    parts = [part for path in databases(folder) for part in parts_of(path)]
    results = list(run_all(parts, payloads, SEED, folder, jobs=os.cpu_count() or 1))
    assert not [line for result in results for line in result.different]
    assert sum(r.messages for r in results) > 5000
    assert sum(r.pairs for r in results) > 50_000
    decodes, refused = sum(r.decodes for r in results), sum(r.refused for r in results)
    assert decodes > 8 * payloads * 50_000
    assert decodes / 10 < refused < decodes * 9 / 10
    assert sum(r.overlapping for r in results) > 100
    assert sum(r.rows for r in results) > 50_000 * payloads


# Where we differ from cantools on purpose (docs/can/conformance.md)


def loaded(signals: str, length: int = 8, rest: str = "") -> Database:
    text = f'VERSION ""\nBU_: a\nBO_ 256 m: {length} a\n{signals}\n{rest}'
    database = cantools.database.load_string(text, "dbc", strict=False)
    assert isinstance(database, Database)
    return database


def test_overlapping_signals_are_decoded_where_cantools_refuses_every_frame() -> None:
    database: Any = loaded(' SG_ a : 0|12@1+ (1,0) [0|0] "" a\n SG_ b : 8|8@1- (1,0) [0|0] "" a')
    data = bytes([0x34, 0xF2, 0, 0, 0, 0, 0, 0])
    with pytest.raises(cantools.database.errors.DecodeError):
        database.decode_message(256, data)
    got = Decoder([(0, database, {})]).decode_message(256, data)
    assert got == {"a": 0x234, "b": -14}
    assert got == {s.name: plain_raw(data, s) for s in database.messages[0].signals}


def test_choices_are_plain_text() -> None:
    database = loaded(' SG_ a : 0|8@1+ (1,0) [0|0] "" a', rest='VAL_ 256 a 1 "on" 0 "off" ;\n')
    got = Decoder([(0, database, {})]).decode_message(256, bytes([1] + 7 * [0]))
    assert got == {"a": "on"}
    assert type(got["a"]) is str


def test_whatever_cantools_raises_is_a_decode_error() -> None:
    """cantools lets int(nan) of a float with choices escape as a ValueError."""
    database: Any = loaded(
        ' SG_ a : 0|32@1- (1,0) [0|0] "" a', rest='VAL_ 256 a 1 "on" ;\nSIG_VALTYPE_ 256 a : 1;\n'
    )
    data = b"\xff" * 8
    with pytest.raises(ValueError, match="NaN"):
        database.decode_message(256, data)
    decoder = Decoder([(0, database, {})])
    with pytest.raises(DecodeError):
        decoder.decode_message(256, data)
    frames = np.zeros(1, FRAME)
    frames["id"], frames["length"], frames["data"] = 256, 8, 0xFF
    events = decoder.events(frames, Counts(1))  # numbers ask for no choice: the signal is in error
    assert events.state.tolist() == [4]
