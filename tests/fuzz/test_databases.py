"""Hostile databases: each a database or one DatabaseError, within 2 s and 256 MB, and then a decoder.

2 s for every started 250 kB of the file, as `edge.signals.loading` allows; CPU time, not the clock's: the
machine may be busy. A slice here; AYAZ_CAMPAIGN=1 runs 10,000 (docs/can/fuzzing.md has the last result).
"""

from __future__ import annotations

import json
import math
import os
import random
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.can.decoder import Decoder
from edge.errors import DatabaseError
from edge.signals import loading
from edge.signals.databases import load_database, understand
from edge.signals.signal_map import MapReader
from tests.fuzz.hostile import mutated, traps

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(
        "asan" in os.environ.get("LD_PRELOAD", ""),
        reason="AddressSanitizer needs more memory than the bounds allow",
    ),
]
ROOT = Path(__file__).parent.parent.parent
CAMPAIGN = os.environ.get("AYAZ_CAMPAIGN") == "1"
FILES = int(os.environ.get("AYAZ_FUZZ_FILES", "10000" if CAMPAIGN else "200"))
SEED = int(os.environ.get("AYAZ_FUZZ_SEED", "3"))
SECONDS = 2.0
MEMORY = 256_000_000
HANGS_S = 120  # without an answer: even a machine that is busy with ten other things
SUFFIXES = {".dbc", ".kcd", ".sym", ".arxml"}
MAX_SEED_BYTES = 120_000


class Reader:
    """The process that reads (reader.py), and a watch on it."""

    def __init__(self) -> None:
        self.worst_s, self.worst_bytes = 0.0, 0
        command = [sys.executable, str(Path(__file__).parent / "reader.py")]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def read(self, path: Path) -> tuple[int, float, int]:
        """Its exit status, CPU seconds and peak of memory, in bytes."""
        assert self._process.stdin
        assert self._process.stdout
        print(path, file=self._process.stdin, flush=True)
        ready, _, _ = select.select([self._process.stdout], [], [], HANGS_S)
        assert ready, f"{path.name} hangs"
        said = json.loads(self._process.stdout.readline())
        return said["status"], said["cpu_s"], said["bytes"]

    def note(self, seconds: float, memory: int) -> None:
        """Remember the worst, for the record."""
        self.worst_s, self.worst_bytes = max(self.worst_s, seconds), max(self.worst_bytes, memory)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


def outcome_of(reader: Reader, path: Path) -> str:
    """Read a file, compile what comes of it, and hold all of it to the bounds."""
    status, seconds, memory = reader.read(path)
    out = Path(f"{path}.out")
    said = ""
    started = time.process_time()
    try:
        database = understand(path, status, out.read_bytes())
        Decoder([(0, database, {})])
        MapReader(ROOT / "dbc/bms.toml", database, 0)
    except DatabaseError as error:
        said = str(error)
    seconds += time.process_time() - started
    out.unlink()
    reader.note(seconds, memory)
    assert not said or (str(path) in said and "\n" not in said)
    assert memory <= MEMORY
    assert seconds <= SECONDS * max(1, math.ceil(path.stat().st_size / loading.PART_BYTES))
    return next(
        (word for word in ("too long", "its reader died") if word in said), "refused" if said else "good"
    )


def seeds() -> list[Path]:
    """Honest databases: those of the tests, our own, and the large corpus where it is."""
    found = [*(ROOT / "tests/data/databases").iterdir(), *(ROOT / "dbc").iterdir()]
    corpus = ROOT.parent / "shared/data/can"
    found += corpus.rglob("*") if CAMPAIGN else []
    return sorted(p for p in found if p.suffix.lower() in SUFFIXES and p.stat().st_size <= MAX_SEED_BYTES)


def test_known_traps(reader: Reader, tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for name, content in traps(1.0 if CAMPAIGN else 0.2):
        path = tmp_path / name
        path.write_bytes(content)
        try:
            outcomes[outcome_of(reader, path)] += 1
        except Exception as error:
            raise AssertionError(f"{name}: {repr(error)[:300]}") from error
        path.unlink()
    print(dict(outcomes), f"at most {reader.worst_s:.2f} s, {reader.worst_bytes / 1e6:.0f} MB")
    assert outcomes["refused"] > 100


def test_mutated_databases(reader: Reader, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    honest = [(path.suffix.lower(), path.read_bytes(), path.name) for path in seeds()]
    print(f"seed {SEED}, {FILES} files of {len(honest)} honest ones")
    outcomes: Counter[str] = Counter()
    for n in range(FILES):
        suffix, text, name = rng.choice(honest)
        if rng.random() < 0.02:
            suffix = rng.choice(sorted(SUFFIXES))
        path = tmp_path / f"{n}{suffix}"
        path.write_bytes(mutated(rng, text))
        try:
            outcomes[outcome_of(reader, path)] += 1
        except Exception as error:
            raise AssertionError(
                f"seed {SEED}, file {n} of {name}, left at {path}: {repr(error)[:300]}"
            ) from error
        path.unlink()
    print(dict(outcomes), f"at most {reader.worst_s:.2f} s, {reader.worst_bytes / 1e6:.0f} MB")
    assert outcomes["good"] > FILES / 20
    assert outcomes["refused"] > FILES / 20


def test_the_loader_itself(tmp_path: Path) -> None:
    """A few files through `load_database`, with its own process for each."""
    honest = tmp_path / "honest.dbc"
    honest.write_bytes((ROOT / "dbc/bms.dbc").read_bytes())
    assert {m.name for m in load_database(honest).messages} == {
        m.name for m in load_database(ROOT / "dbc/bms.dbc").messages
    }
    known = dict(traps(0.1))
    for name in ("pages-split.dbc", "nested-pages.dbc", "laughs.kcd", "garbage.arxml", "tokens.dbc"):
        path = tmp_path / name
        path.write_bytes(known[name])
        with pytest.raises(DatabaseError, match=name):
            load_database(path)
