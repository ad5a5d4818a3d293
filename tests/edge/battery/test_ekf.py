"""The kernel gives what the textbook's equations give, written out in numpy, and stays sane on garbage."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from edge.battery._ekf import Kernel
from edge.battery.estimator import PackEstimator
from edge.battery.model import CellModel, cell_names, load_cell

SEED = 11
N = 7
Array = npt.NDArray[np.float64]


def looked_up(table: Array, model: CellModel, temp: float, soc: float) -> float:
    """Interpolation over soc, then over temperature, by numpy's own."""
    return float(np.interp(temp, model.temp_degc, [np.interp(soc, model.soc, row) for row in table]))


class Twin:
    """One cell, with matrices: G. Plett, Battery Management Systems II, chapter 3, and Särkkä's secant.

    Slow and plain on purpose. Constants are written again, so that a slip in the kernel's shows.
    """

    def __init__(self, model: CellModel, x: Array, p: Array, capacity_ah: float) -> None:
        self.m, self.x, self.p, self.capacity_ah = model, x.copy(), p.copy(), capacity_ah
        self.last_current_a = self.waited_s = self.surprise_s = self.score = 0.0

    def at(self, table: Array, temp: float, soc: float) -> float:
        return looked_up(table, self.m, temp, min(max(soc, 0.0), 1.0))

    def secant(self, temp: float, soc: float, half: float) -> tuple[float, float, float]:
        """(slope, low, high)."""
        low, high = min(max(soc - half, 0.0), 0.99), max(min(soc + half, 1.0), 0.01)
        rise = self.at(self.m.ocv_v, temp, high) - self.at(self.m.ocv_v, temp, low)
        return rise / (high - low), low, high

    def step(self, dt: float, current: float, voltage: float, temp: float) -> None:
        known = math.isfinite(current)
        i = current if known else 0.0
        jump, self.last_current_a = i - self.last_current_a, i
        self.predict(dt, i, known, temp)
        self.waited_s += dt
        if 0.5 * self.m.voltage_min_v <= voltage <= 1.2 * self.m.voltage_max_v:
            self.correct(i, jump, known, voltage, temp)
            self.waited_s = 0.0

    def predict(self, dt: float, i: float, known: bool, temp: float) -> None:
        m, u, x, q_ah = self.m, self.m.uncertainty, self.x, self.capacity_ah
        one = lambda table: float(np.interp(temp, m.temp_degc, table))  # noqa: E731
        soc, k = x[0], x[5]
        r1, r2 = self.at(m.r1_ohm, temp, soc), self.at(m.r2_ohm, temp, soc)
        knee = one(m.knee_a)
        j = knee * math.asinh(i / knee)
        a1, a2 = math.exp(-dt / one(m.tau1_s)), math.exp(-dt / one(m.tau2_s))
        moved = i * dt / 3600 / q_ah
        ah = math.exp(-m.hysteresis_rate * abs(moved))
        ae, ak, ab = (math.exp(-dt / tau) for tau in (u.model_tau_s, u.resistance_tau_s, 36000.0))
        f = np.diag([1, a1, a2, ah, ae, ak, ab])
        f[0, 6] = -dt / 3600
        f[1, 5], f[2, 5] = (1 - a1) * r1 * j, (1 - a2) * r2 * j
        self.x = f @ x
        self.x[0] = min(max(soc - moved - x[6] * dt / 3600, 0.0), 1.0)
        self.x[3] = ah * x[3] - (1 - ah) * np.sign(i)
        self.x[5] = 1 + ak * (k - 1)
        slope, _, _ = self.secant(temp, self.x[0], 0.01)
        unknown = 0.0 if known else 0.5
        k = self.x[5]
        q = [
            abs(moved) * 0.5 * m.capacity_rel_sd**2 + (unknown / 3600) ** 2 * 2 * 60 * dt,
            (1 - a1**2) * ((u.branch_rel_sd * k * r1 * j) ** 2 + (r1 * unknown * q_ah) ** 2),
            (1 - a2**2) * ((u.branch_rel_sd * k * r2 * j) ** 2 + (r2 * unknown * q_ah) ** 2),
            (1 - ah**2) * u.hysteresis_sd**2,
            (1 - ae**2) * (one(m.model_sd_v) ** 2 + (u.axis_sd * slope) ** 2),
            (1 - ak**2) * u.resistance_rel_sd**2,
            (1 - ab**2) * u.current_offset_c**2,
        ]
        self.p = f @ self.p @ f.T + np.diag(q)

    def correct(self, i: float, jump: float, known: bool, voltage: float, temp: float) -> None:
        m, u, x = self.m, self.m.uncertainty, self.x
        soc = x[0]
        r0, gap = self.at(m.r0_ohm, temp, soc), self.at(m.hysteresis_v, temp, soc)
        ocv = self.at(m.ocv_v, temp, soc)
        half = min(max(math.sqrt(3 * max(self.p[0, 0], 0.0)), 0.01), 0.5)
        slope, low, high = self.secant(temp, soc, half)
        misses = [self.at(m.ocv_v, temp, s) - ocv - slope * (s - soc) for s in (low, high)]
        sd = float(np.interp(temp, m.temp_degc, m.sample_sd_v))
        r = (sd**2 + (u.branch_rel_sd * r0 * i) ** 2) * max(10 / max(self.waited_s, 1e-3), 1.0)
        r += sum(miss**2 for miss in misses) / 6 + (r0 * jump) ** 2
        r += 0.0 if known else (r0 * 0.5 * self.capacity_ah) ** 2
        h = np.array([slope, -1, -1, gap, 1, -r0 * i, 0])
        nu = voltage - (ocv - x[1] - x[2] + gap * x[3] + x[4] - x[5] * r0 * i)
        s = float(h @ self.p @ h) + r
        size = abs(nu) / math.sqrt(s)
        if size > 3:
            self.surprise_s += self.waited_s
            r += (size / 3 - 1) * s
            s *= size / 3
        else:
            self.surprise_s = max(self.surprise_s - 2 * self.waited_s, 0.0)
        self.score -= 0.5 * (nu**2 / s + min(self.waited_s / 10, 1.0) * math.log(s))
        gain = self.p @ h / s
        self.x = x + gain * nu
        keep = np.eye(N) - np.outer(gain, h)
        self.p = keep @ self.p @ keep.T + r * np.outer(gain, gain)
        if not 0 <= self.x[0] <= 1:
            self.x = self.x + self.p[:, 0] / self.p[0, 0] * (np.clip(self.x[0], 0, 1) - self.x[0])
        for state, lowest, highest in ((0, 0.0, 1.0), (3, -1.0, 1.0), (5, 0.2, 5.0)):
            self.x[state] = min(max(self.x[state], lowest), highest)


