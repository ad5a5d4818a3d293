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
is broken; an addressed transfer's may come in any order and again, since the receiver may ask for them again. Times
are the frames' own. What never ends is broken by its time-out: T1 between packets, T2 after a CTS, T3 after an
RTS or the last packet that a CTS allowed, T4 after a hold.
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
    deadline_us: int
    allowed: int  # the last packet that the receiver has asked for
    parts: dict[int, bytes] = field(default_factory=dict)


class Transport:
    """The sessions of one channel, and what became of those that came to nothing."""

    def __init__(self) -> None:
        self._sessions: dict[tuple[int, int], _Session] = {}
        self.completed = 0
        self.out_of_order = 0
        self.timed_out = 0
        self.restarted = 0  # announced anew before they were whole
        self.aborted = 0
        self.nonsense = 0  # announcements that no standard allows
        self.too_many = 0  # announcements beyond MAX_SESSIONS

    @property
    def broken(self) -> int:
        """Messages that were announced and never came whole."""
        return (
            self.out_of_order + self.timed_out + self.restarted + self.aborted + self.nonsense + self.too_many
        )

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
        number = data[0]
        in_order = number == len(session.parts) + 1 if destination == GLOBAL else number > 0
        if not in_order or number > session.packets:
            del self._sessions[source, destination]
            self.out_of_order += 1
            return None
        session.parts[number] = data[1:8]
        session.deadline_us = now_us + (T3_US if number == session.allowed else T1_US)
        if len(session.parts) < session.packets:
            return None
        del self._sessions[source, destination]
        self.completed += 1
        whole = b"".join(session.parts[n] for n in range(1, session.packets + 1))
        return Transported(index, now_us, session.id, whole[: session.size])

    def expire(self, now_us: int) -> None:
        """Break the sessions whose time is over."""
        for key in [key for key, session in self._sessions.items() if now_us > session.deadline_us]:
            del self._sessions[key]
            self.timed_out += 1

    def _of(self, now_us: int, source: int, destination: int, pgn: int | None = None) -> _Session | None:
        """The living session of a sender and a receiver, if it is of this group."""
        session = self._sessions.get((source, destination))
        if session is not None and now_us > session.deadline_us:
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
        if self._of(now_us, source, destination) is not None:
            self.restarted += 1
        elif len(self._sessions) >= MAX_SESSIONS:
            self.expire(now_us)
            if len(self._sessions) >= MAX_SESSIONS:
                self.too_many += 1
                return
        whole_id = identifier(frame_id >> 26 & 7, pgn, source, destination)
        wait_us = T1_US if data[0] == BAM else T3_US
        self._sessions[source, destination] = _Session(whole_id, pgn, size, packets, now_us + wait_us, 0)

    def _clear_to_send(self, now_us: int, session: _Session | None, data: bytes) -> None:
        if session is None:
            return
        session.deadline_us = now_us + (T2_US if data[1] else T4_US)
        session.allowed = data[2] + data[1] - 1 if data[1] else session.allowed


def _can_travel(pgn: int) -> bool:
    """Whether a group may be transported: it exists, names no destination, and is not transport itself."""
    return pgn <= MAX_PGN and pgn not in (TP_CM, TP_DT) and not (is_addressed(pgn) and pgn & 0xFF)
