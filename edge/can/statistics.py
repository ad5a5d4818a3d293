"""What is on the buses of some logs: identifiers, their periods, and the load.

The period of an identifier is the mean time between two of its frames within one log, its jitter the standard deviation of
that time. A frame's share of the load is its time on the bus (`edge.can.load`) over the logs' spans.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from cantools.database import Message as DbMessage
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from edge.can.decoder import REFUSALS, Counts
from edge.can.frames import ERROR, EXTENDED, REMOTE, Frames
from edge.can.j1939.identifier import ADDRESS_CLAIMED, DM1, DM2, REQUEST, TP_CM, TP_DT, pgn_of
from edge.can.load import bits_on_bus

MessageOf = Callable[[int, int, bool], DbMessage | None]
DIGITS = 4  # of ms and per cent
MAX_IDS = 100_000  # more than a bus has; a log of garbage must not fill the memory


# J1939's own groups, where no database names them
_PROTOCOL = {
    TP_CM: "TP.CM",
    TP_DT: "TP.DT",
    REQUEST: "Request",
    ADDRESS_CLAIMED: "AddressClaimed",
    DM1: "DM1",
    DM2: "DM2",
}


@dataclass(slots=True)
class _Id:
    """One identifier of one channel; times in µs."""

    frames: int = 0
    decoded: int = 0
    bus_s: float = 0.0
    periods: int = 0
    sum: float = 0.0
    sum_of_squares: float = 0.0
    shortest: int = 0
    longest: int = 0
    last_us: int | None = None  # in the present log

    def add_times(self, times_us: npt.NDArray[np.int64]) -> None:
        """Its next frames' times. Steps back in time (a log of several drives) are no periods."""
        if self.last_us is not None:
            times_us = np.concatenate([[self.last_us], times_us])
        self.last_us = int(times_us[-1])
        steps = np.diff(times_us)
        steps = steps[steps >= 0]
        if not len(steps):
            return
        longest, shortest = int(steps.max()), int(steps.min())
        self.longest = max(self.longest, longest)
        self.shortest = min(self.shortest, shortest) if self.periods else shortest
        seconds = steps / 1e6
        self.periods += len(steps)
        self.sum += float(seconds.sum())
        self.sum_of_squares += float((seconds * seconds).sum())

    def timing_ms(self) -> dict[str, float | None]:
        """Mean, standard deviation, shortest and longest period; None where there was none."""
        names = ("period_ms", "jitter_ms", "shortest_ms", "longest_ms")
        if not self.periods:
            return dict.fromkeys(names)
        mean = self.sum / self.periods
        deviation = math.sqrt(max(0.0, self.sum_of_squares / self.periods - mean * mean))
        found = (1e3 * mean, 1e3 * deviation, self.shortest / 1e3, self.longest / 1e3)
        return dict(zip(names, (round(ms, DIGITS) for ms in found), strict=True))


@dataclass(slots=True)
class _Bus:
    """One channel; times on the bus in s."""

    frames: int = 0
    bus_s: float = 0.0
    busiest_s: float = 0.0  # in one second
    second: int | None = None  # the one that is being summed
    in_second: float = 0.0

    def add(self, times_us: npt.NDArray[np.int64], bus_s: npt.NDArray[np.float64]) -> None:
        """Its next frames."""
        self.frames += len(times_us)
        self.bus_s += float(bus_s.sum())
        seconds = times_us // 1_000_000
        starts = np.flatnonzero(np.diff(seconds, prepend=seconds[0] - 1))
        for second, load in zip(
            seconds[starts].tolist(), np.add.reduceat(bus_s, starts).tolist(), strict=True
        ):
            self.in_second = load + (self.in_second if second == self.second else 0.0)
            self.second = second
            self.busiest_s = max(self.busiest_s, self.in_second)


