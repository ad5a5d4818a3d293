"""The tables that a BMS of this kind carries: figures of its maker, none of them the simulated cells' own.

Rates are in C (1/h): times the rated capacity they are A, times the rated energy W.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Protocol

Table = tuple[tuple[float, float], ...]  # (x, y), x rising; straight between, constant beyond


class CellLimits(Protocol):
    """What a data sheet says of a cell; `sim_bus.battery.cell.Cell` is one."""

    @property
    def chemistry(self) -> str: ...
    @property
    def capacity_ah(self) -> float: ...
    @property
    def voltage_min_v(self) -> float: ...
    @property
    def voltage_max_v(self) -> float: ...


# Discharge for 10 s over the coldest cell; charge, braking included: cold cells plate lithium.
DISCHARGE_C: Table = ((-30.0, 0.32), (-20.0, 0.5), (0.0, 0.76))
CHARGE_C: Table = ((-10.0, 0.0), (0.0, 0.048), (10.0, 0.19), (20.0, 0.51))
# Shares of them: over the hottest cell, ...
HOT_DISCHARGE: Table = ((45.0, 1.0), (58.0, 0.0))
HOT_CHARGE: Table = ((42.0, 1.0), (55.0, 0.0))
# ... over its own state of charge, ...
EMPTYING: Table = ((0.02, 0.0), (0.10, 1.0))
FILLING: Table = ((0.90, 1.0), (0.985, 0.0))
# ... and over the margin of the lowest cell to its least voltage, of the highest to its most, in V.
SAGGING: Table = ((0.05, 0.0), (0.30, 1.0))
RISING: Table = ((0.00, 0.0), (0.10, 1.0))

# Rest voltage to state of charge, and nominal voltage. For LFP the table that circulates among users of such cells:
# good at the ends, a poor figure on the plateau. Other chemistries: a generic one of layered oxides.
LFP_REST: Table = (
    (2.50, 0.0), (3.00, 0.09), (3.125, 0.14), (3.20, 0.17), (3.225, 0.20), (3.25, 0.30), (3.275, 0.40),
    (3.30, 0.70), (3.325, 0.90), (3.35, 0.99), (3.40, 1.0),
)  # fmt: skip
OXIDE_REST: Table = (
    (2.80, 0.0), (3.35, 0.05), (3.47, 0.10), (3.57, 0.20), (3.63, 0.30), (3.68, 0.40), (3.75, 0.50),
    (3.83, 0.60), (3.90, 0.70), (3.98, 0.80), (4.08, 0.90), (4.20, 1.0),
)  # fmt: skip
NOMINAL_V = {True: 3.2, False: 3.6}


def is_lfp(cell: CellLimits) -> bool:
    """By its name or, failing that, by its highest voltage."""
    return "lfp" in cell.chemistry.lower() or cell.voltage_max_v < 3.9


def rest_table(cell: CellLimits) -> Table:
    """Rest voltage of a cell -> state of charge."""
    return LFP_REST if is_lfp(cell) else OXIDE_REST


def nominal_v(cell: CellLimits) -> float:
    """Of a cell."""
    return NOMINAL_V[is_lfp(cell)]


def at(table: Table, x: float) -> float:
    """The table's value."""
    n = bisect_right(table, (x, float("inf")))
    if n == 0:
        return table[0][1]
    if n == len(table):
        return table[-1][1]
    (x0, y0), (x1, y1) = table[n - 1], table[n]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def slope(table: Table, x: float) -> float:
    """dx/dy there: of a rest table, V per unit of state of charge."""
    n = min(max(bisect_right(table, (x, float("inf"))), 1), len(table) - 1)
    (x0, y0), (x1, y1) = table[n - 1], table[n]
    return (x1 - x0) / (y1 - y0)
