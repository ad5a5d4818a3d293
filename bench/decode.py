"""The decoder, beside generated C, cantools and asammdf: the same frames in the same run (docs/can/decoder.md).

The C is what `cantools generate_c_source` writes, compiled with gcc -O2, in a loop over the same frame array:
a switch on the identifier, unpack, and every signal decoded to a double in a table. It is built twice, as a
file of its own and included in the loop's, and the faster one is the peer.

Times are of this thread's own CPU, the best of some rounds in which the two take turns.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import can
import numpy as np
from cantools.database import Message as DbMessage
from cantools.database import errors as cantools_errors
from cantools.database.can.c_source import camel_to_snake_case, generate

from bench.measure import SEED, Result, version
from bench.workload import database_text, make_database, make_frames
from edge.can.decoder import Counts, Decoder, LatestTable
from edge.can.frames import EXTENDED, Frames
from edge.can.j1939 import pgn_of
from edge.can.logs import open_log
from edge.signals.databases import load_database

FRAMES = 1_000_000
CHUNK = 64
EVENT_FRAMES = 100_000
SAMPLE = 20_000  # frames that cantools decodes
MDF_FRAMES = 200_000
ROUNDS = 7
REAL_LOGS = (
    (
        "logs/css_canedge/css_examples_other_asammdf-basics_input_00000001.MF4",
        "css/CSS-Electronics-SAE-J1939-DEMO.dbc",
    ),
)


def benchmarks() -> Iterator[Result]:
    """The decoder on the made workload, then on real logs."""
    database = make_database()
    signals = sum(len(m.signals) for m in database.messages)
    print(f"workload: {len(database.messages)} messages, {signals} signals, seed {SEED}", file=sys.stderr)
    frames = make_frames(database, FRAMES)
    decoder = Decoder([(0, database, {})])
    latest, counts = LatestTable(len(decoder.slots)), Counts(1)

    def whole() -> None:
        decoder.update(frames, latest, counts)

    chunks = [frames[n : n + CHUNK] for n in range(0, SAMPLE * 5, CHUNK)]

    def in_chunks() -> None:
        for chunk in chunks:
            decoder.update(chunk, latest, counts)

    plain = _plain(frames[:SAMPLE])

    def one_by_one() -> None:
        decode = decoder.decode_message
        for frame_id, data in plain:
            decode(frame_id, data)

    def cantools() -> None:
        decode = database.decode_message
        for frame_id, data in plain:
            decode(frame_id, data)

    with tempfile.TemporaryDirectory() as folder:
        generated = _generated_c(database, frames, latest, Path(folder))
        if generated is None:
            print("no gcc here: the row against generated C is left out", file=sys.stderr)
        else:
            ours, theirs = _best([whole, generated])
            gcc = subprocess.run(["gcc", "-dumpversion"], capture_output=True, text=True, check=True)
            peer = f"C of {version('cantools')}, gcc {gcc.stdout.strip()} -O2"
            yield Result("decode: 1M frames to latest values", ours / FRAMES * 1e9, "ns/frame", peer, theirs / ours,
                         1 / 1.2, 1)  # fmt: skip
    some = frames[:EVENT_FRAMES]
    whole_s, chunk_s, dict_s, events_s, cantools_s = _best(
        [whole, in_chunks, one_by_one, lambda: decoder.events(some, counts), cantools]
    )
    rows = (
        ("1M frames to latest values", whole_s / FRAMES, 200, 250),
        ("chunks of 64 frames", chunk_s / sum(map(len, chunks)), 120, 150),
        ("one frame to a dictionary", dict_s / SAMPLE, 12, 15),
        ("every frame unpacked, to rows of events", events_s / EVENT_FRAMES, None, None),
    )
    for name, ours, must, aim in rows:
        ratio = cantools_s / SAMPLE / ours
        yield Result(f"decode: {name}", ours * 1e9, "ns/frame", version("cantools"), ratio, must, aim)
    yield _asammdf(frames[:MDF_FRAMES], decoder)
    yield from _real_logs()


def _asammdf(frames: Frames, decoder: Decoder) -> Result:
    """Bulk extraction by asammdf, of an MF4 of the same frames, against the same into latest values."""
    mdf4: Any = importlib.import_module("asammdf")
    latest, counts = LatestTable(len(decoder.slots)), Counts(1)
    with tempfile.TemporaryDirectory() as folder:
        dbc, log = Path(folder) / "workload.dbc", Path(folder) / "workload.mf4"
        dbc.write_text(database_text())
        with can.Logger(str(log)) as writer:
            for f in frames:
                writer.on_message_received(
                    can.Message(
                        timestamp=f["time_us"] / 1e6,
                        arbitration_id=int(f["id"]),
                        is_extended_id=bool(f["flags"] & EXTENDED),
                        data=f["data"][:8].tobytes(),
                    )
                )
        with mdf4.MDF(log) as mdf:

            def theirs() -> None:
                mdf.extract_bus_logging({"CAN": [(str(dbc), 0)]}).close()

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ours_s, theirs_s = _best([lambda: decoder.update(frames, latest, counts), theirs], 2)
    return Result("decode: against bulk extraction", ours_s / len(frames) * 1e9, "ns/frame", version("asammdf"),
                  theirs_s / ours_s, 75)  # fmt: skip


def _real_logs() -> Iterator[Result]:
    """Logs of real cars, through a database of each, against cantools on the same frames."""
    shared = Path(__file__).parents[2] / "shared" / "data" / "can"
    for log_name, dbc_name in REAL_LOGS:
        log, dbc = shared / log_name, shared / dbc_name
        if not log.exists() or not dbc.exists():
            print(f"{log} or {dbc} is not here: its row is left out", file=sys.stderr)
            continue
        database: Any = load_database(dbc)
        j1939 = any(m.protocol == "j1939" for m in database.messages)
        frames = np.concatenate(list(open_log(log)))
        frames["channel"] = 0
        known = {pgn_of(m.frame_id) if j1939 else m.frame_id: m for m in database.messages}
        plain = [
            (known[key], f["data"][: f["length"]].tobytes())
            for f in frames
            if (key := pgn_of(int(f["id"])) if j1939 else int(f["id"])) in known
        ]
        plain = [(m, data) for m, data in plain if len(data) >= m.length][:SAMPLE]
        decoder = Decoder([(0, database, {})])
        latest, counts = LatestTable(len(decoder.slots)), Counts(1)

        def theirs(plain: Any = plain) -> None:
            for message, data in plain:
                with contextlib.suppress(cantools_errors.DecodeError):
                    message.decode(data)

        ours = functools.partial(decoder.update, frames, latest, counts)
        ours_s, theirs_s = _best([ours, theirs])
        share = counts.total()["decoded"] / counts.total()["received"]
        ratio = (theirs_s / len(plain) * share) / (ours_s / len(frames))
        yield Result(f"decode: {log.name}, {share:.0%} known", ours_s / len(frames) * 1e9, "ns/frame",
                     version("cantools"), ratio)  # fmt: skip


def _best(runs: Sequence[Callable[[], object]], rounds: int = ROUNDS) -> list[float]:
    """CPU seconds of the fastest run of each, over rounds in which they take turns."""
    best = [float("inf")] * len(runs)
    for _ in range(rounds):
        for n, run in enumerate(runs):
            begin = time.thread_time()
            run()
            best[n] = min(best[n], time.thread_time() - begin)
    return best


def _plain(frames: Frames) -> list[tuple[int, bytes]]:
    return [(int(f["id"]), f["data"][: f["length"]].tobytes()) for f in frames]


def _generated_c(
    database: Any, frames: Frames, latest: LatestTable, folder: Path
) -> Callable[[], object] | None:
    """The faster of two builds of the generated C, as a function that decodes the frames; None without gcc.

    Raises
    ------
    RuntimeError
        The C's table is not ours: then the times would mean nothing.
    """
    if shutil.which("gcc") is None:
        return None
    header, source, *_ = generate(database, "peer", "peer.h", "peer.c", "fuzz.c")
    (folder / "peer.h").write_text(header)
    (folder / "peer.c").write_text(source)
    (folder / "loop.c").write_text(_loop(database, "peer.h"))
    (folder / "one.c").write_text('#include "peer.c"\n' + _loop(database, "peer.h"))
    table = np.zeros(len(latest.value))
    runs = []
    for name, files in (("two", ["loop.c", "peer.c"]), ("one", ["one.c"])):
        command = [
            "gcc",
            "-O2",
            "-ffp-contract=off",
            "-shared",
            "-fPIC",
            "-fno-semantic-interposition",
            "-Wl,-Bsymbolic",
            "-o",
            f"{name}.so",
            *files,
        ]
        subprocess.run(command, cwd=folder, check=True)
        function = ctypes.CDLL(str(folder / f"{name}.so")).decode
        function.restype = ctypes.c_long
        pointers = (
            ctypes.c_void_p(frames.ctypes.data),
            ctypes.c_long(len(frames)),
            ctypes.c_void_p(table.ctypes.data),
        )
        runs.append(lambda f=function, p=pointers, alive=(frames, table): f(*p))
    decoder = Decoder([(0, database, {})])
    once, counts = LatestTable(len(decoder.slots)), Counts(1)
    decoder.update(frames, once, counts)
    for run in runs:
        table[:] = np.nan
        run()
        good = once.state == 1
        if not np.array_equal(table[good], once.value[good]):
            raise RuntimeError("generated C and our decoder disagree")
    times = _best(runs, 3)
    return runs[times.index(min(times))]


def _loop(database: Any, header: str) -> str:
    """C that decodes an array of frames with the generated functions."""
    cases, slot = [], 0
    for m in database.messages:
        key = m.frame_id | (1 << 31 if m.is_extended_frame else 0)
        slots = {s.name: slot + n for n, s in enumerate(m.signals)}
        slot += len(m.signals)
        name = camel_to_snake_case(m.name)
        cases.append(
            f"case {key}u: {{ struct peer_{name}_t m; if (peer_{name}_unpack(&m, f->data, f->length) < 0) break;\n"
            f"{_stores(m, m.signal_tree, slots)} decoded++; break; }}"
        )
    return f"""#include <stdint.h>
#include "{header}"
struct __attribute__((packed)) frame {{
    int64_t time_us; uint32_t id; uint8_t channel, flags, length, pad; uint8_t data[64];
}};
long decode(const struct frame *f, long n, double *table) {{
    long decoded = 0;
    for (const struct frame *end = f + n; f < end; f++)
        switch (f->id | (uint32_t)(f->flags & {EXTENDED}) << 31) {{
{chr(10).join(cases)}
        }}
    return decoded;
}}
"""


def _stores(m: DbMessage, tree: Any, slots: dict[str, int]) -> str:
    """Every signal that is there into the table; pages by a switch on their multiplexer."""
    lines = []
    for node in tree:
        for name in node if isinstance(node, dict) else [node]:
            full = f"peer_{camel_to_snake_case(m.name)}_{camel_to_snake_case(name)}"
            lines.append(f"  table[{slots[name]}] = {full}_decode(m.{camel_to_snake_case(name)});")
    for node in tree:
        for name, pages in node.items() if isinstance(node, dict) else ():
            cases = "".join(f" case {n}: {_stores(m, page, slots)} break;\n" for n, page in pages.items())
            lines.append(f"  switch (m.{camel_to_snake_case(name)}) {{\n{cases} }}")
    return "\n".join(lines)
