"""Many cells: particles in which lithium diffuses, reaction kinetics, an electrolyte, hysteresis with memory.

A single-particle model with electrolyte, of each cell and with the current I > 0 on discharge:

    dz/dt = -I / (3600 Q)                                                   z: mean state of charge
    z_e   = z - I/(3600 Q) * (tau_e/3) * sum_k w_k y_ek                     surface of the particles of electrode e
    dy_ek/dt = p_k/tau_e * (I - y_ek), written here for constant I as I*y   e: n anode, p cathode
    V     = U_p(z_p) - U_n(z_n) + (T - 25 degC) dU/dT(z) + m(T) M(z) h
            - 2RT/F [asinh(I / 2 I0_n) + asinh(I / 2 I0_p)] - R I - v_1 - v_2
    I0_e  = k_e(T, z) * 2 sqrt(x_e (1 - x_e))                               x_e: stoichiometry at the surface
    dv_j/dt = (R_j I - v_j) / tau_j                                         electrolyte, and what is slower
    h     = sum_j s_j e_j / r_j,  de_j = dz held within -r_j and r_j        play (stop) operators

R, k_e, tau_e, R_j, tau_j over temperature and state of charge. Sources: the model is the single-particle model with
electrolyte of Marquis et al., J. Electrochem. Soc. 166 (2019) A3693, with its electrolyte lumped to one first-order lag;
kinetics with symmetric transfer: Doyle, Fuller, Newman, J. Electrochem. Soc. 140 (1993) 1526; diffusion by modes of the
sphere: Crank, The Mathematics of Diffusion (1975), 6.3; hysteresis: Prandtl-Ishlinskii, in Brokate and Sprekels,
Hysteresis and Phase Transitions (1996); of LFP: Dreyer et al., Nature Materials 9 (2010) 448.

Steps are exact for a current that is constant within them, but for the kinetics' I0 and for h, which are taken at the
step's beginning.
"""

from __future__ import annotations

import numpy as np

from edge.errors import ScenarioError
from sim_bus.battery._cells import LAGS, MODES, Kernel
from sim_bus.battery.cell import DYNAMICS, GRID_FIRST, GRID_PER_SOC, KELVIN, Cell
from sim_bus.doors import STEP_S, FloatArray

COEFFICIENTS = 23  # of a cell, in the kernel
STILL = 9


def _kernel(cell: Cell) -> Kernel:
    an, ca = cell.anode, cell.cathode
    tables = np.log(np.stack([cell.dynamics[k] for k in DYNAMICS]))
    return Kernel(
        GRID_FIRST,
        GRID_PER_SOC,
        cell.grid(),
        (an[0], an[1] - an[0], ca[0], ca[1] - ca[0]),
        cell.width_soc,
        cell.share,
        1 / (cell.temp_degc + KELVIN),
        cell.dynamics_soc,
        np.ascontiguousarray(tables),
    )


