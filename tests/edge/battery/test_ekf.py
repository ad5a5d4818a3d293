"""The kernel gives what the textbook's equations give, written out in numpy, and stays sane on garbage."""

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest

from edge.battery._ekf import COLUMNS, TURN, Kernel
from edge.battery.estimator import PackEstimator, nodes_of
from edge.battery.model import CellModel, cell_names, load_cell

SEED = 11
N = 8
Array = npt.NDArray[np.float64]


@dataclass
class Window:
    """What has come since the filter last looked."""

    seconds: float = 0.0
    charge_as: float = 0.0
    turn: float = 1.0
    pull: float = 0.0
    unknown_s: float = 0.0
    open_s: float = 0.0
    zero: list[tuple[float, float]] = field(default_factory=list)  # reading, seconds
    samples: list[tuple[float, float, float, Array, float, bool]] = field(default_factory=list)


class Twin:
    """One cell, with matrices: G. Plett, Battery Management Systems II, chapter 3, and Särkkä's secant.

    Slow and plain on purpose. Constants are written again, so that a slip in the kernel's shows.
    """

    def __init__(
        self, model: CellModel, x: Array, p: Array, capacity_ah: float, temp: float, alone: bool
    ) -> None:
        self.m, self.x, self.p, self.capacity_ah, self.temp = model, x.copy(), p.copy(), capacity_ah, temp
        self.alone = alone
        self.y = np.zeros(len(model.tau_s))
        self.waited_s = self.surprise_s = self.score = 0.0
        self.misfit = 1.0
        self.window = Window()

    def one(self, table: Array) -> float:
        return float(np.interp(self.temp, self.m.temp_degc, table))

    def at(self, table: Array, soc: float) -> float:
        """Interpolation over soc, then over temperature, by numpy's own."""
        return float(
            np.interp(self.temp, self.m.temp_degc, [np.interp(soc, self.m.soc, row) for row in table])
        )

    def row(
        self, dt: float, reading: float, voltage: float, temp: float, balancing: float, opened: bool
    ) -> None:
        """One row of measurements: sums, and what is exact."""
        m, w = self.m, self.window
        self.temp = temp if abs(temp) <= 150 else self.temp
        known = abs(reading) <= 200 * self.capacity_ah
        i = reading if known and not opened else 0.0
        if opened:
            w.open_s += dt
            w.zero += [(reading, dt)] if known else []
        elif not known:
            w.unknown_s += dt
        i += balancing if math.isfinite(balancing) else 0.0
        scale, knee = m.capacity_ah / self.capacity_ah, self.one(m.knee_a)
        j = knee * math.asinh(i * scale / knee)
        keep = np.exp(-dt / m.tau_s)
        self.y = keep * self.y + (1 - keep) * j
        w.seconds += dt
        w.charge_as += i * dt
        turn = math.exp(-m.hysteresis_rate * abs(i) * dt / 3600 / self.capacity_ah)
        turn = turn if m.hysteresis_v.any() else 1.0
        w.turn, w.pull = turn * w.turn, turn * w.pull - (1 - turn) * np.sign(i)
        if 0.5 * m.voltage_min_v <= voltage <= 1.2 * m.voltage_max_v:
            w.samples.append((voltage, i, j, self.y.copy(), w.charge_as, known or opened))

    def close(self) -> None:
        """The window's end."""
        w, self.window = self.window, Window()
        opened = w.open_s > 0.5 * w.seconds
        self.predict(w, opened)
        seconds = sum(dt for _, dt in w.zero)
        if seconds > 0:
            zero_c = sum(a * dt for a, dt in w.zero) / seconds / self.capacity_ah
            self.kalman(-np.eye(N)[6], zero_c + self.x[6], 0.001**2)
            self.x[0] = min(max(self.x[0], 0.0), 1.0)
        self.waited_s += w.seconds
        if w.samples:
            self.correct(w)
            self.judge()
            self.waited_s = 0.0

    def predict(self, w: Window, opened: bool) -> None:
        m, u, x, dt = self.m, self.m.uncertainty, self.x, w.seconds
        moved = w.charge_as / 3600 / self.capacity_ah
        taus = [u.relaxation_tau_s, u.model_tau_s, u.resistance_tau_s, 36000.0, 1e6, m.tau_s[-1]]
        fw, fe, fk, fb, fg, fu = (math.exp(-dt / tau) for tau in taus)
        f = np.diag([1, fw, fe, fk, w.turn, fu, fb, fg])
        f[0, 6] = 0.0 if opened else -dt / 3600
        f[0, 7] = -moved
        self.x = f @ x
        self.x[0] = min(max(self.x[0] - moved, 0.0), 1.0)
        self.x[3] = 1 + fk * (x[3] - 1)
        self.x[4] += w.pull
        size = max(self.misfit, 1.0)
        gain_sd = math.hypot(m.capacity_rel_sd, u.current_gain_sd)
        q = [
            (0.5 / 3600) ** 2 * 2 * 60 * w.unknown_s,
            (1 - fw**2) * size,
            (1 - fe**2) * size,
            (1 - fk**2) * u.resistance_rel_sd**2,
            (1 - w.turn**2) * (u.hysteresis_sd**2 + 1e-12),
            (1 - fu**2) * m.capacity_ah**2 * (1e-12 + 0.2**2 * w.unknown_s / max(dt, 1e-9)),
            (1 - fb**2) * u.current_offset_c**2,
            (1 - fg**2) * gain_sd**2,
        ]
        self.p = f @ self.p @ f.T + np.diag(q)
        shrink = np.ones(N)
        shrink[0] = min(1.0, 0.5 / math.sqrt(self.p[0, 0]))
        self.p *= np.outer(shrink, shrink)

    def correct(self, w: Window) -> None:
        m, u, x = self.m, self.m.uncertainty, self.x
        scale = m.capacity_ah / self.capacity_ah
        voltage, i, j, charge = (float(np.mean([s[k] for s in w.samples])) for k in (0, 1, 2, 4))
        y = np.mean([s[3] for s in w.samples], axis=0)
        unknown = 0.5 * m.capacity_ah * np.mean([not s[5] for s in w.samples])
        jump = (w.samples[-1][1] - w.samples[0][1]) * scale / len(w.samples)
        soc = min(max(x[0] + (w.charge_as - charge) / 3600 / self.capacity_ah, 0.0), 1.0)
        r0, rct, gap, ocv = (self.at(t, soc) for t in (m.r0_ohm, m.rct_ohm, m.hysteresis_v, m.ocv_v))
        slow = np.array([self.at(t, soc) for t in m.relaxation_ohm])
        eta = r0 * i * scale + rct * j + slow @ y + slow[-1] * x[5]
        half = min(max(math.sqrt(3 * max(self.p[0, 0], 0.0)), 0.01), 0.5)
        low, high = min(max(soc - half, 0.0), 0.99), max(min(soc + half, 1.0), 0.01)
        slope = (self.at(m.ocv_v, high) - self.at(m.ocv_v, low)) / (high - low)
        misses = [self.at(m.ocv_v, s) - ocv - slope * (s - soc) for s in (low, high)]
        fast = abs(r0 * i * scale) + abs(rct * j) + abs(slow[0] * y[0])
        r = self.one(m.sample_sd_v) ** 2 * max(40 / max(self.waited_s, 1e-3), 1.0)
        r += sum(miss**2 for miss in misses) / 6 + (0.1 * fast) ** 2 + (r0 * jump) ** 2
        r += ((r0 + rct + slow.sum()) * unknown) ** 2
        sd_w = self.one(m.relaxation_sd_v)
        sd_e = math.sqrt(self.one(m.model_sd_v) ** 2 + (u.axis_sd * slope) ** 2 + (0.03 * eta) ** 2)
        h = np.array([slope, sd_w, sd_e, -eta, gap, -x[3] * slow[-1], 0, 0])
        nu = voltage - (ocv + sd_w * x[1] + sd_e * x[2] - x[3] * eta + gap * x[4])
        s = float(h @ self.p @ h) + r
        size = abs(nu) / math.sqrt(s)
        if size > 3:
            self.surprise_s += self.waited_s
            r += (size / 3 - 1) * s
            s *= size / 3
        else:
            self.surprise_s = max(self.surprise_s - 2 * self.waited_s, 0.0)
        if not self.alone:
            self.score -= 0.5 * (nu**2 / s + min(self.waited_s / 40, 1.0) * math.log(s))
        self.kalman(h, nu, r)
        if not 0 <= self.x[0] <= 1:
            self.x = self.x + self.p[:, 0] / self.p[0, 0] * (np.clip(self.x[0], 0, 1) - self.x[0])
        for state, lowest, highest in ((0, 0.0, 1.0), (3, 0.05, 20.0), (4, -1.0, 1.0)):
            self.x[state] = min(max(self.x[state], lowest), highest)

    def kalman(self, h: Array, nu: float, r: float) -> None:
        gain = self.p @ h / (h @ self.p @ h + r)
        self.x = self.x + gain * nu
        keep = np.eye(N) - np.outer(gain, h)
        self.p = keep @ self.p @ keep.T + r * np.outer(gain, gain)

    def judge(self) -> None:
        square = 0.5 * sum(self.x[k] ** 2 + self.p[k, k] for k in (1, 2))
        self.misfit += self.waited_s / (self.waited_s + 3600) * (square - self.misfit)
        self.misfit = min(self.misfit, 100.0)


