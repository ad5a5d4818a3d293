"""Conformance: our decoder against cantools, over every message of many databases.

    python tests/edge/can/conformance.py --payloads 1000 --jobs 2 --seed 1 --json out.jsonl

For every message and every length from 0 to one byte too many: payloads at the edges (all zeros, all ones,
each multiplexer page that exists) and random ones, in all eight modes (choices, scaling, truncated). Both
must give the same signals in the same order, of the same types, to the last bit, or both refuse. Frames of
full length also go through `events` and `update`, whose numbers must be cantools' as well.

Where cantools refuses every frame because two of a message's signals overlap, we decode
(docs/can/conformance.md); there the peer is a plain bit by bit extraction.

The file of results has a line for each part of a database; parts that are in it already are not done again.
"""

from __future__ import annotations

import argparse
import json
import logging
import marshal
import math
import multiprocessing
import random
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cantools
import numpy as np
from cantools.database import Database
from cantools.database import Message as DbMessage
from cantools.database.can.signal import Signal as DbSignal
from cantools.database.utils import start_bit

from edge.can.decoder import Counts, Decoder, LatestTable
from edge.can.frames import EXTENDED, FRAME
from edge.errors import DecodeError
from edge.signals.validity import ERROR, GOOD, NOT_AVAILABLE

SUFFIXES = (".dbc", ".kcd", ".sym", ".arxml")
MODES = tuple((c, s, t) for c in (True, False) for s in (True, False) for t in (True, False))
PART = 20  # messages of one unit of work
PAGES = 12  # of one message that get an edge payload of their own


@dataclass
class Result:
    """What one part of a database gave."""

    file: str
    first: int
    payloads: int
    seed: int
    messages: int = 0
    pairs: int = 0  # (message, length)
    decodes: int = 0  # that cantools did
    refused: int = 0  # of those
    overlapping: int = 0  # messages that cantools never decodes
    rows: int = 0  # events compared
    different: list[str] = field(default_factory=list)


def databases(folder: Path) -> list[Path]:
    """The files of a corpus, in order."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)


def load(path: Path) -> Database | None:
    """The database in a file, as cantools reads it; None where it can't, or where it is of diagnostics."""
    try:
        database = cantools.database.load_file(str(path), strict=False)
    except Exception:  # cantools and its parsers raise almost anything on a broken file
        return None
    return database if isinstance(database, Database) else None


def parts_of(path: Path) -> list[tuple[Path, int]]:
    """The units of work in one file; none where it does not load."""
    database = load(path)
    return [(path, first) for first in range(0, len(database.messages) if database else 0, PART)]


_loaded: dict[Path, Database] = {}


def check_part(path: Path, first: int, payloads: int, seed: int, root: Path) -> Result:
    """Check some messages of a file, from the first on."""
    if path not in _loaded:
        _loaded.clear()
        database = load(path)
        assert database is not None
        _loaded[path] = database
    result = Result(str(path.relative_to(root)), first, payloads, seed)
    for message in _loaded[path].messages[first : first + PART]:
        Check(message, random.Random(f"{seed} {result.file} {message.name}"), payloads, result).run()
    return result


