"""State of charge of every cell of a pack, with its uncertainty.

Arrays go in and out; nothing here reads a clock or a file. The same steps give the same bits on the same
build, and `load(dump())` goes on exactly where it stopped.

A cell whose soc is known has one Kalman filter (`_ekf.pyx`). One whose soc is not known has GUESSES of
them, spread over all states of charge, each with a weight: how well it has foretold the voltages so far.
Their mixture is the estimate: it stays wide where the OCV is flat, as it must, and may have two humps. The
unlikely ones are dropped, those that have become the same are joined, and one is left (Gaussian sum filter:
D. Alspach, H. Sorenson, IEEE Trans. Automatic Control 17, 1972). Every cell begins so; a given initial soc
is one more guess, with most of the weight. And a cell does it again when its filter has lost it.

Memory (`dump`): MAGIC, uint32 CRC-32 of all that follows, 16 characters of the cell model's fingerprint,
uint32 n, uint32 number of filters r, then little-endian float64: the arrays of `_CELL` (n each), then those
of `_FILTER` (r each).
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.battery._ekf import Kernel
from edge.battery.model import CellModel, FloatArray
from edge.errors import CellModelError

IntArray = npt.NDArray[np.int64]

STATES = 7
SOC, V1, V2, H, E, K, B = range(STATES)
GUESSES = 16
GUESS_SD = 0.5 / GUESSES
GIVEN_SD = 0.05  # of an initial soc that came without one
UNKNOWN_SD = 1 / math.sqrt(12)  # of a soc that may be anything from 0 to 1
DOUBT = 0.01  # how probable it is that a given soc is plain wrong
LOST_S = 30.0  # samples beyond the gate for so long: the filter has lost the cell
TIDY_S = 10.0
UNLIKELY = 1e-4
SAME_SD = 1.5  # two guesses are one when their means are closer than this, in units of the wider sd
REST_C = 0.15  # overpotentials before the first sample: as after some minutes at this rate, either way
DEFAULT_TEMP_DEGC = 25.0
CURRENT_MAX_C = 200.0  # beyond these (and for voltages see the kernel) it is a broken sensor, not a cell
TEMP_MAX_DEGC = 150.0
MAX_STEP_S = 1e8  # three years: more is a broken clock
MAGIC = b"AyazEKF2"
_HEAD = struct.Struct("<8sI16sII")
_CELL: dict[str, tuple[int, ...]] = {"_capacity_ah": (), "_temp_degc": (), "_begun": (), "_tidied_s": ()}
_FILTER: dict[str, tuple[int, ...]] = {
    "_x": (STATES,),
    "_p": (STATES, STATES),
    "_cell": (),
    "_score": (),
    "_last_current_a": (),
    "_waited_s": (),
    "_surprise_s": (),
}


@dataclass(frozen=True)
class PackState:
    """The pack at one moment, by what its weakest cells allow.

    soc          charge that can be taken out before the first cell is empty, over what could be taken
                 out had we charged until the first cell was full; strings add up
    soc_sd       sd of `soc`: the cells' errors are taken as one, so many cells do not lessen it
    weakest      index of the cell that will be empty first
    string_soc   the same for each string, shape [strings]
    """

    soc: float
    soc_sd: float
    weakest: int
    string_soc: FloatArray


class PackEstimator:
    """The filters of n cells in S strings.

    Parameters
    ----------
    model
        What the cells are.
    string_of_cell
        [n] number of the string that each cell is in, 0 to S-1.
    initial_soc
        Of all cells; None: unknown.
    initial_soc_sd
        How well `initial_soc` is known (sd); None: 0.05.
    parallel
        Cells in parallel behind each voltage: the string's current divides by it.
    capacity_ah
        Of one cell, where it is known better than the model has it.

    Raises
    ------
    ValueError
        The arguments make no pack.
    """

    def __init__(
        self,
        model: CellModel,
        string_of_cell: npt.ArrayLike,
        initial_soc: float | None = None,
        initial_soc_sd: float | None = None,
        parallel: int = 1,
        capacity_ah: float | None = None,
    ) -> None:
        strings = np.array(string_of_cell, dtype=np.int64)
        if strings.ndim != 1 or not len(strings) or set(strings.tolist()) != set(range(strings.max() + 1)):
            raise ValueError("string_of_cell must number the strings 0, 1, ... with a cell in each")
        if parallel < 1 or (initial_soc is not None and not 0 <= initial_soc <= 1):
            raise ValueError("parallel must be 1 or more, and initial_soc 0 to 1")
        if initial_soc_sd is not None and not 0 < initial_soc_sd <= 1:
            raise ValueError(f"initial_soc_sd must be more than 0 and at most 1, not {initial_soc_sd}")
        if capacity_ah is not None and not 0 < capacity_ah < math.inf:
            raise ValueError(f"capacity_ah must be more than 0, not {capacity_ah}")
        n = len(strings)
        self.model = model
        self.parallel = parallel
        self._kernel = Kernel(model)
        self._string = strings
        self._cells_of = [np.flatnonzero(strings == s) for s in range(int(strings.max()) + 1)]
        self._capacity_ah = np.full(n, capacity_ah or model.capacity_ah)
        self._temp_degc = np.full(n, DEFAULT_TEMP_DEGC)
        # 0: waits for its first voltage; 0.5: the same, with a given soc; 1: runs
        self._begun = np.full(n, 0.0 if initial_soc is None else 0.5)
        self._tidied_s = np.zeros(n)  # since the guesses were last looked through
        self._x = np.zeros((n, STATES))
        self._x[:, SOC] = 0.5 if initial_soc is None else initial_soc
        self._x[:, K] = 1.0
        self._p = np.zeros((n, STATES, STATES))
        self._p[:, SOC, SOC] = (UNKNOWN_SD if initial_soc is None else initial_soc_sd or GIVEN_SD) ** 2
        self._cell = np.arange(n)  # of each filter; rising
        self._score = np.zeros(n)  # ln of the weight
        self._last_current_a = np.zeros(n)
        self._waited_s = np.zeros(n)
        self._surprise_s = np.zeros(n)

    # What is known

    @property
    def soc(self) -> FloatArray:
        """[n] state of charge of each cell, 0 to 1."""
        return self._moments()[0]

    @property
    def soc_sd(self) -> FloatArray:
        """[n] its standard deviation."""
        return np.sqrt(self._moments()[1])

    @property
    def capacity_ah(self) -> FloatArray:
        """[n] capacity that the filters count with."""
        return self._capacity_ah.copy()

    @property
    def r0_ohm(self) -> FloatArray:
        """[n] ohmic resistance as estimated, at the present soc and temperature."""
        ohm = self._x[:, K] * self.model.at(self.model.r0_ohm, self._x[:, SOC], self._temp_degc[self._cell])
        return self._sum(self._weights() * ohm)

    def pack(self) -> PackState:
        """The pack by its weakest cells."""
        soc, variance = self._moments()
        sd, q = np.sqrt(variance), self._capacity_ah
        remaining, room, weakest, spread = [], [], [], []
        for cells in self._cells_of:
            left, above = soc[cells] * q[cells], (1 - soc[cells]) * q[cells]
            lowest, highest = cells[int(np.argmin(left))], cells[int(np.argmin(above))]
            remaining.append(left.min())
            room.append(above.min())
            weakest.append(int(lowest))
            spread.append(max(sd[lowest] * q[lowest], sd[highest] * q[highest]))
        rest, capacity = np.array(remaining), np.array(remaining) + np.array(room)
        string_soc = rest / capacity
        return PackState(
            soc=float(rest.sum() / capacity.sum()),
            soc_sd=float(sum(spread) / capacity.sum()),
            weakest=weakest[int(np.argmin(string_soc))],
            string_soc=string_soc,
        )

    # What happens

    def step(
        self,
        dt_s: float,
        string_current_a: npt.ArrayLike,
        cell_voltage_v: npt.ArrayLike,
        temp_degc: npt.ArrayLike,
    ) -> None:
        """Go on by `dt_s` and take in what was measured at its end.

        Parameters
        ----------
        dt_s : seconds since the last step; at the first step it does not matter
        string_current_a : [S], positive = discharge; NaN = unknown: the uncertainty grows
        cell_voltage_v : [n]; NaN = no new sample
        temp_degc : [n]; NaN = as last known, at first 25 degC

        What no cell can have (an infinity, 1000 V, a current of 200 capacities per hour) counts as NaN.

        Raises
        ------
        ValueError
            An array has the wrong shape, or time runs backwards.
        """
        n, strings = len(self._string), len(self._cells_of)
        current = _shaped("string_current_a", string_current_a, strings)[self._string] / self.parallel
        voltage = _shaped("cell_voltage_v", cell_voltage_v, n)
        temp = _shaped("temp_degc", temp_degc, n)
        if not 0 <= dt_s <= MAX_STEP_S:
            raise ValueError(f"dt_s must be from 0 to {MAX_STEP_S:g}, not {dt_s}")
        current = np.where(np.abs(current) <= CURRENT_MAX_C * self._capacity_ah, current, np.nan)
        self._temp_degc = np.where(np.abs(temp) <= TEMP_MAX_DEGC, temp, self._temp_degc)
        if (self._begun < 1).any():
            voltage = self._begin(current, voltage)
        self._kernel.step(
            float(dt_s),
            self._x,
            self._p,
            self._cell,
            self._capacity_ah,
            current,
            self._last_current_a,
            voltage,
            self._temp_degc,
            self._waited_s,
            self._surprise_s,
            self._score,
        )
        if len(self._cell) > n:
            self._tidied_s += dt_s
            if self._tidied_s[0] >= TIDY_S:
                self._tidy()
        if (self._surprise_s > LOST_S).any():
            lost = np.minimum.reduceat(self._surprise_s, self._first()) > LOST_S
            cells = np.flatnonzero(lost)
            self._spread(cells, np.zeros(len(cells), dtype=bool))

    def widen(self, soc_sd: float) -> None:
        """The battery has been out of sight: its soc may have changed by that much (sd)."""
        self._p[:, SOC, SOC] += soc_sd**2

    # Memory

    def dump(self) -> bytes:
        """Everything that the filters know, for `load` on the same cell model and number of cells."""
        arrays = b"".join(getattr(self, k).astype("<f8").tobytes() for k in (*_CELL, *_FILTER))
        sizes = struct.pack("<II", len(self._string), len(self._cell))
        body = self.model.fingerprint.encode() + sizes + arrays
        return MAGIC + struct.pack("<I", zlib.crc32(body)) + body

    def load(self, memory: bytes) -> None:
        """Go on from a `dump`. Nothing changes where it is refused.

        Raises
        ------
        CellModelError
            The memory is damaged, or of another cell model or number of cells.
        """
        n = len(self._string)
        if len(memory) < _HEAD.size or memory[:8] != MAGIC:
            raise CellModelError("the estimator's memory is not one of ours")
        _, crc, fingerprint, cells, filters = _HEAD.unpack_from(memory)
        if zlib.crc32(memory[12:]) != crc:
            raise CellModelError("the estimator's memory is damaged")
        if fingerprint.decode("ascii", "replace") != self.model.fingerprint:
            raise CellModelError(f"the estimator's memory is of another cell model than {self.model.name}")
        if cells != n:
            raise CellModelError(f"the estimator's memory is of {cells} cells, and this battery has {n}")
        shapes = {k: (n, *s) for k, s in _CELL.items()} | {k: (filters, *s) for k, s in _FILTER.items()}
        counts = [math.prod(s) for s in shapes.values()]
        if len(memory) != _HEAD.size + 8 * sum(counts):
            raise CellModelError("the estimator's memory is damaged")
        values = np.frombuffer(memory, dtype="<f8", offset=_HEAD.size).astype(np.float64)
        parts = dict(zip(shapes, np.split(values, np.cumsum(counts)[:-1]), strict=True))
        cell = parts["_cell"]
        in_order = (
            filters >= n and cell[0] == 0 and cell[-1] == n - 1 and np.isin(np.diff(cell), (0, 1)).all()
        )
        if not np.isfinite(values).all() or not in_order:
            raise CellModelError("the estimator's memory is damaged")
        for name, shape in shapes.items():
            setattr(self, name, parts[name].reshape(shape).copy())
        self._cell = self._cell.astype(np.int64)

    # The mixture

    def _first(self) -> IntArray:
        """The first filter of each cell."""
        return np.searchsorted(self._cell, np.arange(len(self._string)))

    def _sum(self, values: FloatArray) -> FloatArray:
        return values if len(values) == len(self._string) else np.add.reduceat(values, self._first())

    def _weights(self) -> FloatArray:
        if len(self._cell) == len(self._string):
            return np.ones(len(self._cell))
        best = np.maximum.reduceat(self._score, self._first())
        weight = np.exp(self._score - best[self._cell])
        return np.asarray(weight / self._sum(weight)[self._cell])

    def _moments(self) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of each cell's soc."""
        soc, variance = self._x[:, SOC], np.maximum(self._p[:, SOC, SOC], 0.0)
        if len(soc) == len(self._string):
            return soc.copy(), variance
        weight = self._weights()
        mean = self._sum(weight * soc)
        return mean, self._sum(weight * (variance + (soc - mean[self._cell]) ** 2))

    def _tidy(self) -> None:
        """Drop the unlikely guesses, and join those that have become the same."""
        self._tidied_s[:] = 0.0
        weight = self._weights()
        self._score = np.log(np.maximum(weight, 1e-300))
        best = np.zeros(len(weight), dtype=bool)
        best[np.lexsort((weight, self._cell))[np.append(self._first()[1:], len(weight)) - 1]] = True
        self._keep(best | (weight > UNLIKELY))
        by_soc = np.lexsort((self._x[:, SOC], self._cell))  # cells stay in their places
        soc, variance, cell = self._x[by_soc, SOC], self._p[by_soc, SOC, SOC], self._cell[by_soc]
        near = np.diff(soc) < SAME_SD * np.sqrt(np.maximum(variance[1:], variance[:-1]))
        joined = np.ones(len(cell), dtype=bool)
        first = np.append(self._first(), len(cell))
        for crowded in np.unique(cell[:-1][near & (np.diff(cell) == 0)]).tolist():
            into, *others = by_soc[first[crowded] : first[crowded + 1]].tolist()
            for row in others:
                sd = math.sqrt(max(self._p[into, SOC, SOC], self._p[row, SOC, SOC]))
                if self._x[row, SOC] - self._x[into, SOC] < SAME_SD * sd:
                    self._join(into, row)
                    joined[row] = False
                else:
                    into = row
        self._keep(joined)

    def _join(self, into: int, row: int) -> None:
        """One filter with the mean and covariance of the two."""
        a, b = math.exp(self._score[into]), math.exp(self._score[row])
        share = b / (a + b)
        apart = self._x[row] - self._x[into]
        self._x[into] += share * apart
        mixed = (1 - share) * self._p[into] + share * self._p[row]
        self._p[into] = mixed + share * (1 - share) * np.outer(apart, apart)
        self._score[into] = math.log(a + b)
        self._surprise_s[into] = min(self._surprise_s[into], self._surprise_s[row])

    def _keep(self, rows: npt.NDArray[np.bool_] | IntArray) -> None:
        for name in _FILTER:
            setattr(self, name, np.ascontiguousarray(getattr(self, name)[rows]))

    def _spread(self, cells: IntArray, given: npt.NDArray[np.bool_]) -> None:
        """Look for these cells everywhere; all but soc stays what it is believed to be.

        Where `given`, the first filter of the cell stays as well, and is believed but for DOUBT.
        """
        if not len(cells):
            return
        n = len(self._string)
        sought, kept = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        sought[cells], kept[cells] = True, given
        likeliest = np.zeros(len(self._cell), dtype=bool)
        likeliest[self._first()] = True
        self._keep(~sought[self._cell] | likeliest)
        copies = np.where(sought, GUESSES + kept, 1)
        self._keep(np.repeat(np.arange(len(self._cell)), copies[self._cell]))
        number = np.arange(len(self._cell)) - self._first()[self._cell] - kept[self._cell]
        self._score[sought[self._cell]] = math.log1p(-DOUBT)
        rows = sought[self._cell] & (number >= 0)
        self._x[rows, SOC] = (number[rows] + 0.5) / GUESSES
        self._score[rows] = np.where(kept[self._cell[rows]], math.log(DOUBT / GUESSES), 0.0)
        self._surprise_s[rows] = 0.0
        self._x[rows, E] = 0.0
        for state, sd in ((SOC, GUESS_SD), (E, self._table(self.model.model_sd_v, rows))):
            self._p[rows, state, :] = self._p[rows, :, state] = 0.0
            self._p[rows, state, state] = sd**2

    # The beginning

    def _begin(self, current: FloatArray, voltage: FloatArray) -> FloatArray:
        """Set up the cells that have now a voltage and a current; returns the voltages for the kernel."""
        ok = (voltage >= 0.8 * self.model.voltage_min_v) & (voltage <= 1.1 * self.model.voltage_max_v)
        ready = np.flatnonzero((self._begun < 1) & ok & np.isfinite(current))
        if len(ready):
            self._spread(ready, self._begun[ready] == 0.5)
            self._prior(ready, current)
            self._begun[ready] = 1.0
        return np.where(self._begun < 1, np.nan, voltage)

    def _prior(self, cells: IntArray, current: FloatArray) -> None:
        """What is known of everything but soc. The fast branch has followed the present current half-way,
        roughly; what the slow one has seen is not known."""
        m, u = self.model, self.model.uncertainty
        rows = np.flatnonzero(np.isin(self._cell, cells))
        cell = self._cell[rows]
        soc, temp = self._x[rows, SOC], self._temp_degc[cell]
        usual = REST_C * self._capacity_ah[cell]
        for state, table, share in ((V1, m.r1_ohm, 0.5), (V2, m.r2_ohm, 0.0)):
            ohm = m.at(table, soc, temp)
            self._x[rows, state] = share * ohm * current[cell]
            self._p[rows, state, state] = (ohm * (share * np.abs(current[cell]) + usual)) ** 2
        self._last_current_a[rows] = current[cell]
        self._p[rows, H, H] = 0.7**2
        self._p[rows, E, E] = self._table(m.model_sd_v, rows) ** 2
        self._p[rows, K, K] = u.resistance_rel_sd**2
        self._p[rows, B, B] = u.current_offset_c**2

    def _table(self, table: FloatArray, rows: Any) -> FloatArray:
        """A table over temperature, for these filters."""
        return np.asarray(np.interp(self._temp_degc[self._cell[rows]], self.model.temp_degc, table))


def _shaped(name: str, values: npt.ArrayLike, n: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (n,):
        raise ValueError(f"{name} must have the shape ({n},), not {array.shape}")
    return array
