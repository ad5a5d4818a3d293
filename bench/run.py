"""The benchmarks, each beside its peer in the same run; ratio > 1 when we are the better.

make bench                  a table
make bench BENCH=--json     one JSON object
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cantools

from edge.can.decoder import Counts, Decoder, LatestTable
from edge.can.frames import EXTENDED, Frames
from edge.can.logs import open_log
from edge.signals.catalogue import load_catalogue
from sim_bus.command import run_simulation

CHANNELS = ("bms", "inverter", "vehicle")
SECONDS = 60
SEED = 1


def simulated_minute() -> list[Frames]:
    """Frames of one simulated bus, as a log gives them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "minute.log"
        run_simulation("winter_day", str(path), seed=SEED, duration_s=SECONDS, speed=None)
        return list(open_log(path))


def fastest(what: Callable[[], None], times: int) -> float:
    """Seconds of the fastest of some runs."""
    best = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        what()
        best = min(best, time.perf_counter() - begin)
    return best


def decode_latest() -> dict[str, Any]:
    """Frames into the table of latest values, against cantools' decode_message of the same frames."""
    parts = simulated_minute()
    frames = sum(len(part) for part in parts)
    catalogue = load_catalogue([(name, name) for name in CHANNELS])
    decoder = Decoder.from_catalogue(catalogue)
    latest, counts = LatestTable(len(decoder.slots)), Counts(len(CHANNELS))

    def ours() -> None:
        for part in parts:
            decoder.update(part, latest, counts)

    databases: list[Any] = [channel.database for channel in catalogue.channels]
    known = [{(m.frame_id, m.is_extended_frame) for m in database.messages} for database in databases]
    plain = [
        (databases[f["channel"]], int(f["id"]), f["data"][: f["length"]].tobytes())
        for part in parts
        for f in part
        if (int(f["id"]), bool(f["flags"] & EXTENDED)) in known[f["channel"]]
    ]

    def theirs() -> None:
        for database, frame_id, data in plain:
            database.decode_message(frame_id, data, decode_choices=False)

    ours_ns = fastest(ours, 5) / frames * 1e9
    theirs_ns = fastest(theirs, 2) / len(plain) * 1e9
    return {
        "name": "decode to latest values",
        "value": round(ours_ns, 1),
        "unit": "ns/frame",
        "peer": f"cantools {cantools.__version__}",
        "ratio": round(theirs_ns / ours_ns, 1),
        "must": 200,
        "aim": 250,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    print(f"seed {SEED}", file=sys.stderr)
    results = [decode_latest()]
    if arguments.json:
        print(json.dumps({"results": results}))
        return
    for r in results:
        print(
            f"{r['name']:<28} {r['value']:>10} {r['unit']:<9} {r['ratio']:>7} x {r['peer']} (must {r['must']}, aim {r['aim']})"
        )


if __name__ == "__main__":
    main()
