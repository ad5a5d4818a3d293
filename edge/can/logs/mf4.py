"""ASAM MDF 4 with bus logging, through asammdf (the `[lab]` extra)."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from functools import partial

import can

from edge.can.frames import Frames
from edge.can.logs.python_can import fill_message
from edge.can.logs.reader import Reader
from edge.can.logs.stream import CutShort, Stream
from edge.errors import LogError


class Mf4Reader(Reader):
    """Frames of an MF4 log."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        if importlib.util.find_spec("asammdf") is None:
            raise LogError(f"{stream.path}: MF4 needs asammdf; install it with: pip install 'ayaz[lab]'")

    def __iter__(self) -> Iterator[Frames]:
        return self.gather(self._messages(), partial(fill_message, self))

    def _messages(self) -> Iterator[can.Message]:
        with tempfile.NamedTemporaryFile(suffix=".mf4") as file:
            for block in self.stream.blocks():
                file.write(block)
            file.flush()
            try:
                with can.MF4Reader(file.name) as reader:
                    yield from reader
            except Exception as error:
                raise CutShort((str(error).splitlines() or [type(error).__name__])[0]) from None
