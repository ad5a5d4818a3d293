"""DM1 (active) and DM2 (previously active) trouble codes (SAE J1939-73).

    byte 1     lamps, two bits each from the top: malfunction indicator, red stop, amber warning, protect
    byte 2     how they flash, in the same places
    then, four bytes a trouble code (DTC):
               SPN bits 0..7 | SPN bits 8..15 | SPN bits 16..18, FMI (5 bits) | conversion method, occurrences (7)

Lamps: 0 off, 1 on, 3 not available. Flash: 0 slowly, 1 fast, 3 not at all or not available. A code of all zeros, or of all ones,
is the filling of a message without (more) codes. A conversion method of 1 marks the old layouts of the SPN (versions 1 to 3), which a
listener can't tell apart; the SPN is then read as in versions 3 and 4, and may be wrong.
"""

from __future__ import annotations

from typing import NamedTuple

LAMPS = ("MalfunctionIndicatorLamp", "RedStopLamp", "AmberWarningLamp", "ProtectLamp")
MAX_FLAT_DTCS = 20  # that `flat_signals` names one by one
_DTC_BYTES = 4
_FILLINGS = (b"\0\0\0\0", b"\xff\xff\xff\xff")


class Dtc(NamedTuple):
    """One diagnostic trouble code. `old_layout`: its conversion method is 1, so its SPN is not certain."""

    spn: int
    fmi: int
    occurrence_count: int | None  # None: not available (127)
    old_layout: bool


class Dm(NamedTuple):
    """A DM1 or DM2: lamps and flashes by name of `LAMPS`, None where not available; its codes in their order."""

    lamps: dict[str, int | None]
    flashes: dict[str, int | None]
    dtcs: tuple[Dtc, ...]


def decode_dm(payload: bytes) -> Dm | None:
    """The content of a DM1 or DM2; None where it is too short to be one (under 2 bytes)."""
    if len(payload) < 2:
        return None
    codes = (payload[at : at + _DTC_BYTES] for at in range(2, len(payload) - _DTC_BYTES + 1, _DTC_BYTES))
    return Dm(_pairs(payload[0]), _pairs(payload[1]), tuple(_dtc(c) for c in codes if c not in _FILLINGS))


def flat_signals(dm: Dm) -> dict[str, int | None]:
    """A DM as signals: LAMP, LAMPFlash, DtcCount, and Dtc1.Spn, Dtc1.Fmi, Dtc1.OccurrenceCount for up to 20 codes."""
    flat = dict(dm.lamps)
    flat |= {f"{name}Flash": value for name, value in dm.flashes.items()}
    flat["DtcCount"] = len(dm.dtcs)
    for n, dtc in enumerate(dm.dtcs[:MAX_FLAT_DTCS], 1):
        flat |= {
            f"Dtc{n}.Spn": dtc.spn,
            f"Dtc{n}.Fmi": dtc.fmi,
            f"Dtc{n}.OccurrenceCount": dtc.occurrence_count,
        }
    return flat


def _pairs(byte: int) -> dict[str, int | None]:
    states = (byte >> shift & 3 for shift in (6, 4, 2, 0))
    return {name: None if state == 3 else state for name, state in zip(LAMPS, states, strict=True)}


def _dtc(code: bytes) -> Dtc:
    occurrences = code[3] & 0x7F
    return Dtc(
        spn=code[0] | code[1] << 8 | (code[2] >> 5) << 16,
        fmi=code[2] & 0x1F,
        occurrence_count=None if occurrences == 0x7F else occurrences,
        old_layout=bool(code[3] & 0x80),
    )
