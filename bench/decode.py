"""The decoder, beside generated C, cantools and asammdf: the same frames in the same run (docs/can/decoder.md).

The C is what `cantools generate_c_source` writes, compiled with gcc -O2, in a loop over the same frame array:
a switch on the identifier, unpack, and every signal decoded to a double in a table. It is built twice, as a
file of its own and included in the loop's, and the faster one is the peer.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cantools.database import Message as DbMessage
from cantools.database.can.c_source import camel_to_snake_case, generate

from bench.measure import SEED, Result, fastest, version
from bench.workload import make_database, make_frames
from edge.can.decoder import Counts, Decoder, LatestTable
from edge.can.frames import EXTENDED, Frames

FRAMES = 1_000_000
CHUNK = 64
SAMPLE = 20_000  # frames that the slow peers decode
ROUNDS = 7


def benchmarks() -> Iterator[Result]:
    """The table of issue 3, the decoder's rows."""
    database = make_database()
    signals = sum(len(m.signals) for m in database.messages)
    print(f"workload: {len(database.messages)} messages, {signals} signals, seed {SEED}", file=sys.stderr)
    frames = make_frames(database, FRAMES)
    decoder = Decoder([(0, database, {})])
    latest, counts = LatestTable(len(decoder.slots)), Counts(1)

    def whole() -> None:
        decoder.update(frames, latest, counts)

    chunks = [frames[n : n + CHUNK] for n in range(0, 100_000, CHUNK)]

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

    theirs_ns = fastest(cantools, 3) / len(plain) * 1e9
    with tempfile.TemporaryDirectory() as folder:
        generated = _generated_c(database, frames, latest, Path(folder))
        if generated is None:
            print("no gcc here: the row against generated C is left out", file=sys.stderr)
            ours_ns = fastest(whole, ROUNDS) / FRAMES * 1e9
        else:
            ours_s, c_s = _both(whole, generated, ROUNDS)
            ours_ns = ours_s / FRAMES * 1e9
            gcc = subprocess.run(["gcc", "-dumpversion"], capture_output=True, text=True, check=True)
            peer = f"C of {version('cantools')}, gcc {gcc.stdout.strip()} -O2"
            yield Result(
                "decode: 1M frames to latest values", ours_ns, "ns/frame", peer, c_s / ours_s, 1 / 1.2, 1
            )
    peer = version("cantools")
    yield Result(
        "decode: 1M frames to latest values", ours_ns, "ns/frame", peer, theirs_ns / ours_ns, 200, 250
    )
    chunk_ns = fastest(in_chunks, ROUNDS) / sum(map(len, chunks)) * 1e9
    yield Result("decode: chunks of 64 frames", chunk_ns, "ns/frame", peer, theirs_ns / chunk_ns, 120, 150)
    dict_ns = fastest(one_by_one, ROUNDS) / len(plain) * 1e9
    yield Result("decode: one frame to a dictionary", dict_ns, "ns/frame", peer, theirs_ns / dict_ns, 12, 15)


def _plain(frames: Frames) -> list[tuple[int, bytes]]:
    return [(int(f["id"]), f["data"][: f["length"]].tobytes()) for f in frames]


def _both(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Seconds of the fastest of some runs of each, taking turns: the machine's mood is the same for both."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        best = [min(best[0], fastest(ours, 1)), min(best[1], fastest(theirs, 1))]
    return best[0], best[1]


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
    return min(runs, key=lambda run: fastest(run, 3))


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
