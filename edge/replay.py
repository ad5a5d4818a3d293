"""`ayaz replay`: the whole core over a log, at full speed."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import click
import numpy as np

from edge.agent import make_setup
from edge.can.frames import Frames
from edge.can.logs import Log, Logs
from edge.command import frame_progress, whole_file
from edge.config import load
from edge.core import Core, Setup
from edge.errors import LogError
from edge.pack import BMS_SOC, PACK_SOC, PACK_SOC_SD
from edge.recording import inputs_path, replay_plain, replay_recording
from edge.telemetry.batch import Item


def replay_logs(
    setup: Setup, logs: list[Path], source: Logs | None = None
) -> Iterator[tuple[Core, list[Item]]]:
    """A core over one recording, or over plain logs one after another; `source` is those logs, to see how far it is.

    Raises
    ------
    LogError
        A log cannot be read, or none of its channels is one of the configuration's.
    """
    names = [c.name for c in setup.catalogue.channels]
    recorded = [log for log in logs if inputs_path(log).exists()]
    if recorded and len(logs) > 1:
        raise LogError(f"{recorded[0]} is a recording: replay it alone")
    chunks = (chunk for log in source or Logs(logs) for chunk in _renumbered(log, names))
    return replay_recording(setup, logs[0], chunks) if recorded else replay_plain(setup, chunks)


def _renumbered(log: Log, names: list[str]) -> Iterator[Frames]:
    """A log's frames with the configuration's channel numbers: by name, else by order of appearance.

    A log with one nameless channel is the configuration's only channel, or its first.
    """
    for frames in log:
        known = [names.index(c) if c in names else n for n, c in enumerate(log.channels)]
        if known != list(range(len(known))):
            table = np.array(known + list(range(len(known), 256)), dtype=np.uint8)
            frames = frames.copy()
            frames["channel"] = table[frames["channel"]]
        yield frames


def summary(core: Core, batches: int, cpu_s: float) -> dict[str, Any]:
    """What `ayaz replay --json` prints."""
    counts = core.counts.total()
    state = core.snapshot()
    return {
        "frames": counts["received"],
        "decoded": counts["decoded"],
        "unknown": counts["unknown"],
        "refused": counts["refused"],
        "batches": batches,
        "samples": core.samples,
        "final": {
            "soc": _fraction(state.get(PACK_SOC)),
            "soc_sd": _fraction(state.get(PACK_SOC_SD)),
            "bms_soc": _fraction(state.get(BMS_SOC)),
        },
        "cpu_s": round(cpu_s, 3),
    }


def _fraction(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 6)


class _Rows:
    """A row per second of the log's time."""

    def __init__(self, file: IO[str]) -> None:
        self._writer = csv.writer(file)
        self._writer.writerow(["t_s", "soc", "soc_sd", "bms_soc"])
        self._second = -1

    def take(self, core: Core) -> None:
        second = core.now_us // 1_000_000
        if second == self._second:
            return
        self._second = second
        state = core.snapshot()
        values = [_fraction(state.get(path)) for path in (PACK_SOC, PACK_SOC_SD, BMS_SOC)]
        self._writer.writerow([second, *("" if v is None else v for v in values)])


@click.command()
@click.argument("logs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), required=True, help="ayaz.toml")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("-o", "out", type=click.Path(path_type=Path), help="CSV with a row per second.")
@click.option(
    "--batches", "batch_dir", type=click.Path(path_type=Path), help="Write each sealed item's payload here."
)
def replay(
    logs: tuple[Path, ...], path: Path, as_json: bool, out: Path | None, batch_dir: Path | None
) -> None:
    """The whole core over a log: frames to batches, much faster than the bus.

    A recording (`ayaz run --record`) gives the same batches as the live run; a plain log is replayed
    with defaults.

    \b
    Example:  ayaz replay day.log -c ayaz.toml -o estimates.csv
    """
    setup = make_setup(load(path))
    begin = time.process_time()
    core: Core | None = None
    batches = 0
    try:
        with ExitStack() as stack:
            part = stack.enter_context(whole_file(out)) if out else None
            rows = _Rows(stack.enter_context(part.open("w", newline="", encoding="utf-8"))) if part else None
            if batch_dir:
                batch_dir.mkdir(parents=True, exist_ok=True)
            advance = stack.enter_context(frame_progress("replay"))
            source = Logs(logs)
            for core, items in replay_logs(setup, list(logs), source):
                batches += sum(item.kind == "batch" for item in items)
                if rows:
                    rows.take(core)
                for item in items if batch_dir else ():
                    assert batch_dir is not None
                    (batch_dir / f"{item.seq:08d}.{item.kind}.json.zst").write_bytes(item.payload)
                if items:
                    advance(core.counts.total()["received"], source.fraction)
    except OSError as error:
        raise LogError(f"{error.filename or out}: cannot be written: {error.strerror}") from None
    if core is None:
        raise LogError(f"{logs[0]}: holds no frames")
    result = summary(core, batches, time.process_time() - begin)
    if as_json:
        print(json.dumps(result))
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    for name in ("frames", "decoded", "unknown", "refused", "batches", "samples", "cpu_s"):
        print(f"{name:>8}  {result[name]:,}")
    for name, value in result["final"].items():
        print(f"{name:>8}  " + ("-" if value is None else f"{value * 100:.2f} %"))
