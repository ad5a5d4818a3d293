"""How much power the battery can give and take for 2, 10 and 60 s.

A pulse of constant current i (one cell, positive = discharge) begins now and lasts t. At its end, by the cell's model
(`edge.battery.model`), with k = this cell's resistance over the model's and e = how far the model is off at present:

    soc' = soc - i·t/(3600·Q)
    h'   = (h + sign(i))·exp(-|i|·rate·t/(3600·Q)) - sign(i)
    y'_k = y_k·a_k + j·(1 - a_k)                                            a_k = exp(-t/tau_k)
    v    = OCV(soc', T) + M(soc', T)·h' + e - k·(R0·i + Rct·j + Σ R_k·y'_k)         R at (soc', T)

The limit is the largest current at which no cell of the string passes its voltage limit, its soc limit or its current
limit: the model-based method of G. Plett, "Battery Management Systems, Volume II: Equivalent-Circuit Methods", Artech
House 2016, chapter 6, with Newton's method, kept between bounds, in the place of its bisection. It is solved for the
string, whose cells have one current, so a step looks at every cell and the weakest decides.

Not known exactly are soc, k, h and e. What they do to the voltage (one sd each, squares added) is kept as a margin,
MARGIN_SD times. The power is the least at any moment of the pulse: that of its end when discharging, of its begin when
charging. A pulse of that constant power passes no limit, for its current is never more.

Strings in parallel have one voltage: the string that reaches its limit first sets it, and the others give what they give
at that voltage (along the tangent at their own limits, which is never too much).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.battery.model import CellModel, FloatArray
from edge.battery.states import CellStates

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

HORIZONS_S = (2.0, 10.0, 60.0)
PULSE_S = 10.0  # a cell file's limits for pulses hold up to here; beyond, the continuous ones
MARGIN_SD = 1.0
TAPER_DEGC = 5.0  # the current limits rise from 0 at a temperature limit to all of it this far inside
STEPS = 12  # of the solver at most; 3 to 5 are usual
NEAR = 1e-3  # relative; the solver stops when every string's current is known this well, on the safe side
NOTHING = 1e-5  # of the current limit

CAUSES = ("current", "voltage", "soc", "temperature", "unknown")
"""what a limit is due to: the number of a cause is its place. `unknown`: a cell's state is not known, so 0 W"""
CURRENT, VOLTAGE, SOC, TEMPERATURE, UNKNOWN = range(len(CAUSES))


@dataclass(frozen=True)
class Limit:
    """One direction, for every horizon H and string S. Powers and currents are 0 or more, in either direction.

    power_w          [H] of the pack, its connected strings in parallel
    string_power_w   [H, S] of each string by itself
    string_current_a [H, S] likewise
    cell_power_w     [H, S] of the weakest cell at that current (all its parallel cells)
    cell             [H, S] which cell that is
    cause            [H, S] what it is limited by: the number of one of CAUSES
    """

    power_w: FloatArray
    string_power_w: FloatArray
    string_current_a: FloatArray
    cell_power_w: FloatArray
    cell: IntArray
    cause: IntArray


@dataclass(frozen=True)
class Power:
    """What can be had now. `unknown_cells`: how many cells' states hold a NaN; their strings' limits are 0."""

    discharge: Limit
    charge: Limit
    unknown_cells: int


