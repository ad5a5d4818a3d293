"""ASAM MDF 4 with bus logging, through asammdf (the `[files]` extra).

asammdf follows whatever a damaged file says: it was seen to ask for any amount of memory, and its compiled part to
take the process down with it. So it works in a process of its own (mf4_frames.py), with a limit on memory, and we
don't wait for ever.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from edge.can.frames import FRAME, Frames
from edge.can.logs.reader import Reader
from edge.can.logs.stream import CutShort, Stream
from edge.errors import LogError

PATIENCE_S = 60.0  # between two chunks,
BYTES_PER_S = 5e6  # and what a large file needs more before its first
PROGRAM = [sys.executable, "-W", "ignore", "-m", "edge.can.logs.mf4_frames"]


class Mf4Reader(Reader):
    """Frames of an MF4 log."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._said: dict[str, Any] = {"channels": [], "refused": {}, "fraction": 0.0}
        if importlib.util.find_spec("asammdf") is None:
            raise LogError(f"{stream.path}: MF4 needs asammdf; install it with: pip install 'ayaz[files]'")

    @property
    def channels(self) -> list[str]:
        return list(self._said["channels"])

    @property
    def refused(self) -> dict[str, int]:
        return dict(self._said["refused"])

    @property
    def fraction(self) -> float:
        return float(self._said["fraction"])

    def __iter__(self) -> Iterator[Frames]:
        with ExitStack() as stack:
            path, cut = self.stream.path, None
            if self.stream.packed:
                file = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".mf4"))
                path, cut = Path(file.name), _copy(self.stream, file)
            pipe = stack.enter_context(_Pipe(path))
            while "end" not in (said := json.loads(pipe.line())):
                self._said = said
                yield np.frombuffer(pipe.take(said["frames"] * FRAME.itemsize), FRAME).copy()
            if cut or said["end"]:
                raise CutShort(cut or said["end"])


def _copy(stream: Stream, file: IO[bytes]) -> str | None:
    """Unpack as far as it goes -> why no further."""
    try:
        for block in stream.blocks():
            file.write(block)
    except CutShort as error:
        return str(error)
    finally:
        file.flush()
    return None


class _Pipe:
    """What mf4_frames.py says of a file."""

    def __init__(self, path: Path) -> None:
        self._patience_s = PATIENCE_S + path.stat().st_size / BYTES_PER_S
        self._process = subprocess.Popen(
            [*PROGRAM, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self._process.stdout is not None
        self._out = self._process.stdout
        self._rest = b""

    def __enter__(self) -> _Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._out.close()

    def line(self) -> bytes:
        """The next line.

        Raises
        ------
        CutShort
            It died, or says nothing for too long.
        """
        while b"\n" not in self._rest:
            self._more()
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def take(self, size: int) -> bytes:
        """The next bytes; raises as `line`."""
        parts = [self._rest]
        have = len(self._rest)
        while have < size:
            self._rest = b""
            self._more()
            parts.append(self._rest)
            have += len(self._rest)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]

    def _more(self) -> None:
        if not select.select([self._out], [], [], self._patience_s)[0]:
            raise CutShort(f"asammdf did not get on with it for {self._patience_s:.0f} s")
        block = os.read(self._out.fileno(), 1 << 20)
        if not block:
            raise CutShort("asammdf died of it")
        self._rest += block