class Check:
    """One message, at every length."""

    def __init__(self, message: DbMessage, rng: random.Random, payloads: int, result: Result) -> None:
        self.message, self.rng, self.payloads, self.result = message, rng, payloads, result
        self.decoder = Decoder([(0, Database(messages=[message], strict=False), {})])
        self.overlapping = overlaps(message)
        self.signals = {s.name: s for s in message.signals}
        self.named_float = any(s.is_float and s.choices for s in message.signals)

    def run(self) -> None:
        """Every length, from nothing to one byte too many."""
        self.result.messages += 1
        self.result.overlapping += self.overlapping
        for length in range(self.message.length + 2):
            self.result.pairs += 1
            self._length(list(self._payloads(length)))

    def _payloads(self, length: int) -> Iterator[bytes]:
        yield bytes(length)
        yield b"\xff" * length
        pages = list(_pages(self.message.signal_tree))
        for chosen in pages[:PAGES]:
            yield self._with(chosen, length)
        for n in range(self.payloads):
            chosen = self.rng.choice(pages) if pages and n % 4 else ()
            yield self._with(chosen, length)

    def _with(self, chosen: Sequence[tuple[str, int]], length: int) -> bytes:
        """A random payload whose multiplexers select these pages."""
        data = self.rng.randbytes(length)
        if not chosen:
            return data
        number = int.from_bytes(data, "little")
        for name, value in chosen:
            number = with_bits(number, self.signals[name], value, length)
        return number.to_bytes(length, "little")

    def _length(self, payloads: list[bytes]) -> None:
        message, decoder, result = self.message, self.decoder, self.result
        ours = decoder.decode_message
        frame_id, extended = message.frame_id, message.is_extended_frame
        kept: dict[tuple[bool, bool], list[Any]] = {}
        for choices, scaling, truncated in MODES:
            wanted_of_all = []
            for data in payloads:
                if self.overlapping:
                    wanted = self._plain(data, choices, scaling, truncated)
                else:
                    try:
                        wanted = message.decode(data, choices, scaling, False, truncated)
                    except Exception:  # whatever cantools raises, it has refused
                        wanted = None
                wanted_of_all.append(wanted)
                try:
                    got = ours(
                        frame_id, data, is_extended=extended, decode_choices=choices, scaling=scaling,
                        allow_truncated=truncated,
                    )  # fmt: skip
                except DecodeError:
                    got = None
                if not same(got, wanted):
                    self._differ(f"{data.hex()} {choices=} {scaling=} {truncated=}: {got} is not {wanted}")
            result.decodes += len(payloads)
            result.refused += sum(w is None for w in wanted_of_all)
            if not truncated:
                kept[choices, scaling] = wanted_of_all
        if len(payloads[0]) >= message.length and message.length <= 64 and not message.is_container:
            self._tables(payloads, kept)

    def _tables(self, payloads: list[bytes], wanted: Mapping[tuple[bool, bool], list[Any]]) -> None:
        """The rows of `events` and the table of latest values."""
        decoder, message = self.decoder, self.message
        frames = np.zeros(len(payloads), FRAME)
        frames["id"], frames["flags"] = message.frame_id, EXTENDED if message.is_extended_frame else 0
        for n, data in enumerate(payloads):
            data = data[:64]
            frames["time_us"][n], frames["length"][n] = n + 1, len(data)
            frames["data"][n, : len(data)] = np.frombuffer(data, np.uint8)
        counts = Counts(1)
        events = decoder.events(frames, counts)
        expected: list[tuple[int, int, int, float]] = []
        for n, (names, values, raws) in enumerate(
            zip(wanted[True, True], wanted[False, True], wanted[False, False], strict=True)
        ):
            if names is None and self.named_float:
                names = values  # a NaN has no choice: cantools refuses; for numbers it is a signal's error
                wanted[True, True][n] = values
            for name in names or ():
                if values is None or name not in values:
                    return  # a page that only choices select: numbers can't be had from cantools
                slot = decoder.slot(0, message.name, name)
                expected.append((n, slot, int64(raws[name]), number(values[name])))
        self.result.rows += len(expected)
        decoded = sum(names is not None for names in wanted[True, True])
        if counts.total()["decoded"] != decoded:
            self._differ(f"{counts.total()['decoded']} frames decoded, not {decoded}")
        rows = np.array(expected, [("frame", "i4"), ("slot", "i4"), ("raw", "i8"), ("value", "f8")])
        states = np.where(np.isfinite(rows["value"]), GOOD, ERROR)
        if message.protocol == "j1939" and message.is_extended_frame:
            signals = [self.signals[decoder.slots[slot].signal] for slot in rows["slot"]]
            ranges = [j1939_state(s, r) for s, r in zip(signals, rows["raw"].tolist(), strict=True)]
            states = np.where(states == ERROR, ERROR, np.array(ranges, "i4"))  # a float that is no number
        for name, ours in zip(events._fields, events, strict=True):
            theirs = states if name == "state" else rows[name]
            if len(ours) != len(theirs) or not _equal(np.asarray(ours), np.asarray(theirs)):
                self._differ(f"events: {name} differs")
        self._latest(frames, rows, states)

    def _latest(self, frames: Any, rows: Any, states: Any) -> None:
        decoder = self.decoder
        latest = LatestTable(len(decoder.slots))
        decoder.update(frames, latest, Counts(1))
        wanted = LatestTable(len(decoder.slots))
        for row, state in zip(rows, states, strict=True):
            slot = row["slot"]
            wanted.raw[slot], wanted.time_us[slot], wanted.state[slot] = row["raw"], row["frame"] + 1, state
            if state == GOOD:
                wanted.value[slot] = row["value"]
        for name in ("raw", "value", "time_us", "state"):
            if not _equal(getattr(latest, name), getattr(wanted, name)):
                self._differ(f"update: {name} differs")

    def _plain(self, data: bytes, choices: bool, scaling: bool, truncated: bool) -> dict[str, Any] | None:
        """Bit by bit what cantools would give if it let signals overlap."""
        size = len(data)
        if size < self.message.length:
            if not truncated:
                return None
            data = data.ljust(self.message.length, b"\xff")
        given: dict[str, Any] = {}
        return (
            given
            if self._plain_group(self.message.signal_tree, data, size, choices, scaling, given)
            else None
        )

    def _plain_group(
        self, tree: Any, data: bytes, size: int, choices: bool, scaling: bool, given: dict[str, Any]
    ) -> bool:
        nodes = [node if isinstance(node, dict) else {node: None} for node in tree]
        for name in (name for node in nodes for name in node):
            signal = self.signals[name]
            if start_bit(signal) + signal.length > 8 * self.message.length:
                return False
            if start_bit(signal) + signal.length <= 8 * size:
                raw = plain_raw(data, signal)
                named = (signal.choices or {}).get(int(raw)) if choices else None
                given[name] = named if named is not None else raw
                if named is None and scaling:
                    given[name] = signal.conversion.raw_to_scaled(raw, False)
        for node in nodes:
            for name, pages in node.items():
                if pages is None or name not in given:
                    continue
                value = given[name]
                chosen = value if isinstance(value, int | float) else value.value
                if int(chosen) not in pages:
                    return False
                if not self._plain_group(pages[int(chosen)], data, size, choices, scaling, given):
                    return False
        return True

    def _differ(self, what: str) -> None:
        if len(self.result.different) < 20:
            self.result.different.append(f"{self.result.file} {self.message.name}: {what}")


