"""State of charge of every cell of a pack, with its uncertainty.

Arrays go in and out; nothing here reads a clock or a file. The same steps give the same bits on the same
build, and `load(dump())` goes on exactly where it stopped.

Memory (`dump`): MAGIC, uint32 CRC-32 of all that follows, 16 characters of the cell model's fingerprint,
uint32 n, then the little-endian float64 arrays of `_MEMORY`, in that order, n cells each.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.battery._ekf import Kernel
from edge.battery.model import CellModel, FloatArray
from edge.errors import CellModelError

STATES = 6
SOC, V1, V2, H, E, K = range(STATES)
UNKNOWN_SD = 1 / math.sqrt(12)  # of a soc that may be anything from 0 to 1
GIVEN_SD = 0.05  # of an initial soc that came without one
REST_C = 0.15  # overpotentials before the first sample: as after some minutes at this rate, either way
DEFAULT_TEMP_DEGC = 25.0
MAGIC = b"AyazEKF1"
_HEAD = struct.Struct("<8sI16sI")
_MEMORY = {
    "_x": (STATES,),
    "_p": (STATES, STATES),
    "_capacity_ah": (),
    "_last_current_a": (),
    "_temp_degc": (),
    "_waited_s": (),
    "_surprise_s": (),
    "_begun": (),
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
    """A filter for each of n cells in S strings.

    Parameters
    ----------
    model
        What the cells are.
    string_of_cell
        [n] number of the string that each cell is in, 0 to S-1.
    initial_soc
        Of all cells; None: from each cell's first voltage.
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
        if (
            strings.ndim != 1
            or not len(strings)
            or set(strings.tolist()) != set(range(int(strings.max()) + 1))
        ):
            raise ValueError("string_of_cell must number the strings 0, 1, ... with a cell in each")
        if parallel < 1 or (initial_soc is not None and not 0 <= initial_soc <= 1):
            raise ValueError("parallel must be 1 or more, and initial_soc 0 to 1")
        n = len(strings)
        self.model = model
        self.parallel = parallel
        self._kernel = Kernel(model)
        self._string = strings
        self._cells_of = [np.flatnonzero(strings == s) for s in range(int(strings.max()) + 1)]
        self._capacity_ah = np.full(n, capacity_ah or model.capacity_ah)
        self._x = np.zeros((n, STATES))
        self._x[:, SOC] = 0.5 if initial_soc is None else initial_soc
        self._x[:, K] = 1.0
        self._p = np.zeros((n, STATES, STATES))
        self._p[:, SOC, SOC] = (UNKNOWN_SD if initial_soc is None else initial_soc_sd or GIVEN_SD) ** 2
        self._last_current_a = np.zeros(n)
        self._temp_degc = np.full(n, DEFAULT_TEMP_DEGC)
        self._waited_s = np.zeros(n)
        self._surprise_s = np.zeros(n)
        # 0: waits for the first voltage to guess its soc from; 0.5: has a soc, waits for the rest; 1: runs
        self._begun = np.full(n, 0.0 if initial_soc is None else 0.5)

    @property
    def soc(self) -> FloatArray:
        """[n] state of charge of each cell, 0 to 1."""
        return self._x[:, SOC].copy()

    @property
    def soc_sd(self) -> FloatArray:
        """[n] its standard deviation."""
        return np.sqrt(np.maximum(self._p[:, SOC, SOC], 0.0))

    @property
    def capacity_ah(self) -> FloatArray:
        """[n] capacity that the filter counts with."""
        return self._capacity_ah.copy()

    @property
    def r0_ohm(self) -> FloatArray:
        """[n] ohmic resistance as estimated, at the present soc and temperature."""
        return self._x[:, K] * self.model.at(self.model.r0_ohm, self._x[:, SOC], self._temp_degc)

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

        Raises
        ------
        ValueError
            An array has the wrong shape, or time runs backwards.
        """
        n, strings = len(self._string), len(self._cells_of)
        current = _shaped("string_current_a", string_current_a, strings)[self._string] / self.parallel
        voltage = _shaped("cell_voltage_v", cell_voltage_v, n)
        temp = _shaped("temp_degc", temp_degc, n)
        if not dt_s >= 0 or not math.isfinite(dt_s):
            raise ValueError(f"dt_s must be 0 or more, not {dt_s}")
        # np.where makes contiguous copies; an infinite input is as unknown as a NaN
        current = np.where(np.isfinite(current), current, np.nan)
        self._temp_degc = np.where(np.isfinite(temp), temp, self._temp_degc)
        if (self._begun < 1).any():
            voltage = self._begin(current, voltage)
        self._kernel.step(
            float(dt_s),
            self._x,
            self._p,
            self._capacity_ah,
            current,
            self._last_current_a,
            voltage,
            self._temp_degc,
            self._waited_s,
            self._surprise_s,
        )

    def pack(self) -> PackState:
        """The pack by its weakest cells."""
        soc, sd, q = self._x[:, SOC], self.soc_sd, self._capacity_ah
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

    def dump(self) -> bytes:
        """Everything that the filter knows, for `load` on the same cell model and number of cells."""
        arrays = b"".join(getattr(self, name).astype("<f8").tobytes() for name in _MEMORY)
        body = self.model.fingerprint.encode() + struct.pack("<I", len(self._string)) + arrays
        return MAGIC + struct.pack("<I", zlib.crc32(body)) + body

    def load(self, memory: bytes) -> None:
        """Go on from a `dump`. Nothing changes where it is refused.

        Raises
        ------
        CellModelError
            The memory is damaged, or of another cell model or number of cells.
        """
        n = len(self._string)
        counts = {name: n * math.prod(shape) for name, shape in _MEMORY.items()}
        if len(memory) < _HEAD.size or memory[:8] != MAGIC:
            raise CellModelError("the estimator's memory is not one of ours")
        _, crc, fingerprint, cells = _HEAD.unpack_from(memory)
        if zlib.crc32(memory[12:]) != crc:
            raise CellModelError("the estimator's memory is damaged")
        if fingerprint.decode("ascii", "replace") != self.model.fingerprint:
            raise CellModelError(f"the estimator's memory is of another cell model than {self.model.name}")
        if cells != n or len(memory) != _HEAD.size + 8 * sum(counts.values()):
            raise CellModelError(f"the estimator's memory is of {cells} cells, and this battery has {n}")
        values = np.frombuffer(memory, dtype="<f8", offset=_HEAD.size)
        if not np.isfinite(values).all():
            raise CellModelError("the estimator's memory is damaged")
        at = 0
        for name, shape in _MEMORY.items():
            part = values[at : at + counts[name]].astype(np.float64)
            setattr(self, name, part.reshape((n, *shape)))
            at += counts[name]

    def widen(self, soc_sd: float) -> None:
        """The battery has been out of sight: its soc may have changed by that much (sd)."""
        self._p[:, SOC, SOC] += soc_sd**2

    def _begin(self, current: FloatArray, voltage: FloatArray) -> FloatArray:
        """Set up the cells that have not begun; returns the voltages that the kernel may still use.

        Without a first soc a cell waits for a voltage and a current, and its guess uses that voltage up.
        """
        voltage = voltage.copy()
        given = np.flatnonzero(self._begun == 0.5)
        self._prior(given, np.nan_to_num(current[given]))
        waiting = np.flatnonzero((self._begun == 0) & np.isfinite(voltage) & np.isfinite(current))
        ok = (voltage >= 0.8 * self.model.voltage_min_v) & (voltage <= 1.1 * self.model.voltage_max_v)
        first = waiting[ok[waiting]]
        self._prior(first, current[first])
        self._guess(first, current[first], voltage[first])
        self._begun[given] = self._begun[first] = 1.0
        voltage[self._begun == 0] = np.nan
        voltage[first] = np.nan
        return voltage

    def _prior(self, cells: npt.NDArray[np.int64], current: FloatArray) -> None:
        """What is known of everything but soc: half the overpotential of the present current, roughly."""
        m, u, temp = self.model, self.model.uncertainty, self._temp_degc[cells]
        soc = self._x[cells, SOC]
        for state, table in ((V1, m.r1_ohm), (V2, m.r2_ohm)):
            ohm = m.at(table, soc, temp)
            self._x[cells, state] = 0.5 * ohm * current
            self._p[cells, state, state] = (
                ohm * (0.5 * np.abs(current) + REST_C * self._capacity_ah[cells])
            ) ** 2
        self._p[cells, H, H] = 0.7**2
        self._p[cells, E, E] = self._slow_sd(temp) ** 2
        self._p[cells, K, K] = u.resistance_rel_sd**2

    def _slow_sd(self, temp: FloatArray) -> FloatArray:
        return np.interp(temp, self.model.temp_degc, self.model.model_sd_v)

    def _guess(self, cells: npt.NDArray[np.int64], current: FloatArray, voltage: FloatArray) -> None:
        """soc from one voltage: Bayes on a grid, every soc equally likely before.

        The grid gives the mean and the sd even where the OCV is flat or bends. The covariance with the
        other states is that of a linear correction which ends with the same sd.
        """
        m, grid = self.model, self.model.soc
        for cell, i, v in zip(cells.tolist(), current.tolist(), voltage.tolist(), strict=True):
            x, p, temp = self._x[cell], self._p[cell], self._temp_degc[cell]
            gap, r0 = (float(m.at(t, 0.5, temp)) for t in (m.hysteresis_v, m.r0_ohm))
            h = np.array([0.0, -1.0, -1.0, gap, 1.0, -r0 * i])
            noise = float(h @ p @ h) + m.uncertainty.sample_sd_v**2
            spread = noise + (m.uncertainty.axis_sd * np.gradient(m.at(m.ocv_v, grid, temp), grid)) ** 2
            ohmic = m.at(m.r0_ohm, grid, temp) * i
            nu = v - (m.at(m.ocv_v, grid, temp) - x[V1] - x[V2] - ohmic)
            log = -0.5 * nu**2 / spread - 0.5 * np.log(spread)
            weight = np.exp(log - log.max())
            weight /= weight.sum()
            x[SOC] = weight @ grid
            sd = min(math.sqrt(weight @ (grid - x[SOC]) ** 2), 0.99 * UNKNOWN_SD)
            sd = max(sd, 0.005)
            h[SOC] = math.sqrt(noise * (sd**-2 - UNKNOWN_SD**-2))
            ph = p @ h
            p -= np.outer(ph, ph) / (h @ ph + m.uncertainty.sample_sd_v**2)


def _shaped(name: str, values: npt.ArrayLike, n: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (n,):
        raise ValueError(f"{name} must have the shape ({n},), not {array.shape}")
    return array
