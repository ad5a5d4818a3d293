"""Capacity from pairs (change of soc, charge counted) that both have errors: recursive total least squares.

Weighted total least squares minimises

    χ²(Q) = Σ (y - Q·x)² / (Q²·var_x + var_y)

and needs all pairs for it. G. Plett ("Recursive approximate weighted total least squares estimation of battery
cell total capacity", Journal of Power Sources 196, 2011; "Battery Management Systems, Volume II", Artech House
2016, chapter 4) gives two recursions: an exact one where var_y/var_x is the same for all pairs, and an approximate one
(AWTLS, six sums, a quartic) where it is not. A bus knows the charge far better than the soc, and how much better differs
from pair to pair; there AWTLS says bars that are too narrow
(tests/edge/battery/test_total_least_squares.py: by more than a tenth). So here the exact recursion is used, with each pair's whole variance, var = Q0²·var_x + var_y at a first
guess Q0, shared out so that the ratio is the same for all. It has the minimum of χ² to first order in Q/Q0 - 1, three
sums, and a root. y is in units of Q0, so that the line has a slope near 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SUMS = 3
"""y²/v, x·y/v, x²/v"""


def sums_of(x: FloatArray, y: FloatArray, variance: FloatArray) -> FloatArray:
    """[..., 3] what a pair adds; `variance` = var_x + var_y, with y in units of Q0."""
    return np.stack([y * y, x * y, x * x], axis=-1) * (2 / variance)[..., None]


def prior_of(ratio: FloatArray, rel_sd: float) -> FloatArray:
    """[..., 3] the sums of a pair that says: y/x is `ratio`, known to `rel_sd`."""
    return sums_of(np.ones_like(ratio), ratio, (rel_sd * ratio) ** 2 * 2 / (1 + ratio**2))


def solve(sums: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of sums [n, 3]: the slope y/x with the least χ² [n], its variance (2 over χ²'s curvature) and that χ²."""
    yy, xy, xx = sums.T
    slope = (yy - xx + np.sqrt((yy - xx) ** 2 + 4 * xy**2)) / (2 * xy)
    variance = (1 + slope**2) ** 2 / (2 * xy * slope + xx - yy)
    chi2 = (yy - 2 * slope * xy + slope**2 * xx) / (1 + slope**2)
    return slope, variance, np.maximum(chi2, 0.0)