class Cells:
    """Strings of cells of one type. All public arrays are (strings, cells), of float64.

    soc, capacity_ah, resistance (factor of everything resistive), temp_degc: may be written, then call `prepare`.
    cell_v, open_circuit_v (rested, at its soc, hysteresis and temperature), heat_w (made inside, entropic included,
    of the last step): to read. Without noise and without what lies outside the cell.
    """

    def __init__(
        self,
        cell: Cell,
        capacity_ah: FloatArray,
        resistance: FloatArray,
        soc: FloatArray,
        temp_degc: FloatArray,
        *,
        dt_s: float = STEP_S,
        hysteresis: float = 0.0,
    ) -> None:
        """Rested cells; hysteresis from -1 (after a long discharge) to 1 (after a charge).

        Raises ScenarioError where an array has another shape or an impossible value.
        """
        self.cell = cell
        self.capacity_ah = np.array(capacity_ah, np.float64, order="C")
        shape = self.capacity_ah.shape
        self.resistance = np.array(resistance, np.float64, order="C")
        self.soc = np.array(soc, np.float64, order="C")
        self.temp_degc = np.array(temp_degc, np.float64, order="C")
        self._check(dt_s, hysteresis)
        n = self.soc.size
        self.cell_v, self.open_circuit_v, self.heat_w = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self._mode, self._lag = np.zeros((n, 2 * MODES)), np.zeros((n, LAGS))
        self._play = np.tile(hysteresis * cell.width_soc, (n, 1))
        self._string_v, self._slope_ohm = np.zeros(shape[0]), np.zeros(shape[0])
        self.kernel = _kernel(cell)
        self.kernel.bind(
            shape[0],
            dt_s,
            self.soc.reshape(-1),
            self.capacity_ah.reshape(-1),
            self.resistance.reshape(-1),
            self.temp_degc.reshape(-1),
            self.cell_v.reshape(-1),
            self.open_circuit_v.reshape(-1),
            self.heat_w.reshape(-1),
            self._mode,
            self._lag,
            self._play,
            np.zeros((n, COEFFICIENTS)),
            np.zeros((STILL, n)),
        )
        self.cell_v[:] = self.open_circuit_v

    def _check(self, dt_s: float, hysteresis: float) -> None:
        shape = self.capacity_ah.shape
        if len(shape) != 2 or 0 in shape:
            raise ScenarioError(f"cells: capacity_ah must be (strings, cells), not {shape}")
        for name in ("resistance", "soc", "temp_degc"):
            if getattr(self, name).shape != shape:
                raise ScenarioError(f"cells: {name} must be {shape}, not {getattr(self, name).shape}")
        for name in ("capacity_ah", "resistance", "soc", "temp_degc"):
            if not np.isfinite(getattr(self, name)).all():
                raise ScenarioError(f"cells: {name} must be finite")
        if self.capacity_ah.min() <= 0 or self.resistance.min() <= 0 or self.temp_degc.min() <= -KELVIN:
            raise ScenarioError("cells: capacity_ah and resistance must be above 0, temp_degc above -273.15")
        if not (dt_s > 0 and -1 <= hysteresis <= 1):
            raise ScenarioError("cells: dt_s must be above 0, hysteresis from -1 to 1")

    def prepare(self, temp_degc: FloatArray | None = None) -> None:
        """Take in new temperatures, capacities, resistances, socs: call it once a second, or when they moved."""
        if temp_degc is not None:
            self.temp_degc[:] = temp_degc
        self.kernel.prepare()

    def terminal(
        self,
        current_a: FloatArray,
        extra_ohm: FloatArray | None = None,
        drain_a: FloatArray | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """(string_v, slope_ohm), each (strings,): at the coming step's end, were this current (strings,) to flow in it.

        `slope_ohm` is -dV/dI; `extra_ohm` (strings, cells) lies in series and is in both; `drain_a` as in `advance`.
        The arrays are the same at each call, and overwritten by it.
        """
        self.kernel.terminal(current_a, extra_ohm, drain_a, self._string_v, self._slope_ohm)
        return self._string_v, self._slope_ohm

    def advance(self, dt_s: float, current_a: FloatArray, drain_a: FloatArray | None = None) -> None:
        """Let the current (strings,) flow for dt_s; `drain_a` (strings, cells) leaves each cell beside it.

        Afterwards `cell_v` is what `terminal` promised. Another dt_s than before costs as much as `prepare`.
        """
        self.kernel.step_s(dt_s)
        self.kernel.advance(current_a, drain_a)


def run_cell(
    cell: Cell,
    time_s: FloatArray,
    current_a: FloatArray,
    temp_degc: FloatArray | float,
    soc0: float,
    dt_s: float = STEP_S,
    *,
    capacity_ah: float | None = None,
    resistance: float = 1.0,
    hysteresis: float = 0.0,
    every_s: float = 1.0,
) -> FloatArray:
    """Voltage of one cell, rested before, at each row; a row's current flows from the row before until it.

    Rows may be as far apart as they like: steps are dt_s at most. What depends on temperature and, slowly, on soc is
    brought up to date every `every_s`. Raises ScenarioError where the arrays don't fit,
    times don't rise or a value is not finite.
    """
    time, current = np.array(time_s, np.float64), np.array(current_a, np.float64)
    temp = np.array(np.broadcast_to(np.asarray(temp_degc, np.float64), time.shape))
    if time.ndim != 1 or time.size == 0 or current.shape != time.shape:
        raise ScenarioError("run_cell: time_s and current_a must be rows of one length")
    if not (np.isfinite(time).all() and np.isfinite(current).all() and np.isfinite(temp).all()):
        raise ScenarioError("run_cell: time_s, current_a and temp_degc must be finite")
    if (np.diff(time) < 0).any():
        raise ScenarioError("run_cell: time_s must rise")
    one = np.ones((1, 1))
    cells = Cells(
        cell,
        one * (capacity_ah if capacity_ah is not None else cell.capacity_ah),
        one * resistance,
        one * soc0,
        one * temp[0],
        dt_s=dt_s,
        hysteresis=hysteresis,
    )
    voltage = np.zeros(time.size)
    cells.kernel.run(time, current, temp, dt_s, every_s, voltage)
    return voltage
