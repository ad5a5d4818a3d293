"""The pack's estimator: memory, strings, cells that come at different times, wrong beginnings."""

import math
import struct
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from edge.battery._ekf import COLUMNS
from edge.battery.estimator import GUESSES, HISTORIES, MAGIC, STATES, PackEstimator
from edge.battery.model import CellModel, load_cell
from edge.errors import CellModelError

SEED = 5
Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def model() -> CellModel:
    return load_cell("lg_hg2")


class Cell:
    """A cell that is the model exactly, in plain steps; the estimator must find what it hides."""

    def __init__(self, model: CellModel, soc: float, temp: float = 25.0) -> None:
        self.m, self.soc, self.temp, self.y = model, soc, temp, np.zeros(len(model.tau_s))

    def step(self, dt: float, i: float) -> float:
        m, t = self.m, self.temp
        knee = float(np.interp(t, m.temp_degc, m.knee_a))
        j = knee * math.asinh(i / knee)
        keep = np.exp(-dt / m.tau_s)
        self.y = keep * self.y + (1 - keep) * j
        self.soc -= i * dt / 3600 / m.capacity_ah
        at = lambda table: float(m.at(table, self.soc, t))  # noqa: E731
        slow = sum(at(table) * y for table, y in zip(m.relaxation_ohm, self.y, strict=True))
        return at(m.ocv_v) - at(m.r0_ohm) * i - at(m.rct_ohm) * j - slow


def load_a(k: int) -> float:
    """A drive: some discharge, some braking, mean 0.6 A."""
    return 0.6 + 2.0 * math.sin(k / 7) + 1.0 * math.sin(k / 31)


def driven(estimator: PackEstimator, cells: list[Cell], steps: int, first: int = 0) -> None:
    for k in range(first, first + steps):
        voltage = [cell.step(1.0, load_a(k)) for cell in cells]
        estimator.step(1.0, np.full(len(estimator._cells_of), load_a(k)), voltage, [c.temp for c in cells])


@pytest.mark.parametrize("steps", [0, 1, 5, 400])
@pytest.mark.parametrize("initial_soc", [None, 0.6])
def test_load_goes_on_exactly(model: CellModel, steps: int, initial_soc: float | None) -> None:
    """Before the first voltage, with many guesses, and with one: to the last bit."""
    first = PackEstimator(model, [0, 0, 1], initial_soc=initial_soc)
    cells = [Cell(model, s) for s in (0.6, 0.61, 0.58)]
    driven(first, cells, steps)
    second = PackEstimator(model, [0, 0, 1])
    memory = first.dump()
    second.load(memory)
    assert second.dump() == memory
    rng = np.random.default_rng(SEED)
    for _ in range(60):
        current, voltage = rng.normal(1, 1, 2), rng.normal(3.7, 0.05, 3)
        for estimator in (first, second):
            estimator.step(0.5, current, voltage, [20.0, 21.0, math.nan])
    assert first.dump() == second.dump()
    assert first.dump() != memory


def test_same_steps_same_bits(model: CellModel) -> None:
    memories = []
    for _ in range(2):
        estimator = PackEstimator(model, [0, 1])
        driven(estimator, [Cell(model, 0.5), Cell(model, 0.7)], 50)
        memories.append(estimator.dump())
    assert memories[0] == memories[1]


def sealed(memory: bytes, body: bytes) -> bytes:
    """`body` with a right checksum: damage that the CRC cannot see."""
    return memory[:8] + struct.pack("<I", zlib.crc32(body)) + body


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda m: b"", "not one of ours"),
    "short": (lambda m: m[:20], "not one of ours"),
    "other magic": (lambda m: b"AyazEKF2" + m[8:], "not one of ours"),
    "truncated": (lambda m: m[:-8], "damaged"),
    "longer": (lambda m: m + bytes(8), "damaged"),
    "a bit": (lambda m: m[:200] + bytes([m[200] ^ 1]) + m[201:], "damaged"),
    "truncated, sealed": (lambda m: sealed(m, m[12:-8]), "damaged"),
    "odd length, sealed": (lambda m: sealed(m, m[12:-3]), "damaged"),
    "NaN, sealed": (lambda m: sealed(m, m[12:-8] + struct.pack("<d", math.nan)), "damaged"),
    "no filters, sealed": (lambda m: sealed(m, m[12:32] + struct.pack("<I", 0) + m[36 : 36 + 64]), "damaged"),
    "huge count, sealed": (lambda m: sealed(m, m[12:32] + b"\xff" * 4 + m[36:]), "damaged"),
    "a filter of no cell, sealed": (lambda m: sealed(m, reassigned(m, 7.0)), "damaged"),
    "a cell without filter, sealed": (lambda m: sealed(m, reassigned(m, 0.0)), "damaged"),
    "other cell, sealed": (lambda m: sealed(m, b"0" * 16 + m[28:]), "another cell model"),
    "other count, sealed": (lambda m: sealed(m, m[12:28] + struct.pack("<I", 9) + m[32:]), "of 9 cells"),
}


