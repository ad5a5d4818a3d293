"""Text logs that python-can does not read: GVRET and SavvyCAN CSV, CRTD, BUSMASTER, Microchip CAN BUS Analyzer.

Each format is a `Parse`: a line gives a `Line`, None (a comment, a header) or Refused. Sources: the sample logs and
exporters of SavvyCAN; the CRTD specification of Open Vehicles (docs.openvehicles.com/en/latest/crtd).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from edge.can.frames import ERROR, EXTENDED, FD, OWN, REMOTE, Frames
from edge.can.logs.reader import MAX_US, Reader, Refused
from edge.can.logs.stream import CutShort, Lines, Stream


class Line(NamedTuple):
    """A frame as a line tells it; a remote frame has a length and no data."""

    time_us: int
    channel: str
    id: int
    flags: int
    data: bytes
    length: int


Parse = Callable[[str], Line | None]


class TextReader(Reader):
    """Frames of a text log."""

    def __init__(self, stream: Stream, make_parse: Callable[[], Parse]) -> None:
        super().__init__(stream)
        self._parse = make_parse()
        self._lines = Lines(stream)

    @property
    def refused(self) -> dict[str, int]:
        long = self._lines.too_long
        return {**super().refused, **({"line too long": long} if long else {})}

    def __iter__(self) -> Iterator[Frames]:
        return self.gather(iter(self._lines), self._fill)

    def _fill(self, frame: Any, text: str) -> bool:
        line = self._parse(text) if text.strip() else None
        if line is None:
            return False
        most = 64 if line.flags & FD else 8
        if not 0 <= line.time_us <= MAX_US:
            raise Refused("time")
        if not 0 <= line.id <= (0x1FFFFFFF if line.flags & (EXTENDED | ERROR) else 0x7FF):
            raise Refused("identifier")
        if line.length > most:
            raise Refused("length")
        frame["channel"] = self.number(line.channel)
        frame["time_us"], frame["id"], frame["flags"] = line.time_us, line.id, line.flags
        frame["length"] = line.length
        frame["data"][: len(line.data)] = np.frombuffer(line.data, np.uint8)
        return True


def _hex(text: str) -> bytes:
    """Bytes of two digits each."""
    if not re.fullmatch(r"\s*(?:[0-9A-Fa-f]{2}(?:\s+|$))*", text):
        raise Refused("malformed")
    return bytes.fromhex(text)


def _micros(seconds: str) -> int:
    """Decimal seconds as whole microseconds, to the nearest."""
    whole, _, places = seconds.partition(".")
    digits = f"{places:0<7}"[:7]
    return int(whole) * 1_000_000 + (int(digits) + 5) // 10


def _flags(extended: bool, own: bool = False, length: int = 0) -> int:
    return (EXTENDED if extended else 0) | (OWN if own else 0) | (FD if length > 8 else 0)


# GVRET (SavvyCAN's own CSV): time in us; the header names the columns; bytes beyond LEN are padding.
# Time Stamp,ID,Extended,Dir,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8
GVRET_HEAD = re.compile(r"time ?stamp,id,extended,", re.IGNORECASE)
_BYTE = re.compile(r"[0-9A-Fa-f]{1,2}")


def gvret() -> Parse:
    """A parser of GVRET CSV."""
    columns: dict[str, int] = {}

    def parse(text: str) -> Line | None:
        cells = [cell.strip() for cell in text.split(",")]
        if GVRET_HEAD.match(text):
            columns.clear()
            columns.update({name.lower(): n for n, name in enumerate(cells)})
            return None
        try:
            length = int(cells[columns["len"]])
            first = columns["d1"]
            body = cells[first : first + length]
            if length < 0 or len(body) < length or not all(map(_BYTE.fullmatch, body)):
                raise Refused("malformed" if 0 <= length <= 64 else "length")
            own = "dir" in columns and cells[columns["dir"]].lower() == "tx"
            extended = {"true": True, "1": True, "false": False, "0": False}[
                cells[columns["extended"]].lower()
            ]
            frame_id = int(cells[columns["id"]], 16)
            data = bytes(int(cell, 16) for cell in body)
            time_us = int(cells[columns.get("time stamp", 0)])
            return Line(time_us, cells[columns["bus"]], frame_id, _flags(extended, own, length), data, length)
        except (ValueError, KeyError, IndexError):
            raise Refused("malformed") from None

    return parse


# SavvyCAN's "generic" CSV has no times and no kinds: ids over 11 bit are 29 bit ones, and every time is 0.
# ID,Data Bytes
GENERIC_HEAD = re.compile(r"id,data bytes", re.IGNORECASE)
_GENERIC = re.compile(r"\s*(?:0x)?([0-9A-Fa-f]{1,8})\s*,([0-9A-Fa-f\s]*)")


def generic() -> Parse:
    """A parser of SavvyCAN's generic CSV."""

    def parse(text: str) -> Line | None:
        found = _GENERIC.fullmatch(text)
        if not found:
            if GENERIC_HEAD.match(text):
                return None
            raise Refused("malformed")
        frame_id, data = int(found[1], 16), _hex(found[2])
        return Line(0, "0", frame_id, _flags(frame_id > 0x7FF, False, len(data)), data, len(data))

    return parse


