"""A program: an MF4 file's CAN frames to stdout, through asammdf, whole arrays at a time. See edge/can/logs/mf4.py.

    python -m edge.can.logs.mf4_frames FILE

For each chunk a line of JSON, {"frames", "channels", "refused", "fraction"}, and the FRAME array; at the end a line
{"end": what was wrong, or ""}. Names and layout of groups are those of ASAM MDF's bus logging.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from edge.can.frames import BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, FRAME, OWN, REMOTE, Frames
from edge.can.logs.reader import MAX_CHANNELS, MAX_US, Names
from edge.can.logs.stream import CutShort

WINDOW = 1 << 15  # records of a group at a time
MEMORY = 3 << 30  # bytes of address space, besides the file twice: a damaged file may claim any size
KINDS = {"CAN_DataFrame": 0, "CAN_ErrorFrame": ERROR, "CAN_RemoteFrame": REMOTE}
FLAG_FIELDS = {"EDL": FD, "BRS": BITRATE_SWITCH, "ESI": ERROR_STATE, "RTR": REMOTE}
BUS_EVENT, SOURCE_IS_BUS, BUS_IS_CAN = (
    2,
    2,
    2,
)  # of the standard: channel group's flags, source type, bus type

# times in s since the log's start, bus channels, frames without either
Records = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], Frames]


class Mf4Frames(Names):
    """An open MF4 file's frames, in the order of their times."""

    def __init__(self, mdf: Any) -> None:
        super().__init__()
        self._mdf = mdf
        groups = [(n, name) for n, group in enumerate(mdf.groups) if (name := _kind(group))]
        self.given, self.total = 0, sum(mdf.groups[n].channel_group.cycles_nr for n, _ in groups)
        self._records = [self._of_group(n, name) for n, name in groups]
        self._start_us = round(mdf.header.start_time.timestamp() * 1e6)

    def __iter__(self) -> Iterator[Frames]:
        for times_s, buses, frames in merged(self._records):
            self.given += len(frames)
            good = self._good(frames, times_s)
            if good.any():
                frames = frames[good]
                frames["time_us"] = self._micros(times_s[good])
                frames["channel"] = self._channel(buses[good])
                yield frames

    def _micros(self, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.rint(times_s * 1e6) + np.float64(self._start_us)

    def _good(self, frames: Frames, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which are frames; the others are counted."""
        with np.errstate(invalid="ignore", over="ignore"):
            time_us = self._micros(times_s)
        extended = (frames["flags"] & (EXTENDED | ERROR)) > 0
        limits = {
            "time": (time_us >= 0) & (time_us <= MAX_US),
            "identifier": frames["id"] <= np.where(extended, 0x1FFFFFFF, 0x7FF),
            "length": frames["length"] <= np.where(frames["flags"] & FD, 64, 8),
        }
        good = np.ones(len(frames), np.bool_)
        for reason, passed in limits.items():
            if bad := int((good & ~passed).sum()):
                self.refuse(reason, bad)
            good &= passed
        return good

    def _of_group(self, group: int, name: str) -> Iterator[Records]:
        for first in range(0, self._mdf.groups[group].channel_group.cycles_nr, WINDOW):
            signal = self._mdf.get(name, group, record_offset=first, record_count=WINDOW)
            if len(signal) == 0:
                raise CutShort(f"ends after {first} records of {name}")
            fields = signal.samples.dtype.names
            ours = {field.removeprefix(f"{name}."): signal.samples[field] for field in fields}
            buses = _number(ours["BusChannel"]) if "BusChannel" in ours else np.zeros(len(signal), np.int64)
            yield np.asarray(signal.timestamps, np.float64), buses, self._frames(ours, len(buses), name)

    def _frames(self, ours: dict[str, Any], count: int, name: str) -> Frames:
        frames = np.zeros(count, FRAME)
        flags = np.full(count, KINDS[name], np.uint8)
        flags[_number(ours["IDE"]) != 0 if "IDE" in ours else slice(None)] |= EXTENDED
        for field, flag in FLAG_FIELDS.items():
            if field in ours:
                flags[_number(ours[field]) != 0] |= flag
        if "Dir" in ours:
            received = ours["Dir"] == b"Rx" if ours["Dir"].dtype.kind == "S" else _number(ours["Dir"]) == 0
            flags[~received] |= OWN
        frames["flags"] = flags
        if "ID" in ours or name != "CAN_ErrorFrame":
            frames["id"] = _number(ours["ID"]) & 0x1FFFFFFF
        if name == "CAN_RemoteFrame":
            frames["length"] = np.minimum(_number(ours["DLC"]), 8)
        elif "DataBytes" in ours and "DataLength" in ours:
            _fill_data(frames, ours["DataBytes"], _number(ours["DataLength"]))
        return frames

    def _channel(self, buses: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Buses by number, in the order of their first frames."""
        names, first, inverse = np.unique(buses, return_index=True, return_inverse=True)
        if len({*self._numbers, *map(str, names)}) > MAX_CHANNELS:
            raise CutShort("over 256 channels")
        for n in np.argsort(first):
            self.number(str(names[n]))
        return np.array([self._numbers[str(name)] for name in names], np.uint8)[inverse]


def _number(field: Any) -> npt.NDArray[np.int64]:
    return np.asarray(field).astype(np.int64)


def _fill_data(frames: Frames, data: npt.NDArray[np.uint8], length: npt.NDArray[np.int64]) -> None:
    width = min(data.shape[1], 64)
    length = np.minimum(length, data.shape[1])
    inside = np.arange(width) < length[:, None]
    frames["data"][:, :width] = np.where(inside, data[:, :width], 0)
    frames["length"] = np.minimum(length, 255)  # what is over 64 is refused later


def _kind(group: Any) -> str | None:
    """Which kind of CAN frames a channel group holds."""
    source = group.channel_group.acq_source
    if (
        not group.channel_group.flags & BUS_EVENT
        or source is None
        or source.source_type != SOURCE_IS_BUS
        or source.bus_type != BUS_IS_CAN
        or not group.channel_group.cycles_nr
    ):
        return None
    names = {channel.name for channel in group.channels}
    return next((kind for kind in KINDS if kind in names), None)


class _Head:
    """What was read of a group and not given yet: its keys and the records' arrays.

    The keys are its times, never falling, so that a record that is late stays in its place.
    """

    def __init__(self, records: Iterator[Records]) -> None:
        self._records = records
        self._last = -np.inf
        self.ended = False
        self.arrays: tuple[Any, ...] = ()

    def __len__(self) -> int:
        return len(self.arrays[0]) if self.arrays else 0

    @property
    def keys(self) -> npt.NDArray[np.float64]:
        return np.asarray(self.arrays[0])

    def more(self) -> None:
        window = next(self._records, None)
        if window is None:
            self.ended = True
            return
        keys = np.maximum(np.maximum.accumulate(np.nan_to_num(window[0])), self._last)
        self._last = keys[-1]
        parts = [self.arrays, (keys, *window)] if len(self) else [(keys, *window)]
        self.arrays = tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def take(self, count: int) -> tuple[Any, ...]:
        given = tuple(array[:count] for array in self.arrays)
        self.arrays = tuple(array[count:] for array in self.arrays)
        return given


def merged(groups: list[Iterator[Records]]) -> Iterator[Records]:
    """Several groups' records in the order of their times; of equal times, the earlier group's first."""
    heads = [_Head(group) for group in groups]
    while True:
        for head in heads:
            while not head.ended and not len(head):
                head.more()
        heads = [head for head in heads if len(head)]
        if not heads:
            return
        # Up to here every group is known; a time that a group's window ends with may go on in its next.
        limits = [head.keys[-1] for head in heads if not head.ended]
        sure = limits and len(heads) > 1
        counts = [int(np.searchsorted(h.keys, min(limits))) if sure else len(h) for h in heads]
        if not any(counts):
            min((head for head in heads if not head.ended), key=lambda head: head.keys[-1]).more()
            continue
        taken = [head.take(count) for head, count in zip(heads, counts, strict=True)]
        keys, times, buses, frames = (np.concatenate(arrays) for arrays in zip(*taken, strict=True))
        order = np.argsort(keys, kind="stable")
        yield times[order], buses[order], frames[order]


def main(path: Path) -> None:
    """Write the file's frames to stdout."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what asammdf says is not for our reader
    limit = MEMORY + 2 * path.stat().st_size
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    trouble = ""
    try:
        with importlib.import_module("asammdf").MDF(path) as mdf:
            frames_of = Mf4Frames(mdf)
            for frames in frames_of:
                _say(
                    out,
                    frames=len(frames),
                    channels=frames_of.channels,
                    refused=frames_of.refused,
                    fraction=frames_of.given / frames_of.total,
                )
                out.write(frames.tobytes())
    except BrokenPipeError:
        return
    except Exception as error:  # asammdf raises almost anything on a damaged file
        trouble = (str(error).splitlines() or [""])[0] or type(error).__name__
    _say(out, end=trouble)


def _say(out: IO[bytes], **what: Any) -> None:
    out.write(json.dumps(what).encode() + b"\n")
    out.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
