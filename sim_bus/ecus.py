"""The ECUs: readings into frames, exactly as `dbc/` says, each message with its period.

A message is packed by a table made from its DBC definition (little-endian, as all of ours are); the tests
hold every packed frame equal to what cantools encodes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import cantools
import numpy as np
from cantools.database import Message, Signal

from edge.can.frames import EXTENDED, FRAME, Frames
from edge.errors import ScenarioError

CHANNELS = ("bms", "inverter", "vehicle")
BAM_GAP_US = 60_000  # J1939-21 asks for 50 to 200 ms between the packets
_Field = tuple[int, int, int, int, float, float]  # start, bits, least and most raw, scale, offset
RawFrame = tuple[int, int, int, int, bytes]  # time_us, channel, id, flags, data
Values = Mapping[str, float]


@dataclass
class Readings:
    """What the sensors of the bus say at this moment, in the units of the DBCs; current positive on discharge."""

    values: dict[str, float]  # by signal name
    cell_v: np.ndarray[Any, Any]  # (2, 176)
    cell_degc: np.ndarray[Any, Any]  # (2, 44)


class Packer:
    """One message: values to bytes."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.length = message.length
        self.fields = {s.name: self._field(s) for s in message.signals}

    def _field(self, s: Signal) -> _Field:
        if s.byte_order != "little_endian" or s.is_float or s.minimum is None or s.maximum is None:
            raise ScenarioError(
                f"{self.message.name}.{s.name}: the simulator packs little-endian integers with limits only"
            )
        scale, offset = float(s.conversion.scale), float(s.conversion.offset)
        least, most = (round((float(limit) - offset) / scale) for limit in (s.minimum, s.maximum))
        return s.start, s.length, least, most, scale, offset

    def pack(self, values: Values) -> bytes:
        """The frame's bytes; a value beyond a signal's range saturates, as sensors do, and NaN becomes
        all ones, which says "not available"."""
        word = 0
        for name, value in values.items():
            start, bits, least, most, scale, offset = self.fields[name]
            raw = min(max(round((value - offset) / scale), least), most) if value == value else -1
            word |= (raw & (1 << bits) - 1) << start
        return word.to_bytes(self.length, "little")


def crc8_sae_j1850(data: bytes) -> int:
    """CRC-8 SAE J1850: polynomial 0x1D, initial and final 0xFF."""
    value = 0xFF
    for byte in data:
        value = _CRC[value ^ byte]
    return value ^ 0xFF


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ 0x1D if value & 0x80 else value << 1) & 0xFF
        table.append(value)
    return table


_CRC = _crc_table()


@dataclass
class _Due:
    """One message and when it is next sent."""

    channel: int
    packer: Packer
    period_us: int
    next_us: int
    build: Callable[[Readings], Values | None]
    counter: int = 0
    protected: bool = False


