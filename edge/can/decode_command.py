"""`ayaz decode`: any CAN log, through any DBC, to CSV, JSON lines or Parquet."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
import numpy as np
from rich.console import Console

from edge.can.decoding import Databases, LogDecoder, Selection
from edge.can.frames import Frames
from edge.can.j1939 import pgn_of
from edge.can.logs import Log, Logs, open_log
from edge.can.statistics import Statistics, print_tables
from edge.can.writers import WRITERS, Writer
from edge.command import finite, frame_progress, whole_file
from edge.errors import LogError

PIPE_COLUMNS = 140  # of a table that no terminal's width binds
FORMAT_OF = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
RATE = re.compile(r"(\d+(?:\.\d+)?)([kM]?)")
FACTORS = {"": 1, "k": 1_000, "M": 1_000_000}
BITRATE, DATA_BITRATE = 500_000, 2_000_000


class LogFrames:
    """The frames of some logs, one after the other, renumbered to the decoder's channels.

    A log that breaks off gives all before, then the next one follows; `problems` tells. `start_s` and `end_s` count from
    the first frame of all; a log is left where a whole chunk lies beyond the end.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        decoder: LogDecoder,
        channels: Sequence[str] = (),
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> None:
        """Open every log.

        Raises
        ------
        LogError
            Every log that isn't there or has no format that we know, one line each.
        """
        self.problems: list[str] = []
        self.channels: list[str] = []  # that were seen, wanted or not
        self.no_frames: dict[str, int] = {}  # records that were none -> how many
        self.log = -1
        self._decoder, self._wanted = decoder, channels
        self._window_us = _us(start_s, -(1 << 62)), _us(end_s, 1 << 62)
        self._first_us: int | None = None
        self._logs = Logs(paths)
        for path in paths:
            try:
                open_log(path)
            except LogError as error:
                self.problems += error.problems
        if self.problems:
            raise LogError(self.problems)

    def __iter__(self) -> Iterator[Frames]:
        """Chunks of frames; `log` is the number of the log that the last one is from."""
        for log in self._logs:
            self.log += 1
            yield from self._chunks(log)
            for reason, number in log.refused.items():
                what = f"{log.path}: {reason}"
                self.no_frames[what] = self.no_frames.get(what, 0) + number
        if self._wanted and self.channels and not set(self._wanted) & set(self.channels):
            raise LogError(self._no_channel(self._wanted[0]))

    def missing(self, names: Iterable[str]) -> list[str]:
        """A line for each channel that no log has."""
        return [self._no_channel(name) for name in dict.fromkeys(names) if name not in self.channels]

    def _no_channel(self, name: str) -> str:
        return f"the logs have no channel {name!r}; they have: {', '.join(self.channels) or 'none'}"

    @property
    def fraction(self) -> float:
        """How far we are in all that there is to read, 0 to 1."""
        return self._logs.fraction

    def _chunks(self, log: Log) -> Iterator[Frames]:
        numbers = np.zeros(256, np.uint8)
        wanted = np.zeros(256, bool)
        known = 0
        try:
            for frames in log:
                for name in log.channels[known:]:
                    if name not in self.channels:
                        self.channels.append(name)
                    if wanted[known] or not self._wanted or name in self._wanted:
                        wanted[known], numbers[known] = True, self._decoder.channel(name)
                    known += 1
                chosen, beyond = self._choose(frames, wanted)
                if len(chosen):
                    chosen["channel"] = numbers[chosen["channel"]]
                    yield chosen
                if beyond:
                    return
        except LogError as error:
            self.problems += error.problems

    def _choose(self, frames: Frames, wanted: Any) -> tuple[Frames, bool]:
        """What of a chunk is wanted, and whether all of it lies beyond the end."""
        if not len(frames):
            return frames, False
        if self._first_us is None:
            self._first_us = int(frames["time_us"][0])
        start, end = self._window_us
        since = frames["time_us"] - self._first_us
        if since.min() > end:
            return frames[:0], True
        mask = wanted[frames["channel"]] & (since >= start) & (since <= end)
        return (frames if mask.all() else frames[mask]), False


def _us(seconds: float | None, default: int) -> int:
    return default if seconds is None else round(seconds * 1e6)