HEAD, WHOLE, OF_CELL, OF_FILTER = 36, 2, 4 + 4 + COLUMNS + 2, STATES + STATES**2 + 6


def reassigned(memory: bytes, cell: float) -> bytes:
    """The body with the last filter's cell (after the arrays of two cells, and two filters' x and p) changed."""
    at = HEAD + 8 * (WHOLE + 2 * OF_CELL + 2 * (STATES + STATES**2)) + 8
    assert struct.unpack_from("<d", memory, at) == (1.0,)
    return memory[12:at] + struct.pack("<d", cell) + memory[at + 8 :]


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_memory(model: CellModel, kind: str) -> None:
    """One typed error, and the estimator is what it was."""
    estimator = PackEstimator(model, [0, 0], initial_soc=0.5)
    driven(estimator, [Cell(model, 0.5), Cell(model, 0.5)], 2000)
    memory = estimator.dump()
    assert len(memory) == HEAD + 8 * (WHOLE + 2 * OF_CELL + 2 * OF_FILTER), "one filter a cell"
    spoil, says = DAMAGE[kind]
    with pytest.raises(CellModelError, match=says):
        estimator.load(spoil(memory))
    assert estimator.dump() == memory
    assert memory.startswith(MAGIC)


def test_memory_of_another_battery(model: CellModel) -> None:
    memory = PackEstimator(model, [0, 0]).dump()
    with pytest.raises(CellModelError, match="of 2 cells, and this battery has 3"):
        PackEstimator(model, [0, 0, 0]).load(memory)
    with pytest.raises(CellModelError, match="another cell model than a123_26650"):
        PackEstimator(load_cell("a123_26650"), [0, 0]).load(memory)


def test_every_cut_and_every_byte(model: CellModel) -> None:
    """No truncation and no damaged byte gets in."""
    estimator = PackEstimator(model, [0], initial_soc=0.5)
    memory = estimator.dump()
    for k in range(len(memory)):
        with pytest.raises(CellModelError):
            estimator.load(memory[:k])
        with pytest.raises(CellModelError):
            estimator.load(memory[:k] + bytes([memory[k] ^ 0x40]) + memory[k + 1 :])


def test_widen(model: CellModel) -> None:
    """sd adds in squares, soc stays, and the next voltages count for more."""
    known, widened = (PackEstimator(model, [0], initial_soc=0.5, initial_soc_sd=0.01) for _ in range(2))
    cells = [Cell(model, 0.5), Cell(model, 0.5)]
    for estimator, cell in zip((known, widened), cells, strict=True):
        driven(estimator, [cell], 300)
    soc, sd = widened.soc, widened.soc_sd
    widened.widen(0.05)
    np.testing.assert_array_equal(widened.soc, soc)
    np.testing.assert_allclose(widened.soc_sd, np.hypot(sd, 0.05), rtol=1e-12)
    for estimator, cell in zip((known, widened), cells, strict=True):
        cell.soc += 0.05  # somebody has charged it
        driven(estimator, [cell], 300, 300)
    error = [abs(e.soc[0] - c.soc) for e, c in zip((known, widened), cells, strict=True)]
    assert error[1] < max(0.8 * error[0], 0.01)