class Ecus:
    """All messages of the three buses."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._schedule: list[_Due] = []
        self._waiting: list[RawFrame] = []
        self._page = dict.fromkeys(("V1", "V2", "T1", "T2"), 0)
        for channel, name in enumerate(CHANNELS):
            with resources.as_file(resources.files("dbc") / f"{name}.dbc") as path:
                database: Any = cantools.database.load_file(str(path))
            for message in database.messages:
                if message.name in ("TP_CM", "TP_DT"):
                    continue
                self._add(channel, message, rng)

    def _add(self, channel: int, message: Message, rng: np.random.Generator) -> None:
        packer = Packer(message)
        period = (message.cycle_time or 1000) * 1000
        build = self._pages(message.name, packer) or _plain(packer)
        phase = int(rng.integers(0, min(period, 1_000_000)))
        protected = "AliveCounter" in packer.fields
        self._schedule.append(_Due(channel, packer, period, phase, build, 0, protected))

    def _pages(self, name: str, packer: Packer) -> Callable[[Readings], Values] | None:
        """Multiplexed messages: the next page at each sending."""
        kind = {"BMS_CellVoltages": "V", "BMS_CellTemps": "T"}.get(name[:-1])
        if kind is None:
            return None
        string = int(name[-1])

        def voltages(readings: Readings) -> Values:
            page = self._turn(f"V{string}", 44)
            cells = readings.cell_v[string - 1]
            named = {
                f"String{string}_Cell{4 * page + k + 1:03d}_Voltage": float(cells[4 * page + k])
                for k in range(4)
            }
            return {f"String{string}_VoltagePage": page} | named

        def temps(readings: Readings) -> Values:
            page = self._turn(f"T{string}", 7)
            sensors = range(7 * page, min(7 * page + 7, 44))
            named = {
                f"String{string}_Temp{n + 1:02d}": float(readings.cell_degc[string - 1][n]) for n in sensors
            }
            return {f"String{string}_TempPage": page} | named

        return voltages if kind == "V" else temps

    def _turn(self, name: str, pages: int) -> int:
        page = self._page[name]
        self._page[name] = (page + 1) % pages
        return page

    def frames(self, until_us: int, readings: Readings) -> Frames:
        """Every frame due before `until_us`, in order of time; a long message's later packets wait."""
        for due in self._schedule:
            while due.next_us < until_us:
                self._send(due, readings)
                due.next_us += due.period_us
        self._waiting.sort(key=lambda frame: frame[:3])
        ready = bisect_left(self._waiting, until_us, key=lambda frame: frame[0])
        out, self._waiting = self._waiting[:ready], self._waiting[ready:]
        return _as_frames(out)

    def _send(self, due: _Due, readings: Readings) -> None:
        values = due.build(readings)
        if values is None:
            return
        if due.protected:
            values = {**values, "AliveCounter": due.counter}
            due.counter = (due.counter + 1) % 16
        data = due.packer.pack(values)
        if due.protected:
            data = data[:-1] + bytes([crc8_sae_j1850(data[:-1])])
        message = due.packer.message
        extended = EXTENDED if message.is_extended_frame else 0
        if due.packer.length > 8:
            self._waiting += [
                (due.next_us + BAM_GAP_US * n, due.channel, i, EXTENDED, d)
                for n, (i, d) in enumerate(bam(message, data))
            ]
        else:
            self._waiting.append((due.next_us, due.channel, message.frame_id, extended, data))


def bam(message: Message, data: bytes) -> list[tuple[int, bytes]]:
    """A long J1939 message as BAM: the announcement and its packets, as (id, data)."""
    source, priority = message.frame_id & 0xFF, 7
    pgn = message.frame_id >> 8 & 0x3FFFF
    packets = [data[n : n + 7].ljust(7, b"\xff") for n in range(0, len(data), 7)]
    announce = (
        bytes([32])
        + len(data).to_bytes(2, "little")
        + bytes([len(packets), 0xFF])
        + pgn.to_bytes(3, "little")
    )
    connection, transfer = (priority << 26 | pf << 16 | 0xFF00 | source for pf in (0xEC, 0xEB))
    return [(connection, announce)] + [(transfer, bytes([n]) + p) for n, p in enumerate(packets, 1)]


def _plain(packer: Packer) -> Callable[[Readings], Values | None]:
    """A message whose signals are all named in the readings; not sent where one is not."""
    names = [n for n in packer.fields if n not in ("AliveCounter", "Checksum")]

    def build(readings: Readings) -> Values | None:
        known = readings.values
        return {n: known[n] for n in names} if all(n in known for n in names) else None

    return build


def _as_frames(out: Sequence[RawFrame]) -> Frames:
    frames = np.zeros(len(out), FRAME)
    if out:
        times, channels, ids, flags, data = zip(*out, strict=True)
        frames["time_us"], frames["channel"], frames["id"], frames["flags"] = times, channels, ids, flags
        frames["length"] = [len(d) for d in data]
        frames["data"][:, :8] = np.frombuffer(b"".join(d.ljust(8, b"\0") for d in data), np.uint8).reshape(
            -1, 8
        )
    return frames
