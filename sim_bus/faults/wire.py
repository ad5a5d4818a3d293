"""What faults do on the wire: each kind a function from a second's frames to a second's frames.

`Wire` knows the databases: who sends what, and where its counter and checksum are. Everything is done for all frames of
a second at once; times stay within the second, and the frames are sorted at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import cantools
import numpy as np
import numpy.typing as npt

from edge.can.frames import ERROR, EXTENDED, FRAME, Frames
from edge.can.j1939.identifier import GLOBAL, identifier, pgn_of
from edge.can.load import bits_on_bus
from edge.errors import ScenarioError
from sim_bus.faults.catalogue import ALL, ANY_LENGTH, BUSES
from sim_bus.faults.schedule import SECOND_US, Act, Faults, titled

BITRATE = (500_000, 500_000, 250_000)  # dbc/README.md
MOST_BYTES = 8
MOST_BITS = 160  # of a frame of so many bytes, with stuff bits and the pause behind it
BUS_OFF_ERRORS = 32  # a failed sending counts 8, and at 256 the controller leaves the bus (ISO 11898-1)
# linux/can/error.h: classes in the id, what kind of protocol error in data[2], where in data[3]
ERR_PROTOCOL, ERR_BUS_ERROR = 0x08, 0x80
PROTOCOL_ERRORS = (
    0x01,
    0x02,
    0x04,
    0x08,
    0x10,
)  # single bit, form, stuff, dominant not sent, recessive not sent
PROPRIETARY_B = 0xFF00  # of J1939: 0xFF00 to 0xFFFF are each maker's own
NOBODY = 0xFA  # as source address
FLAGS_AT, CHANNEL_AT = 32, 40  # bits of a key

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Message:
    """One message of a database, as far as its frames tell. `counter`: first bit and bits; `checksum`: its byte."""

    name: str
    channel: int
    node: str
    key: int
    length: int
    counter: tuple[int, int] | None
    checksum: int | None


@dataclass(frozen=True)
class Wire:
    """All messages of the three buses."""

    messages: tuple[Message, ...]

    def channels(self, act: Act) -> list[int]:
        """Which buses a fault is on."""
        bus = act.text("bus")
        return list(range(len(BUSES))) if bus == ALL else [BUSES.index(bus)]

    def named(self, act: Act) -> list[Message]:
        """The messages that a fault is of, all of its buses or one."""
        name, channels = act.text("message"), self.channels(act)
        return [m for m in self.messages if m.channel in channels and name in (ALL, m.name)]

    def chosen(self, act: Act, frames: Frames) -> IntArray:
        """Which frames a fault is of: a `share` of its messages', drawn."""
        mask = np.isin(frames["channel"], self.channels(act)) & (frames["flags"] & ERROR == 0)
        if act.text("message") != ALL:
            mask &= np.isin(keys(frames), [m.key for m in self.named(act)])
        rows = np.flatnonzero(mask)
        if "share" in act.parameters:
            rows = rows[act.random.random(len(rows)) < act.number("share")]
        return rows

    def check(self, act: Act) -> None:
        """Raise ScenarioError where a fault is of what there is not."""
        if "message" in act.parameters:
            known = {m.name: m for m in self.messages if m.channel in self.channels(act)}
            name = act.text("message")
            if name != ALL and name not in known:
                raise ScenarioError(f"faults.message: bus {act.text('bus')} has no message {name[:80]!r}")
            if name != ALL and known[name].length > MOST_BYTES:
                raise ScenarioError(f"faults.message: {name} goes in packets; TP_CM and TP_DT carry it")
        if act.kind.name == "bus_off" and not self.sent_by(act):
            raise ScenarioError(f"faults.node: {act.text('node')} sends nothing on bus {act.text('bus')}")

    def sent_by(self, act: Act) -> list[int]:
        """The keys of what a node sends on the fault's buses."""
        return [
            m.key for m in self.messages if m.node == act.text("node") and m.channel in self.channels(act)
        ]