@pytest.mark.parametrize("temp", [-20.0, 0.0, 25.0])
@pytest.mark.parametrize("wrong", [0.3, -0.4])
def test_a_wrong_initial_soc_is_overruled(model: CellModel, temp: float, wrong: float) -> None:
    """30 and 40 % wrong in the middle of a drive: within 5 % after ten minutes, and the band admits it."""
    cell = Cell(model, 0.65, temp)
    for k in range(1800):
        cell.step(1.0, load_a(k))
    estimator = PackEstimator(model, [0], initial_soc=cell.soc + wrong)
    driven(estimator, [cell], 600, 1800)
    error, sd = abs(estimator.soc[0] - cell.soc), estimator.soc_sd[0]
    assert error < (0.15 if temp < 0 else 0.05), "in the cold it takes longer, and knows it"
    assert error < 2 * sd
    driven(estimator, [cell], 900, 2400)
    assert abs(estimator.soc[0] - cell.soc) < 0.05


@pytest.mark.parametrize(
    ("temp", "soc"), [(t, s) for t in (-20.0, 25.0) for s in (0.35, 0.6, 0.85, 1.0)] + [(25.0, 0.1)]
)
def test_an_unknown_soc_is_found(model: CellModel, temp: float, soc: float) -> None:
    cell = Cell(model, soc, temp)
    estimator = PackEstimator(model, [0])
    assert estimator.soc_sd[0] == pytest.approx(1 / math.sqrt(12)), "as unknown as it can be"
    driven(estimator, [cell], 600)
    assert abs(estimator.soc[0] - cell.soc) < 2 * estimator.soc_sd[0]
    assert estimator.soc_sd[0] < 0.08


def test_in_the_flat_of_lfp_it_says_that_it_does_not_know() -> None:
    """One voltage at 60 % could be at 50 or 70: the band holds the truth and is wide."""
    lfp = load_cell("a123_26650")
    cell = Cell(lfp, 0.6)
    estimator = PackEstimator(lfp, [0])
    driven(estimator, [cell], 60)
    assert abs(estimator.soc[0] - cell.soc) < 2 * estimator.soc_sd[0]
    assert estimator.soc_sd[0] > 0.05


def test_a_cell_that_was_lost_is_looked_for_everywhere(model: CellModel) -> None:
    """The battery was swapped under us: no widening, 45 % off, and it comes back."""
    cell = Cell(model, 0.9)
    estimator = PackEstimator(model, [0], initial_soc=0.9, initial_soc_sd=0.01)
    driven(estimator, [cell], 600)
    cell.soc = 0.45
    driven(estimator, [cell], 900, 600)
    assert abs(estimator.soc[0] - cell.soc) < 0.04


def test_guesses_end(model: CellModel) -> None:
    """One filter a cell once the soc is known: that is what a bus can afford."""
    cells = [Cell(model, s) for s in (0.3, 0.5, 0.8)]
    estimator = PackEstimator(model, [0, 0, 0])
    driven(estimator, cells, 1)
    assert len(estimator._x) == 3 * GUESSES * len(HISTORIES)
    driven(estimator, cells, 3000, 1)
    assert len(estimator._x) == 3


def test_cells_that_come_at_different_times(model: CellModel) -> None:
    """Multiplexed: a third of the cells each second. They end where cells do that come at once."""
    socs = (0.5, 0.55, 0.6)
    at_once, in_turn = (PackEstimator(model, [0, 0, 0], initial_soc=0.6) for _ in range(2))
    cells = [Cell(model, s) for s in socs]
    for k in range(1200):
        voltage = np.array([c.step(1.0, load_a(k)) for c in cells])
        at_once.step(1.0, [load_a(k)], voltage, [25.0] * 3)
        in_turn.step(1.0, [load_a(k)], np.where(np.arange(3) == k % 3, voltage, math.nan), [25.0] * 3)
    truth = np.array([c.soc for c in cells])
    np.testing.assert_allclose(in_turn.soc, truth, atol=0.03)
    np.testing.assert_allclose(in_turn.soc, at_once.soc, atol=0.02)
    assert (in_turn.soc_sd < 1.5 * at_once.soc_sd).all()


def test_a_cell_without_voltages_only_counts(model: CellModel) -> None:
    cells = [Cell(model, 0.6), Cell(model, 0.6)]
    estimator = PackEstimator(model, [0, 0], initial_soc=0.6)
    for k in range(600):
        voltage = [c.step(1.0, load_a(k)) for c in cells]
        if k > 60:
            voltage[1] = math.nan
        estimator.step(1.0, [load_a(k)], voltage, [25.0, 25.0])
    np.testing.assert_allclose(estimator.soc, cells[0].soc, atol=0.02)
    assert estimator.soc_sd[1] > estimator.soc_sd[0]