def _equal(ours: Any, theirs: Any) -> bool:
    """Bit for bit, but that any NaN equals any other."""
    if ours.dtype.kind == "f":
        nan = np.isnan(ours) & np.isnan(theirs)
        ours, theirs = ours.copy(), theirs.copy()
        ours[nan] = theirs[nan] = 0
        return ours.tobytes() == theirs.astype(ours.dtype).tobytes()
    return bool((ours == theirs).all())


def same(got: dict[str, Any] | None, wanted: Any) -> bool:
    """Whether two results are the same: names, order, types and bits; choices as their texts."""
    if got is None or wanted is None:
        return got is wanted
    try:
        if marshal.dumps(got, 2) == marshal.dumps(wanted, 2):
            return True
    except ValueError:  # cantools' choices can't be marshalled
        pass
    return list(got) == list(wanted) and all(_same(got[name], wanted[name]) for name in got)


def _same(got: Any, wanted: Any) -> bool:
    if type(wanted) is float:
        if type(got) is not float:
            return False
        return (math.isnan(got) and math.isnan(wanted)) or struct.pack("d", got) == struct.pack("d", wanted)
    if type(wanted) is int:
        return type(got) is int and got == wanted
    return type(got) is str and got == str(wanted)


def int64(raw: float) -> int:
    """What a slot's raw integer must be."""
    if isinstance(raw, float):
        return int(struct.unpack("<q", struct.pack("<d", raw))[0])
    low = raw & (1 << 64) - 1
    return low - (1 << 64) if low >> 63 else low


def j1939_state(signal: DbSignal, raw: int) -> int:
    """What SAE J1939-71 says of a raw value: the table of its transmitted signal ranges."""
    if signal.is_float or signal.is_signed or signal.length < 2:
        return GOOD
    if signal.length < 8:
        left = (1 << signal.length) - 1 - raw
        return NOT_AVAILABLE if left == 0 else ERROR if left == 1 else GOOD
    top = (raw & (1 << signal.length) - 1) >> (signal.length - 8)
    return NOT_AVAILABLE if top == 0xFF else ERROR if top > 0xFA else GOOD


def number(value: float) -> float:
    """What a slot's value must be."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def bits_of(signal: DbSignal) -> Iterator[tuple[int, int]]:
    """A signal's bits from the least up, each as (byte, bit of it): the textbook's way."""
    if signal.byte_order == "little_endian":
        for n in range(signal.length):
            yield divmod(signal.start + n, 8)
    else:
        first = start_bit(signal)
        for n in reversed(range(signal.length)):
            byte, place = divmod(first + n, 8)
            yield byte, 7 - place


def plain_raw(data: bytes, signal: DbSignal) -> int | float:
    """A signal's raw value, bit by bit."""
    raw = sum((data[byte] >> bit & 1) << n for n, (byte, bit) in enumerate(bits_of(signal)))
    if signal.is_float:
        code, size = {16: ("e", 2), 32: ("f", 4), 64: ("d", 8)}[signal.length]
        return float(struct.unpack(f"<{code}", raw.to_bytes(size, "little"))[0])
    if signal.is_signed and raw >> (signal.length - 1):
        raw -= 1 << signal.length
    return raw