def keys(frames: Frames) -> IntArray:
    """A number for each channel, identifier, and whether it is extended or an error's."""
    return np.asarray(
        frames["id"]
        | (frames["flags"] & (EXTENDED | ERROR)).astype(np.int64) << FLAGS_AT
        | frames["channel"].astype(np.int64) << CHANNEL_AT
    )


def lost_frames(wire: Wire, act: Act, begin_us: int, frames: Frames) -> Frames:
    """Left out."""
    return np.delete(frames, wire.chosen(act, frames))


def repeated_frames(wire: Wire, act: Act, begin_us: int, frames: Frames) -> Frames:
    """Again, `delay_ms` later."""
    again = frames[wire.chosen(act, frames)]
    again["time_us"] += round(act.number("delay_ms") * 1000)
    np.minimum(again["time_us"], begin_us + SECOND_US - 1, out=again["time_us"])
    return np.concatenate([frames, again])


def bad_checksum(wire: Wire, act: Act, begin_us: int, frames: Frames) -> Frames:
    """One to all bits of the checksum's byte."""
    frames, rows = frames.copy(), wire.chosen(act, frames)
    found = keys(frames[rows])
    for message in wire.named(act):
        if message.checksum is not None:
            mine = rows[found == message.key]
            frames["data"][mine, message.checksum] ^= act.random.integers(1, 256, len(mine), np.uint8)
    return frames


def stuck_counter(wire: Wire, act: Act, begin_us: int, frames: Frames) -> Frames:
    """As in the message's first frame."""
    frames = frames.copy()
    found = keys(frames)
    for message in wire.named(act):
        if message.counter is not None and len(mine := np.flatnonzero(found == message.key)):
            _hold_counter(message, act, frames, mine)
    return frames


def _hold_counter(message: Message, act: Act, frames: Frames, rows: IntArray) -> None:
    assert message.counter is not None
    start, bits = message.counter
    mask = np.uint64(((1 << bits) - 1) << start)
    data = frames["data"][rows, :MOST_BYTES]
    words = data.view("<u8")[:, 0]
    held = act.state.setdefault(f"counter {message.key}", words[0] & mask)
    words &= ~mask
    words |= held
    if message.checksum is not None:
        data[:, message.checksum] = crc8_of(np.delete(data[:, : message.length], message.checksum, axis=1))
    frames["data"][rows, :MOST_BYTES] = data


def wrong_length(wire: Wire, act: Act, begin_us: int, frames: Frames) -> Frames:
    """`length`, or any from 0 to 8 but the right one; what is more is zero."""
    frames, rows = frames.copy(), wire.chosen(act, frames)
    length = int(act.number("length"))
    right = frames["length"][rows].astype(np.int64)
    if length == ANY_LENGTH:
        wrong = act.random.integers(0, MOST_BYTES, len(rows))
        wrong += wrong >= right
    else:
        wrong = np.full(len(rows), length)
    frames["length"][rows] = wrong
    data = frames["data"][rows]
    data[np.arange(data.shape[1]) >= wrong[:, None]] = 0
    frames["data"][rows] = data
    return frames


def flood(wire: Wire, act: Act, begin_us: int, frames: Frames) -> Frames:
    """Zeros of one id; they go as often as the bus bears, and what waits behind them goes where there is time left."""
    frame_id = int(act.number("id"))
    for channel in wire.channels(act):
        most_hz = BITRATE[channel] / _bits_of_zeros(frame_id)
        rate_hz = min(act.number("rate_hz"), most_hz)
        begin = _count_at(act, begin_us, rate_hz)
        number = np.arange(begin, _count_at(act, begin_us + SECOND_US, rate_hz))
        times = np.ceil(number * (1e6 / rate_hz)).astype(np.int64) + round(act.at_s * 1e6)
        waits = np.flatnonzero((frames["channel"] == channel) & (_priority(frames) >= frame_id))
        lost = _crowded_out(act, frames, waits, channel, 1 - rate_hz / most_hz)
        more = _plain(len(times), channel, times, frame_id, MOST_BYTES)
        frames = np.concatenate([np.delete(frames, lost), more])
    return frames


