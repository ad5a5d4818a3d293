"""One channel's transport and addresses, fed with frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.can.frames import ERROR, EXTENDED, REMOTE, Frames
from edge.can.j1939.identifier import ADDRESS_CLAIMED, COMMANDED_ADDRESS, REQUEST, TP_CM, TP_DT
from edge.can.j1939.names import Addresses, Claim, Name
from edge.can.j1939.transport import Transport, Transported

FRAME_BYTES = 8
_TRANSPORT_OR_CLAIM = (TP_CM >> 8, TP_DT >> 8, ADDRESS_CLAIMED >> 8)
PROTOCOL_PGNS = frozenset({TP_CM, TP_DT, ADDRESS_CLAIMED, REQUEST, COMMANDED_ADDRESS})
_NO_INDEX = np.zeros(0, np.int64)


class Listener:
    """Listens to one J1939 channel: what was transported, and who sits where.

    `claimed` holds the changes of addresses of the last `feed`, in the order of their frames.
    """

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.transport = Transport()
        self.addresses = Addresses()
        self.claimed: list[Claim] = []
        self._now_us = -(1 << 62)

    @property
    def names(self) -> dict[int, Name]:
        """Source address -> NAME."""
        return self.addresses.names

    @property
    def generation(self) -> int:
        """Rises with every change of `names`."""
        return self.addresses.generation

    def address_of(self, name: int) -> int | None:
        """Where a NAME (64 bits) sits now."""
        return self.addresses.address_of(name)

    def feed(self, frames: Frames) -> list[Transported]:
        """The messages that these frames complete, in the order of their last frames.

        Frames of other channels, remote and error frames are passed over; times should not run backwards, and
        count as the latest before them where they do.
        """
        self.claimed = []
        found = []
        for n in self._mine(frames).tolist():
            frame_id, data = int(frames["id"][n]), frames["data"][n, :FRAME_BYTES].tobytes()
            now_us = self._now_us = max(self._now_us, int(frames["time_us"][n]))
            pdu = frame_id >> 8 & 0xFF00
            if pdu == TP_CM:
                self.transport.control(now_us, frame_id, data)
            elif pdu == ADDRESS_CLAIMED:
                self.claimed += self.addresses.claim(n, frame_id & 0xFF, data)
            elif whole := self.transport.data(n, now_us, frame_id, data):
                found.append(whole)
        if len(frames) and self.transport.open:
            self._now_us = max(self._now_us, int(frames["time_us"][-1]))
            self.transport.expire(self._now_us)
        return found

    def _mine(self, frames: Frames) -> npt.NDArray[np.int64]:
        """The indices of transport and claims: of data pages 0, with all their eight bytes."""
        pdu = frames["id"] >> 16 & 0x3FF
        possible = np.flatnonzero((pdu >= TP_DT >> 8) & (pdu <= ADDRESS_CLAIMED >> 8))
        if not len(possible):
            return _NO_INDEX
        some = frames[possible]
        mine = (
            np.isin(pdu[possible], _TRANSPORT_OR_CLAIM)
            & (some["flags"] & (EXTENDED | REMOTE | ERROR) == EXTENDED)
            & (some["length"] == FRAME_BYTES)
            & (some["channel"] == self.channel)
        )
        return np.asarray(possible[mine], np.int64)
