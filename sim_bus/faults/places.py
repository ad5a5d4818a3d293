"""Where a fault is: a cell or a sensor, named as on the bus, from 1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge.errors import ScenarioError
from sim_bus.faults.catalogue import DRAWN
from sim_bus.sensors import CELLS_PER_SENSOR

# What there is many of -> how a signal of the databases names one, and its sign against ours
_SIGNALS = {
    "pack_current": (re.compile(r"PackCurrent"), -1),
    "string_current": (re.compile(r"String([1-9]\d*)_Current"), -1),
    "cell_voltage": (re.compile(r"String([1-9]\d*)_Cell(\d+)_Voltage"), 1),
    "cell_temp": (re.compile(r"String([1-9]\d*)_Temp(\d+)"), 1),
}
SIGNAL = "signal"


@dataclass(frozen=True)
class Sensor:
    """One sensor. `what`: of `_SIGNALS`, or SIGNAL with its name in `signal`; `sign`: of its unit against ours."""

    what: str
    string: int = 0
    number: int = 0
    signal: str = ""
    sign: int = 1

    def __str__(self) -> str:
        return ":".join([self.signal or self.what, *(str(n) for n in (self.string, self.number) if n)])


@dataclass(frozen=True)
class Size:
    """How many there are: strings, and of each string cells and temperature sensors."""

    strings: int
    cells: int

    @property
    def sensors(self) -> int:
        """Temperature sensors of a string."""
        return -(-self.cells // CELLS_PER_SENSOR)

    def most(self, what: str) -> tuple[int, ...]:
        """The greatest numbers that name a sensor of that sort."""
        each = {"cell_voltage": (self.cells,), "cell_temp": (self.sensors,)}
        return () if what == "pack_current" else (self.strings, *each.get(what, ()))


def find_cell(
    parameters: Mapping[str, float | str], size: Size, random: np.random.Generator
) -> tuple[int, int]:
    """String and cell, from 1, of a fault; what is DRAWN is drawn.

    Raises
    ------
    ScenarioError
        There is no such string or cell.
    """
    asked = {name: int(parameters[name]) for name in ("string", "cell")}
    string, cell = (
        _number(f"faults.{name}", number, most, random)
        for (name, number), most in zip(asked.items(), (size.strings, size.cells), strict=True)
    )
    return string, cell


def find_sensor(key: str, text: str, size: Size, random: np.random.Generator) -> Sensor:
    """The sensor that a parameter `key` names; what is left out or DRAWN is drawn.

    Raises
    ------
    ScenarioError
        There is no such string, cell or sensor, or it is no name at all.
    """
    what, *numbers = text.split(":")
    if what in _SIGNALS:
        return _numbered(key, text, what, numbers, size, random)
    if numbers or not re.fullmatch(r"[A-Za-z_]\w*", text, re.ASCII):
        raise ScenarioError(
            f"faults.{key} must be a signal, or one of {', '.join(_SIGNALS)}, not {text[:80]!r}"
        )
    for name, (pattern, sign) in _SIGNALS.items():
        if found := pattern.fullmatch(text):
            sensor = _numbered(key, text, name, list(found.groups()), size, random)
            return Sensor(sensor.what, sensor.string, sensor.number, sign=sign)
    return Sensor(SIGNAL, signal=text)


def _numbered(
    key: str, text: str, what: str, numbers: list[str], size: Size, random: np.random.Generator
) -> Sensor:
    most = size.most(what)
    if len(numbers) > len(most) or not all(n.isascii() and n.isdigit() and len(n) < 9 for n in numbers):
        form = ":".join([what, *("string", "number")[: len(most)]])
        raise ScenarioError(f"faults.{key} must be {form}, from 1, not {text[:80]!r}")
    asked = [int(n) for n in numbers] + [DRAWN] * (len(most) - len(numbers))
    found = [_number(f"faults.{key} {text!r}", n, m, random) for n, m in zip(asked, most, strict=True)]
    place, number, *_ = [*found, 0, 0]
    return Sensor(what, place, number)


def _number(name: str, number: int, most: int, random: np.random.Generator) -> int:
    """Checked, or drawn. It draws in either case: one number more in a scenario shall not shift the others."""
    drawn = int(random.integers(1, most + 1))
    if not DRAWN <= number <= most:
        raise ScenarioError(f"{name} must lie between 1 and {most} (there are no more), not {number}")
    return drawn if number == DRAWN else number