def _of_channels(
    context: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, int]]:
    """--bitrate: RATE[/DATA_RATE] or CHANNEL=RATE[/DATA_RATE]; the first for every channel."""
    rates = {"": (BITRATE, DATA_BITRATE)}  # of every channel without one of its own
    for value in values:
        channel, _, rate = value.rpartition("=")
        found = [RATE.fullmatch(part) for part in rate.split("/")]
        numbers = [int(float(m[1]) * FACTORS[m[2]]) for m in found if m]
        if len(numbers) != len(found) or len(found) > 2 or 0 in numbers:
            raise click.BadParameter(
                f"{value!r} is no bit rate: say 500k, or 500k/2M for CAN FD.", context, option
            )
        rates[channel] = (numbers[0], numbers[1] if len(numbers) == 2 else DATA_BITRATE)
    return rates


def _files(dbcs: Sequence[str]) -> list[tuple[str | None, str]]:
    """--dbc FILE or CHANNEL=FILE; a file whose name holds a = is a file."""
    found: list[tuple[str | None, str]] = []
    for text in dbcs:
        channel, equals, file = text.partition("=")
        found.append((channel, file) if equals and channel and not Path(text).is_file() else (None, text))
    return found


def _guard(out: Path, inputs: Iterable[Path]) -> None:
    """An output must never overwrite what it is made from.

    Raises
    ------
    click.UsageError
    """
    for target in (out, out.with_name(out.name + ".part")):
        for path in inputs:
            if target.exists() and path.exists() and target.samefile(path):
                raise click.UsageError(f"-o {out} would overwrite {path}, which is read; choose another name")


@contextmanager
def _output(out: Path | None) -> Iterator[IO[bytes]]:
    """Where bytes go: stdout, a new file (whole or not at all), or a pipe or device that is there already."""
    if out is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    try:
        if out.exists() and not out.is_file():
            with out.open("wb") as file:
                yield file
            return
        with whole_file(out) as part, part.open("wb") as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise LogError(f"{out}: cannot be written: {error.strerror or error}") from None


@contextmanager
def _writer(fmt: str, file: IO[bytes], decoder: LogDecoder) -> Iterator[Writer]:
    writer: Writer = WRITERS[fmt](file, decoder)
    try:
        yield writer
    except BaseException:
        writer.discard()
        raise
    writer.close()