def with_bits(number: int, signal: DbSignal, value: int, length: int) -> int:
    """A payload, as a little-endian number, with a signal set as far as it lies inside."""
    for n, (byte, bit) in enumerate(bits_of(signal)):
        if byte < length:
            place = 8 * byte + bit
            number = number & ~(1 << place) | (value >> n & 1) << place
    return number


def _pages(tree: Any) -> Iterator[tuple[tuple[str, int], ...]]:
    """Every way through a message's multiplexers, as (selector, number) pairs."""
    for node in tree:
        if isinstance(node, dict):
            for name, pages in node.items():
                for value, page in pages.items():
                    yield ((name, value),)
                    for deeper in _pages(page):
                        yield ((name, value), *deeper)


def overlaps(message: DbMessage) -> bool:
    """Whether signals of one byte order overlap that could be in one frame: cantools refuses those frames."""
    return not message.is_container and _tree_overlaps(
        message.signal_tree, {s.name: s for s in message.signals}
    )


def _tree_overlaps(tree: Any, signals: Mapping[str, DbSignal]) -> bool:
    for order in ("little_endian", "big_endian"):
        seen: set[tuple[int, int]] = set()
        for node in tree:
            signal = signals[next(iter(node)) if isinstance(node, dict) else node]
            bits = set(bits_of(signal)) if signal.byte_order == order else set()
            if bits & seen:
                return True
            seen |= bits
    return any(
        _tree_overlaps(page, signals)
        for node in tree
        if isinstance(node, dict)
        for pages in node.values()
        for page in pages.values()
    )


def run_all(
    parts: Sequence[tuple[Path, int]], payloads: int, seed: int, root: Path, jobs: int
) -> Iterator[Result]:
    """The results of many parts, as they come."""
    logging.disable(logging.WARNING)
    work = [(path, first, payloads, seed, root) for path, first in parts]
    if jobs == 1:
        for one in work:
            yield check_part(*one)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, logging.disable, (logging.WARNING,)) as pool:
        yield from pool.imap_unordered(_star, work)


def _star(one: tuple[Path, int, int, int, Path]) -> Result:
    return check_part(*one)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    corpus = Path(__file__).parents[3].parent / "shared" / "data" / "can"
    parser.add_argument("files", nargs="*", type=Path, help="databases; without them the whole corpus")
    parser.add_argument("--corpus", type=Path, default=corpus)
    parser.add_argument("--payloads", type=int, default=1000, help="random ones, for a message and length")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--json", type=Path, help="results, one JSON object a line; those in it are not repeated"
    )
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    print(f"seed {arguments.seed}", file=sys.stderr)
    parts = [part for path in arguments.files or databases(arguments.corpus) for part in parts_of(path)]
    done: list[dict[str, Any]] = []
    if arguments.json and arguments.json.exists():
        lines = [json.loads(line) for line in arguments.json.read_text().splitlines()]
        key = (arguments.payloads, arguments.seed)
        done = [d for d in lines if (d["payloads"], d["seed"]) == key]
    finished = {(d["file"], d["first"]) for d in done}
    left = [p for p in parts if (str(p[0].relative_to(arguments.corpus)), p[1]) not in finished]
    begin = time.monotonic()
    results = run_all(left, arguments.payloads, arguments.seed, arguments.corpus, arguments.jobs)
    for n, result in enumerate(results, 1):
        done.append(asdict(result))
        if arguments.json:
            with arguments.json.open("a") as file:
                file.write(json.dumps(asdict(result)) + "\n")
        for line in result.different:
            print(line)
        total = sum(d["decodes"] for d in done)
        print(f"{n}/{len(left)} parts, {total:,} decodes, {time.monotonic() - begin:.0f} s", file=sys.stderr)
    sums = {
        k: sum(d[k] for d in done) for k in ("messages", "pairs", "decodes", "refused", "overlapping", "rows")
    }
    different = [line for d in done for line in d["different"]]
    print(
        json.dumps(
            {**sums, "different": len(different), "seed": arguments.seed, "payloads": arguments.payloads}
        )
    )
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
