"""`ayaz decode`: any CAN log, through any DBC, to CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import importlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import click

from edge.can.decoder import Counts, Decoder
from edge.can.frames import Frames
from edge.can.logs import Log, Logs
from edge.command import frame_progress, whole_file
from edge.errors import LogError
from edge.signals.catalogue import load_database

PARQUET_ROWS = 50_000
COLUMNS = ("t", "channel", "id", "message", "signal", "value", "text")


class Decoded(NamedTuple):
    """One decoded frame, for people: its message and its signals by name."""

    message: str
    signals: dict[str, float | int | str]


class _Writer(Protocol):
    def write(self, t: float, channel: str, frame_id: int, decoded: Decoded) -> None: ...
    def close(self) -> None: ...


class _Jsonl:
    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, t: float, channel: str, frame_id: int, decoded: Decoded) -> None:
        line = {
            "t": t,
            "channel": channel,
            "id": frame_id,
            "message": decoded.message,
            "signals": decoded.signals,
        }
        self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        self._file.flush()


class _Csv:
    def __init__(self, file: IO[str]) -> None:
        self._writer = csv.writer(file)
        self._file = file
        self._writer.writerow(COLUMNS[:6])

    def write(self, t: float, channel: str, frame_id: int, decoded: Decoded) -> None:
        for name, value in decoded.signals.items():
            self._writer.writerow([t, channel, frame_id, decoded.message, name, value])

    def close(self) -> None:
        self._file.flush()


class _Parquet:
    """A row per signal; choices in a column of their own, since a column has one type."""

    def __init__(self, path: Path) -> None:
        try:
            self._arrow: Any = importlib.import_module("pyarrow")
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ModuleNotFoundError:
            raise LogError("Parquet needs pyarrow; install it with: pip install 'ayaz[lab]'") from None
        types = ("float64", "string", "uint32", "string", "string", "float64", "string")
        self._schema = self._arrow.schema(
            [(c, getattr(self._arrow, t)()) for c, t in zip(COLUMNS, types, strict=True)]
        )
        self._writer = parquet.ParquetWriter(path, self._schema)
        self._rows: list[tuple[Any, ...]] = []

    def write(self, t: float, channel: str, frame_id: int, decoded: Decoded) -> None:
        for name, value in decoded.signals.items():
            number, text = (None, value) if isinstance(value, str) else (float(value), None)
            self._rows.append((t, channel, frame_id, decoded.message, name, number, text))
        if len(self._rows) >= PARQUET_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) if self._rows else [()] * len(COLUMNS)
        self._writer.write_table(
            self._arrow.table(dict(zip(COLUMNS, map(list, columns), strict=True)), schema=self._schema)
        )
        self._rows = []


def decode_logs(
    logs: Iterable[Log], dbcs: list[Path], j1939: bool, raw_choices: bool
) -> Iterator[tuple[float, str, int, list[Decoded], Counts]]:
    """Every frame of the logs: time in s, channel, id, what it holds (empty where nothing), counts so far.

    Raises
    ------
    LogError, DatabaseError
    """
    counts = Counts(1)
    make = partial(make_decoder, dbcs, j1939)
    make()  # a broken database must be told before the first frame
    for log in logs:
        decoders: dict[int, Decoder] = {}
        for frames in log:
            for n in range(len(frames)):
                frame = frames[n : n + 1]
                number = int(frame["channel"][0])
                if number not in decoders:  # one per channel: transport sessions must not mix
                    decoders[number] = make()
                frame["channel"] = 0
                decoded = decode_frame(decoders[number], frame, counts, raw_choices)
                t = int(frame["time_us"][0]) / 1e6
                yield t, log.channels[number], int(frame["id"][0]), decoded, counts


def decode_frame(decoder: Decoder, frame: Frames, counts: Counts, raw_choices: bool) -> list[Decoded]:
    """What one frame (an array of length 1) holds; one that ends a J1939 transport gives that message too."""
    results: list[Decoded] = []
    events = decoder.events(frame, counts)
    for slot, raw, value, state in zip(*(a.tolist() for a in events[1:]), strict=True):
        known = decoder.slots[slot]
        if not results or results[-1].message != known.message:
            results.append(Decoded(known.message, {}))
        shown = decoder.for_people(slot, raw, value, state, choices=not raw_choices)
        if shown is not None:
            results[-1].signals[known.signal] = shown
    return results


def make_decoder(dbcs: list[Path], j1939: bool) -> Decoder:
    """One decoder of every database; with `j1939`, every 29 bit message is matched by its PGN.

    Raises
    ------
    DatabaseError
    """
    database = load_database(dbcs[0])
    for path in dbcs[1:]:
        database.messages.extend(load_database(path).messages)
    for message in database.messages if j1939 else ():
        if message.is_extended_frame:
            message.protocol = "j1939"
    return Decoder([(0, database, {})])


def _writer(stack: ExitStack, fmt: str, part: Path | None) -> _Writer:
    if fmt == "parquet":
        if part is None:
            raise click.UsageError("Parquet goes into a file: give -o OUT")
        return _Parquet(part)
    file = stack.enter_context(part.open("w", encoding="utf-8", newline="")) if part else sys.stdout
    return _Jsonl(file) if fmt == "jsonl" else _Csv(file)


@click.command()
@click.argument("logs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--dbc",
    "dbcs",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="DBC, KCD, SYM or ARXML; may be given again.",
)
@click.option("--j1939", is_flag=True, help="Match 29 bit messages by PGN, whatever priority and source.")
@click.option(
    "--format", "fmt", type=click.Choice(["csv", "jsonl", "parquet"]), default="csv", show_default=True
)
@click.option("--raw-choices", is_flag=True, help="Numbers instead of the texts of value tables.")
@click.option("--stats", is_flag=True, help="Only count.")
@click.option("--json", "as_json", is_flag=True, help="With --stats: print one JSON object.")
@click.option("-o", "out", type=click.Path(path_type=Path), help="Into this file; without it, to stdout.")
def decode(
    logs: tuple[Path, ...], dbcs: tuple[Path, ...], j1939: bool, fmt: str, raw_choices: bool, stats: bool,
    as_json: bool, out: Path | None,
) -> None:  # fmt: skip
    """Any CAN log that the ecosystem writes, through any DBC.

    \b
    Example:  ayaz decode drive.mf4 --dbc j1939.dbc --j1939 --format parquet -o drive.parquet
              ayaz decode candump.log --dbc bms.dbc --stats
    """
    if as_json and not stats:
        raise click.UsageError("--json goes with --stats; for JSON lines say --format jsonl")
    begin = time.perf_counter()
    counts = Counts(1)
    try:
        with ExitStack() as stack:
            part = stack.enter_context(whole_file(out)) if out and not stats else None
            writer = None if stats else _writer(stack, fmt, part)
            advance = stack.enter_context(frame_progress("decode", quiet=writer is not None and part is None))
            source = Logs(logs)
            rows = decode_logs(source, list(dbcs), j1939, raw_choices)
            for n, (t, channel, frame_id, decoded, so_far) in enumerate(rows):
                counts = so_far
                for one in decoded if writer else ():
                    assert writer is not None
                    writer.write(t, channel, frame_id, one)
                if n % 1000 == 0:
                    advance(n, source.fraction)
            if writer:
                writer.close()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LogError(f"{out}: cannot be written: {error.strerror or error}") from None
    if stats:
        _show(counts.total(), time.perf_counter() - begin, as_json)


def _show(total: dict[str, int], seconds: float, as_json: bool) -> None:
    result = {
        "frames": total["received"],
        "decoded": total["decoded"],
        "unknown": total["unknown"],
        "refused": total["refused"],
        "seconds": round(seconds, 3),
    }
    if as_json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:>8}  {value:,}")
