"""What J1939 asks of a sender: long messages by BAM, trouble codes, address claims.

Sources: the layouts that `edge/can/j1939` reads, which public descriptions of SAE J1939-21, -73 and -81 give.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge.can.frames import EXTENDED, FRAME, Frames
from edge.can.j1939.identifier import TP_CM, TP_DT, identifier, pgn_of
from sim_bus.ecus.trouble import is_severe

BAM_GAP_US = 60_000  # J1939-21 asks for 50 to 200 ms between the packets
CLAIM_WAIT_US = 250_000  # J1939-81: nothing else is sent so long after a claim
TP_PRIORITY = 7
GLOBAL = 0xFF
MOST_CODES = 20  # of one DM1; more would take the bus longer than its period
MOST_OCCURRENCES = 126  # 127 says not available
OFF, NO_FLASH = 0x00, 0xFF
PROTECT, AMBER, RED, MALFUNCTION = 0, 2, 4, 6  # bits of the lamps
NOT_ASSIGNED = 0x7FF  # as manufacturer code
ANY_FUNCTION = 0xFF
ON_HIGHWAY = 1

Packet = tuple[int, bytes]  # id, data


def bam(frame_id: int, data: bytes) -> list[Packet]:
    """A long message as BAM: the announcement and its packets."""
    packets = [data[n : n + 7].ljust(7, b"\xff") for n in range(0, len(data), 7)]
    size, pgn = len(data).to_bytes(2, "little"), pgn_of(frame_id).to_bytes(3, "little")
    announce = bytes([32]) + size + bytes([len(packets), 0xFF]) + pgn
    control, transfer = (identifier(TP_PRIORITY, p, frame_id & 0xFF, GLOBAL) for p in (TP_CM, TP_DT))
    return [(control, announce)] + [(transfer, bytes([n]) + p) for n, p in enumerate(packets, 1)]


def dm1(codes: Sequence[tuple[int, int, int]]) -> bytes:
    """DM1 of (SPN, FMI, occurrences): 8 bytes for none or one code, more for several."""
    lamps = OFF
    for spn, fmi, _ in codes:
        lamps |= 1 << (RED if is_severe(spn, fmi) else AMBER)
    body = b"".join(_code(*code) for code in codes[:MOST_CODES]) or bytes(4)
    return (bytes([lamps, NO_FLASH]) + body).ljust(8, b"\xff")


def _code(spn: int, fmi: int, occurrences: int) -> bytes:
    count = min(occurrences, MOST_OCCURRENCES)
    return bytes([spn & 0xFF, spn >> 8 & 0xFF, (spn >> 16 & 7) << 5 | fmi & 0x1F, count])


def name(identity: int, instance: int) -> bytes:
    """A NAME: 21 bits of identity; manufacturer and function are not assigned, for no real maker's nodes speak here."""
    value = (
        identity & 0x1FFFFF
        | NOT_ASSIGNED << 21
        | (instance & 7) << 32
        | ANY_FUNCTION << 40
        | ON_HIGHWAY << 60
    )
    return value.to_bytes(8, "little")


class Transport:
    """What waits to be sent: (time_us, node, channel, id, data). One source sends one long message at a time."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, int, int, bytes]] = []
        self._busy_us: dict[tuple[int, int], int] = {}  # (channel, source) -> until when

    def add(self, at_us: int, node: int, channel: int, frame_id: int, data: bytes) -> None:
        """A frame."""
        self._waiting.append((at_us, node, channel, frame_id, data))

    def add_long(
        self, at_us: int, node: int, channel: int, frame_id: int, data: bytes, patience_us: int
    ) -> None:
        """A long message, as soon as its source is free; not sent where that is longer than `patience_us`."""
        source = (channel, frame_id & 0xFF)
        begin = max(at_us, self._busy_us.get(source, 0))
        if begin - at_us >= patience_us:
            return
        for n, (packet_id, packet) in enumerate(bam(frame_id, data)):
            self.add(begin + n * BAM_GAP_US, node, channel, packet_id, packet)
            self._busy_us[source] = begin + (n + 1) * BAM_GAP_US

    def drop(self, node: int, from_us: int) -> None:
        """The node stops: what it would have sent from then on is not sent."""
        gone = [w for w in self._waiting if w[1] == node and w[0] >= from_us]
        self._waiting = [w for w in self._waiting if w not in gone]
        for _, _, channel, frame_id, _ in gone:
            self._busy_us.pop((channel, frame_id & 0xFF), None)

    def due(self, until_us: int) -> Frames:
        """The frames before `until_us`; they wait no more."""
        now = [w for w in self._waiting if w[0] < until_us]
        self._waiting = [w for w in self._waiting if w[0] >= until_us]
        frames = np.zeros(len(now), FRAME)
        for frame, (at_us, _, channel, frame_id, data) in zip(frames, now, strict=True):
            frame["time_us"], frame["id"], frame["channel"] = at_us, frame_id, channel
            frame["flags"], frame["length"] = EXTENDED, len(data)
            frame["data"][: len(data)] = np.frombuffer(data, np.uint8)
        return frames