@dataclass
class Statistics:
    """Sums over frames, as they come.

    `channels` are the names of the frames' channel numbers, and may grow; `bitrates` are (nominal, data phase) in
    bit/s by channel name, those of "" hold for the rest.
    """

    channels: Sequence[str]
    bitrates: Mapping[str, tuple[int, int]]
    j1939: bool = False  # whether 29 bit identifiers are J1939's
    span_s: float = 0.0  # of the logs before the present one
    other_ids: int = 0  # frames of identifiers beyond MAX_IDS
    _ids: dict[int, _Id] = field(default_factory=dict)
    _buses: dict[int, _Bus] = field(default_factory=dict)
    _log: int = 0
    _log_us: tuple[int, int] | None = None

    def _span(self) -> float:
        """s from the first to the last frame of each log, summed."""
        first, last = self._log_us or (0, 0)
        return self.span_s + (last - first) / 1e6

    def add(self, frames: Frames, decoded: npt.NDArray[np.bool_], log: int = 0) -> None:
        """The next frames, whether each was decoded, and the number of their log.

        The time between two logs is no period and no load.
        """
        if not len(frames):
            return
        if log != self._log:
            self.span_s, self._log, self._log_us = self._span(), log, None
            for one in self._ids.values():
                one.last_us = None
        times = frames["time_us"].astype(np.int64)
        first, last = int(times.min()), int(times.max())
        before = self._log_us or (first, last)
        self._log_us = min(first, before[0]), max(last, before[1])
        bus_s = self._bus_seconds(frames)
        channels = frames["channel"]
        for number in np.unique(channels).tolist():
            mine = channels == number
            self._buses.setdefault(number, _Bus()).add(times[mine], bus_s[mine])
        data = frames["flags"] & (ERROR | REMOTE) == 0
        self._add_ids(frames[["id", "channel", "flags"]][data], times[data], bus_s[data], decoded[data])

    def _bus_seconds(self, frames: Frames) -> npt.NDArray[np.float64]:
        nominal, fast = bits_on_bus(frames)
        rates = np.array([self._bitrate(number) for number in range(len(self.channels))])
        of_frame = rates[frames["channel"]]
        seconds: npt.NDArray[np.float64] = nominal / of_frame[:, 0] + fast / of_frame[:, 1]
        return seconds

    def _bitrate(self, number: int) -> tuple[int, int]:
        return self.bitrates.get(self.channels[number]) or self.bitrates[""]

    def _add_ids(
        self,
        frames: Frames,
        times: npt.NDArray[np.int64],
        bus_s: npt.NDArray[np.float64],
        decoded: npt.NDArray[np.bool_],
    ) -> None:
        if not len(frames):
            return
        extended = (frames["flags"] & EXTENDED).astype(np.int64)
        keys = frames["channel"].astype(np.int64) << 33 | extended << 32 | frames["id"].astype(np.int64)
        order = np.argsort(keys, kind="stable")
        keys, times, bus_s = keys[order], times[order], bus_s[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        loads = np.add.reduceat(bus_s, starts).tolist()
        good = np.add.reduceat(decoded[order].astype(np.int64), starts).tolist()
        ends = [*starts[1:].tolist(), len(keys)]
        for key, start, end, load, of_them in zip(
            keys[starts].tolist(), starts.tolist(), ends, loads, good, strict=True
        ):
            one = self._ids.get(key)
            if one is None:
                if len(self._ids) == MAX_IDS:
                    self.other_ids += end - start
                    continue
                one = self._ids[key] = _Id()
            one.frames += end - start
            one.decoded += of_them
            one.bus_s += load
            one.add_times(times[start:end])

    def result(self, counts: Counts, message_of: MessageOf) -> dict[str, Any]:
        """All of it, as `ayaz decode --stats --json` prints it (with what the command knows besides).

        `message_of` (channel number, identifier, whether it is extended) gives a database's message, if any.
        """
        total = counts.total()
        span_s = self._span()
        return {
            "frames": total["received"],
            "decoded": total["decoded"],
            "unknown": total["unknown"],
            "refused": total["refused"],
            "span_s": span_s,
            "reasons": {name: total[name] for name in REFUSALS},
            "ledger": total,
            "channels": [self._of_bus(n, bus, counts, span_s) for n, bus in sorted(self._buses.items())],
            "ids": [self._of_id(key, one, message_of, span_s) for key, one in sorted(self._ids.items())],
            "frames_of_other_ids": self.other_ids,
            "addresses": [],
        }

    def _of_bus(self, number: int, bus: _Bus, counts: Counts, span_s: float) -> dict[str, Any]:
        return {
            "channel": self.channels[number],
            "bitrate": self._bitrate(number)[0],
            "load_pct": _pct(bus.bus_s, span_s),
            "busiest_second_pct": _pct(bus.busiest_s, 1.0),
        } | counts.of_channel(number)

    def _of_id(self, key: int, one: _Id, message_of: MessageOf, span_s: float) -> dict[str, Any]:
        number, extended, frame_id = key >> 33, bool(key >> 32 & 1), key & 0xFFFFFFFF
        message = message_of(number, frame_id, extended)
        empty = message is not None and not message.signals and not message.is_container
        return {
            "channel": self.channels[number],
            "id": frame_id,
            "extended": extended,
            "message": message and message.name,
            "protocol": _PROTOCOL.get(pgn_of(frame_id)) if self.j1939 and extended and not message else None,
            "frames": one.frames,
            "refused": one.frames - one.decoded if message and not empty else 0,
            **one.timing_ms(),
            "load_pct": _pct(one.bus_s, span_s),
        }


def _pct(bus_s: float, of_s: float) -> float | None:
    return round(100 * bus_s / of_s, DIGITS) if of_s > 0 else None


def print_tables(console: Console, stats: Mapping[str, Any]) -> None:
    """The result for people."""
    console.print(Group(_ids_table(stats), *_addresses_table(stats), _channels_table(stats), _summary(stats)))


def _table(*columns: str) -> Table:
    """A table whose names (left) may fold and whose numbers (right, marked with >) may not."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for column in columns:
        name, right = column.lstrip(">"), column.startswith(">")
        table.add_column(
            name, justify="right" if right else "left", no_wrap=right, min_width=len(name), overflow="fold"
        )
    return table


def _ids_table(stats: Mapping[str, Any]) -> Table:
    refused = [">refused"] if any(one["refused"] for one in stats["ids"]) else []
    table = _table("channel", ">id", "message", ">frames", *refused, ">period ms", ">jitter ms", ">load %")
    for one in stats["ids"]:
        name = one["message"] or one["protocol"]
        frame_id = f"{one['id']:08X}" if one["extended"] else f"{one['id']:03X}"
        table.add_row(
            one["channel"], frame_id, Text(name or "unknown"), f"{one['frames']:,}",
            *([f"{one['refused']:,}"] if refused else []), _number(one["period_ms"], 1),
            _number(one["jitter_ms"], 1), _number(one["load_pct"], 2), style=None if name else "yellow",
        )  # fmt: skip
    return table


def _addresses_table(stats: Mapping[str, Any]) -> list[Table | str]:
    """Who sits where, where someone claimed an address (SAE J1939-81)."""
    if not stats["addresses"]:
        return []
    fields = ("function", "manufacturer_code", "identity_number")
    table = _table("channel", ">address", ">NAME", ">function", ">manufacturer", ">identity")
    for one in stats["addresses"]:
        name = f"{one['value']:016X}"
        table.add_row(one["channel"], f"{one['address']:02X}", name, *(f"{one[f]}" for f in fields))
    return ["", table]


# what became of frames -> its heading; the later ones are shown only where there were some
_FATES = {
    "received": "frames",
    "decoded": "decoded",
    "unknown": "unknown",
    "refused": "refused",
    "transport": "transport",
    "error_frames": "error",
    "remote_frames": "remote",
}
_ALWAYS = 4


def _channels_table(stats: Mapping[str, Any]) -> Group:
    fates = [f for n, f in enumerate(_FATES) if n < _ALWAYS or stats["ledger"][f]]
    table = _table("channel", *(f">{_FATES[f]}" for f in fates), ">load %", ">peak %", ">kbit/s")
    for one in stats["channels"]:
        table.add_row(
            one["channel"], *(f"{one[f]:,}" for f in fates), _number(one["load_pct"], 1),
            _number(one["busiest_second_pct"], 1), f"{one['bitrate'] / 1000:g}",
        )  # fmt: skip
    return Group("", table)


def _summary(stats: Mapping[str, Any]) -> Text:
    total = stats["ledger"]
    reasons = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in stats["reasons"].items() if n)
    parts = [f"{total['received']:,} frames in {stats['span_s']:,.1f} s"]
    parts += [f"{total[f]:,} {f.replace('_', ' ')}" for f in list(_FATES)[1:] if total[f]]
    lines = ["", " · ".join(parts)]
    if reasons:
        lines.append(f"refused: {reasons}")
    if total["messages"] or total["sessions_broken"]:
        fates = ("decoded", "unknown", "refused")
        of_them = [f"{total[f'messages_{fate}']:,} {fate}" for fate in fates if total[f"messages_{fate}"]]
        broken = f"{total['sessions_broken']:,} broken off"
        lines.append(" · ".join([f"{total['messages']:,} messages of several packets", *of_them, broken]))
    if stats["frames_of_other_ids"]:
        lines.append(
            f"{stats['frames_of_other_ids']:,} frames of over {MAX_IDS:,} identifiers are not listed"
        )
    return Text("\n".join(lines))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
