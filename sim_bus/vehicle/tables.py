"""y over x by straight lines, as the scenario's tables are meant; plain floats, for it is called each second."""

from __future__ import annotations

from bisect import bisect_right

from sim_bus.scenario.model import Table


def lookup(table: Table, x: float) -> float:
    """The table's y at x: straight between the rows, the end's value beyond them."""
    after = bisect_right(table, x, key=lambda row: row[0])
    if after == 0:
        return table[0][1]
    if after == len(table):
        return table[-1][1]
    (x0, y0), (x1, y1) = table[after - 1], table[after]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
