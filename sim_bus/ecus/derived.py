"""What the BMS works out of its cells, sensors and currents, by the names of the DBCs."""

from __future__ import annotations

import numpy as np

from sim_bus.doors import FloatArray, Readings


def derived(readings: Readings) -> dict[str, FloatArray]:
    """(STEPS,) each, in the DBCs' units and signs (current positive on charge).

    A cell or sensor that gives nothing is left out; where all give nothing, so does what is made of them.
    """
    cells, temps = readings.cell_v, readings.cell_degc
    steps = len(cells)
    flat, warm = cells.reshape(steps, -1), temps.reshape(steps, -1)
    strings = _whole(cells)
    volts, amps = strings.mean(axis=1), -readings.string_a.sum(axis=1)
    lowest, highest, coldest, warmest = (
        np.fmin.reduce(flat, axis=1), np.fmax.reduce(flat, axis=1),
        np.fmin.reduce(warm, axis=1), np.fmax.reduce(warm, axis=1),
    )  # fmt: skip
    values = {
        "PackVoltage": volts,
        "PackCurrent": amps,
        "MinCellVoltage": lowest,
        "MinCellNumber": _number_of(flat, lowest),
        "MaxCellVoltage": highest,
        "MaxCellNumber": _number_of(flat, highest),
        "MinCellTemp": coldest,
        "MaxCellTemp": warmest,
        "HvessVoltageLevel": volts,
        "HvessCurrentLevel": amps,
        "HvessHighestCellVoltage": highest,
        "HvessLowestCellVoltage": lowest,
        "HvessHighestCellTemp": warmest,
        "HvessLowestCellTemp": coldest,
        "HvessAverageCellTemp": _mean(warm),
        "HvessBusVoltage": readings.values.get("DcVoltage", volts),
    }
    for s in range(cells.shape[1]):
        values[f"String{s + 1}_Voltage"] = strings[:, s]
        values[f"String{s + 1}_Current"] = -readings.string_a[:, s]
    return values


def _mean(values: FloatArray) -> FloatArray:
    """Over the last axis, without NaN; NaN where nothing else is there."""
    mean = np.asarray(np.add.reduce(values, axis=-1) / values.shape[-1])
    if mean.sum() == mean.sum():  # no NaN, as is the rule
        return mean
    good = values == values
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(good, values, 0.0).sum(axis=-1) / good.sum(axis=-1))


def _whole(cells: FloatArray) -> FloatArray:
    """(steps, strings): their voltages; a cell that says nothing counts as the mean of its string."""
    return np.asarray(_mean(cells) * cells.shape[2])


def _number_of(flat: FloatArray, value: FloatArray) -> FloatArray:
    """The first cell, from 1, that has the value; NaN where none has one."""
    first = (flat == value[:, None]).argmax(axis=1) + 1.0
    return np.where(value == value, first, np.nan)
