"""Transport of messages of 9 to 1785 bytes (SAE J1939-21, 5.10), as a listener sees it.

    TP.CM (PGN 0xEC00), its first byte the control:
        16 RTS       size (2), packets, packets per CTS, PGN (3)      sender -> receiver
        17 CTS       packets, next packet, 0xFFFF, PGN                receiver -> sender; 0 packets: hold
        19 EndOfMsgACK  size, packets, 0xFF, PGN                      receiver -> sender
        32 BAM       size, packets, 0xFF, PGN                         sender -> everybody
        255 Abort    reason, 0xFFFFFF, PGN                            either way
    TP.DT (PGN 0xEB00): packet number from 1, seven bytes             sender -> receiver

Invariants: one session per (source, destination); a payload comes out once, when its last packet has come,
and only if every packet of it came in this session. A broadcast's packets come in order, or the session
is broken. An addressed transfer's may come in any order and again, since the receiver may ask for them again, but only
those that its last CTS asked for, or the one after the last (its CTS was lost to us alone): anything else, and a packet that
comes again with other data, belongs to a transfer whose beginning we missed. Times are the frames' own. What never
ends is broken by its time-out: T1 between packets, T2 after a CTS, T3 after an RTS or the last packet that a CTS
allowed, T4 after a hold; and by time that runs back by more than T2 (another log begins).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from edge.can.j1939.identifier import GLOBAL, NULL, TP_CM, TP_DT, identifier, is_addressed

T1_US, T2_US, T3_US, T4_US = 750_000, 1_250_000, 1_250_000, 1_050_000
MIN_BYTES, MAX_BYTES, PACKET_BYTES = 9, 1785, 7
MAX_SESSIONS = 256  # at a time, on one channel: under half a megabyte
MAX_PGN = 0x3FFFF
RTS, CTS, END_ACK, BAM, ABORT = 16, 17, 19, 32, 255


class Transported(NamedTuple):
    """A message that has come whole: its last frame's index in what was fed, that frame's time, and the identifier
    that it would have had in one frame (priority of its announcement; source, destination)."""

    frame: int
    time_us: int
    id: int
    payload: bytes


@dataclass
class _Session:
    id: int
    pgn: int
    size: int
    packets: int
    since_us: int  # its last sign of life
    wait_us: int  # how long after that the next is due
    first: int = 1  # the packets that the receiver asked for last: first .. allowed
    allowed: int = 0
    last: int = 0  # the packet that came last
    parts: dict[int, bytes] = field(default_factory=dict)


class Transport:
    """The sessions of one channel, and what became of those that came to nothing."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[int, int], _Session] = {}
        self.completed = 0
        self.out_of_order = 0  # a packet that can't follow
        self.contradicted = 0  # a packet came again with other data
        self.incomplete = 0  # the receiver has it all, we have not
        self.timed_out = 0
        self.restarted = 0  # announced anew before they were whole
        self.aborted = 0
        self.nonsense = 0  # announcements that no standard allows
        self.too_many = 0  # announcements beyond MAX_SESSIONS

    @property
    def broken(self) -> int:
        """Messages that were announced and never came whole."""
        return sum(
            (
                self.out_of_order, self.contradicted, self.incomplete, self.timed_out, self.restarted,
                self.aborted, self.nonsense, self.too_many,
            )
        )  # fmt: skip

    @property
    def open(self) -> int:
        """Sessions that wait for packets."""
        return len(self._sessions)

    def control(self, now_us: int, frame_id: int, data: bytes) -> None:
        """Take in a TP.CM of 8 bytes."""
        source, destination = frame_id & 0xFF, frame_id >> 8 & 0xFF
        pgn = int.from_bytes(data[5:8], "little")
        if data[0] in (RTS, BAM):
            self._announce(now_us, frame_id, data, pgn)
        elif data[0] == CTS:
            self._clear_to_send(now_us, self._of(now_us, destination, source, pgn), data)
        elif data[0] == END_ACK and self._of(now_us, destination, source, pgn) is not None:
            del self._sessions[destination, source]
            self.incomplete += 1
        elif data[0] == ABORT:
            for key in ((source, destination), (destination, source)):
                if self._of(now_us, *key, pgn) is not None:
                    del self._sessions[key]
                    self.aborted += 1

    def data(self, index: int, now_us: int, frame_id: int, data: bytes) -> Transported | None:
        """Take in a TP.DT of 8 bytes; the message that it completes."""
        source, destination = frame_id & 0xFF, frame_id >> 8 & 0xFF
        session = self._of(now_us, source, destination)
        if session is None:
            return None
        number, part = data[0], data[1:8]
        asked = destination != GLOBAL and session.first <= number <= session.allowed
        if not (asked or number == session.last + 1) or not 0 < number <= session.packets:
            del self._sessions[source, destination]
            self.out_of_order += 1
            return None
        if session.parts.setdefault(number, part) != part:
            del self._sessions[source, destination]
            self.contradicted += 1
            return None
        session.last, session.since_us = number, now_us
        session.wait_us = T3_US if number == session.allowed else T1_US
        if len(session.parts) < session.packets:
            return None
        del self._sessions[source, destination]
        self.completed += 1
        whole = b"".join(session.parts[n] for n in range(1, session.packets + 1))
        return Transported(index, now_us, session.id, whole[: session.size])

    def expire(self, now_us: int) -> None:
        """Break the sessions whose time is over."""
        for key in [key for key, session in self._sessions.items() if _is_over(session, now_us)]:
            del self._sessions[key]
            self.timed_out += 1

    def _of(self, now_us: int, source: int, destination: int, pgn: int | None = None) -> _Session | None:
        """The living session of a sender and a receiver, if it is of this group."""
        session = self._sessions.get((source, destination))
        if session is not None and _is_over(session, now_us):
            del self._sessions[source, destination]
            self.timed_out += 1
            return None
        return session if session is not None and pgn in (None, session.pgn) else None

    def _announce(self, now_us: int, frame_id: int, data: bytes, pgn: int) -> None:
        source, destination = frame_id & 0xFF, frame_id >> 8 & 0xFF
        size, packets = int.from_bytes(data[1:3], "little"), data[3]
        if not (
            MIN_BYTES <= size <= MAX_BYTES
            and packets == -(-size // PACKET_BYTES)
            and _can_travel(pgn)
            and source < NULL
            and (destination == GLOBAL) == (data[0] == BAM)
        ):
            self.nonsense += 1
            return
        whole_id = identifier(frame_id >> 26 & 7, pgn, source, destination)
        before = self._of(now_us, source, destination)
        if before is not None:
            again = not before.parts and (before.id, before.pgn, before.size) == (whole_id, pgn, size)
            self.restarted += not again
        elif len(self._sessions) >= MAX_SESSIONS:
            self.expire(now_us)
            if len(self._sessions) >= MAX_SESSIONS:
                self.too_many += 1
                return
        wait_us = T1_US if data[0] == BAM else T3_US
        self._sessions[source, destination] = _Session(whole_id, pgn, size, packets, now_us, wait_us)

    def _clear_to_send(self, now_us: int, session: _Session | None, data: bytes) -> None:
        if session is None:
            return
        session.since_us, session.wait_us = now_us, T2_US if data[1] else T4_US
        if data[1]:
            session.first, session.allowed = data[2], min(data[2] + data[1] - 1, session.packets)


def _is_over(session: _Session, now_us: int) -> bool:
    return not -T2_US <= now_us - session.since_us <= session.wait_us


def _can_travel(pgn: int) -> bool:
    """Whether a group may be transported: it exists, names no destination, and is not transport itself."""
    return pgn <= MAX_PGN and pgn not in (TP_CM, TP_DT) and not (is_addressed(pgn) and pgn & 0xFF)
