"""What the rooms of the battery ask of arrays from outside."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.battery.model import FloatArray


def shaped(name: str, values: npt.ArrayLike, *shape: int) -> FloatArray:
    """`values` as float64 in C order, not copied where they are that already.

    Raises
    ------
    ValueError
        They have another shape.
    """
    array = np.asarray(values, dtype=np.float64, order="C")
    if array.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, not {array.shape}")
    return array
