"""Protection of messages: checksums and counters, from a signal map's words to the kernel's numbers.

| kind | what | source |
|---|---|---|
| xor, sum | over all other protected bytes, modulo 256 | |
| crc8-sae-j1850 | 0x1D, from 0xFF, xor 0xFF | SAE J1850; AUTOSAR CRC_8 |
| crc8-autosar | 0x2F, from 0xFF, xor 0xFF | AUTOSAR CRC_8H2F |
| crc8-smbus, crc8-maxim-dow | 0x07 from 0; 0x31 from 0, reflected | CRC catalogue |
| crc16-ibm-3740 | 0x1021, from 0xFFFF ("CCITT-FALSE") | AUTOSAR CRC_16 |
| j1939-tsc1 | bytes + counter + identifier, folded to 3 bits | SAE J1939-71, SPN 4207 |
| j1939-xbr | the same, folded to 4 bits | SAE J1939-71, SPN 3188 |
| autosar-e2e-1, -2, -5, -11 | CRC over data and data id | AUTOSAR PRS_E2EProtocol |

Profiles 1 and 11 compute CRC-8 0x1D from 0 without a final xor, the data id before the data: its low and
high byte (mode both, "1A"), low at an even and high at an odd counter (alternating, "1B"), low only, or
low and a zero, with the other four bits sent in the frame (nibble, "1C"). Profile 2 ends CRC-8 0x2F with
the list's id at the counter, profile 5 CRC-16 with the id's low and high byte.

The kernel is edge/can/_protection.pyx: `check` says whether a frame is good, `accept` advances the state
once the whole frame has been found good. The first frame is accepted; a jump of the counter is accepted
and counted; the same counter again is refused, but after no frame at all for the message's time-out it is
a sender that started again. (One that hangs and repeats itself for ever is no silence: it goes stale.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from cantools.database import Message as DbMessage
from cantools.database.can.signal import Signal as DbSignal

from edge.can import _protection
from edge.signals.protection import KINDS, Checksum
from edge.signals.signal_map import MessageRule

GOOD, BAD_CHECKSUM, REPEATED_COUNTER = range(3)  # what the kernel says of a frame

FIELD = np.dtype(
    [("first", "<i4"), ("bytes", "<i4"), ("big_endian", "<i4"), ("shift", "<i4"), ("mask", "<u4")]
)
PROTECTION = np.dtype(
    [
        ("family", "<i4"), ("table", "<i4"), ("start", "<u2"), ("xor_out", "<u2"), ("needed", "<i4"),
        ("first", "<i4"), ("end", "<i4"), ("skip", "<i4"), ("skip_end", "<i4"),
        ("n_before", "<i4"), ("n_after", "<i4"), ("listed", "<i4"),
        ("before", "u1", (2,)), ("after", "u1", (2,)), ("ids", "u1", (16,)),
        ("checksum", FIELD), ("counter", FIELD), ("nibble", FIELD),
        ("nibble_value", "<i4"), ("modulus", "<i4"), ("timeout_us", "<i8"),
    ]
)  # fmt: skip
STATE = np.dtype([("time_us", "<i8"), ("skipped", "<i8"), ("counter", "<i4"), ("started", "<i4")])


@dataclass(frozen=True)
class _Crc:
    """One CRC, in the terms of the CRC catalogue; `table` is its place among those of its width."""

    table: int
    start: int
    xor_out: int


CRC8_POLYNOMIALS = ((0x1D, False), (0x2F, False), (0x07, False), (0x31, True))  # and whether reflected
CRC16_POLYNOMIALS = ((0x1021, False),)
_CRC = {
    "crc8-sae-j1850": _Crc(0, 0xFF, 0xFF),
    "crc8-autosar": _Crc(1, 0xFF, 0xFF),
    "crc8-smbus": _Crc(2, 0, 0),
    "crc8-maxim-dow": _Crc(3, 0, 0),
    "crc16-ibm-3740": _Crc(0, 0xFFFF, 0),
    "autosar-e2e-1": _Crc(0, 0, 0),
    "autosar-e2e-2": _Crc(1, 0xFF, 0xFF),
    "autosar-e2e-5": _Crc(0, 0xFFFF, 0),
    "autosar-e2e-11": _Crc(0, 0, 0),
}
_FAMILY = {"xor": 3, "sum": 4, "j1939-xbr": 5, "j1939-tsc1": 6}  # and 1, 2: CRCs of 8 and 16 bits
_BEFORE, _AFTER = 1, 2  # where the byte of an id list goes


def crc_table(polynomial: int, bits: int, reflected: bool = False) -> list[int]:
    """The 256 steps of a CRC, one for each value of a byte."""
    top, mask = 1 << (bits - 1), (1 << bits) - 1
    table = []
    for byte in range(256):
        value = (_mirrored(byte) if reflected else byte) << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & top else value << 1) & mask
        table.append(_mirrored(value) if reflected else value)
    return table


def _mirrored(byte: int) -> int:
    return int(f"{byte:08b}"[::-1], 2)


_protection.set_tables(
    np.array([crc_table(p, 8, r) for p, r in CRC8_POLYNOMIALS], np.uint8),
    np.array([crc_table(p, 16, r) for p, r in CRC16_POLYNOMIALS], np.uint16),
)


def compile_protection(message: DbMessage, rule: MessageRule | None) -> np.void:
    """A message's protection for the kernel, one PROTECTION; all zeros, which accepts everything, without a rule."""
    row: np.void = np.zeros(1, PROTECTION)[0]
    if rule is None:
        return row
    signals = {s.name: s for s in message.signals}
    row["timeout_us"] = 1000 * rule.timeout_ms
    if rule.counter:
        row["counter"] = _field(signals[rule.counter.signal])
        row["modulus"] = rule.counter.last + 1
    if rule.checksum:
        _compile_checksum(row, rule.checksum, signals)
    fields = (row["checksum"], row["counter"], row["nibble"])
    row["needed"] = max(int(row["end"]), *(int(f["first"]) + int(f["bytes"]) for f in fields))
    return row


