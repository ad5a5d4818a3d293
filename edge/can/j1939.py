"""SAE J1939-21 transport, listening: messages over 8 bytes that come as BAM.

A source announces with TP.CM (control byte 32, size, packets, PGN) and sends TP.DT packets of seven bytes
numbered from 1. One session per source address; a packet out of order ends the session, counted. Messages
over 64 bytes don't fit a FRAME and are counted, not kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge.can.frames import EXTENDED, FD, FRAME, Frames

TP_CM, TP_DT = 0xEC, 0xEB  # PDU format: bits 16 to 23 of the identifier
BAM = 32
TIMEOUT_US = 750_000  # T1 of SAE J1939-21
MAX_BYTES = 64


@dataclass
class _Session:
    size: int
    packets: int
    pgn: int
    priority: int
    last_us: int
    data: bytearray = field(default_factory=bytearray)
    next: int = 1


class Reassembler:
    """One J1939 channel's transport sessions."""

    def __init__(self) -> None:
        self._sessions: dict[int, _Session] = {}
        self.broken = 0
        self.too_long = 0

    def feed(self, frames: Frames) -> Frames:
        """The messages that these frames complete, as frames of up to 64 bytes with their own PGN."""
        pdu = frames["id"] >> 16 & 0xFF
        mine = (
            ((pdu == TP_CM) | (pdu == TP_DT))
            & (frames["flags"] & EXTENDED == EXTENDED)
            & (frames["length"] == 8)
        )
        whole = [
            out for n in np.flatnonzero(mine).tolist() if (out := self._packet(frames[n : n + 1])) is not None
        ]
        return np.concatenate(whole) if whole else np.zeros(0, FRAME)

    def _packet(self, frame: Frames) -> Frames | None:
        frame_id, data = int(frame["id"][0]), bytes(frame["data"][0, :8])
        source, now = frame_id & 0xFF, int(frame["time_us"][0])
        if frame_id >> 16 & 0xFF == TP_CM:
            self._announce(source, frame_id >> 26, now, data)
            return None
        session = self._sessions.get(source)
        if session is None:
            return None
        if data[0] != session.next or now - session.last_us > TIMEOUT_US:
            self.broken += 1
            del self._sessions[source]
            return None
        session.data += data[1:]
        session.next += 1
        session.last_us = now
        if session.next <= session.packets:
            return None
        del self._sessions[source]
        return _whole(session, frame, source)

    def _announce(self, source: int, priority: int, now: int, data: bytes) -> None:
        if data[0] != BAM:
            return
        size, packets, pgn = int.from_bytes(data[1:3], "little"), data[3], int.from_bytes(data[5:8], "little")
        if self._sessions.pop(source, None):
            self.broken += 1
        if size > MAX_BYTES:
            self.too_long += 1
        elif 8 < size <= packets * 7 and pgn <= 0x3FFFF:
            self._sessions[source] = _Session(size, packets, pgn, priority, now)
        else:
            self.broken += 1


def _whole(session: _Session, last: Frames, source: int) -> Frames:
    out = np.zeros(1, FRAME)
    out["time_us"], out["channel"] = last["time_us"], last["channel"]
    out["id"] = session.priority << 26 | session.pgn << 8 | source
    out["flags"] = EXTENDED | FD
    out["length"] = session.size
    out["data"][0, : session.size] = np.frombuffer(bytes(session.data[: session.size]), np.uint8)
    return out
