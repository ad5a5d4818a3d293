"""The decoder, beside cantools."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.measure import SEED, Result, fastest, version
from edge.can.decoder import Counts, Decoder, LatestTable
from edge.can.frames import EXTENDED, Frames
from edge.can.logs import open_log
from edge.signals.catalogue import load_catalogue
from sim_bus.command import run_simulation

CHANNELS = ("bms", "inverter", "vehicle")
SECONDS = 60


def simulated_minute() -> list[Frames]:
    """Frames of one simulated bus, as a log gives them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "minute.log"
        run_simulation("winter_day", str(path), seed=SEED, duration_s=SECONDS, speed=None)
        return list(open_log(path))


def benchmarks() -> Iterator[Result]:
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
    yield Result(
        "decode to latest values",
        ours_ns,
        "ns/frame",
        version("cantools"),
        theirs_ns / ours_ns,
        200,
        250,
    )
