"""A recording: everything that a core was given, so that a replay gives the same batches.

    NAME.log           the frames, as a candump log that any tool reads; times are the core's own
    NAME.log.inputs    JSON lines: what else the core was given, in order. Each line says after how
                       many frames it came:
                           {"after": 0, "start": {"boot": "...", "restored": "base64 or null"}}
                           {"after": 0, "clock": [offset_ms, "ntp"]}
                           {"after": 57, "tick": 123456789}
                           {"after": 57, "loss": {"socket": 3}}
                           {"after": 9000, "seal": true}

Invariants: `after` never falls; the first line is `start`; a recording cut short (power, kill) is good
up to its last whole line.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from edge.can.frames import FRAME, Frames
from edge.can.logs import CandumpWriter
from edge.core import TICK_US, Core, Setup
from edge.errors import LogError
from edge.telemetry.batch import Item

log = logging.getLogger("ayaz")

PLAIN_BOOT = "0" * 16  # a plain log has no boot id of its own


def inputs_path(path: Path) -> Path:
    """Where the inputs of a recorded log lie."""
    return path.with_name(path.name + ".inputs")


class Recorder:
    """Writes a recording beside a live core.

    Once the disk refuses, the recording ends there, said once in the log: a hole could not be replayed. The agent
    goes on; `missed` counts the frames that came after.

    Raises
    ------
    LogError
        The files cannot be made.
    """

    def __init__(self, path: Path, channels: Sequence[str]) -> None:
        self.frames = 0
        self.missed = 0
        self._failed = False
        self._log = CandumpWriter(path, list(channels))
        try:
            self._inputs: TextIO = inputs_path(path).open("w", encoding="utf-8")
        except OSError as error:
            raise LogError(f"{inputs_path(path)}: cannot be written: {error.strerror}") from None

    def start(self, boot: str, restored: bytes | None) -> None:
        self._line(
            "start", {"boot": boot, "restored": base64.b64encode(restored).decode() if restored else None}
        )

    def feed(self, frames: Frames) -> None:
        self._try(lambda: self._log.write(frames))
        if self._failed:
            self.missed += len(frames)
        else:
            self.frames += len(frames)

    def tick(self, now_us: int) -> None:
        self._line("tick", now_us)

    def clock(self, offset_ms: int, quality: str) -> None:
        self._line("clock", [offset_ms, quality])

    def loss(self, loss: Mapping[str, int]) -> None:
        self._line("loss", dict(loss))

    def seal(self) -> None:
        self._line("seal", True)

    def close(self) -> None:
        """Close both files; what the disk refuses even now is said."""
        for file in (self._log, self._inputs):
            try:
                file.close()
            except (LogError, OSError) as error:
                self._fail(error)

    def _line(self, key: str, value: Any) -> None:
        line = json.dumps({"after": self.frames, key: value}) + "\n"
        self._try(lambda: self._inputs.write(line))

    def _try(self, write: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            write()
        except (LogError, OSError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._failed:
            log.error("%s; the recording ends after %d frames", error, self.frames)
        self._failed = True


def replay_recording(setup: Setup, path: Path, chunks: Iterator[Frames]) -> Iterator[tuple[Core, list[Item]]]:
    """Give a fresh core exactly what the recording holds; yields after each tick or seal.

    Raises
    ------
    LogError
        The inputs are not a recording's, or speak of more frames than the log has.
    """
    core: Core | None = None
    source = _Frames(chunks)
    for number, line in _input_lines(inputs_path(path)):
        where = f"{inputs_path(path)}:{number}"
        try:
            after = int(line["after"])
            if core is None:
                core = _started(setup, line["start"])
                continue
            for part in source.up_to(after):
                core.feed(part)
            if source.given < after:
                raise LogError(f"{path}: ends after {source.given} frames, but {where} speaks of {after}")
            if "tick" in line:
                yield core, core.tick(int(line["tick"]))
            elif "seal" in line:
                yield core, core.seal()
            elif "clock" in line:
                core.set_clock(int(line["clock"][0]), str(line["clock"][1]))
            elif "loss" in line:
                core.set_loss({str(k): int(v) for k, v in line["loss"].items()})
            else:
                raise LogError(f"{where}: an input that this version does not know: {sorted(line)}")
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError) as error:
            raise LogError(f"{where}: not a line of a recording: {error!r}") from None
    if core is None:
        raise LogError(f"{inputs_path(path)}: holds no whole line; without it {path.name} is a plain log")


class Piece(NamedTuple):
    """Frames of a log, and the tick that follows them; None where more frames come before the next tick."""

    frames: Frames
    tick_us: int | None


def pieces(chunks: Iterator[Frames]) -> Iterator[Piece]:
    """A plain log cut at its ticks: one each 100 ms of its time, and one after its last frame.

    Frames with times that run backwards are taken at the time before them.

    Raises
    ------
    LogError
        The log is damaged: after all before that.
    """
    next_us: int | None = None
    last_us = 0
    trouble: LogError | None = None
    while True:
        try:
            frames = next(chunks, None)
        except LogError as error:
            frames, trouble = None, error
        if frames is None:
            break
        if not len(frames):
            continue
        times = np.maximum.accumulate(np.maximum(frames["time_us"], last_us if next_us else 0))
        if (times != frames["time_us"]).any():
            frames = frames.copy()
            frames["time_us"] = times
        last_us = int(times[-1])
        if next_us is None:
            next_us = (int(times[0]) // TICK_US + 1) * TICK_US
        begin = 0
        while next_us <= last_us:
            end = int(np.searchsorted(times, next_us))
            yield Piece(frames[begin:end], next_us)
            # After a gap, one tick at the end of it: the core predicts over any step of time.
            begin, next_us = end, max(next_us, int(times[end]) // TICK_US * TICK_US) + TICK_US
        yield Piece(frames[begin:], None)
    if next_us is not None:
        yield Piece(np.zeros(0, FRAME), next_us)
    if trouble:
        raise trouble


def replay_plain(setup: Setup, chunks: Iterator[Frames]) -> Iterator[tuple[Core, list[Item]]]:
    """A core over a plain log (see `pieces`), with defaults: boot id zero.

    Raises
    ------
    LogError
        The log is damaged: after all before that.
    """
    core = Core(setup, PLAIN_BOOT)
    for frames, tick_us in pieces(chunks):
        core.feed(frames)
        if tick_us is not None:
            yield core, core.tick(tick_us)
    if core.seq:
        yield core, core.seal()


class _Frames:
    """Hands out frames by their count."""

    def __init__(self, chunks: Iterator[Frames]) -> None:
        self.given = 0
        self._chunks = chunks
        self._rest = np.zeros(0, FRAME)

    def up_to(self, count: int) -> Iterator[Frames]:
        while self.given < count:
            if not len(self._rest):
                chunk = next(self._chunks, None)
                if chunk is None:
                    return
                self._rest = chunk
            part, self._rest = self._rest[: count - self.given], self._rest[count - self.given :]
            self.given += len(part)
            yield part


def _input_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LogError(f"{path}: cannot be read: {error}") from None
    for number, text in enumerate(lines[:-1], 1):  # what follows the last newline was cut short
        try:
            line = json.loads(text)
        except ValueError:
            raise LogError(f"{path}:{number}: not JSON") from None
        if not isinstance(line, dict):
            raise LogError(f"{path}:{number}: not a line of a recording")
        yield number, line


def _started(setup: Setup, start: dict[str, Any]) -> Core:
    restored = base64.b64decode(start["restored"]) if start["restored"] else None
    return Core(setup, str(start["boot"]), restored)
