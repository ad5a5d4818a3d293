"""Active trouble codes (DM1, SAE J1939-73) and who sits at which address, of the channels that speak J1939.

The newest DM1 of each source address is what is active there; it comes every second, or as one frame or through
the transport protocol. At most 256 sources a channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from edge.can.frames import ERROR, EXTENDED, REMOTE, Frames
from edge.can.j1939 import Dm, Listener, Name, decode_dm, pgn_of
from edge.can.j1939.identifier import DM1


@dataclass(frozen=True)
class Heard:
    """The newest DM1 of one source, and when it came."""

    channel: int
    source: int
    time_us: int
    dm: Dm


@dataclass(frozen=True)
class FaultsPicture:
    """`dms` by channel and source; `names` by (channel, source address)."""

    dms: tuple[Heard, ...]
    names: Mapping[tuple[int, int], Name]

    @property
    def codes(self) -> int:
        """How many trouble codes are active."""
        return sum(len(heard.dm.dtcs) for heard in self.dms)


class Faults:
    """Listens to these channels."""

    def __init__(self, channels: Iterable[int]) -> None:
        self._listeners = [Listener(channel) for channel in channels]
        self._newest: dict[tuple[int, int], Heard] = {}

    def take(self, frames: Frames) -> None:
        """Frames, in the order of their arrival."""
        for listener in self._listeners:
            found = [(m.frame, m.id, m.payload) for m in listener.feed(frames) if pgn_of(m.id) == DM1]
            for n in _single(frames, listener.channel):
                frame = frames[n]
                found.append((n, int(frame["id"]), frame["data"][: frame["length"]].tobytes()))
            for n, frame_id, payload in sorted(found):
                self._keep(listener.channel, frame_id & 0xFF, int(frames["time_us"][n]), payload)

    def picture(self) -> FaultsPicture:
        """What is active now."""
        names = {(one.channel, at): name for one in self._listeners for at, name in one.names.items()}
        return FaultsPicture(tuple(heard for _, heard in sorted(self._newest.items())), names)

    def _keep(self, channel: int, source: int, time_us: int, payload: bytes) -> None:
        dm = decode_dm(payload)
        if dm is not None:
            self._newest[channel, source] = Heard(channel, source, time_us, dm)


def _single(frames: Frames, channel: int) -> list[int]:
    """Where a DM1 is that fits one frame."""
    mine = (
        (frames["id"] >> 8 & 0x3FFFF == DM1)
        & (frames["flags"] & (EXTENDED | REMOTE | ERROR) == EXTENDED)
        & (frames["channel"] == channel)
        & (frames["length"] <= 8)
    )
    return np.flatnonzero(mine).tolist()
