"""Recursive total least squares against the sum that it stands for, minimised by brute force, and against AWTLS."""

import numpy as np
import numpy.typing as npt
import pytest

from edge.battery.total_least_squares import prior_of, solve, sums_of

SEED = 11
Array = npt.NDArray[np.float64]


def exact(x: Array, y: Array, var_x: Array, var_y: Array) -> tuple[float, float]:
    """The minimum of weighted total least squares and its sd, on a grid that is refined."""

    def chi2(q: Array) -> Array:
        return np.asarray(
            ((y - np.multiply.outer(q, x)) ** 2 / (np.multiply.outer(q**2, var_x) + var_y)).sum(axis=1)
        )

    low, high = 0.3, 2.0
    for _ in range(8):
        grid = np.linspace(low, high, 201)
        best, width = grid[np.argmin(chi2(grid))], grid[1] - grid[0]
        low, high = best - width, best + width
    h = 1e-4
    around = chi2(np.array([best - h, best, best + h]))
    return float(best), float(np.sqrt(2 * h * h / (around[0] - 2 * around[1] + around[2])))


def awtls(x: Array, y: Array, var_x: Array, var_y: Array) -> tuple[float, float]:
    """Plett's approximation: six sums and a quartic, by numpy's roots; the sd from the cost's curvature."""
    c1, c2, c3 = (x * x / var_y).sum(), (x * y / var_y).sum(), (y * y / var_y).sum()
    c4, c5, c6 = (x * x / var_x).sum(), (x * y / var_x).sum(), (y * y / var_x).sum()

    def cost(q: float) -> float:
        return float((c4 * q**4 - 2 * c5 * q**3 + (c1 + c6) * q**2 - 2 * c2 * q + c3) / (q**2 + 1) ** 2)

    roots = np.roots([c5, 2 * c4 - c1 - c6, 3 * c2 - 3 * c5, c1 - 2 * c3 + c6, -c2])
    real = [float(r.real) for r in roots if abs(r.imag) < 1e-9 and r.real > 0]
    q, h = min(real, key=cost), 1e-4
    return q, float(np.sqrt(2 * h * h / (cost(q - h) - 2 * cost(q) + cost(q + h))))


def pairs(
    rng: np.random.Generator, truth: float, count: int, share: float
) -> tuple[Array, Array, Array, Array]:
    """Swings; `share`: the charge's variance over the soc's, at most."""
    x = rng.uniform(0.4, 1.0, count)
    var_x = rng.uniform(0.5, 2.0, count) * 2e-4
    var_y = var_x * rng.uniform(0.01, share, count)
    seen_x, seen_y = (
        x + rng.normal(size=count) * np.sqrt(var_x),
        truth * x + rng.normal(size=count) * np.sqrt(var_y),
    )
    return seen_x, seen_y, var_x, var_y


@pytest.mark.parametrize("truth", [0.7, 0.85, 1.0, 1.1])
@pytest.mark.parametrize("share", [0.05, 1.0])
def test_is_the_minimum_of_the_weighted_sum(truth: float, share: float) -> None:
    rng = np.random.default_rng(SEED)
    print(f"seed {SEED}")
    for count in (1, 3, 40):
        x, y, var_x, var_y = pairs(rng, truth, count, share)
        slope, variance, _ = solve(sums_of(x, y, var_x + var_y).sum(axis=0)[None])
        best, sd = exact(x, y, var_x, var_y)
        assert abs(slope[0] - best) < 0.25 * sd
        assert np.sqrt(variance[0]) == pytest.approx(sd, rel=0.25)


def test_charge_known_better_than_soc_is_where_awtls_is_too_sure() -> None:
    rng = np.random.default_rng(SEED)
    ours, theirs = [], []
    for _ in range(50):
        x, y, var_x, var_y = pairs(rng, 1.0, 10, 0.5)
        sd = exact(x, y, var_x, var_y)[1]
        ours.append(np.sqrt(solve(sums_of(x, y, var_x + var_y).sum(axis=0)[None])[1][0]) / sd)
        theirs.append(awtls(x, y, var_x, var_y)[1] / sd)
    assert np.mean(ours) == pytest.approx(1, abs=0.03)
    assert np.mean(theirs) < 0.9


def test_bars_hold_the_truth() -> None:
    rng = np.random.default_rng(SEED)
    found = []
    for _ in range(2000):
        x, y, var_x, var_y = pairs(rng, 0.9, 5, 1.0)
        slope, variance, _ = solve(sums_of(x, y, var_x + var_y).sum(axis=0)[None])
        found.append(float(slope[0] - 0.9) / float(np.sqrt(variance[0])))
    inside = np.mean(np.abs(found) < 1.96)
    print(f"seed {SEED}: {inside:.3f} in the 95 % bars, mean error {np.mean(found):.3f} sd")
    assert 0.93 < inside < 0.97


def test_prior() -> None:
    ratio = np.array([0.3, 1.0, 2.0])
    slope, variance, chi2 = solve(prior_of(ratio, 0.1))
    np.testing.assert_allclose(slope, ratio)
    np.testing.assert_allclose(variance, (0.1 * ratio) ** 2)
    np.testing.assert_allclose(chi2, 0, atol=1e-9)