def random_cells(model: CellModel, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """States and covariances as a filter may have them."""
    sd = np.array([0.1, 1.0, 1.0, 0.2, 0.5, 0.2 * model.capacity_ah, 0.01, 0.02])
    x = rng.normal(0, 1, (n, N)) * sd
    x[:, 0], x[:, 3], x[:, 4] = rng.uniform(0, 1, n), rng.uniform(0.5, 2, n), rng.uniform(-1, 1, n)
    root = rng.normal(0, 1, (n, N, N)) * sd[:, None] / math.sqrt(N)
    p = root @ root.transpose(0, 2, 1) * 10 ** rng.uniform(-3, 0, (n, 1, 1))
    return x, np.ascontiguousarray(p)


class Pack:
    """The kernel's arrays: n cells in two strings, one filter each."""

    def __init__(self, model: CellModel, n: int, rng: np.random.Generator) -> None:
        self.kernel = Kernel(model, nodes_of(model))
        self.string = np.arange(n) % 2
        self.cell = np.repeat(
            np.arange(n), [1 + (c % 3 == 0) for c in range(n)]
        )  # every third has two filters
        filters = len(self.cell)
        self.x, self.p = random_cells(model, filters, rng)
        self.capacity_ah, self.temp = model.capacity_ah * rng.uniform(0.7, 1.1, n), rng.uniform(-45, 65, n)
        self.relaxation, self.window = np.zeros((n, 4)), np.zeros((n, COLUMNS))
        self.window[:, TURN] = 1.0
        self.soc, self.sd = np.full(n, 0.5), np.zeros(n)
        self.waited, self.surprise, self.score = (np.zeros(filters) for _ in range(3))
        self.misfit, self.clock = np.ones(filters), np.zeros(2)
        self.kernel.bind(
            self.clock, self.string, self.capacity_ah, self.temp, self.relaxation, self.window, self.soc, self.sd, self.x,
            self.p, self.cell, self.waited, self.surprise, self.misfit, self.score,
        )  # fmt: skip

    def advance(
        self,
        dt: Array,
        current: Array,
        voltage: Array,
        temp: Array,
        balancing: Array | None,
        opened: npt.NDArray[np.uint8] | None,
    ) -> int:
        return self.kernel.advance(dt, current, voltage, temp, balancing, opened, None, None, 1e9)


@pytest.mark.parametrize("name", cell_names())
def test_equal_to_the_textbook(name: str) -> None:
    """Every state and covariance of 24 cells over 400 random rows, from -40 to 60 degC and over all soc: gaps, rows
    without current, open contactors, balancing, cells that come in turn, garbage."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    model, n, rows = load_cell(name), 24, 400
    pack = Pack(model, n, rng)
    twins = [
        Twin(model, x, p, pack.capacity_ah[c], pack.temp[c], alone=c % 3 != 0)
        for x, p, c in zip(pack.x, pack.p, pack.cell, strict=True)
    ]
    closed = since = 0.0
    for _ in range(rows):
        dt = float(rng.choice([0.0, 0.1, 1.0, 4.0, 10 ** rng.uniform(-3, 4)], p=[0.05, 0.3, 0.4, 0.2, 0.05]))
        current = np.where(
            rng.random(2) < 0.1, rng.choice([np.nan, np.inf, 1e300]), rng.normal(0, model.capacity_ah, 2)
        )
        opened = (rng.random(2) < 0.15).astype(np.uint8)
        voltage = model.at(model.ocv_v, pack.soc, pack.temp) + rng.normal(0, 0.05, n)
        odd = rng.random(n)
        voltage = np.select([odd < 0.3, odd < 0.31, odd < 0.32], [np.nan, 0.1, 65.5], voltage)
        temp = np.where(
            rng.random(n) < 0.02, rng.choice([np.nan, np.inf, 1e9]), pack.temp + rng.normal(0, 0.3, n)
        )
        balancing = np.where(rng.random(n) < 0.1, rng.choice([np.nan, 0.1]), 0.0)
        pack.advance(*(np.array([a]) for a in (dt, current, voltage, temp, balancing, opened)))  # type: ignore[arg-type]
        since += dt
        for r, twin in enumerate(twins):
            c = pack.cell[r]
            twin.row(dt, current[c % 2], voltage[c], temp[c], balancing[c], bool(opened[c % 2]))
            if since >= 5.0:
                twin.close()
                np.testing.assert_allclose(pack.x[r], twin.x, rtol=1e-9, atol=1e-9)
                np.testing.assert_allclose(pack.p[r], twin.p, rtol=1e-9, atol=1e-9 * twin.p.diagonal().max())
                np.testing.assert_allclose(
                    [pack.waited[r], pack.surprise[r], pack.misfit[r], pack.score[r]],
                    [twin.waited_s, twin.surprise_s, twin.misfit, twin.score],
                    rtol=1e-9,
                    atol=1e-9,
                )
                if twin.alone:
                    known = [twin.x[0], math.sqrt(twin.p[0, 0])]
                    np.testing.assert_allclose([pack.soc[c], pack.sd[c]], known, rtol=1e-9, atol=1e-9)
        if since >= 5.0:
            closed, since = closed + 1, 0.0
    assert 50 < closed < rows, "windows of one row and of many must have been tried"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300])
def test_a_bad_voltage_changes_no_state_but_by_prediction(bad: float) -> None:
    """As if no sample had come."""
    model = load_cell("lg_hg2")

    def after(voltage: float) -> tuple[Array, Array]:
        pack = Pack(model, 1, np.random.default_rng(SEED))
        one = np.full((1, 1), -12.0)
        pack.advance(np.array([5.0]), np.full((1, 1), 3.0), np.full((1, 1), voltage), one, None, None)
        return pack.x, pack.p

    for with_bad, without in zip(after(bad), after(math.nan), strict=True):
        np.testing.assert_array_equal(with_bad, without)
    assert not np.array_equal(after(3.6)[0], after(math.nan)[0]), "a good one must change it"


def test_a_mixture_has_its_mean_and_sd() -> None:
    """Of two cells, one with three guesses."""
    rng = np.random.default_rng(SEED)
    model = load_cell("lg_hg2")
    pack = Pack(model, 3, rng)  # four filters
    pack.cell[:], pack.score[:] = [0, 0, 0, 1], [-700.0, -701.0, -699.5, 3.0]
    pack.kernel.mix()
    x, p, score, soc, sd = pack.x, pack.p, pack.score, pack.soc[:2], pack.sd[:2]
    weight = np.exp(score[:3] + 700)
    weight /= weight.sum()
    mean = weight @ x[:3, 0]
    np.testing.assert_allclose(soc, [mean, x[3, 0]], rtol=1e-12)
    variance = weight @ (p[:3, 0, 0] + (x[:3, 0] - mean) ** 2)
    np.testing.assert_allclose(sd**2, [variance, p[3, 0, 0]], rtol=1e-12)


def garbage(steps: int, n: int) -> PackEstimator:
    """An estimator after so many steps of what sensors may say at their worst; looked at on the way."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
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
            check(estimator)
    return estimator


def check(estimator: PackEstimator) -> None:
    """Symmetric, positive and finite."""
    p, x = estimator._p, estimator._x
    assert np.isfinite(p).all()
    assert np.isfinite(x).all()
    scale = np.sqrt(np.einsum("nii->ni", p))
    assert (scale > 0).all()
    correlation = p / scale[:, :, None] / scale[:, None, :]
    np.testing.assert_allclose(correlation, correlation.transpose(0, 2, 1), atol=1e-12)
    assert np.linalg.eigvalsh(correlation).min() > -1e-9
    assert ((estimator.soc >= 0) & (estimator.soc <= 1)).all()
    assert np.isfinite(estimator.soc_sd).all()


def test_covariance_over_100_000_steps_of_garbage() -> None:
    """Symmetric, positive and finite, whatever the sensors say, at steps from 1 ms to 10 days."""
    garbage(100_000, 20)


def test_covariance_over_ten_million_windows() -> None:
    """Every step a window with a sample, dt from 5 s to 10 days, currents of both signs: 10^7 corrections."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    model, n, rows = load_cell("lg_hg2"), 100, 5000
    estimator = PackEstimator(model, np.zeros(n, int), initial_soc=0.5)
    for _ in range(20):
        dt = np.where(rng.random(rows) < 0.99, 5.0, 10 ** rng.uniform(0.7, math.log10(864_000), rows))
        current, voltage = rng.normal(0, 1.0, (rows, 1)), rng.normal(3.7, 0.005, (rows, n))
        estimator.run(np.cumsum(dt), current, voltage, np.full((rows, n), rng.uniform(-40, 60)))
        check(estimator)
