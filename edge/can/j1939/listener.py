"""One channel's transport, addresses and trouble codes, fed with frames."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge.can.frames import ERROR, EXTENDED, REMOTE, Frames
from edge.can.j1939.diagnostics import Dm, decode_dm
from edge.can.j1939.identifier import (
    ADDRESS_CLAIMED,
    COMMANDED_ADDRESS,
    DM1,
    DM2,
    REQUEST,
    TP_CM,
    TP_DT,
    pgn_of,
)
from edge.can.j1939.names import Addresses, Claim, Name
from edge.can.j1939.transport import Transport, Transported

FRAME_BYTES = 8
PROTOCOL_PGNS = frozenset({TP_CM, TP_DT, ADDRESS_CLAIMED, REQUEST, COMMANDED_ADDRESS})


def _heeded() -> npt.NDArray[np.bool_]:
    """Of each PGN, with any destination: whether the listener heeds its frames. One look-up a frame."""
    table = np.zeros(1 << 18, np.bool_)
    for pgn in (TP_CM, TP_DT, ADDRESS_CLAIMED):
        table[pgn : pgn + 256] = True
    table[[DM1, DM2]] = True
    return table


_HEEDED = _heeded()


class Diagnosed(NamedTuple):
    """A DM1, or with `stored` a DM2: the index of its last frame in what was fed, that frame's time, its sender."""

    frame: int
    time_us: int
    source: int
    stored: bool
    dm: Dm


class Listener:
    """Listens to one J1939 channel: what was transported, who sits where, and which faults there are.

    `claimed` and `diagnosed` hold the changes of addresses and the DM1 messages of the last `feed`, in the order of their
    frames; with `stored_faults` the DM2 messages too. `bad_diagnostics` counts those too short to be one.
    """

    def __init__(self, channel: int, *, stored_faults: bool = False) -> None:
        self.channel = channel
        self.transport = Transport()
        self.addresses = Addresses()
        self.claimed: list[Claim] = []
        self.diagnosed: list[Diagnosed] = []
        self.bad_diagnostics = 0
        self._dms = {DM1, DM2} if stored_faults else {DM1}

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

        Frames of other channels, remote and error frames are passed over.
        """
        self.claimed, self.diagnosed = [], []
        found = []
        mine = self._mine(frames)
        if len(mine):
            some = frames[mine]
            rows = zip(
                mine.tolist(), some["time_us"].tolist(), some["id"].tolist(), some["length"].tolist(),
                some["data"][:, :FRAME_BYTES], strict=True,
            )  # fmt: skip
            for n, now_us, frame_id, length, row in rows:
                if whole := self._frame(n, now_us, frame_id, row[:length].tobytes()):
                    found.append(whole)
        if len(frames) and (self.transport.open or self.addresses.undecided):
            now_us = int(frames["time_us"][-1])
            self.transport.expire(now_us)
            self.claimed += self.addresses.settle(len(frames) - 1, now_us)
        return found

    def _frame(self, n: int, now_us: int, frame_id: int, data: bytes) -> Transported | None:
        pdu = frame_id >> 8 & 0xFF00
        if pdu == DM1 & 0xFF00:
            self._diagnose(n, now_us, frame_id, data)
        elif len(data) < FRAME_BYTES:
            return None
        elif pdu == TP_CM:
            self.transport.control(now_us, frame_id, data)
        elif pdu == ADDRESS_CLAIMED:
            self.claimed += self.addresses.claim(n, now_us, frame_id & 0xFF, data)
        elif whole := self.transport.data(n, now_us, frame_id, data):
            self._diagnose(n, now_us, whole.id, whole.payload)
            return whole
        return None

    def _diagnose(self, n: int, now_us: int, message_id: int, payload: bytes) -> None:
        pgn = pgn_of(message_id)
        if pgn not in self._dms:
            return
        dm = decode_dm(payload)
        if dm is None:
            self.bad_diagnostics += 1
        else:
            self.diagnosed.append(Diagnosed(n, now_us, message_id & 0xFF, pgn == DM2, dm))

    def _mine(self, frames: Frames) -> npt.NDArray[np.int64]:
        """The indices of this channel's frames that the listener heeds."""
        possible = np.flatnonzero(_HEEDED[frames["id"] >> 8 & 0x3FFFF])
        if not len(possible):
            return possible
        some = frames[possible]
        mine = (some["flags"] & (EXTENDED | REMOTE | ERROR) == EXTENDED) & (some["channel"] == self.channel)
        return np.asarray(possible[mine], np.int64)
