"""Measured data against the cell that they are said to be of."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.battery.model import CellModel
from edge.errors import DataError
from edge.measured import Measured

CURRENT_MAX_C = 30.0  # the usual current of a test, in capacities per hour
CURRENT_EVER_C = 200.0  # and any current
SOC_SWING = 0.3
CAPACITY_OFF = 5.0  # the factor by which no true capacity differs from the one that soc and current show
CHARGE_MAX = 3.0  # capacities that a file can move one way: its sensor's offset included


def check_against_cell(
    path: Path, data: Measured, cell: CellModel, capacity_ah: float | None = None
) -> Measured:
    """The data with what such a cell cannot show flagged as well.

    Raises
    ------
    DataError
        Hardly any voltage is one of this cell, or the current is in another unit or of another size of cell.
    """
    capacity = cell.capacity_ah if capacity_ah is None else capacity_ah
    flags = dict(data.flags)
    low, high = 0.8 * cell.voltage_min_v, 1.1 * cell.voltage_max_v
    beyond = (data.voltage_v < low) | (data.voltage_v > high)
    if beyond.sum() > np.isfinite(data.voltage_v).sum() / 2:
        raise DataError(
            f"{path}: most voltages lie beyond what {cell.name} has ({low:.2f} to {high:.2f} V), "
            f"about {np.nanmedian(data.voltage_v):.2f} V: another cell?"
        )
    _check_current(path, data, capacity)
    too_much = np.abs(data.current_a) > CURRENT_EVER_C * capacity
    for kind, wrong in (("voltage_impossible", beyond), ("current_impossible", too_much)):
        if wrong.any():
            flags[kind] = flags.get(kind, 0) + int(wrong.sum())
    current, voltage = (
        np.where(too_much, np.nan, data.current_a),
        np.where(beyond, np.nan, data.voltage_v),
    )
    return Measured(data.time_s, current, voltage, data.temp_degc, data.soc, flags)


def _check_current(path: Path, data: Measured, capacity_ah: float) -> None:
    known = np.isfinite(data.current_a)
    size = np.abs(data.current_a[known])
    flowing = size[size > 0.01 * np.percentile(size, 90)]
    usual = float(np.median(flowing)) if len(flowing) else 0.0
    if usual > CURRENT_MAX_C * capacity_ah:
        raise DataError(
            f"{path}: a current of usually {usual:.4g} A is {usual / capacity_ah:.0f} times the capacity per hour, "
            f"too much for a cell of {capacity_ah:g} Ah: is it in mA, or that of many cells? "
            "(or give the right --cell or --capacity-ah)"
        )
    steps = np.where(data.after_gap, 0.0, np.diff(data.time_s, prepend=data.time_s[0]))[known]
    possible = np.abs(data.current_a[known]) <= CURRENT_EVER_C * capacity_ah
    moved = np.where(possible, data.current_a[known], 0.0) * steps / 3600
    reach = float(np.ptp(np.cumsum(moved)))
    if reach > CHARGE_MAX * capacity_ah and reach > 0.05 * np.abs(moved).sum():
        raise DataError(
            f"{path}: the current moves {reach:.4g} Ah, {reach / capacity_ah:.0f} times the capacity of "
            f"{capacity_ah:g} Ah: is time_s in s, the current that of one cell in A, and --cell or --capacity-ah right?"
        )
    swing = _soc_swing(data)
    if swing >= SOC_SWING and reach < swing * capacity_ah / CAPACITY_OFF:
        raise DataError(
            f"{path}: soc moves by {100 * swing:.0f} %, yet the current only by {reach:.3g} Ah, and the capacity is "
            f"{capacity_ah:g} Ah: is time_s in s (not min or h), and --cell or --capacity-ah right?"
        )


def _soc_swing(data: Measured) -> float:
    """How far soc moves, but for what it moves in gaps."""
    if data.soc is None:
        return 0.0
    known = np.isfinite(data.soc) & np.isfinite(data.current_a)
    if not known.any():
        return 0.0
    soc, gaps = data.soc[known], np.cumsum(data.after_gap)[known]
    moved = np.where(np.diff(gaps, prepend=gaps[0]) > 0, 0.0, np.diff(soc, prepend=soc[0]))
    return float(np.ptp(np.cumsum(moved)))
