"""DM1 (active) and DM2 (previously active) trouble codes (SAE J1939-73).

    byte 1     lamps, two bits each from the top: malfunction indicator, red stop, amber warning, protect
    byte 2     how they flash, in the same places
    then, four bytes a trouble code (DTC):
               SPN bits 0..7 | SPN bits 8..15 | SPN bits 16..18, FMI (5 bits) | conversion method, occurrences (7)

Lamps: 0 off, 1 on, 3 not available. Flash: 0 slowly, 1 fast, 3 not at all or not available. SPN 0 with FMI 0, and
all ones of both, mean "no fault" (or "no more"). Bytes after the last whole code are padding. A conversion method of 1 marks the old
layouts of the SPN (versions 1 to 3), which a listener can't tell apart; the SPN is then read as in versions 3 and 4, and may be
wrong: `Dtc.spn_of_version` gives the others.
"""

from __future__ import annotations

from typing import NamedTuple

LAMPS = ("MalfunctionIndicatorLamp", "RedStopLamp", "AmberWarningLamp", "ProtectLamp")
MAX_FLAT_DTCS = 20  # that `flat_signals` names one by one
_DTC_BYTES = 4
_NO_FAULT = ((0, 0), (0x7FFFF, 31))  # SPN, FMI


class Dtc(NamedTuple):
    """One diagnostic trouble code. `old_layout`: its conversion method is 1, so its SPN is not certain."""

    spn: int
    fmi: int
    occurrence_count: int | None  # None: not available (127)
    old_layout: bool

    def spn_of_version(self, version: int) -> int:
        """The SPN as conversion version 1, 2, 3 or 4 reads the same bytes.

        Versions 1 and 2 keep the upper 16 bits in the first two bytes, the most or the least significant byte
        first, and the lower three above the FMI.

        Raises
        ------
        ValueError
            There is no such version.
        """
        first, second, three = self.spn & 0xFF, self.spn >> 8 & 0xFF, self.spn >> 16
        if version in (3, 4):
            return self.spn
        if version == 1:
            return first << 11 | second << 3 | three
        if version == 2:
            return second << 11 | first << 3 | three
        raise ValueError(f"SPN conversion has the versions 1 to 4, not {version}")


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
    dtcs = tuple(dtc for code in codes if (dtc := _dtc(code))[:2] not in _NO_FAULT)
    return Dm(_pairs(payload[0]), _pairs(payload[1]), dtcs)


def flat_signals(dm: Dm, *, stored: bool = False) -> dict[str, int | None]:
    """A DM1, or with `stored` a DM2, as signals: always the same names, None where there is no value.

    LAMP and LAMPFlash for each of `LAMPS`; ActiveDtcCount (of a DM2: PreviouslyActiveDtcCount), which counts all
    codes; and DtcN.Spn, DtcN.Fmi, DtcN.OccurrenceCount, DtcN.OldLayout for the first 20.
    """
    flat = dict(dm.lamps)
    flat |= {f"{name}Flash": value for name, value in dm.flashes.items()}
    flat["PreviouslyActiveDtcCount" if stored else "ActiveDtcCount"] = len(dm.dtcs)
    for n in range(MAX_FLAT_DTCS):
        dtc = dm.dtcs[n] if n < len(dm.dtcs) else None
        flat[f"Dtc{n + 1}.Spn"] = dtc.spn if dtc else None
        flat[f"Dtc{n + 1}.Fmi"] = dtc.fmi if dtc else None
        flat[f"Dtc{n + 1}.OccurrenceCount"] = dtc.occurrence_count if dtc else None
        flat[f"Dtc{n + 1}.OldLayout"] = int(dtc.old_layout) if dtc else None
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
