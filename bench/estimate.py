"""The estimator, step by step, beside three Kalman filters that others would take (bench/peers.py).

A pack of 432 cells of the LG type is simulated for all of them with the same simple cell (OCV and resistances of the
tables, two relaxations) and some noise. Ours begins with a soc that is known and is timed once one filter for each
cell is left, as on a road; all that runs in a step is in it, also what happens only now and then, for it is the
mean of many steps. CPU time, ours and the peer's by turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from bench.measure import SEED, Result, version
from bench.peers import (
    Drive,
    FilterpyFilter,
    NumpyFilter,
    Tables,
    battery_se,
    identify_battery_se,
    run_battery_se,
    tables_of,
)
from edge.battery.estimator import PackEstimator
from edge.battery.model import CellModel, load_cell

CELL = "lg_hg2"
CELLS, FEW, MANY, DAY_CELLS = 432, 96, 2000, 352
SOC, TEMP_DEGC = 0.7, 5.0
NOISE_V = 0.002
SETTLE_S = 7200.0  # at the most
TURNS = 5
STEPS = 1500  # in each turn
PEER_STEPS = 1500  # of one cell
HOUR_ROWS = 36_000
DAY_BUDGET_S = 30.0


class Pack:
    """Rows of a pack whose charge stays the same from block to block, so that they can be fed again and again."""

    def __init__(self, model: CellModel, cells: int, dt_s: float, rows: int) -> None:
        rng = np.random.default_rng(SEED)
        tables = tables_of(model)
        self.dt_s = dt_s
        self.temp = np.broadcast_to(TEMP_DEGC + rng.uniform(-3, 3, cells), (rows, cells)).copy()
        drive = np.repeat(rng.normal(0, 0.7, rows // 10 + 1), 10)[:rows] * tables.capacity_ah
        self.current = drive - drive.mean()
        soc = SOC - np.cumsum(self.current) * dt_s / (3600 * tables.capacity_ah)
        soc_of = soc[:, None] + rng.uniform(-0.01, 0.01, cells)
        self.voltage = model.at(tables.ocv_v, soc_of, self.temp) + rng.normal(0, NOISE_V, (rows, cells))
        ohm = [model.at(r, soc_of, self.temp) for r in tables.r_ohm]
        self.voltage -= ohm[0] * self.current[:, None]
        for r, tau in zip(ohm[1:], tables.tau_s, strict=True):
            keep, y = np.exp(-dt_s / tau), 0.0
            followed = np.empty(rows)
            for _ in range(2):  # the second time it begins as the block ends
                for k, i in enumerate(self.current):
                    y = keep * y + (1 - keep) * i
                    followed[k] = y
            self.voltage -= r * followed[:, None]


def settled(model: CellModel, pack: Pack) -> PackEstimator:
    """After so long that one filter is left for each cell."""
    cells = pack.voltage.shape[1]
    estimator = PackEstimator(model, np.zeros(cells, int), initial_soc=SOC)
    for _ in range(round(SETTLE_S / (pack.dt_s * len(pack.current)))):
        replay(estimator, pack)
        if len(estimator._cell) == cells:
            return estimator
    raise RuntimeError("guesses are left: it would be another measurement")


def replay(estimator: PackEstimator, pack: Pack) -> None:
    times = np.arange(1, len(pack.current) + 1) * pack.dt_s
    estimator.run(np.append(0.0, times)[1:], pack.current[:, None], pack.voltage, pack.temp)


def cpu(what: Callable[[], object]) -> float:
    begin = time.process_time()
    what()
    return time.process_time() - begin


def steps(estimator: PackEstimator, pack: Pack) -> Callable[[], None]:
    """All rows, one call each, as the agent makes them."""
    rows = [np.array([i]) for i in pack.current]

    def run() -> None:
        for current, voltage, temp in zip(rows, pack.voltage, pack.temp, strict=True):
            estimator.step(pack.dt_s, current, voltage, temp)

    return run


def numpy_steps(peer: NumpyFilter, pack: Pack) -> Callable[[], None]:
    cells = pack.voltage.shape[1]
    rows = [np.full(cells, i) for i in pack.current]

    def run() -> None:
        for current, voltage, temp in zip(rows, pack.voltage, pack.temp, strict=True):
            peer.step(pack.dt_s, current, voltage, temp)

    return run


def per_step(model: CellModel, dt_s: float) -> tuple[float, float]:
    """CPU seconds of a mean step of the whole pack: ours, numpy's."""
    pack = Pack(model, CELLS, dt_s, STEPS)
    ours = steps(settled(model, pack), pack)
    theirs = numpy_steps(NumpyFilter(tables_of(model), CELLS, SOC, 0.02), pack)
    theirs()
    mine, other = zip(*((cpu(ours), cpu(theirs)) for _ in range(TURNS)), strict=True)
    return sum(mine) / TURNS / STEPS, sum(other) / TURNS / STEPS