def _compile_checksum(row: Any, checksum: Checksum, signals: dict[str, DbSignal]) -> None:
    kind = KINDS[checksum.kind]
    row["checksum"] = field = _field(signals[checksum.signal])
    first, end = checksum.first_byte, checksum.last_byte + 1
    row["first"], row["end"] = first, end
    row["skip"] = min(max(field[0], first), end)
    row["skip_end"] = min(max(field[0] + field[1], first), end)
    row["family"] = _FAMILY.get(checksum.kind) or kind.bits[0] // 8
    if crc := _CRC.get(checksum.kind):
        row["table"], row["start"], row["xor_out"] = crc.table, crc.start, crc.xor_out
    if kind.ids == 1:
        _compile_id(row, checksum, signals)
    elif kind.ids:
        row["ids"], row["listed"] = checksum.data_ids, _AFTER


def _compile_id(row: Any, checksum: Checksum, signals: dict[str, DbSignal]) -> None:
    low, high = checksum.data_ids[0] & 0xFF, checksum.data_ids[0] >> 8
    if checksum.data_id_mode == "":
        row["after"], row["n_after"] = (low, high), 2
    elif checksum.data_id_mode == "alternating":
        row["ids"], row["listed"] = [low, high] * 8, _BEFORE
    elif checksum.data_id_mode == "low":
        row["before"], row["n_before"] = (low, 0), 1
    elif checksum.data_id_mode == "both":
        row["before"], row["n_before"] = (low, high), 2
    else:
        row["before"], row["n_before"] = (low, 0), 2
        row["nibble_value"] = high
        if checksum.nibble:
            row["nibble"] = _field(signals[checksum.nibble])
        else:  # the other half of the counter's byte
            row["nibble"] = row["counter"]
            row["nibble"]["shift"] = 4 - row["counter"]["shift"]


def _field(signal: DbSignal) -> tuple[int, int, int, int, int]:
    """Where a signal lies, as a FIELD."""
    first, bit, mask = signal.start // 8, signal.start % 8, (1 << signal.length) - 1
    if signal.byte_order == "big_endian":
        before = 7 - bit
        size = (before + signal.length + 7) // 8
        return first, size, 1, 8 * size - before - signal.length, mask
    return first, (bit + signal.length + 7) // 8, 0, bit, mask


def new_states(n: int) -> npt.NDArray[Any]:
    """The state of n senders before their first frame: STATE, shape (n,)."""
    return np.zeros(n, STATE)