@cache
def _bits_of_zeros(frame_id: int) -> float:
    return float(bits_on_bus(_plain(1, 0, 0, frame_id, MOST_BYTES))[0][0])


def _crowded_out(act: Act, frames: Frames, waits: IntArray, channel: int, left: float) -> IntArray:
    """Of those that wait: which find no place in what is left of the second, 0 to 1; drawn."""
    if len(waits) * MOST_BITS <= left * BITRATE[channel]:
        return waits[:0]
    needs = float(bits_on_bus(frames[waits])[0].sum()) / BITRATE[channel]
    return waits[act.random.random(len(waits)) * needs >= left]


def _count_at(act: Act, t_us: int, rate_hz: float) -> int:
    """How many of evenly spaced frames a fault has sent before a time."""
    gap_us, since_us = 1e6 / rate_hz, t_us - round(act.at_s * 1e6)
    count = max(int(since_us / gap_us) - 1, 0)
    while np.ceil(count * gap_us) < since_us:  # twice at most
        count += 1
    return count


def error_frames(wire: Wire, act: Act, begin_us: int, frames: Frames) -> Frames:
    """Protocol errors at random times; the frames that they hit are sent again by their controllers."""
    more = [
        _errors(act, channel, _times(act, begin_us, act.number("rate_hz"))) for channel in wire.channels(act)
    ]
    return np.concatenate([frames, *more])


def bus_off(wire: Wire, act: Act, begin_us: int, frames: Frames) -> Frames:
    """Errors at the beginning; silence."""
    silent = frames[~np.isin(keys(frames), wire.sent_by(act))]
    if begin_us != round(act.at_s * 1e6):
        return silent
    times = begin_us + np.arange(BUS_OFF_ERRORS) * round(act.number("gap_ms") * 1000)
    return np.concatenate([silent, _errors(act, wire.channels(act)[0], times)])


def unknown_ids(wire: Wire, act: Act, begin_us: int, frames: Frames) -> Frames:
    """Random bytes with identifiers that the databases have not."""
    for channel in wire.channels(act):
        if (name := f"ids {channel}") not in act.state:
            act.state[name] = _unknown(wire, act, channel)
        times = _times(act, begin_us, act.number("rate_hz"))
        more = _plain(len(times), channel, times, act.random.choice(act.state[name], len(times)), MOST_BYTES)
        more["flags"] = EXTENDED if BUSES[channel] == "vehicle" else 0
        more["data"][:, :MOST_BYTES] = act.random.integers(0, 256, (len(times), MOST_BYTES), np.uint8)
        frames = np.concatenate([frames, more])
    return frames


def _unknown(wire: Wire, act: Act, channel: int) -> IntArray:
    known = {m.key & 0x1FFFFFFF for m in wire.messages if m.channel == channel}
    if BUSES[channel] == "vehicle":
        groups = set(range(PROPRIETARY_B, PROPRIETARY_B + 256)) - {pgn_of(one) for one in known}
        free = [identifier(6, group, NOBODY, GLOBAL) for group in sorted(groups)]
    else:
        free = sorted(set(range(1, 0x800)) - known)
    return np.asarray(act.random.choice(np.array(free), int(act.number("ids")), replace=False))


ACTIONS: dict[str, Callable[[Wire, Act, int, Frames], Frames]] = {
    action.__name__: action
    for action in (
        lost_frames,
        repeated_frames,
        bad_checksum,
        stuck_counter,
        wrong_length,
        flood,
        error_frames,
        bus_off,
        unknown_ids,
    )
}