def test_one_current_for_each_string_and_its_parallel_cells(model: CellModel) -> None:
    """Currents of 4 A and none, on two cells in parallel, for six minutes: 2 A each is 0.2 Ah."""
    estimator = PackEstimator(model, [1, 0, 1], initial_soc=0.5, parallel=2, capacity_ah=2.0)
    nan = [math.nan] * 3
    for voltage in ([3.7] * 3, nan):
        estimator.step(10.0, [0.0, 0.0], voltage, nan)
    before = estimator.soc
    for _ in range(360):
        estimator.step(1.0, [4.0, 0.0], nan, nan)
    np.testing.assert_allclose(before - estimator.soc, [0.0, 0.1, 0.0], atol=2e-3)
    np.testing.assert_array_equal(estimator.capacity_ah, 2.0)


def test_unknown_inputs_widen_the_band(model: CellModel) -> None:
    known, blind = (PackEstimator(model, [0], initial_soc=0.5) for _ in range(2))
    for k in range(700):
        for estimator in (known, blind):
            lost = estimator is blind and k > 600
            v = math.nan if lost else float(model.at(model.ocv_v, 0.5, 25.0))
            estimator.step(1.0, [math.nan if lost else 0.0], [v], [25.0])
    assert blind.soc_sd[0] > 1.5 * known.soc_sd[0]
    assert np.isfinite(blind.soc[0])


def test_what_no_cell_can_have_is_as_unknown_as_nan(model: CellModel) -> None:
    """Current, voltage and temperature, from the first step on."""
    memories = []
    for odd in (math.nan, math.inf, -math.inf, 1e300, -1e300, 65535.0):
        estimator = PackEstimator(model, [0, 0])
        for k in range(90):
            bad = odd if k < 10 or k > 60 else 1.0
            voltage = 3.7 if k < 50 else odd
            estimator.step(1.0, [bad], [voltage, 3.6], [bad, 25.0])
        memories.append(estimator.dump())
    assert len(set(memories)) == 1
    soc = np.frombuffer(memories[0], dtype="<f8", offset=36)
    assert np.isfinite(soc).all()


def test_pack_is_what_its_weakest_cells_allow(model: CellModel) -> None:
    """0.4 left in one cell, room for 0.3 in another: 4/7; two strings add up."""
    estimator = PackEstimator(model, [0, 0, 1, 1], initial_soc=0.5)
    estimator._soc[:] = [0.4, 0.7, 0.5, 0.5]
    pack = estimator.pack()
    np.testing.assert_allclose(pack.string_soc, [4 / 7, 0.5])
    assert pack.soc == pytest.approx((0.4 + 0.5) / (0.7 + 1.0))
    assert pack.weakest == 2
    assert pack.soc_sd >= estimator.soc_sd.max()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"string_of_cell": []}, "number the strings"),
        ({"string_of_cell": [0, 2]}, "number the strings"),
        ({"string_of_cell": [-1, 0]}, "number the strings"),
        ({"string_of_cell": [0], "parallel": 0}, "parallel"),
        ({"string_of_cell": [0], "initial_soc": 1.2}, "initial_soc"),
        ({"string_of_cell": [0], "initial_soc": math.nan}, "initial_soc"),
        ({"string_of_cell": [0], "capacity_ah": math.nan}, "capacity_ah"),
        ({"string_of_cell": [0], "capacity_ah": 0.0}, "capacity_ah"),
        ({"string_of_cell": [0], "capacity_ah": -2.0}, "capacity_ah"),
        ({"string_of_cell": [0], "initial_soc": 0.5, "initial_soc_sd": math.nan}, "initial_soc_sd"),
        ({"string_of_cell": [0], "initial_soc": 0.5, "initial_soc_sd": -0.1}, "initial_soc_sd"),
    ],
)
def test_wrong_packs(model: CellModel, arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PackEstimator(model, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("dt", [-1.0, math.nan, math.inf, 1e300])
def test_wrong_time(model: CellModel, dt: float) -> None:
    estimator = PackEstimator(model, [0])
    before = estimator.dump()
    with pytest.raises(ValueError, match="dt_s"):
        estimator.step(dt, [0.0], [3.7], [25.0])
    with pytest.raises(ValueError, match="cell_voltage_v"):
        estimator.step(1.0, [0.0], [3.7, 3.7], [25.0])
    assert estimator.dump() == before
