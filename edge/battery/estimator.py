"""The state of charge of every cell, with its uncertainty: an extended Kalman filter per cell.

State of a cell (Plett, "Battery Management Systems" vol. 2, 2015, chapters 2 and 3; the enhanced
self-correcting cell with two relaxation processes):

    soc     state of charge, 0 to 1             soc' = soc - I dt / 3600 Q
    v1, v2  relaxation voltages, V              v'   = a v + (1 - a) R I,   a = exp(-dt / tau)
    h       hysteresis, -1 to 1                 h'   = d h + (1 - d) sign(-I),  d = exp(-gamma |I| dt / 3600 Q)

    voltage = OCV(soc, T) + M(soc) h - R0(soc, T) I - v1 - v2

Current is positive on discharge. The model's voltage error lasts much longer than a step, so a step's
measurement counts only for its share of `correlation_s`: without it the filter would be sure of itself
within seconds (compare Plett's remark on correlated noise). Resistance errors add noise with the current.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.battery import _ekf
from edge.battery.model import CellModel
from edge.errors import CellModelError

FloatArray = npt.NDArray[np.float64]
MAGIC = b"AYZ1"
DEFAULT_TEMP_DEGC = 25.0
UNKNOWN_SOC_SD = 0.30
SOC_VAR_PER_S = 0.01**2 / 3600  # the current sensor: 1 % of capacity in an hour, as a random walk
RELAX_VAR_PER_S = 1e-8
UNKNOWN_C_RATE = 0.5  # what may flow while the current is not known
INITIAL_RELAX_VAR = 0.01**2
INITIAL_HYSTERESIS_VAR = 0.5


@dataclass(frozen=True)
class PackState:
    """The pack by its weakest cells: soc and its standard deviation (0 to 1), and each string's soc."""

    soc: float
    soc_sd: float
    weakest: int
    string_soc: FloatArray


class PackEstimator:
    """n cells in s strings.

    Parameters
    ----------
    model : the cell.
    string_of_cell : shape (n,), which string each cell is in, from 0.
    initial_soc : 0 to 1; None takes it from each cell's first voltage, as if it had rested.
    initial_soc_sd : how sure that is.
    parallel : cells in parallel behind each voltage; the string's current is shared by them.
    """

    def __init__(
        self,
        model: CellModel,
        string_of_cell: npt.NDArray[np.int64],
        initial_soc: float | None = None,
        initial_soc_sd: float | None = None,
        parallel: int = 1,
    ) -> None:
        n = len(string_of_cell)
        self.model = model
        self.string_of_cell = np.asarray(string_of_cell, dtype=np.int64)
        self.parallel = parallel
        self.predicted_v = np.zeros(n)
        self._state = np.zeros((n, 4))
        self._covariance = np.zeros((n, 4, 4))
        self._temp_degc = np.full(n, DEFAULT_TEMP_DEGC)
        self._unset = np.full(n, initial_soc is None)
        self._state[:, 0] = 0.5 if initial_soc is None else initial_soc
        sd = initial_soc_sd if initial_soc_sd is not None else UNKNOWN_SOC_SD
        self._covariance[:, 0, 0] = sd**2
        self._covariance[:, 1, 1] = self._covariance[:, 2, 2] = INITIAL_RELAX_VAR
        self._covariance[:, 3, 3] = INITIAL_HYSTERESIS_VAR

    def step(
        self,
        dt_s: float,
        string_current_a: FloatArray,
        cell_voltage_v: FloatArray,
        temp_degc: FloatArray,
    ) -> None:
        """Advance by dt_s. Shapes (s,), (n,), (n,); NaN marks what is not known or not new."""
        np.copyto(self._temp_degc, temp_degc, where=np.isfinite(temp_degc))
        if self._unset.any():
            self._set_from_voltage(cell_voltage_v)
        model = self.model
        _ekf.step(
            float(dt_s),
            np.ascontiguousarray(string_current_a[self.string_of_cell] / self.parallel),
            np.ascontiguousarray(cell_voltage_v, dtype=np.float64),
            self._temp_degc,
            model.knots_degc,
            model.table,
            self._state,
            self._covariance,
            self.predicted_v,
            model.capacity_ah,
            model.tau1_s,
            model.tau2_s,
            model.hysteresis_rate,
            model.voltage_sd_v**2 * model.correlation_s,
            SOC_VAR_PER_S,
            RELAX_VAR_PER_S,
            model.resistance_fraction,
            UNKNOWN_C_RATE * model.capacity_ah,
        )

    @property
    def soc(self) -> FloatArray:
        """State of charge per cell, 0 to 1, shape (n,)."""
        return np.clip(self._state[:, 0], 0, 1)

    @property
    def soc_sd(self) -> FloatArray:
        """Its standard deviation, shape (n,)."""
        return np.sqrt(self._covariance[:, 0, 0])

    def r0_ohm(self) -> FloatArray:
        """The series resistance that the model gives at present, shape (n,)."""
        return np.array(
            [
                float(self.model.field("r0_ohm", soc, temp))
                for soc, temp in zip(self.soc, self._temp_degc, strict=True)
            ]
        )

    def pack(self) -> PackState:
        """What the weakest cells allow: each string gives what its emptiest cell holds and takes what its
        fullest lacks; strings in parallel add up."""
        soc = self.soc
        strings = int(self.string_of_cell.max()) + 1
        low = np.array([soc[self.string_of_cell == s].min() for s in range(strings)])
        high = np.array([soc[self.string_of_cell == s].max() for s in range(strings)])
        string_soc = low / np.maximum(low + 1 - high, 1e-9)
        weakest = int(soc.argmin())
        return PackState(float(low.sum() / np.maximum((low + 1 - high).sum(), 1e-9)), float(self.soc_sd[weakest]), weakest, string_soc)

    def dump(self) -> bytes:
        """The state as bytes, exact; `load` restores it."""
        head = MAGIC + struct.pack("<I", len(self._state))
        parts = (self._state, self._covariance, self._temp_degc, self._unset.astype(np.float64))
        return head + b"".join(np.ascontiguousarray(p, dtype="<f8").tobytes() for p in parts)

    def load(self, data: bytes) -> None:
        """Restore what `dump` gave.

        Raises
        ------
        CellModelError
            These are not the bytes of a pack of this size, or they hold no finite numbers.
        """
        n = len(self._state)
        if data[:8] != MAGIC + struct.pack("<I", n) or len(data) != 8 + 8 * n * 22:
            raise CellModelError(f"the restored state is not one of {n} cells")
        numbers = np.frombuffer(data, dtype="<f8", offset=8).astype(np.float64)
        if not np.isfinite(numbers).all():
            raise CellModelError("the restored state holds what is no number")
        state, covariance, temp, unset = np.split(numbers, [4 * n, 20 * n, 21 * n])
        self._state[:] = state.reshape(n, 4)
        self._covariance[:] = covariance.reshape(n, 4, 4)
        self._temp_degc[:] = temp
        self._unset[:] = unset != 0

    def _set_from_voltage(self, voltage_v: FloatArray) -> None:
        for n in np.flatnonzero(self._unset & np.isfinite(voltage_v)).tolist():
            self._state[n, 0] = self.model.soc_at_rest(float(voltage_v[n]), float(self._temp_degc[n]))
            self._unset[n] = False
