"""`ayaz decode`, beside what people use instead: cantools' own command, a loop in Python, asammdf.

All in one process, so that no one's start-up counts; the same log (asammdf: the same frames as MF4), the same
database, everything written to a file.
"""

import csv
import json
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import asammdf
import can
import cantools

from bench.measure import SEED, Result, fastest, version
from edge.cli import run_command
from edge.signals.databases import find_database
from sim_bus.job import Job, live

SECONDS = 900
DBC = str(find_database("bms"))


def the_log(folder: Path) -> Path:
    """The BMS's channel of a simulated bus, as a candump log."""
    whole, bms = folder / "whole.log", folder / "bms.log"
    live(Job("winter_day", to=str(whole), seed=SEED, duration_s=SECONDS), threading.Event())
    bms.write_text("".join(line for line in whole.open() if " bms " in line))
    return bms


def ours(log: Path, *arguments: str) -> None:
    """Our command on the log."""
    assert run_command(["decode", str(log), "--dbc", DBC, *arguments]) == 0


def cantools_command(log: Path, out: Path) -> None:
    """`python -m cantools decode --single-line bms.dbc < log > out`."""
    before = sys.stdin, sys.argv
    try:
        with log.open() as sys.stdin, out.open("w") as file, redirect_stdout(file):
            sys.argv = ["cantools", "decode", "--single-line", DBC]
            cantools._main()
    finally:
        sys.stdin, sys.argv = before


def loop(log: Path, out: Path, fmt: str) -> None:
    """The loop that everyone writes: python-can's reader, cantools' decode_message, csv or json."""
    database: Any = cantools.database.load_file(DBC)
    with out.open("w", newline="") as file, can.CanutilsLogReader(str(log)) as reader:
        table = csv.writer(file)
        for message in reader:
            known = database.get_message_by_frame_id(message.arbitration_id)
            signals = known.decode(message.data)
            if fmt == "csv":
                head = (message.timestamp, message.channel, message.arbitration_id, known.name)
                table.writerows((*head, name, value) for name, value in signals.items())
            else:
                line = {"t": message.timestamp, "id": message.arbitration_id, "message": known.name}
                print(json.dumps(line | {"signals": signals}, default=str), file=file)


def asammdf_export(log: Path, out: Path) -> None:
    """asammdf's bulk extraction, and its Parquet: a column for each signal, a row for each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with asammdf.MDF(log) as mdf, mdf.extract_bus_logging({"CAN": [(DBC, 0)]}) as extracted:
            extracted.export("parquet", filename=out)


def as_mf4(log: Path) -> Path:
    """The same frames in MF4."""
    path = log.with_suffix(".mf4")
    with can.CanutilsLogReader(str(log)) as reader, can.MF4Writer(str(path)) as writer:
        for message in reader:
            message.channel = 1
            writer(message)
    return path


def benchmarks() -> Iterator[Result]:
    """Frames a second of each format, and how many times the peers'."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = the_log(folder)
        mf4 = as_mf4(log)
        frames = len(log.read_bytes().splitlines())
        peers: dict[str, tuple[str, Callable[[Path], None]]] = {
            "cantools decode": (version("cantools"), lambda out: cantools_command(log, out)),
            "csv loop": ("python-can and " + version("cantools"), lambda out: loop(log, out, "csv")),
            "jsonl loop": ("python-can and " + version("cantools"), lambda out: loop(log, out, "jsonl")),
            "asammdf": (version("asammdf"), lambda out: asammdf_export(mf4, out)),
        }
        cases = (
            ("csv", log, "cantools decode"),
            ("csv", log, "csv loop"),
            ("jsonl", log, "jsonl loop"),
            ("parquet", log, "csv loop"),
            ("parquet", mf4, "asammdf"),
        )
        theirs = {n: fastest(lambda run=run: run(folder / "theirs"), 2) for n, (_, run) in peers.items()}  # type: ignore[misc]
        for fmt, source, peer in cases:
            mine = fastest(lambda s=source, f=fmt: ours(s, "--format", f, "-o", str(folder / "ours")), 3)  # type: ignore[misc]
            what = f"decode {source.suffix[1:]} to {fmt}, beside {peer}"
            yield Result(what, frames / mine, "frames/s", peers[peer][0], theirs[peer] / mine)
        with (folder / "stats").open("w") as file, redirect_stdout(file):
            mine = fastest(lambda: ours(log, "--stats", "--json"), 3)
        name, ratio = peers["csv loop"][0], theirs["csv loop"] / mine
        yield Result("decode --stats, beside csv loop", frames / mine, "frames/s", name, ratio)