@click.command()
@click.argument("logs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--dbc",
    "dbcs",
    multiple=True,
    required=True,
    metavar="[CHANNEL=]FILE",
    help="DBC, KCD, SYM or ARXML, or the name of one that we ship; for one channel, or for all. May be given again: "
    "where two have the same message, a channel's own file holds, then the one named first.",
)
@click.option(
    "--j1939",
    is_flag=True,
    help="Match 29 bit messages by PGN, whatever priority and source; put transported messages together.",
)
@click.option(
    "--format",
    "fmt",
    type=click.Choice(list(WRITERS)),
    help="Without it, what OUT ends in says, or else csv.",
)
@click.option(
    "--signals",
    multiple=True,
    metavar="NAME,...",
    help="Only these: Signal, Message.Signal, or a pattern such as 'Cell*Voltage' or 'BMS_*.*'. May be given again.",
)
@click.option(
    "--channel", "channels", multiple=True, metavar="NAME", help="Only this channel. May be given again."
)
@click.option("--start-s", type=float, callback=finite, help="Only from here, in s after the first frame.")
@click.option("--end-s", type=float, callback=finite, help="Only up to here, in s after the first frame.")
@click.option("--raw-choices", is_flag=True, help="Numbers instead of the texts of value tables.")
@click.option("--stats", is_flag=True, help="Only count: identifiers, periods, load, what was not decoded.")
@click.option(
    "--bitrate",
    "bitrates",
    multiple=True,
    metavar="[CHANNEL=]RATE[/RATE]",
    callback=_of_channels,
    help="With --stats, for the load: 250k, or 1M/5M where CAN FD switches. May be given again.  [default: 500k/2M]",
)
@click.option("--json", "as_json", is_flag=True, help="With --stats: print one JSON object.")
@click.option("-o", "out", type=click.Path(path_type=Path), help="Into this file; without it, to stdout.")
def decode(
    logs: tuple[Path, ...], dbcs: tuple[str, ...], j1939: bool, fmt: str | None, signals: tuple[str, ...],
    channels: tuple[str, ...], start_s: float | None, end_s: float | None, raw_choices: bool, stats: bool,
    bitrates: dict[str, tuple[int, int]], as_json: bool, out: Path | None,
) -> None:  # fmt: skip
    """Any CAN log that the ecosystem writes, through any DBC.

    Several logs are read in the order given. A log that breaks off is decoded as far as it goes; the exit
    status is then 1.

    \b
    Examples:
      ayaz decode drive.mf4 --dbc j1939.dbc --j1939 -o drive.parquet
      ayaz decode bus.log --dbc can0=bms.dbc --dbc can1=drive.dbc | head
      ayaz decode bus.log --dbc bms.dbc --signals 'Pack*' --format jsonl
      ayaz decode bus.log --dbc bms.dbc --stats --bitrate 250k
    """
    out = None if out == Path("-") else out
    if as_json and not stats:
        raise click.UsageError("--json goes with --stats; for JSON lines say --format jsonl")
    if stats and (out or fmt or signals):
        raise click.UsageError(
            "--stats counts whole frames, and prints that: without -o, --format, --signals"
        )
    fmt = fmt or (FORMAT_OF.get(out.suffix.lower()) if out else None) or "csv"
    if fmt == "parquet" and out is None and not stats:
        raise click.UsageError("Parquet goes into a file: give -o OUT")
    begin = time.perf_counter()
    files = _files(dbcs)
    if out:
        _guard(out, [*logs, *(Path(file) for _, file in files)])
    databases = Databases(files, j1939)
    wanted = [name.strip() for text in signals for name in text.split(",")]
    decoder = LogDecoder(databases, Selection(wanted, databases.names()), choices=not raw_choices)
    frames = LogFrames(logs, decoder, channels, start_s, end_s)
    _warn(databases.warnings)
    if stats:
        _count(frames, decoder, bitrates, as_json, begin)
    else:
        _write(frames, decoder, fmt, out)
    _warn(frames.missing((*channels, *databases.named_channels)))
    _warn(f"{what}: left out {number:,} records" for what, number in frames.no_frames.items())
    if frames.problems:
        where = f"is in {out}" if out else "was decoded"
        raise LogError([f"{problem}; what came before {where}" for problem in frames.problems])


def _write(frames: LogFrames, decoder: LogDecoder, fmt: str, out: Path | None) -> None:
    with _output(out) as file, _writer(fmt, file, decoder) as writer:
        for chunk in _shown(frames, quiet=out is None and sys.stdout.isatty()):
            rows = decoder.decode(chunk)
            if len(rows.frame):
                writer.write(chunk, rows)
        if frames.problems and not frames.channels:  # nothing to keep
            raise LogError(frames.problems)


def _count(
    frames: LogFrames, decoder: LogDecoder, bitrates: dict[str, tuple[int, int]], as_json: bool, begin: float
) -> None:
    databases = decoder.databases
    statistics = Statistics(decoder.channels, bitrates, databases.j1939)
    for chunk in _shown(frames):
        decoded = np.zeros(len(chunk), bool)
        decoded[decoder.decode(chunk).frame] = True
        statistics.add(chunk, decoded, frames.log)
    stats = statistics.result(decoder.counts, decoder.message_of)
    stats["addresses"] = [
        {"channel": channel, "address": address} | name._asdict()
        for channel, address, name in decoder.names()
    ]
    stats["no_frames"] = frames.no_frames
    stats["seconds"] = round(time.perf_counter() - begin, 3)
    if as_json:
        print(json.dumps(stats))
    else:
        bound = sys.stdout.isatty() or "COLUMNS" in os.environ
        print_tables(Console(width=None if bound else PIPE_COLUMNS, highlight=False), stats)
    if not databases.j1939:
        unknown = [one for one in stats["ids"] if one["extended"] and one["message"] is None]
        by_pgn = sum(one["frames"] for one in unknown if pgn_of(one["id"]) in databases.pgns())
        _warn([f"{by_pgn:,} of the unknown frames would be known by their PGN: --j1939"] if by_pgn else [])


def _shown(frames: LogFrames, quiet: bool = False) -> Iterator[Frames]:
    """The frames, with a progress bar."""
    with frame_progress("decode", quiet) as advance:
        done = 0
        for chunk in frames:
            yield chunk
            done += len(chunk)
            advance(done, frames.fraction)


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"ayaz: {line}", file=sys.stderr)
