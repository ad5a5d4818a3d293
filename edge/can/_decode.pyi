from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from edge.can.frames import Frames

class Buffer:
    def __init__(self, array: npt.NDArray[Any]) -> None: ...

class Sink:
    def __init__(self, room: int) -> None: ...
    def grow(self) -> None: ...
    def add(self, frame: int, slot: int, raw: int, value: float, state: int) -> None: ...
    def rows(self) -> list[npt.NDArray[Any]]: ...

class Kernel:
    def _load(
        self,
        tables: Mapping[str, npt.NDArray[Any]],
        deepest: int,
        most: int,
        names: Sequence[str],
        choices: Sequence[Mapping[int, str] | None],
        conversions: Sequence[Any],
        j1939_channels: npt.NDArray[Any],
        protections: npt.NDArray[Any],
    ) -> None: ...
    def _set_targets(self, targets: npt.NDArray[Any], states: npt.NDArray[Any]) -> None: ...
    def _needs(self, n_slots: int, fallbacks: bool) -> None: ...
    def _find(self, channel: int, frame_id: int, extended: bool, target: int) -> None: ...
    def _find_source(self, channel: int, pgn: int, source: int, target: int) -> None: ...
    def _find_pgn(self, channel: int, pgn: int, target: int) -> None: ...
    def _tidy(self) -> None: ...
    def _target_of(self, channel: int, frame_id: int) -> int: ...
    def _lookup(self, channel: int, frame_id: int, extended: bool) -> int: ...
    def _run(
        self,
        frames: Frames,
        start: int,
        stop: int,
        latest: Buffer | None,
        counts: Buffer,
        sink: Sink | None,
    ) -> tuple[int, int, int]: ...
    def _run_into(self, frames: Frames, latest: Buffer, counts: Buffer) -> int: ...
    def _run_message(
        self,
        target: int,
        frame_id: int,
        data: bytes,
        time_us: int,
        frame: int,
        latest: Buffer | None,
        sink: Sink | None,
    ) -> int: ...
    def decode_message(
        self,
        frame_id: int,
        data: bytes | bytearray | memoryview,
        *,
        channel: int = 0,
        is_extended: bool | None = None,
        decode_choices: bool = True,
        scaling: bool = True,
        allow_truncated: bool = False,
    ) -> dict[str, int | float | str]: ...
