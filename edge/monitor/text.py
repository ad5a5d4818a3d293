"""Numbers, times and names as people read them."""

from __future__ import annotations

import math

from edge.can.decoder import Slot
from edge.can.j1939 import Name

MAX_DECIMALS = 4
UNITS = {"percent": "%", "Celsius": "°C", "degC": "°C"}


def seconds(value: float) -> str:
    """A time span as people read it: 0.12 s, 12.3 s, 4 min, 3 h, 5 d."""
    if not math.isfinite(value):
        return "—"
    for least, size, unit in ((172_800, 86_400, "d"), (7200, 3600, "h"), (120, 60, "min")):
        if value >= least:
            return f"{value / size:.0f} {unit}"
    return f"{value:.1f} s" if value >= 10 else f"{value:.2f} s"


def clock_text(value: float) -> str:
    """A place in a log: 1:02:03 or 02:03.4."""
    whole = int(value)
    if whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 60:02}:{value % 60:04.1f}"


def decimals(scale: float) -> int:
    """How many decimals a value with this step needs, at most MAX_DECIMALS."""
    text = f"{abs(scale):.{MAX_DECIMALS}f}".rstrip("0").partition(".")[2]
    return len(text)


def value_text(slot: Slot, raw: int, value: float) -> str:
    """A signal's value: its choice as text, else with as many decimals as its step has."""
    if not slot.is_float and raw in slot.choices:
        return slot.choices[raw]
    return number(value, f".{decimals(slot.scale)}f" if not slot.is_float else ".6g")


def number(value: float, form: str, unit: str = "") -> str:
    """A number with its unit; a dash where it is not known."""
    if not math.isfinite(value):
        return "—"
    text = format(value, form) if abs(value) < 1e12 else f"{value:.6g}"
    return f"{text} {unit}" if unit else text


def signal_text(slot: Slot) -> str:
    """A signal's name; of a J1939 one, with the source address whose it is."""
    return slot.signal if slot.source is None else f"{slot.signal} @{slot.source:02X}"


def unit_text(unit: str) -> str:
    return UNITS.get(unit, unit)


def short_path(path: str) -> str:
    """A VSS path without its first branch, which all share."""
    return path.removeprefix("Vehicle.")


def name_text(name: Name) -> str:
    """A J1939 NAME in short: what people look up."""
    return f"function {name.function}, manufacturer {name.manufacturer_code}, identity {name.identity_number}"