class PowerPredictor:
    """Power limits of n cells in S strings.

    Parameters
    ----------
    model
        What the cells are.
    string_of_cell
        [n] number of the string that each cell is in, 0 to S-1, rising.
    parallel
        Cells in parallel behind each voltage.
    voltage_min_v, voltage_max_v
        The limits of one cell, where they are not the model's.

    Raises
    ------
    ValueError
        The arguments make no pack.
    """

    def __init__(
        self,
        model: CellModel,
        string_of_cell: npt.ArrayLike,
        parallel: int = 1,
        voltage_min_v: float | None = None,
        voltage_max_v: float | None = None,
    ) -> None:
        string = np.array(string_of_cell, dtype=np.int64)
        rises = string.ndim == 1 and len(string) and string[0] == 0 and np.isin(np.diff(string), (0, 1)).all()
        if not rises or parallel < 1:
            raise ValueError("string_of_cell must number the strings 0, 0, ..., 1, 1, ..., and parallel be 1 or more")
        self.model, self.parallel = model, parallel
        self._string = string
        self._first = np.searchsorted(string, np.arange(int(string[-1]) + 1))
        self._voltage_min_v = model.voltage_min_v if voltage_min_v is None else voltage_min_v
        self._voltage_max_v = model.voltage_max_v if voltage_max_v is None else voltage_max_v
        # [T·S, C]: what a look-up needs lies side by side
        slope = np.gradient(model.ocv_v, model.soc, axis=1)
        tables = (model.ocv_v, slope, model.hysteresis_v, model.r0_ohm, model.rct_ohm, *model.relaxation_ohm)
        self._table = np.stack(tables, axis=-1).reshape(-1, len(tables))
        # rows: discharging for every horizon, then charging
        self._sign = np.repeat([1.0, -1.0], len(HORIZONS_S))[:, None]
        self._time_s = np.tile(HORIZONS_S, 2)[:, None]

    def limits(self, states: CellStates, connected: BoolArray | None = None) -> Power:
        """The limits at this moment. `connected` [S]: strings whose contactors are closed; None: all.

        Raises
        ------
        ValueError
            The states are not of this many cells.
        """
        n = len(self._string)
        if states.soc.shape != (n,) or states.relaxation_a.shape != (n, len(self.model.tau_s)):
            raise ValueError(f"the states must be of {n} cells with {len(self.model.tau_s)} relaxation processes")
        known, pack = self._known(states)
        most, cause = self._most_current(pack, known)
        current, cell, cause, volts, slope = self._solve(pack, most, cause)
        half = len(HORIZONS_S)
        begin = self._voltage(pack, current[half:], self._sign[half:], np.zeros((half, 1)))[0]
        joined = np.ones(len(self._first), dtype=bool) if connected is None else connected
        args = (current, cell, cause, volts, slope)
        return Power(
            discharge=self._limit(1.0, *(a[:half] for a in args), volts[:half], joined),
            charge=self._limit(-1.0, *(a[half:] for a in args), begin, joined),
            unknown_cells=int(n - known.sum()),
        )

    # The cells

    def _known(self, states: CellStates) -> tuple[BoolArray, _Cells]:
        """Which cells are known, and all of them with something harmless where they are not."""
        m = self.model
        arrays = {k: np.asarray(getattr(states, k), dtype=np.float64) for k in CellStates.__dataclass_fields__}
        known = np.ones(len(self._string), dtype=bool)
        for array in arrays.values():
            known &= np.isfinite(array.reshape(len(known), -1)).all(axis=1)
        known &= arrays["capacity_ah"] > 0
        a = {k: np.where(known.reshape((-1,) + (1,) * (v.ndim - 1)), v, HARMLESS.get(k, 0.0)) for k, v in arrays.items()}
        grid = np.clip((a["temp_degc"] - m.temp_degc[0]) / (m.temp_degc[1] - m.temp_degc[0]), 0, len(m.temp_degc) - 1)
        row = np.minimum(grid.astype(np.int64), len(m.temp_degc) - 2)
        return known, _Cells(
            soc=np.clip(a["soc"], 0, 1),
            soc_sd=np.abs(a["soc_sd"]),
            ratio=np.maximum(a["resistance_ratio"], 0.01),
            ratio_sd=np.abs(a["resistance_ratio_sd"]),
            h=np.clip(a["hysteresis"], -1, 1),
            y=np.ascontiguousarray(a["relaxation_a"].T),
            temp_degc=a["temp_degc"],
            coulombs=3600 * a["capacity_ah"],
            error_v=a["error_v"],
            error_sd_v=np.abs(a["error_sd_v"]),
            knee_a=np.interp(a["temp_degc"], m.temp_degc, m.knee_a),
            temp_row=row * len(m.soc),
            temp_weight=(grid - row)[:, None],
        )

    def _most_current(self, pack: _Cells, known: BoolArray) -> tuple[FloatArray, IntArray]:
        """[rows, n] of one cell, and what sets it: everything but the voltage."""
        limits = self.model.limits
        out, time = self._sign > 0, self._time_s
        out_a = np.where(time <= PULSE_S, limits.discharge_pulse_a, limits.discharge_max_a)
        in_a = np.where(time <= PULSE_S, limits.charge_pulse_a, limits.charge_max_a)
        most = np.broadcast_to(np.where(out, out_a, in_a), (len(time), len(pack.soc)))
        coldest = np.where(out, limits.temp_min_degc, max(limits.charge_temp_min_degc, limits.temp_min_degc))
        inside = np.minimum(pack.temp_degc - coldest, limits.temp_max_degc - pack.temp_degc)
        tapered = most * np.clip(inside / TAPER_DEGC, 0, 1)
        cause = np.where(tapered < most, TEMPERATURE, CURRENT)
        room = np.where(out, pack.soc - limits.soc_min, limits.soc_max - pack.soc) - MARGIN_SD * pack.soc_sd
        by_soc = np.maximum(room, 0) * pack.coulombs / time
        cause = np.where(by_soc < tapered, SOC, cause)
        return np.where(known, np.minimum(by_soc, tapered), 0.0), np.where(known, cause, UNKNOWN)

    def _voltage(
        self, c: _Cells, string_current_a: FloatArray, sign: FloatArray, time_s: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """[rows, n] voltage after `time_s` of that current (of one cell, 0 or more), its slope over the current
        (as if R were that of the end), and the sd of what is not known."""
        m = self.model
        i = sign * string_current_a[:, self._string]
        moved = time_s / c.coulombs
        soc = np.clip(c.soc - i * moved, 0, 1) * (len(m.soc) - 1)
        column = np.minimum(soc.astype(np.int64), len(m.soc) - 2)
        place = c.temp_row + column
        weight = (soc - column)[:, :, None]
        low = self._table[place] * (1 - weight) + self._table[place + 1] * weight
        place = place + len(m.soc)
        high = self._table[place] * (1 - weight) + self._table[place + 1] * weight
        rows = low + (high - low) * c.temp_weight
        ocv, ocv_slope, gap, r0, rct = (rows[:, :, k] for k in range(5))
        knee = i / c.knee_a
        j, dj = c.knee_a * np.arcsinh(knee), 1 / np.sqrt(1 + knee * knee)
        overpotential = r0 * i
        followed = rct.copy()
        for k, tau in enumerate(m.tau_s):
            kept = np.exp(-time_s / tau)
            followed += rows[:, :, 5 + k] * (1 - kept)
            overpotential += rows[:, :, 5 + k] * (kept * c.y[k])
        overpotential += followed * j
        h = (c.h + sign) * np.exp(-np.abs(i) * moved * m.hysteresis_rate) - sign
        volts = ocv + gap * h + c.error_v - c.ratio * overpotential
        slope = ocv_slope * moved + c.ratio * (r0 + followed * dj)
        unsure = (ocv_slope * c.soc_sd) ** 2 + c.error_sd_v**2 + (c.ratio_sd * overpotential) ** 2
        unsure += (gap * m.uncertainty.hysteresis_sd) ** 2
        return volts, slope, np.sqrt(unsure)

    # The strings

    def _least(self, values: FloatArray) -> FloatArray:
        """[rows, S] the least of each string's cells."""
        return np.minimum.reduceat(values, self._first, axis=1)

    def _which(self, values: FloatArray, least: FloatArray) -> IntArray:
        """[rows, S] the first cell of each string that has its least value."""
        place = np.where(values <= least[:, self._string], np.arange(values.shape[1]), values.shape[1])
        return np.minimum.reduceat(place, self._first, axis=1)

    def _solve(
        self, pack: _Cells, most: FloatArray, most_cause: IntArray
    ) -> tuple[FloatArray, IntArray, IntArray, FloatArray, FloatArray]:
        """[rows, S] each string's current (of one cell), its weakest cell and the cause; [rows, n] voltage and
        slope there."""
        bound = np.where(self._sign > 0, self._voltage_min_v, self._voltage_max_v)
        top = self._least(most)
        cell = self._which(most, top)
        cause = np.take_along_axis(most_cause, cell, axis=1)
        low, high, x = np.zeros_like(top), top.copy(), top.copy()
        for step in range(STEPS):
            v, dv, sd = self._voltage(pack, x, self._sign, self._time_s)
            slack = self._sign * (v - bound) - MARGIN_SD * sd
            fits = self._least(slack) >= 0
            low, high = np.where(fits, x, low), np.where(fits, high, x)
            if step == 0:  # at the top, where most strings of a warm battery end
                volts, slope = v, dv
                by_voltage = ~fits & (top > 0)
            new = fits[:, self._string]
            volts, slope = np.where(new, v, volts), np.where(new, dv, slope)
            aim = x[:, self._string] + slack / dv
            newton = self._least(aim)
            cell = np.where(by_voltage, self._which(aim, newton), cell)
            near = NEAR * low + NOTHING * top
            done = (high - low <= near) | (fits & (newton - x <= near))
            if done.all():
                break
            ahead = (newton > low) & (newton < high)
            x = np.where(done, low, np.where(ahead, newton, (low + high) / 2))
        if (by_voltage & (low <= 0)).any():
            v, dv, _ = self._voltage(pack, low, self._sign, self._time_s)
            none = (low <= 0)[:, self._string]
            volts, slope = np.where(none, v, volts), np.where(none, dv, slope)
        return low, cell, np.where(by_voltage, VOLTAGE, cause), volts, slope

    def _limit(
        self,
        sign: float,
        current: FloatArray,
        cell: IntArray,
        cause: IntArray,
        volts: FloatArray,
        slope: FloatArray,
        least_volts: FloatArray,
        connected: BoolArray,
    ) -> Limit:
        amps = current * self.parallel
        shown = np.add.reduceat(least_volts, self._first, axis=1)
        # the first string at its limit sets the voltage of all
        end = sign * np.add.reduceat(volts, self._first, axis=1)
        ohm = np.add.reduceat(slope, self._first, axis=1)
        common = end[:, connected].max(axis=1, initial=-np.inf, keepdims=True)
        shared = np.maximum(current - (common - end) / ohm, 0)[:, connected] * self.parallel
        least = common[:, 0] if sign > 0 else shown[:, connected].min(axis=1, initial=np.inf)
        return Limit(
            power_w=shared.sum(axis=1) * np.where(np.isfinite(least), least, 0.0),
            string_power_w=amps * shown,
            string_current_a=amps,
            cell_power_w=amps * np.take_along_axis(least_volts, cell, axis=1),
            cell=cell,
            cause=cause,
        )


HARMLESS = {"soc": 0.5, "resistance_ratio": 1.0, "temp_degc": 25.0, "capacity_ah": 1.0}


@dataclass(frozen=True)
class _Cells:
    """The states in the form that `_voltage` needs; [n], y [K, n]."""

    soc: FloatArray
    soc_sd: FloatArray
    ratio: FloatArray
    ratio_sd: FloatArray
    h: FloatArray
    y: FloatArray
    temp_degc: FloatArray
    coulombs: FloatArray
    error_v: FloatArray
    error_sd_v: FloatArray
    knee_a: FloatArray
    temp_row: IntArray
    temp_weight: FloatArray
