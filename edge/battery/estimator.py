"""State of charge of every cell of a pack, with its uncertainty.

Arrays go in and out; nothing here reads a clock or a file. The same steps give the same bits on the same
build, and `load(dump())` goes on exactly where it stopped.

A cell whose soc is known has one Kalman filter (`_ekf.pyx`). One whose soc is not known has GUESSES of
them, spread over all states of charge, each with a weight: how well it has foretold the voltages so far.
Their mixture is the estimate: it stays wide where the OCV is flat, as it must, and may have two humps. The
unlikely ones are dropped, those that have become the same are joined, and one is left (Gaussian sum filter:
D. Alspach, H. Sorenson, IEEE Trans. Automatic Control 17, 1972). Every cell begins so; a given initial soc
is one more guess, with most of the weight. And a cell does it again when its filter has lost it.

Each cell's filter has its own share of the sensor's offset and gain. They are not averaged over the cells of a
string: the cells' models err alike, so many cells are not many witnesses, and one bad cell must not touch
the others. What does come from all of the string is the sensor's zero while its contactors are open.

Memory (`dump`): MAGIC, uint32 CRC-32 of all that follows, 16 characters of the cell model's fingerprint,
uint32 n, uint32 number of filters r, then little-endian float64: the arrays of `_WHOLE`, those of `_CELL` (n
each), then those of `_FILTER` (r each).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.battery._ekf import COLUMNS, PROCESSES, TURN, WINDOW_S, Kernel
from edge.battery.arrays import shaped
from edge.battery.model import CellModel, FloatArray
from edge.errors import CellModelError

IntArray = npt.NDArray[np.int64]

STATES = 8
SOC, W, E, K, H, U, B, G = range(STATES)
GUESSES = 16
GUESS_SD = 0.5 / GUESSES
GIVEN_SD = 0.015  # of an initial soc that came without one
WIDE_SD = 2 * GUESS_SD  # a given soc that is wider says which guesses are likelier
UNKNOWN_SD = 1 / math.sqrt(12)  # of a soc that may be anything from 0 to 1
DOUBT = 0.2  # how probable it is that a given soc is plain wrong
WIDE_DOUBT = 0.05  # the same of one that says itself how wide it is
LOST_S = 30.0  # samples beyond the gate for so long: the filter has lost the cell
TIDY_S = 10.0  # between two looks at the guesses; the same for all cells, so that none touches another
UNLIKELY = 1e-4
SAME_SD = 1.5  # two guesses are one when their means are closer than this, in units of the wider sd
# What the battery did before its first sample: probability where the first current is below STILL_C and where it is not,
# and mean and sd of its rate in the hour before, in capacities per hour. It has rested, or it was driving (or
# charging, at the far end).
HISTORIES = ((0.6, 0.1, 0.0, 0.03), (0.4, 0.9, 0.35, 0.2))
STILL_C = 0.05
# A drive goes on as it went: after so many seconds, what the slowest process had seen before them was about this
# share of the mean current in them, give or take that many capacities per hour.
SAME_DRIVE = (600.0, 0.8, 0.2)
SEEN_TAU_S = (
    10.0,
    100.0,
)  # a process as fast as the first has followed the present current; as the second, half
DEFAULT_TEMP_DEGC = 25.0
TEMP_MAX_DEGC = 150.0  # beyond these it is a broken sensor (the kernel has the same numbers)
CURRENT_MAX_C = 200.0
MAX_STEP_S = 1e8  # three years: more is a broken clock
MAGIC = b"AyazEKF3"
_HEAD = struct.Struct("<8sI16sII")
_WHOLE: dict[str, tuple[int, ...]] = {"_clock": (2,)}
_CELL: dict[str, tuple[int, ...]] = {
    "_capacity_ah": (),
    "_temp_degc": (),
    "_begun": (),
    "_age_s": (),
    "_relaxation_a": (PROCESSES,),
    "_window": (COLUMNS,),
    "_soc": (),
    "_soc_sd": (),
}
_FILTER: dict[str, tuple[int, ...]] = {
    "_x": (STATES,),
    "_p": (STATES, STATES),
    "_cell": (),
    "_score": (),
    "_waited_s": (),
    "_surprise_s": (),
    "_misfit": (),
    "_history": (),
}


@dataclass(frozen=True)
class CellStates:
    """All that is known of the cells at one moment; arrays of shape [n] but for the relaxation.

    resistance_ratio  this cell's resistance over the model's at the same soc and temperature: cold is not age
    hysteresis        -1 (after discharge) to 1 (after charge)
    relaxation_a      [n, 4] y_k of the cell model
    model_error_v     the model's error as estimated, to be added to its voltage; and its sd
    """

    soc: FloatArray
    soc_sd: FloatArray
    resistance_ratio: FloatArray
    resistance_ratio_sd: FloatArray
    hysteresis: FloatArray
    relaxation_a: FloatArray
    model_error_v: FloatArray
    model_error_sd_v: FloatArray
    temp_degc: FloatArray
    capacity_ah: FloatArray


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
        How well `initial_soc` is known (sd); None: 0.015. Either way it may be plain wrong (DOUBT).
    parallel
        Cells in parallel behind each voltage: the string's current divides by it.
    capacity_ah
        Of one cell or [n] of each, where it is known better than the model has it. Resistances are those of
        the model times its capacity over this one.

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
        capacity_ah: float | FloatArray | None = None,
    ) -> None:
        strings = np.array(string_of_cell, dtype=np.int64)
        if strings.ndim != 1 or not len(strings) or set(strings.tolist()) != set(range(strings.max() + 1)):
            raise ValueError("string_of_cell must number the strings 0, 1, ... with a cell in each")
        if parallel < 1 or (initial_soc is not None and not 0 <= initial_soc <= 1):
            raise ValueError("parallel must be 1 or more, and initial_soc 0 to 1")
        if initial_soc_sd is not None and not 0 < initial_soc_sd <= 1:
            raise ValueError(f"initial_soc_sd must be more than 0 and at most 1, not {initial_soc_sd}")
        if capacity_ah is not None and not (np.isfinite(capacity_ah) & (np.asarray(capacity_ah) > 0)).all():
            raise ValueError(f"capacity_ah must be more than 0, not {capacity_ah}")
        n = len(strings)
        self.model = model
        self.parallel = parallel
        self._kernel = Kernel(model, nodes_of(model))
        self._string = strings
        self._cells_of = [np.flatnonzero(strings == s) for s in range(int(strings.max()) + 1)]
        self._clock = np.zeros(
            2
        )  # seconds in the open window, and of windows since the last look at the guesses
        self._capacity_ah = np.full(
            n, model.capacity_ah if capacity_ah is None else capacity_ah, dtype=np.float64
        )
        self._temp_degc = np.full(n, DEFAULT_TEMP_DEGC)
        # 0: waits for its first voltage; 0.5: the same, with a given soc; 1: runs
        self._begun = np.full(n, 0.0 if initial_soc is None else 0.5)
        self._age_s = np.zeros(n)  # since the first sample, until SAME_DRIVE has been looked at
        self._relaxation_a = np.zeros((n, PROCESSES))
        self._window = np.zeros((n, COLUMNS))
        self._window[:, TURN] = 1.0
        self._x = np.zeros((n, STATES))
        self._x[:, SOC] = 0.5 if initial_soc is None else initial_soc
        self._x[:, K] = 1.0
        self._p = np.zeros((n, STATES, STATES))
        self._p[:, SOC, SOC] = (UNKNOWN_SD if initial_soc is None else initial_soc_sd or GIVEN_SD) ** 2
        self._soc, self._soc_sd = self._x[:, SOC].copy(), np.sqrt(self._p[:, SOC, SOC])
        self._cell = np.arange(n)  # of each filter; rising
        self._score = np.zeros(n)  # ln of the weight
        self._waited_s = np.zeros(n)
        self._surprise_s = np.zeros(n)
        self._misfit = np.ones(n)
        self._history = np.zeros(n)  # number in HISTORIES
        self._beginning = True  # whether some cells have not begun
        self._bound = False  # whether the kernel has the arrays as they are now

    # What is known

    @property
    def soc(self) -> FloatArray:
        """[n] state of charge of each cell, 0 to 1."""
        return self._soc.copy()

    @property
    def soc_sd(self) -> FloatArray:
        """[n] its standard deviation."""
        return self._soc_sd.copy()

    @property
    def capacity_ah(self) -> FloatArray:
        """[n] capacity that the filters count with."""
        return self._capacity_ah.copy()

    @property
    def resistance_ratio(self) -> FloatArray:
        """[n] this cell's resistance over the model's at the same soc and temperature."""
        return self._moments(K)[0]

    @property
    def resistance_ratio_sd(self) -> FloatArray:
        """[n] its standard deviation."""
        return np.sqrt(self._moments(K)[1])

    @property
    def r0_ohm(self) -> FloatArray:
        """[n] resistance to a small step of the current, as estimated, at the present soc and temperature: ohmic and
        charge transfer."""
        instant = self.model.r0_ohm + self.model.rct_ohm
        ohm = self.model.at(instant, self._soc, self._temp_degc)
        return np.asarray(self.resistance_ratio * ohm * self.model.capacity_ah / self._capacity_ah)

    @property
    def current_offset_a(self) -> FloatArray:
        """[S] what each string's sensor shows at no current: the median of what its cells have found."""
        offset = -self._moments(B)[0] * self._capacity_ah * self.parallel
        return np.array([np.median(offset[cells]) for cells in self._cells_of])

    @property
    def current_offset_sd_a(self) -> FloatArray:
        """[S] its standard deviation; that of one cell, for their errors are alike."""
        sd = np.sqrt(self._moments(B)[1]) * self._capacity_ah * self.parallel
        return np.array([np.median(sd[cells]) for cells in self._cells_of])

    def states(self) -> CellStates:
        """Everything about the cells, for what builds on it."""
        m, grid = self.model, self.model.temp_degc
        low, high = np.clip(self._soc - 0.01, 0, 1), np.clip(self._soc + 0.01, 0, 1)
        rise = m.at(m.ocv_v, high, self._temp_degc) - m.at(m.ocv_v, low, self._temp_degc)
        sd_w = np.interp(self._temp_degc, grid, m.relaxation_sd_v)
        axis = m.uncertainty.axis_sd * rise / (high - low)
        sd_e = np.hypot(np.interp(self._temp_degc, grid, m.model_sd_v), axis)
        return CellStates(
            soc=self.soc,
            soc_sd=self.soc_sd,
            resistance_ratio=self.resistance_ratio,
            resistance_ratio_sd=self.resistance_ratio_sd,
            hysteresis=self._moments(H)[0],
            relaxation_a=self._relaxation_a.copy(),
            model_error_v=sd_w * self._moments(W)[0] + sd_e * self._moments(E)[0],
            model_error_sd_v=np.sqrt(sd_w**2 * self._moments(W)[1] + sd_e**2 * self._moments(E)[1]),
            temp_degc=self._temp_degc.copy(),
            capacity_ah=self.capacity_ah,
        )

    def pack(self) -> PackState:
        """The pack by its weakest cells."""
        soc, sd, q = self._soc, self._soc_sd, self._capacity_ah
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
        *,
        balancing_a: npt.ArrayLike | None = None,
        opened: npt.ArrayLike | None = None,
    ) -> None:
        """Go on by `dt_s` and take in what was measured at its end.

        Parameters
        ----------
        dt_s : seconds since the last step; at the first step it does not matter
        string_current_a : [S], positive = discharge; NaN = unknown: the uncertainty grows
        cell_voltage_v : [n]; NaN = no new sample
        temp_degc : [n]; NaN = as last known, at first 25 degC
        balancing_a : [n] what each cell gives beside the string's current; None: nothing
        opened : [S] the string's contactors are open: nothing flows, and what the sensor shows is its zero

        What no cell can have (an infinity, 1000 V, a current of 200 capacities per hour) counts as NaN.

        Raises
        ------
        ValueError
            An array has the wrong shape, or time runs backwards.
        """
        n, strings = len(self._string), len(self._cells_of)
        if not 0 <= dt_s <= MAX_STEP_S:
            raise ValueError(f"dt_s must be from 0 to {MAX_STEP_S:g}, not {dt_s}")
        self._advance(
            np.array([dt_s], dtype=np.float64),
            self._of_one_cell(shaped("string_current_a", string_current_a, strings)[None, :]),
            shaped("cell_voltage_v", cell_voltage_v, n)[None, :],
            shaped("temp_degc", temp_degc, n)[None, :],
            None if balancing_a is None else shaped("balancing_a", balancing_a, n)[None, :],
            None if opened is None else shaped("opened", opened, strings)[None, :].astype(np.uint8),
        )

    def run(
        self,
        time_s: npt.ArrayLike,
        string_current_a: npt.ArrayLike,
        cell_voltage_v: npt.ArrayLike,
        temp_degc: npt.ArrayLike,
        progress: Callable[[float], None] | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Many steps at once: the same as `step` for each row, faster.

        Parameters
        ----------
        time_s : [r] not falling; the first row comes dt = 0 after what was before
        string_current_a : [r, S]; cell_voltage_v : [r, n]; temp_degc : [r, n]; as in `step`
        progress : is told now and then which share of the rows is done

        Returns
        -------
        soc, soc_sd : [r, n] after each row

        Raises
        ------
        ValueError
            An array has the wrong shape, or time runs backwards.
        """
        n, strings = len(self._string), len(self._cells_of)
        time = np.asarray(time_s, dtype=np.float64)
        rows = len(time)
        dt = np.diff(time, prepend=time[:1])
        if not ((dt >= 0) & (dt <= MAX_STEP_S)).all():
            raise ValueError(f"time_s must rise, by at most {MAX_STEP_S:g} s")
        current = self._of_one_cell(shaped("string_current_a", string_current_a, rows, strings))
        voltage = shaped("cell_voltage_v", cell_voltage_v, rows, n)
        temp = shaped("temp_degc", temp_degc, rows, n)
        soc, sd = np.empty((rows, n)), np.empty((rows, n))
        done = told = 0
        while done < rows:
            to = done + 1 if self._beginning else rows
            part = slice(done, to)
            done += self._advance(
                dt[part],
                current[part],
                voltage[part],
                temp[part],
                None,
                None,
                soc[part],
                sd[part],
            )
            if progress is not None and done - told > rows // 100:
                told = done
                progress(done / rows)
        return soc, sd

    def widen(self, soc_sd: float, doubt: float = 0.0) -> None:
        """The battery has been out of sight: its soc may have changed by that much (sd), or, with the probability
        `doubt`, be anything."""
        self._p[:, SOC, SOC] += soc_sd**2
        if doubt > 0.0:
            self._doubt(doubt)
        self._mix()

    def _doubt(self, doubt: float) -> None:
        """Guesses everywhere beside all that there is; like the likeliest but for soc, and `doubt` of the weight theirs."""
        before, weight = len(self._cell), self._weights()
        likeliest = np.lexsort((weight, self._cell))[np.append(self._first()[1:], before) - 1]
        sure = self._begun[self._cell] == 1
        self._score = np.log(np.maximum(weight, 1e-300)) + np.where(sure, math.log1p(-doubt), 0.0)
        rows = np.append(np.arange(before), np.repeat(likeliest[self._begun == 1], GUESSES))
        order = np.argsort(self._cell[rows], kind="stable")
        new = np.flatnonzero(order >= before)
        self._keep(rows[order])
        self._score[new] = math.log(doubt / GUESSES)
        self._place(new, np.arange(len(new)) % GUESSES)

    def rest(self, seconds: float | None) -> None:
        """The battery has been off for so long, its contactors open: the relaxation goes on.

        None: nobody knows for how long. It is somewhere between what it was and none.
        """
        if seconds is None:
            last = len(self.model.tau_s) - 1
            self._p[:, U, U] += (self._relaxation_a[self._cell, last] / 2) ** 2
            self._relaxation_a *= np.where(np.arange(PROCESSES) == last, 0.5, 0.0)
            self._x[:, W] = 0.0
            return
        n, strings = len(self._string), len(self._cells_of)
        unknown = np.full(n, np.nan)
        self.step(seconds, np.full(strings, np.nan), unknown, unknown, opened=np.ones(strings))

    def set_capacity(self, capacity_ah: npt.ArrayLike, rel_sd: npt.ArrayLike) -> None:
        """[n] capacities that are better known now, and their relative sd: what the filters have learnt of their
        error begins anew."""
        n = len(self._string)
        capacity, sd = shaped("capacity_ah", capacity_ah, n), shaped("rel_sd", rel_sd, n)
        if not (np.isfinite(capacity) & (capacity > 0) & (sd > 0)).all():
            raise ValueError("capacity_ah and rel_sd must be more than 0")
        self._capacity_ah[:] = capacity
        self._x[:, G] = 0.0
        self._p[:, G, :] = self._p[:, :, G] = 0.0
        gain = self.model.uncertainty.current_gain_sd
        self._p[:, G, G] = (sd**2 + gain**2)[self._cell]

    def _of_one_cell(self, string_current_a: FloatArray) -> FloatArray:
        return string_current_a if self.parallel == 1 else string_current_a / self.parallel

    def _advance(
        self,
        dt: FloatArray,
        current: FloatArray,
        voltage: FloatArray,
        temp: FloatArray,
        balancing: FloatArray | None,
        opened: npt.NDArray[np.uint8] | None,
        soc: FloatArray | None = None,
        sd: FloatArray | None = None,
    ) -> int:
        """Rows until the guesses are to be looked at; returns how many they were. One row where cells must begin."""
        if self._beginning:
            np.copyto(self._temp_degc, temp[0], where=np.abs(temp[0]) <= TEMP_MAX_DEGC)
            voltage = self._begin(current[0, self._string], voltage[0])[None, :]
        if not self._bound:
            self._bind()
        done = self._kernel.advance(dt, current, voltage, temp, balancing, opened, soc, sd, TIDY_S)
        if self._clock[0] == 0.0 and self._clock[1] == 0.0:
            self._look_back()
            self._look_at_guesses()
        return done

    def _bind(self) -> None:
        """Hand the kernel the arrays: some of them are new."""
        self._kernel.bind(
            self._clock,
            self._string,
            self._capacity_ah,
            self._temp_degc,
            self._relaxation_a,
            self._window,
            self._soc,
            self._soc_sd,
            self._x,
            self._p,
            self._cell,
            self._waited_s,
            self._surprise_s,
            self._misfit,
            self._score,
        )
        self._bound = True

    def _look_back(self) -> None:
        """Guesses that were driving before their first sample hear what the drive has been like since, if it is one."""
        after_s, share, sd_c = SAME_DRIVE
        young = (self._begun == 1) & (self._age_s < after_s)
        if not young.any():
            return
        self._age_s[young] += TIDY_S
        last = len(self.model.tau_s) - 1
        decay = np.exp(-self._age_s / self.model.tau_s[last])
        since_a = self._relaxation_a[:, last] / np.maximum(1 - decay, 1e-9)  # the mean of j
        moved = young & (self._age_s >= after_s) & (np.abs(since_a) > STILL_C * self.model.capacity_ah)
        rows = np.flatnonzero(moved[self._cell] & (self._history == 1))
        cell = self._cell[rows]
        decay = decay[cell]
        before_a = share * since_a[cell] * decay
        column = self._p[rows, :, U]
        variance = column[:, U] + (sd_c * self.model.capacity_ah * decay) ** 2
        miss = before_a - self._x[rows, U]
        self._x[rows] += column * (miss / variance)[:, None]
        self._p[rows] -= column[:, :, None] * column[:, None, :] / variance[:, None, None]
        self._score[rows] -= 0.5 * miss**2 / variance
        self._mix()

    def _look_at_guesses(self) -> None:
        if len(self._cell) > len(self._string):
            self._tidy()
        if (self._surprise_s > LOST_S).any():
            lost = np.minimum.reduceat(self._surprise_s, self._first()) > LOST_S
            cells = np.flatnonzero(lost)
            self._spread(cells, np.zeros(len(cells), dtype=bool))
            self._mix()

    def _mix(self) -> None:
        if not self._bound:
            self._bind()
        self._kernel.mix()

    # Memory

    def dump(self) -> bytes:
        """Everything that the filters know, for `load` on the same cell model and number of cells."""
        arrays = b"".join(getattr(self, k).astype("<f8").tobytes() for k in (*_WHOLE, *_CELL, *_FILTER))
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
        shapes = _WHOLE | {k: (n, *s) for k, s in _CELL.items()}
        shapes |= {k: (filters, *s) for k, s in _FILTER.items()}
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
        self._beginning = bool((self._begun < 1).any())
        self._bound = False

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

    def _moments(self, state: int) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of one state of each cell."""
        mean_of, variance = self._x[:, state], np.maximum(self._p[:, state, state], 0.0)
        if len(mean_of) == len(self._string):
            return mean_of.copy(), variance
        weight = self._weights()
        mean = self._sum(weight * mean_of)
        return mean, self._sum(weight * (variance + (mean_of - mean[self._cell]) ** 2))

    def _tidy(self) -> None:
        """Drop the unlikely guesses, and join those that have become the same."""
        weight = self._weights()
        self._score = np.log(np.maximum(weight, 1e-300))
        best = np.zeros(len(weight), dtype=bool)
        best[np.lexsort((weight, self._cell))[np.append(self._first()[1:], len(weight)) - 1]] = True
        self._keep(best | (weight > UNLIKELY))
        self._join_neighbours(self._history)
        if len(self._cell) > len(self._string):
            self._join_neighbours(np.zeros(len(self._cell)))

    def _join_neighbours(self, kind: FloatArray) -> None:
        """Join what is next to one another in soc within each kind, where it is the same; two histories are while what
        they say of the unseen relaxation is."""
        order = np.lexsort((self._x[:, SOC], kind, self._cell))  # cells stay in their places
        x, p, cell, kind = self._x[order], self._p[order], self._cell[order], kind[order]
        sd = np.sqrt(np.maximum(p[:, SOC, SOC], 0.0))
        slowest_ohm = self.model.at(self.model.relaxation_ohm[-1], x[:, SOC], self._temp_degc[cell])
        unseen_v = slowest_ohm * x[:, U]
        unseen_sd_v = slowest_ohm * np.sqrt(np.maximum(p[:, U, U], 0.0)) + self._table(
            self.model.model_sd_v, order
        )
        near = np.abs(np.diff(x[:, SOC])) < SAME_SD * np.maximum(sd[1:], sd[:-1])
        near &= (np.diff(cell) == 0) & (np.diff(kind) == 0)
        same = np.diff(self._history[order]) == 0
        near &= same | (np.abs(np.diff(unseen_v)) < SAME_SD * np.maximum(unseen_sd_v[1:], unseen_sd_v[:-1]))
        joined = np.ones(len(cell), dtype=bool)
        into = -1
        for place in np.flatnonzero(near).tolist():
            if place == 0 or not near[place - 1] or into < 0:
                into = order[place]
            row = order[place + 1]
            spread = SAME_SD * math.sqrt(max(self._p[into, SOC, SOC], self._p[row, SOC, SOC]))
            if abs(self._x[row, SOC] - self._x[into, SOC]) < spread:
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
        self._bound = False

    def _spread(self, cells: IntArray, given: npt.NDArray[np.bool_]) -> None:
        """Look for these cells everywhere; all but soc stays what it is believed to be.

        Where `given`, the first filter of the cell stays as well, and is believed but for DOUBT. Where what is given
        is wider than a guess, it is no filter of its own but a weight on the guesses.
        """
        if not len(cells):
            return
        n = len(self._string)
        first = self._first()
        mean, sd = self._x[first, SOC], np.sqrt(self._p[first, SOC, SOC])
        sought, weighed = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        sought[cells], weighed[cells] = True, given
        kept = weighed & (sd <= WIDE_SD)
        likeliest = np.zeros(len(self._cell), dtype=bool)
        likeliest[first] = True
        self._keep(~sought[self._cell] | likeliest)
        copies = np.where(sought, GUESSES + kept, 1)
        self._keep(np.repeat(np.arange(len(self._cell)), copies[self._cell]))
        number = np.arange(len(self._cell)) - self._first()[self._cell] - kept[self._cell]
        self._score[sought[self._cell]] = math.log1p(-DOUBT)
        rows = sought[self._cell] & (number >= 0)
        cell = self._cell[rows]
        self._place(np.flatnonzero(rows), number[rows])
        distance = (self._x[rows, SOC] - mean[cell]) / np.hypot(sd[cell], GUESS_SD)
        share = np.exp(-0.5 * distance**2)
        share /= np.bincount(cell, share, n)[cell]
        weight = (1 - WIDE_DOUBT) * share + WIDE_DOUBT / GUESSES
        by_weight = np.where(weighed[cell] & ~kept[cell], weight, 1 / GUESSES)
        self._score[rows] = np.log(np.where(kept[cell], DOUBT / GUESSES, by_weight))

    def _place(self, rows: IntArray, number: IntArray) -> None:
        """Make these filters the guesses of that number, from 0."""
        self._surprise_s[rows] = 0.0
        self._x[rows, SOC] = (number + 0.5) / GUESSES
        self._x[rows, E] = 0.0
        for state, sd in ((SOC, GUESS_SD), (E, 1.0)):
            self._p[rows, state, :] = self._p[rows, :, state] = 0.0
            self._p[rows, state, state] = sd**2

    # The beginning

    def _begin(self, current: FloatArray, voltage: FloatArray) -> FloatArray:
        """Set up the cells that have now a voltage and a current; returns the voltages for the kernel."""
        ok = (voltage >= 0.8 * self.model.voltage_min_v) & (voltage <= 1.1 * self.model.voltage_max_v)
        known = np.abs(current) <= CURRENT_MAX_C * self._capacity_ah
        ready = np.flatnonzero((self._begun < 1) & ok & known)
        if len(ready):
            self._spread(ready, self._begun[ready] == 0.5)
            self._prior(ready, current)
            self._begun[ready] = 1.0
            self._clock[0] = WINDOW_S  # a first sample is taken in at once, for all that is known hangs on it
            self._beginning = bool((self._begun < 1).any())
            self._mix()
        return np.where(self._begun < 1, np.nan, voltage)

    def _prior(self, cells: IntArray, current: FloatArray) -> None:
        """What is known of everything but soc: each guess once for each of HISTORIES. The fast processes have followed
        the present current, roughly."""
        m, u = self.model, self.model.uncertainty
        scaled = current[cells] * m.capacity_ah / self._capacity_ah[cells]
        knee = np.interp(self._temp_degc[cells], m.temp_degc, m.knee_a)
        bent_a = np.zeros(len(self._string))
        bent_a[cells] = knee * np.arcsinh(scaled / knee)
        followed = [1.0 if tau <= SEEN_TAU_S[0] else 0.5 if tau <= SEEN_TAU_S[1] else 0.0 for tau in m.tau_s]
        self._relaxation_a[cells, : len(followed)] = np.outer(bent_a[cells], followed)
        begins = np.isin(self._cell, cells)
        self._keep(np.repeat(np.arange(len(self._cell)), np.where(begins, len(HISTORIES), 1)))
        rows = np.flatnonzero(np.isin(self._cell, cells))
        self._history[rows] = history = np.arange(len(rows)) % len(HISTORIES)
        still, moving, mean_c, sd_c = np.array(HISTORIES)[history].T
        cell = self._cell[rows]
        weight = np.where(np.abs(current[cell]) < STILL_C * self._capacity_ah[cell], still, moving)
        soc, temp = self._x[rows, SOC], self._temp_degc[cell]
        unseen = np.ones(len(rows))  # variance of W: its own, and what the faster processes may have seen
        for k, tau in enumerate(m.tau_s[:-1]):
            if tau > SEEN_TAU_S[0]:
                unseen_a = followed[k] * np.abs(bent_a[cell]) + sd_c * m.capacity_ah
                ohm = m.at(m.relaxation_ohm[k], soc, temp)
                unseen += (ohm * unseen_a / self._table(m.relaxation_sd_v, rows)) ** 2
        self._score[rows] += np.log(weight)
        self._p[rows, W, W] = unseen
        self._p[rows, E, E] = 1.0
        self._x[rows, U], self._p[rows, U, U] = mean_c * m.capacity_ah, (sd_c * m.capacity_ah) ** 2
        self._p[rows, K, K] = u.resistance_rel_sd**2
        self._p[rows, H, H] = 0.7**2
        self._p[rows, B, B] = u.current_offset_c**2
        self._p[rows, G, G] = m.capacity_rel_sd**2 + u.current_gain_sd**2

    def _table(self, table: FloatArray, rows: Any) -> FloatArray:
        """A table over temperature, for these filters."""
        return np.asarray(np.interp(self._temp_degc[self._cell[rows]], self.model.temp_degc, table))


def nodes_of(model: CellModel) -> FloatArray:
    """[T, S, 8] everything that the kernel looks up at one temperature and soc, side by side."""
    unused = np.zeros_like(model.r0_ohm)
    processes = [*model.relaxation_ohm, *[unused] * (PROCESSES - len(model.tau_s))]
    return np.stack([model.ocv_v, model.hysteresis_v, model.r0_ohm, model.rct_ohm, *processes], axis=-1)