class WireFaults:
    """The CAN faults of a scenario; `folder` has bms.dbc, inverter.dbc, vehicle.dbc (None: ours).

    A node's reset is not done here: `Faults.restarts`.

    Raises
    ------
    ScenarioError
        A fault is of a message or node that its bus has not, or the databases can't be read.
    """

    def __init__(self, faults: Faults, folder: str | None = None) -> None:
        self._faults = faults
        acts = [act for act in faults.plans_of("can") if act.kind.name in ACTIONS]
        self._wire = _wire(folder) if acts else Wire(())
        problems = []
        for act in acts:
            try:
                self._wire.check(act)
            except ScenarioError as error:
                problems += titled(act.index, act.plan, error)
        if problems:
            raise ScenarioError(problems)

    def second(self, begin_us: int, frames: Frames) -> Frames:
        """What comes through in the second that begins then, sorted by time; the frames given stay as they are."""
        acts = [act for act in self._faults.of("can") if act.kind.name in ACTIONS]
        if not acts:
            return frames
        for act in acts:
            frames = ACTIONS[act.kind.name](self._wire, act, begin_us, frames)
        return np.asarray(frames[np.argsort(frames["time_us"], kind="stable")])


@cache
def _wire(folder: str | None) -> Wire:
    root: Any = resources.files("dbc") if folder is None else Path(folder)
    messages: list[Message] = []
    for channel, bus in enumerate(BUSES):
        try:
            database: Any = cantools.database.load_string((root / f"{bus}.dbc").read_text("utf-8"), "dbc")
        except Exception as error:  # cantools raises almost anything on what is no DBC
            raise ScenarioError(f"{root / bus}.dbc: cannot be read: {str(error)[:200]}") from None
        messages += [_message(channel, m) for m in database.messages]
    return Wire(tuple(messages))


def _message(channel: int, message: Any) -> Message:
    signals = {s.name: s for s in message.signals}
    counter, checksum = signals.get("AliveCounter"), signals.get("Checksum")
    return Message(
        name=message.name,
        channel=channel,
        node=message.senders[0] if message.senders else "",
        key=message.frame_id | bool(message.is_extended_frame) << FLAGS_AT | channel << CHANNEL_AT,
        length=message.length,
        counter=(counter.start, counter.length) if counter else None,
        checksum=checksum.start // 8 if checksum else None,
    )


def _times(act: Act, begin_us: int, rate_hz: float) -> IntArray:
    """A Poisson process's, within the second."""
    return np.sort(begin_us + act.random.integers(0, SECOND_US, act.random.poisson(rate_hz)))


def _plain(count: int, channel: int, time_us: IntArray | int, ids: IntArray | int, length: int) -> Frames:
    frames = np.zeros(count, FRAME)
    frames["time_us"], frames["channel"], frames["id"], frames["length"] = time_us, channel, ids, length
    return frames


def _errors(act: Act, channel: int, times: IntArray) -> Frames:
    """Error frames as SocketCAN gives them: classes in the id, the kind of protocol error in data[2]."""
    frames = _plain(len(times), channel, times, ERR_PROTOCOL | ERR_BUS_ERROR, MOST_BYTES)
    frames["flags"] = ERROR
    frames["data"][:, 2] = act.random.choice(np.array(PROTOCOL_ERRORS, np.uint8), len(times))
    return frames


def _priority(frames: Frames) -> npt.NDArray[np.uint32]:
    """The first 11 bits of the identifier: the lower goes first."""
    extended = frames["flags"] & EXTENDED != 0
    return np.asarray(np.where(extended, frames["id"] >> 18, frames["id"]))


def _crc_table() -> npt.NDArray[np.uint8]:
    table = np.arange(256)
    for _ in range(8):
        table = np.where(table & 0x80, table << 1 ^ 0x1D, table << 1) & 0xFF
    return table.astype(np.uint8)


_CRC = _crc_table()


def crc8_of(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """CRC-8 SAE J1850 (polynomial 0x1D, initial and final 0xFF) of each row."""
    value = np.full(len(data), 0xFF, np.uint8)
    for column in data.T:
        value = _CRC[value ^ column]
    return np.asarray(value ^ 0xFF, np.uint8)
