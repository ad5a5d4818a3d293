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

Not known exactly are soc, k, h, e, how the cell bends, and how far the electrodes' surface is ahead of soc (which counts
where OCV is steep). What they do to the voltage (one sd each, squares added) is kept
as a margin, MARGIN_SD times. A cell that comes from a hard moment may have its worst voltage at the begin of the pulse, as its
relaxation goes: begin and end both keep to the limit, the limit of a longer time is never more than that of a shorter,
and the power is that of the lesser voltage. A pulse of that constant power passes no limit, for its current is never more.

Strings in parallel have one voltage: the string that reaches its limit first sets it, and the others give what they give
at that voltage (along the tangent at their own limits, which is never too much).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge.battery.estimator import CellStates
from edge.battery.model import CellModel, FloatArray

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

HORIZONS_S = (2.0, 10.0, 60.0)
PULSE_S = 10.0  # a cell file's limits for pulses hold up to here; beyond, the continuous ones
MARGIN_SD = 1.5
SHAPE_REL_SD = 0.05  # of the overpotential to come: that the model bends as the cell does
SEEN_SHARE = 0.3  # of the relaxation that is there already, the filter has seen so much
DIFFUSION_S = (
    15.0  # so many seconds of the current the electrodes' surface may be ahead in soc, beside the relaxation
)
LEVEL_SHARE = 0.2  # of the sd of soc, h and e: the filter has balanced them, so that the voltage of this moment is right
VOLTAGE_SD_V = 0.003  # of the voltage of this moment
TAPER_DEGC = 5.0  # the current limits rise from 0 at a temperature limit to all of it this far inside
STEPS = 12  # of the solver at most; 3 to 5 are usual
NEAR = 1e-3  # relative; the solver stops when every string's current is known this well, on the safe side
NOTHING = 1e-5  # of the current limit
CANDIDATES = 3  # cells of each string, for every row
SURELY_V = 1e-6

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
    series
        Cells in series in each string, where the n stand for more than themselves; None: as many as are given.
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
        series: int | None = None,
        voltage_min_v: float | None = None,
        voltage_max_v: float | None = None,
    ) -> None:
        string = np.array(string_of_cell, dtype=np.int64)
        rises = string.ndim == 1 and len(string) and string[0] == 0 and np.isin(np.diff(string), (0, 1)).all()
        if not rises or parallel < 1:
            raise ValueError(
                "string_of_cell must number the strings 0, 0, ..., 1, 1, ..., and parallel be 1 or more"
            )
        self.model, self.parallel = model, parallel
        self._string = string
        self._first = np.searchsorted(string, np.arange(int(string[-1]) + 1))
        counts = np.bincount(string)
        self._stands_for = np.ones(len(counts)) if series is None else series / counts
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
        if states.soc.shape != (n,):
            raise ValueError(f"the states must be of {n} cells, not {states.soc.shape}")
        known, pack = self._known(states)
        most, cause = self._most_current(pack, known)
        found = self._solve(pack, most, cause)
        joined = np.ones(len(self._first), dtype=bool) if connected is None else connected
        half = len(HORIZONS_S)
        out, back = (
            self._limit(sign, *self._lasting(rows, *found), joined)
            for sign, rows in ((1.0, range(half)), (-1.0, range(half, 2 * half)))
        )
        return Power(discharge=out, charge=back, unknown_cells=int(n - known.sum()))

    # The cells

    def _known(self, states: CellStates) -> tuple[BoolArray, _Cells]:
        """Which cells are known, and all of them with something harmless where they are not."""
        m = self.model
        arrays = {
            k: np.asarray(getattr(states, k), dtype=np.float64) for k in CellStates.__dataclass_fields__
        }
        known = np.ones(len(self._string), dtype=bool)
        for array in arrays.values():
            known &= np.isfinite(array.reshape(len(known), -1)).all(axis=1)
        known &= arrays["capacity_ah"] > 0
        a = {
            k: np.where(known.reshape((-1,) + (1,) * (v.ndim - 1)), v, HARMLESS.get(k, 0.0))
            for k, v in arrays.items()
        }
        grid = np.clip(
            (a["temp_degc"] - m.temp_degc[0]) / (m.temp_degc[1] - m.temp_degc[0]), 0, len(m.temp_degc) - 1
        )
        row = np.minimum(grid.astype(np.int64), len(m.temp_degc) - 2)
        soc, h = np.clip(a["soc"], 0, 1), np.clip(a["hysteresis"], -1, 1)
        relaxation_a = a["relaxation_a"][:, : len(m.tau_s)]
        per_ah = m.capacity_ah / a["capacity_ah"]  # a larger cell has less resistance
        cells = _Cells(
            soc=soc,
            soc_sd=np.abs(a["soc_sd"]),
            ratio=np.maximum(a["resistance_ratio"], 0.01) * per_ah,
            ratio_sd=np.abs(a["resistance_ratio_sd"]) * per_ah,
            h=h,
            y=np.ascontiguousarray(relaxation_a.T),
            temp_degc=a["temp_degc"],
            coulombs=3600 * a["capacity_ah"],
            error_v=a["model_error_v"],
            error_sd_v=np.abs(a["model_error_sd_v"]),
            knee_a=np.interp(a["temp_degc"], m.temp_degc, m.knee_a),
            temp_row=row * len(m.soc),
            temp_weight=(grid - row)[:, None],
            rest_v=np.zeros_like(soc),
            relaxed_v=np.zeros_like(soc),
            begin_ohm=np.zeros_like(soc),
            begin_ct_ohm=np.zeros_like(soc),
            string=self._string,
            first=self._first,
        )
        column = np.minimum((soc * (len(m.soc) - 1)).astype(np.int64), len(m.soc) - 2)
        now = self._look_up(cells, column, (soc * (len(m.soc) - 1) - column)[:, None])
        relaxation = (now[:, 5:] * relaxation_a).sum(axis=1)
        return known, replace(
            cells,
            rest_v=now[:, 0] + now[:, 2] * h + cells.error_v - cells.ratio * relaxation,
            relaxed_v=relaxation,
            begin_ohm=cells.ratio * now[:, 3],
            begin_ct_ohm=cells.ratio * now[:, 4],
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

    def _pulse(self, c: _Cells, string_current_a: FloatArray) -> _Pulse:
        """What that current (of one cell, 0 or more) does in every row's direction and time."""
        m, sign, time_s = self.model, self._sign, self._time_s
        i = sign * string_current_a[:, c.string]
        moved = time_s / c.coulombs
        soc = np.clip(c.soc - i * moved, 0, 1) * (len(m.soc) - 1)
        column = np.minimum(soc.astype(np.int64), len(m.soc) - 2)
        rows = self._look_up(c, column, (soc - column)[:, :, None])
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
        end = ocv + gap * h + c.error_v - c.ratio * overpotential
        begin = c.rest_v - c.begin_ohm * i - c.begin_ct_ohm * j
        level = (ocv_slope * c.soc_sd) ** 2 + c.error_sd_v**2 + (gap * m.uncertainty.hysteresis_sd) ** 2
        relative = c.ratio_sd**2 + (SHAPE_REL_SD * c.ratio) ** 2
        sd = np.sqrt(
            LEVEL_SHARE**2 * level
            + VOLTAGE_SD_V**2
            + (DIFFUSION_S / c.coulombs * i * ocv_slope) ** 2
            + relative * (overpotential - SEEN_SHARE * c.relaxed_v) ** 2
        )
        bound = np.where(sign > 0, self._voltage_min_v, self._voltage_max_v)
        at_begin = sign * begin < sign * end
        slope_end = ocv_slope * moved + c.ratio * (r0 + followed * dj)
        return _Pulse(
            least_v=np.maximum(np.minimum(begin, end), 0.0),
            end_v=end,
            slope_end=slope_end,
            slope=np.where(at_begin, c.begin_ohm + c.begin_ct_ohm * dj, slope_end),
            slack=sign * (np.where(at_begin, begin, end) - bound) - MARGIN_SD * sd,
        )

    def _look_up(self, c: _Cells, column: IntArray, weight: FloatArray) -> FloatArray:
        """[..., n, tables] at each cell's temperature, between that column of soc and the next."""
        place = c.temp_row + column
        low = self._table[place] * (1 - weight) + self._table[place + 1] * weight
        place = place + len(self.model.soc)
        high = self._table[place] * (1 - weight) + self._table[place + 1] * weight
        return np.asarray(low + (high - low) * c.temp_weight)

    # The strings

    def _solve(
        self, pack: _Cells, most: FloatArray, most_cause: IntArray
    ) -> tuple[FloatArray, IntArray, IntArray, _Pulse]:
        """[rows, S] each string's current (of one cell), its weakest cell and the cause; and what that current does.

        Newton's method needs only the weakest cells: it goes on with the CANDIDATES of each string and looks at all
        cells again at the end.
        """
        top = pack.least(most)
        cell = pack.which(most, top)
        cause = np.take_along_axis(most_cause, cell, axis=1)
        pulse = self._pulse(pack, top)
        by_voltage = (pack.least(pulse.slack) < 0) & (top > 0)
        if not by_voltage.any():
            return top, cell, cause, pulse
        aim = pulse.slack / pulse.slope
        chosen = np.zeros(len(pack.soc), dtype=bool)
        for begin, end in zip(pack.first, np.append(pack.first[1:], len(chosen)), strict=True):
            weakest = np.argsort(aim[:, begin:end], axis=1)[:, :CANDIDATES]
            chosen[begin + weakest.ravel()] = True
        while True:
            index = np.flatnonzero(chosen)
            current, weak = self._newton(pack.take(index), top)
            pulse = self._pulse(pack, current)
            open_rows = (by_voltage & (current > 0))[:, pack.string]
            missed = ((pulse.slack < -SURELY_V) & open_rows).any(axis=0) & ~chosen
            if not missed.any():
                cell, cause = np.where(by_voltage, index[weak], cell), np.where(by_voltage, VOLTAGE, cause)
                return current, cell, cause, pulse
            chosen |= missed

    def _newton(self, pack: _Cells, top: FloatArray) -> tuple[FloatArray, IntArray]:
        """[rows, S] the largest current up to `top` that the voltage allows, from the safe side; and the weakest cell."""
        low, high, x = np.zeros_like(top), top.copy(), top.copy()
        some = np.zeros(top.shape, dtype=bool)  # whether any current was found that fits
        for _ in range(STEPS):
            pulse = self._pulse(pack, x)
            fits = pack.least(pulse.slack) >= 0
            some |= fits
            low, high = np.where(fits, x, low), np.where(fits, high, x)
            aim = x[:, pack.string] + pulse.slack / pulse.slope
            newton = pack.least(aim)
            near = NEAR * low + NOTHING * top
            done = (high - low <= near) | (fits & (newton - x <= near)) | (~fits & (x <= 0))
            if done.all():
                break
            ahead = (newton > low) & (newton < high)
            nothing = (newton <= 0) & ~some  # perhaps none at all: tried next
            shy = newton * (1 - NEAR / 2)  # Newton's steps may come from above for ever
            x = np.where(done | nothing, low, np.where(ahead, shy, (low + high) / 2))
        return low, pack.which(aim, newton)

    def _lasting(
        self, rows: range, current: FloatArray, cell: IntArray, cause: IntArray, pulse: _Pulse
    ) -> tuple[FloatArray, IntArray, IntArray, _Pulse]:
        """Those rows, each as the shorter time whose limit is less: with a relaxation that goes and one that comes, the
        worst moment is in between."""
        source = np.empty((len(rows), current.shape[1]), dtype=np.int64)
        source[0] = rows[0]
        for k in range(1, len(rows)):
            before = np.take_along_axis(current, source[k - 1 : k], axis=0)[0]
            source[k] = np.where(before < current[rows[k]], source[k - 1], rows[k])
        return (
            np.take_along_axis(current, source, axis=0),
            np.take_along_axis(cell, source, axis=0),
            np.take_along_axis(cause, source, axis=0),
            pulse.take(source[:, self._string]),
        )

    def _limit(
        self,
        sign: float,
        current: FloatArray,
        cell: IntArray,
        cause: IntArray,
        pulse: _Pulse,
        connected: BoolArray,
    ) -> Limit:
        amps = current * self.parallel
        string_v = np.add.reduceat(pulse.least_v, self._first, axis=1) * self._stands_for
        # the first string at its limit sets the voltage of all
        end = sign * np.add.reduceat(pulse.end_v, self._first, axis=1)
        ohm = np.add.reduceat(pulse.slope_end, self._first, axis=1)
        common = end[:, connected].max(axis=1, initial=-np.inf, keepdims=True)
        shared = np.maximum(current - (common - end) / ohm, 0)[:, connected] * self.parallel
        least_v = string_v[:, connected].min(axis=1, initial=np.inf)
        return Limit(
            power_w=shared.sum(axis=1) * np.where(np.isfinite(least_v), least_v, 0.0),
            string_power_w=amps * string_v,
            string_current_a=amps,
            cell_power_w=amps * np.take_along_axis(pulse.least_v, cell, axis=1),
            cell=cell,
            cause=cause,
        )


@dataclass(frozen=True)
class _Pulse:
    """[rows, n] lesser voltage of begin and end, voltage at the end, its slope over the current, the slope of what
    comes first to its limit, and what that has left beside the margin. (Slopes as if R were that of the end.)"""

    least_v: FloatArray
    end_v: FloatArray
    slope_end: FloatArray
    slope: FloatArray
    slack: FloatArray

    def take(self, rows: IntArray) -> _Pulse:
        """[.., n] of each cell the row that is named."""
        return _Pulse(
            *(np.take_along_axis(getattr(self, k), rows, axis=0) for k in self.__dataclass_fields__)
        )


HARMLESS = {"soc": 0.5, "resistance_ratio": 1.0, "temp_degc": 25.0, "capacity_ah": 1.0}


@dataclass(frozen=True)
class _Cells:
    """The states in the form that `_pulse` needs; [n], y [K, n]."""

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
    rest_v: FloatArray
    """what a pulse begins with: its voltage at once, but for R0 and Rct"""
    relaxed_v: FloatArray
    """what of the overpotential is there already, before this cell's ratio: the filter has seen it"""
    begin_ohm: FloatArray
    begin_ct_ohm: FloatArray
    string: IntArray
    first: IntArray

    def take(self, cells: IntArray) -> _Cells:
        """Some of the cells, at least one of each string."""
        parts = {k: getattr(self, k) for k in self.__dataclass_fields__ if k != "first"}
        string = self.string[cells]
        taken = {k: v[:, cells] if k == "y" else v[cells] for k, v in parts.items()}
        return _Cells(**taken, first=np.searchsorted(string, np.arange(len(self.first))))

    def least(self, values: FloatArray) -> FloatArray:
        """[rows, S] the least of each string's cells."""
        return np.minimum.reduceat(values, self.first, axis=1)

    def which(self, values: FloatArray, least: FloatArray) -> IntArray:
        """[rows, S] the first cell of each string that has its least value."""
        place = np.where(values <= least[:, self.string], np.arange(values.shape[1]), values.shape[1])
        return np.minimum.reduceat(place, self.first, axis=1)
