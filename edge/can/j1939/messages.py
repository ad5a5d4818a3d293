"""The messages that J1939 itself defines, as rows beside those of a database: AddressClaimed, DM1 and DM2."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from edge.can.decoder import Events, Slot
from edge.can.frames import ERROR, EXTENDED, REMOTE, Frames
from edge.can.j1939.diagnostics import LAMPS, MAX_FLAT_DTCS, Dm, decode_dm, flat_signals
from edge.can.j1939.identifier import ADDRESS_CLAIMED, DM1, DM2, pgn_of
from edge.can.j1939.listener import Listener
from edge.can.j1939.names import NAME_BYTES, Name
from edge.signals.validity import GOOD, NOT_AVAILABLE

DM_NAMES = {DM1: "DM1", DM2: "DM2"}
CLAIM_NAME = "AddressClaimed"
# field of a Name -> signal
NAME_SIGNALS = {
    field: "Name" if field == "value" else field.title().replace("_", "") for field in Name._fields
}
# message -> its signals
_NO_CODES = Dm(dict.fromkeys(LAMPS), dict.fromkeys(LAMPS), ())
SIGNALS: dict[str, tuple[str, ...]] = {
    CLAIM_NAME: tuple(NAME_SIGNALS.values()),
    **{name: tuple(flat_signals(_NO_CODES, stored=pgn == DM2)) for pgn, name in DM_NAMES.items()},
}


class ProtocolMessages:
    """One channel's, with slots, `events` and `for_people` as a Decoder has them; `names` are the addresses' NAMEs."""

    def __init__(self, channel: int, known_pgns: Collection[int]) -> None:
        """A database's own message of one of these PGNs comes instead of ours."""
        self._listener = Listener(channel)
        self._pgns = {ADDRESS_CLAIMED, *DM_NAMES} - set(known_pgns)
        self.slots = [
            Slot(channel, message, signal, "", 1.0, 0.0, False, {})
            for message, signals in SIGNALS.items()
            for signal in signals
        ]
        self._numbers = {(slot.message, slot.signal): n for n, slot in enumerate(self.slots)}

    @property
    def names(self) -> dict[int, Name]:
        """Source address -> NAME."""
        return self._listener.names

    def events(self, frames: Frames) -> Events:
        """The messages of these frames of the channel, in frame order."""
        found = [(w.frame, w.id, w.payload) for w in self._listener.feed(frames)]
        for n in np.flatnonzero(self._mine(frames)).tolist():
            frame = frames[n]
            found.append((n, int(frame["id"]), frame["data"][: frame["length"]].tobytes()))
        rows: list[tuple[int, int, int, float, int]] = []
        for n, frame_id, payload in sorted(found, key=lambda message: message[0]):
            message, signals = self._decode(pgn_of(frame_id), payload)
            for signal, value in signals.items():
                state = NOT_AVAILABLE if value is None else GOOD
                raw = np.uint64(value or 0).view(np.int64).item()
                rows.append((n, self._numbers[message, signal], raw, float(value or 0), state))
        columns = list(zip(*rows, strict=True)) or [()] * 5
        types = (np.int32, np.int32, np.int64, np.float64, np.uint8)
        return Events(*(np.array(c, t) for c, t in zip(columns, types, strict=True)))

    def _mine(self, frames: Frames) -> npt.NDArray[np.bool_]:
        pgns = frames["id"] >> 8 & 0x3FFFF
        mine = np.isin(pgns, list(DM_NAMES)) | (pgns & 0x3FF00 == ADDRESS_CLAIMED)
        return np.asarray(mine & (frames["flags"] & (EXTENDED | REMOTE | ERROR) == EXTENDED))

    def _decode(self, pgn: int, payload: bytes) -> tuple[str, dict[str, int | None]]:
        """Message and signals; nothing where it is none of ours or too short for it."""
        if pgn not in self._pgns:
            return "", {}
        if pgn == ADDRESS_CLAIMED:
            name = Name.from_int(int.from_bytes(payload[:NAME_BYTES], "little"))
            whole = len(payload) >= NAME_BYTES
            return CLAIM_NAME, {NAME_SIGNALS[k]: v for k, v in name._asdict().items()} if whole else {}
        dm = decode_dm(payload)
        return DM_NAMES[pgn], _signals_of(dm, pgn == DM2) if dm else {}

    def for_people(
        self, slot: int, raw: int, value: float, state: int = GOOD, *, choices: bool = True
    ) -> int | None:
        """As of a Decoder."""
        return raw & 0xFFFFFFFFFFFFFFFF if state == GOOD else None


def _signals_of(dm: Dm, stored: bool) -> dict[str, int | None]:
    """Its signals without those of codes that it does not have: 20 empty ones a message would hide the rest."""
    codes = min(len(dm.dtcs), MAX_FLAT_DTCS)
    absent = tuple(f"Dtc{n}." for n in range(codes + 1, MAX_FLAT_DTCS + 1))
    return {k: v for k, v in flat_signals(dm, stored=stored).items() if not k.startswith(absent)}
