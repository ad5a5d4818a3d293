"""Where a laboratory's file rests: the cycler is off, and what the current shows is the sensor's zero."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.battery.model import CellModel

FloatArray = npt.NDArray[np.float64]

REST_S = 30.0  # a current that stands still for so long is none
STILL_C = 0.002  # it moves by no more than this from row to row
OFFSETS = 2.5  # and is no larger than so many times the offset that the cell's file expects (an sd)


def rests(
    time_s: FloatArray, current_a: FloatArray, model: CellModel, capacity_ah: float | None = None
) -> npt.NDArray[np.bool_]:
    """[r] rows at which the cell has rested for `REST_S` and more.

    For measurements of one cell, where a current that is small and does not move is a cycler at rest. Not for a bus: there
    something always draws, and the contactors' state says when the current is none.
    NaN ends a rest. Only earlier rows are looked at.
    """
    q = capacity_ah or model.capacity_ah
    small = np.abs(current_a) <= OFFSETS * model.uncertainty.current_offset_c * q
    still = small & (np.abs(np.diff(current_a, prepend=current_a[:1])) <= STILL_C * q)
    begun = np.maximum.accumulate(np.where(still, 0, np.arange(len(time_s))))
    return np.asarray(still & (time_s - time_s[begun] >= REST_S))