# CRTD (Open Vehicles): seconds, [bus] R or T, 11 or 29, id, bytes. Other records are comments, events, statistics.
# 1542473901.020305 1R11 7ED 04 41 0C
CRTD_LINE = re.compile(r"(\d{1,13}(?:\.\d+)?) (\d*)([RT])(11|29) ([0-9A-Fa-f]{1,8})((?: [0-9A-Fa-f]{2})*)\s*")
_CRTD_OTHER = re.compile(r"\d{1,13}(?:\.\d+)? \d*(?![RT](?:11|29))[A-Z][A-Z0-9]+(?:\s|$)")


def crtd() -> Parse:
    """A parser of CRTD."""

    def parse(text: str) -> Line | None:
        found = CRTD_LINE.fullmatch(text)
        if not found:
            if _CRTD_OTHER.match(text):
                return None
            raise Refused("malformed")
        seconds, bus, direction, bits, frame_id, rest = found.groups()
        data = bytes.fromhex(rest)
        flags = _flags(bits == "29", direction == "T")
        return Line(_micros(seconds), bus or "0", int(frame_id, 16), flags, data, len(data))

    return parse


# BUSMASTER: time of day, direction, channel, id, s or x (11 or 29 bit) and r (remote), length, bytes.
# 22:20:23:552 Rx 0 00000116 s 6 00 C0 F4 41 96 A2
BUSMASTER_HEAD = "***BUSMASTER"
_BUSMASTER = re.compile(
    r"(\d+):(\d{1,2}):(\d{1,2}):(\d{1,6}) (Rx|Tx) (\d+) (?:0x)?([0-9A-Fa-f]+) ([sx])(r?) (\d+)((?: [0-9A-Fa-f]+)*)\s*"
)
_DAY_US = 86_400_000_000


def busmaster() -> Parse:
    """A parser of BUSMASTER logs: times from the first day's midnight on (the log names no time zone)."""
    base, day_us, last_us = 16, 0, 0

    def parse(text: str) -> Line | None:
        nonlocal base, day_us, last_us
        if text.startswith("***"):
            if text.startswith("***DEC"):
                base = 10
            if text.startswith("***RELATIVE"):
                raise CutShort("has relative times, which we do not read")
            return None
        found = _BUSMASTER.fullmatch(text)
        if not found:
            raise Refused("malformed")
        hour, minute, second, places, direction, channel, frame_id, kind, remote, size, rest = found.groups()
        try:
            numbers = [int(cell, base) for cell in rest.split()]
            data, length, identifier = bytes(numbers), int(size), int(frame_id, base)
        except ValueError:
            raise Refused("malformed") from None
        if len(data) != (0 if remote else length):
            raise Refused("malformed")
        time_us = (int(hour) * 3600 + int(minute) * 60 + int(second)) * 1_000_000 + int(f"{places:0<6}")
        if time_us + day_us + _DAY_US // 2 < last_us:  # past midnight
            day_us += _DAY_US
        last_us = time_us + day_us
        flags = _flags(kind == "x", direction == "Tx", length) | (REMOTE if remote else 0)
        return Line(last_us, channel, identifier, flags, data, length)

    return parse


# Microchip CAN BUS Analyzer: time in ms, direction, id, length, bytes.
# 166064;RX;0x0000021A;8;0xFE;0x36;
_MICROCHIP = re.compile(
    r"(\d{1,19});([RT]X);0x([0-9A-Fa-f]{1,8})(x?);(\d{1,3});((?:0x[0-9A-Fa-f]{1,2};)*)\s*"
)


def microchip() -> Parse:
    """A parser of the Microchip CAN BUS Analyzer's logs; ids over 11 bit are 29 bit ones."""

    def parse(text: str) -> Line | None:
        found = _MICROCHIP.fullmatch(text)
        if not found:
            if text[:1].isdigit():
                raise Refused("malformed")
            return None
        ms, direction, digits, extended, size, rest = found.groups()
        data = bytes(int(cell, 16) for cell in rest.split(";")[:-1])
        length, frame_id = int(size), int(digits, 16)
        if len(data) != length:
            raise Refused("malformed" if length <= 64 else "length")
        flags = _flags(bool(extended) or frame_id > 0x7FF, direction == "TX", length)
        return Line(int(ms) * 1000, "0", frame_id, flags, data, length)

    return parse