def filterpy_seconds(tables: Tables, pack: Pack) -> float:
    """CPU seconds of a step of one cell."""
    peer = FilterpyFilter(tables, SOC, 0.02)
    rows = list(
        zip(pack.current.tolist(), pack.voltage[:, 0].tolist(), pack.temp[:, 0].tolist(), strict=True)
    )

    def run() -> None:
        for current, voltage, temp in rows[:PEER_STEPS]:
            peer.step(pack.dt_s, current, voltage, temp)

    return min(cpu(run) for _ in range(TURNS)) / PEER_STEPS


def battery_se_seconds(tables: Tables, pack: Pack) -> float:
    """CPU seconds of a step of one cell, with a model identified on these very rows."""
    rows = Drive(SOC, pack.current, pack.voltage[:, 0], pack.temp[:, 0])
    ekf = battery_se(identify_battery_se(tables, [rows], pack.dt_s), SOC, 0.02)
    return cpu(lambda: run_battery_se(ekf, rows)) / (len(pack.current) - 1)


def growth(model: CellModel) -> tuple[float, float]:
    """CPU seconds of a step and cell, with few and with many cells."""
    out = []
    for cells in (FEW, MANY):
        pack = Pack(model, cells, 0.1, STEPS)
        run = steps(settled(model, pack), pack)
        out.append(min(cpu(run) for _ in range(3)) / STEPS / cells)
    return out[0], out[1]


def day_seconds(model: CellModel) -> float:
    """CPU seconds of a day's arrays: an hour from the start, times 24."""
    pack = Pack(model, DAY_CELLS, 0.1, HOUR_ROWS // 10)
    estimator = PackEstimator(model, np.zeros(DAY_CELLS, int), initial_soc=SOC)
    return 24 * cpu(lambda: [replay(estimator, pack) for _ in range(10)])


def benchmarks() -> Iterator[Result]:
    """The issue's table of speeds."""
    model = load_cell(CELL)
    tables = tables_of(model)
    numpy_name = f"{version('numpy')}, vectorised EKF of three states"
    mine = {}
    for rate, dt_s in (("10 Hz", 0.1), ("1 Hz", 1.0)):
        mine[rate], other = per_step(model, dt_s)
        per_cell = mine[rate] / CELLS * 1e9
        name = f"step of {CELLS} cells at {rate}, ns a cell"
        peer = f"{numpy_name}, {other / CELLS * 1e9:.0f} ns"
        yield Result(name, per_cell, "ns", peer, other / mine[rate], 5, 12)
    each = mine["10 Hz"] / CELLS
    pack = Pack(model, 1, 1.0, PEER_STEPS)
    for name, seconds, must, aim in (
        ("filterpy", filterpy_seconds(tables, pack), 1000, 3000),
        ("PyBatterySE", battery_se_seconds(tables, pack), 20_000, 70_000),
    ):
        peer = f"{version(name)}, EKF, {seconds * 1e6:.0f} us"
        yield Result(
            f"step of a cell at 10 Hz, beside {name}", each * 1e9, "ns", peer, seconds / each, must, aim
        )
    few, many = growth(model)
    name = f"a cell of {MANY}, over a cell of {FEW}"
    yield Result(name, many / few, "", "linear growth", few / many, 1)
    day = day_seconds(model)
    name = f"a day of {DAY_CELLS} cells at 10 Hz, CPU s"
    yield Result(name, day, "s", f"a budget of {DAY_BUDGET_S:g} s", DAY_BUDGET_S / day, 1, 3)