def random_cells(model: CellModel, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """States and covariances as a filter may have them."""
    sd = np.array([0.1, 0.02, 0.02, 0.5, 0.02, 0.2, 0.01])
    x = rng.normal(0, 1, (n, N)) * sd
    x[:, 0], x[:, 3], x[:, 5] = rng.uniform(0, 1, n), rng.uniform(-1, 1, n), rng.uniform(0.5, 2, n)
    root = rng.normal(0, 1, (n, N, N)) * sd[:, None] / math.sqrt(N)
    p = root @ root.transpose(0, 2, 1) * 10 ** rng.uniform(-3, 0, (n, 1, 1))
    return x, np.ascontiguousarray(p)


@pytest.mark.parametrize("name", cell_names())
def test_equal_to_the_textbook(name: str) -> None:
    """Every state and covariance of 40 cells over 60 random steps, from -40 to 60 degC and over all soc."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    model, n = load_cell(name), 40
    kernel = Kernel(model)
    x, p = random_cells(model, n, rng)
    capacity = model.capacity_ah * rng.uniform(0.7, 1.1, n)
    twins = [Twin(model, x[c], p[c], capacity[c]) for c in range(n)]
    last, waited, surprise, score = (np.zeros(n) for _ in range(4))
    temp = rng.uniform(-45, 65, n)
    refused = 0
    for _ in range(60):
        dt = float(10 ** rng.uniform(-3, 3)) if rng.random() > 0.05 else 0.0
        current = np.where(rng.random(n) < 0.1, np.nan, rng.normal(0, 1, n) * model.capacity_ah)
        voltage = model.at(model.ocv_v, x[:, 0], temp) + rng.normal(0, 0.05, n)
        odd = rng.random(n)
        voltage = np.select([odd < 0.2, odd < 0.22, odd < 0.24], [np.nan, 0.1, 65.5], voltage)
        refused += int((odd < 0.24).sum())
        kernel.step(dt, x, p, np.arange(n), capacity, current, last, voltage, temp, waited, surprise, score)
        for c, twin in enumerate(twins):
            twin.step(dt, current[c], voltage[c], temp[c])
            np.testing.assert_allclose(x[c], twin.x, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(p[c], twin.p, rtol=1e-9, atol=1e-9 * twin.p.diagonal().max())
            np.testing.assert_allclose(
                [last[c], waited[c], surprise[c], score[c]],
                [twin.last_current_a, twin.waited_s, twin.surprise_s, twin.score],
                rtol=1e-9,
                atol=1e-9,
            )
    assert 0 < refused < 60 * n, "both kinds of sample must have been tried"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300])
def test_a_bad_voltage_changes_no_state_but_by_prediction(bad: float) -> None:
    """As if no sample had come."""
    model = load_cell("lg_hg2")

    def after(voltage: float) -> tuple[Array, Array]:
        x, p = random_cells(model, 1, np.random.default_rng(SEED))
        one = [np.zeros(1) for _ in range(4)]
        last, waited, surprise, score = one
        capacity, temp = np.array([2.7]), np.array([-12.0])
        kernel.step(
            5.0,
            x,
            p,
            np.arange(1),
            capacity,
            np.array([3.0]),
            last,
            np.array([voltage]),
            temp,
            waited,
            surprise,
            score,
        )
        return x, p

    kernel = Kernel(model)
    for with_bad, without in zip(after(bad), after(math.nan), strict=True):
        np.testing.assert_array_equal(with_bad, without)
    assert not np.array_equal(after(3.6)[0], after(math.nan)[0]), "a good one must change it"


def test_covariance_over_100_000_steps_of_garbage() -> None:
    """Symmetric, positive and finite, whatever the sensors say, at steps from 1 ms to 10 days."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    n, steps = 20, 100_000
    odd = np.array([math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, -1e300, 1e-300, 65535.0, 3.3])
    estimator = PackEstimator(load_cell("lfp_bus"), np.arange(n) % 2, initial_soc=0.5)
    kinds = rng.random((steps, 4))
    for k in range(steps):
        current = rng.normal(0, 200, 2) if kinds[k, 0] < 0.8 else rng.choice(odd, 2)
        voltage = rng.uniform(2.5, 3.6, n) if kinds[k, 1] < 0.8 else rng.choice(odd, n)
        temp = rng.uniform(-40, 60, n) if kinds[k, 2] < 0.8 else rng.choice(odd, n)
        dt = 0.1 if kinds[k, 3] < 0.9 else float(10 ** rng.uniform(-3, math.log10(864_000)))
        estimator.step(dt, current, voltage, temp)
        if k % 500 == 0 or k == steps - 1:
            p, x = estimator._p, estimator._x
            assert np.isfinite(p).all()
            assert np.isfinite(x).all()
            scale = np.sqrt(np.einsum("nii->ni", p))
            assert (scale > 0).all()
            correlation = p / scale[:, :, None] / scale[:, None, :]
            np.testing.assert_allclose(correlation, correlation.transpose(0, 2, 1), atol=1e-12)
            assert np.linalg.eigvalsh(correlation).min() > -1e-9
            assert ((estimator.soc >= 0) & (estimator.soc <= 1)).all()
