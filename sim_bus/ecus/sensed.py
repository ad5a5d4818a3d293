"""What the BMS makes of a second's readings: the few numbers that it judges by. NaN: its sensors gave nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim_bus.doors import BoolArray, FloatArray, Readings

PLAUSIBLE_V = (0.5, 5.0)  # of a cell: outside, its wire is broken
PLAUSIBLE_DEGC = (-45.0, 130.0)


@dataclass(frozen=True)
class Sensed:
    """One second. Voltages of cells are means over it but `lowest_v` and `highest_v`, which are its extremes."""

    string_a: FloatArray  # (strings,), positive on discharge
    cell_v: FloatArray  # (strings, cells)
    lowest_v: float
    highest_v: float
    mean_v: float
    coldest_degc: float
    hottest_degc: float
    link_v: float  # at its end, as the other end of the main contactors
    insulation_kohm: float
    lost_cells: BoolArray  # (strings, cells)
    lost_temps: bool  # one or more
    string_v: FloatArray  # (strings,), NaN where no cell speaks

    @property
    def pack_a(self) -> float:
        """All strings together."""
        return float(self.string_a.sum())


def sense(readings: Readings) -> Sensed:
    """Condense a second."""
    cells, temps = (
        _plausible(readings.cell_v, PLAUSIBLE_V),
        _plausible(readings.cell_degc[-1], PLAUSIBLE_DEGC),
    )
    mean = _mean(cells)
    lost = mean != mean
    of_strings = _mean(mean.T)
    return Sensed(
        string_a=_mean(readings.string_a),
        cell_v=mean,
        lowest_v=_extreme(np.fmin, cells),
        highest_v=_extreme(np.fmax, cells),
        mean_v=float(_mean(of_strings)),
        coldest_degc=_extreme(np.fmin, temps),
        hottest_degc=_extreme(np.fmax, temps),
        link_v=_last(readings, "DcVoltage"),
        insulation_kohm=_last(readings, "InsulationResistance"),
        lost_cells=lost,
        lost_temps=bool((temps != temps).any()),
        string_v=of_strings * mean.shape[1],
    )


def _plausible(values: FloatArray, span: tuple[float, float]) -> FloatArray:
    if values.min() >= span[0] and values.max() <= span[1]:  # false for NaN, too
        return values
    with np.errstate(invalid="ignore"):
        return np.where((values >= span[0]) & (values <= span[1]), values, np.nan)


def _mean(values: FloatArray) -> FloatArray:
    """Over the first axis, of what is there."""
    mean = np.asarray(np.add.reduce(values, axis=0) / len(values))
    if mean.sum() == mean.sum():
        return mean
    good = values == values
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(good, values, 0.0).sum(axis=0) / good.sum(axis=0))


def _extreme(smaller: np.ufunc, values: FloatArray) -> float:
    return float(smaller.reduce(values, axis=None))


def _last(readings: Readings, name: str) -> float:
    values = readings.values.get(name)
    return float("nan") if values is None else float(values[-1])
