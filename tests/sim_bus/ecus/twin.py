"""`sim_bus/ecus/_pack.pyx` again, plainly: one frame after the other, its bits in one big number."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge.can.frames import FRAME, Frames
from sim_bus.doors import FloatArray
from sim_bus.ecus.ecus import STEP_US


def crc8(data: bytes) -> int:
    """CRC-8 SAE J1850, bit by bit: polynomial 0x1D, initial and final 0xFF."""
    value = 0xFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value << 1 ^ (0x11D if value & 0x80 else 0)
    return value ^ 0xFF


def raw_of(field: Any, value: float) -> int:
    """The bits of one field."""
    if np.isnan(value):
        return int(field["missing"])
    raw = round((value - float(field["offset"])) / float(field["scale"]))
    return min(max(raw, int(field["low"])), int(field["high"])) & int(field["mask"])


def frame_bytes(m: Any, layout: Any, fields: Any, at_us: int, values: FloatArray) -> bytes:
    """The data of one frame."""
    whole = int.from_bytes(layout["words"].tobytes(), "little")
    for field in fields[layout["first"] : layout["last"]]:
        measured = at_us >= m["boot_us"] + field["delay_us"]
        whole |= raw_of(field, float(values[field["slot"]]) if measured else np.nan) << int(field["start"])
    if m["counter_bit"] >= 0:
        whole |= int(m["counter"]) << int(m["counter_bit"])
    data = whole.to_bytes(64, "little")[: int(m["length"])]
    at = int(m["checksum_byte"])
    return data if at < 0 else data[:at] + bytes([crc8(data[:at] + data[at + 1 :])]) + data[at + 1 :]


def encode(
    messages: Any, layouts: Any, fields: Any, jitter_us: FloatArray, begin_us: int, state: FloatArray
) -> Frames:
    """The frames of a second, message by message; moves the messages on."""
    rows = []
    for m, jitters in zip(messages, jitter_us, strict=True):
        while True:
            at_us = int(m["base_us"] + m["sent"] * m["period_us"]) + round(float(jitters[m["drawn"]]))
            at_us = max(at_us, int(m["boot_us"]))
            if at_us >= m["until_us"]:
                break
            step = min(max((at_us - begin_us) // STEP_US, 0), len(state) - 1)
            data = frame_bytes(m, layouts[m["layout"] + m["page"]], fields, at_us, state[step])
            head = (at_us, m["id"], m["channel"], m["flags"], m["length"], 0)
            rows.append((*head, np.frombuffer(data.ljust(64, b"\0"), np.uint8)))
            m["sent"] += 1
            m["drawn"] += 1
            m["page"] = (m["page"] + 1) % m["pages"]
            m["counter"] = (m["counter"] + 1) % (m["counter_last"] + 1)
    return np.array(rows, FRAME)
