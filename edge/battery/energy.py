"""Energy left at the present temperature and load, and how far it takes the bus.

In the cold the charge is still there; what moves is the moment at which the voltage limit is met. So two things of a
load are learnt (`LoadTracker`), both of one cell:

    its losses          E[i·i]/E[i], E[i·j]/E[i], E[i·y_k]/E[i]: with R0, Rct and R_k of any soc and temperature they give
                        the voltage that is lost on the way, weighted with the current as energy is (letters:
                        `edge.battery.model`)
    its hardest moments of each minute the power, the current and the relaxation where the overpotential was largest

`energy_left` walks down from the soc of the weakest cell of each string. At every soc a share f of the moments would
meet the voltage limit, were they to come again there with their power. That is a hazard of f per minute, and the battery
is empty when it has most likely happened: at the median of the first moment that meets the limit, ∫ f dt = ln 2. The
energy is the integral of the mean voltage of all cells of the string over the charge until there. The sd is that of the
end (soc, resistance, voltage error, chance) and of the capacity.

`Consumption` learns kWh/km against the ambient temperature: Bayesian linear regression (C. Bishop, "Pattern Recognition
and Machine Learning", Springer 2006, section 3.3) with forgetting towards its prior.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge.battery.estimator import CellStates
from edge.battery.model import CellModel, FloatArray
from edge.errors import CellModelError

IntArray = npt.NDArray[np.int64]

# The load
LOAD_TAU_S = 3600.0  # of its means
CHARGING_TAU_S = 120.0  # the mean power over so long tells driving from charging and standing
MOMENT_S = 60.0  # of each so long the hardest moment is kept
MOMENTS = 120  # so many of them
ENOUGH = 10  # until there are so many, the prior's stands beside them
PRIOR_S = 300.0  # how many seconds of driving the prior of the means counts for
# Before anything was learnt: a 12 m bus with 350 kWh draws 25 kW in the mean and 200 kW when it pulls away
PRIOR_MEAN_C = 0.07
PRIOR_RMS_C = 0.15
PRIOR_HARDEST_C = 0.5

# Energy
GRID = 60  # steps of soc on the way down
AT_ONCE = 1e9  # hazard where even the mean load cannot be had
TYPICAL = 0.9  # the quantile of the moments that tells which cell is the weakest
QUANTILES = (0.16, 0.5, 0.84)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(5)


@dataclass(frozen=True)
class Load:
    """What one cell is asked for; discharge is positive.

    power_w, current_a   means
    loss_a               [2 + K] currents that R0, Rct and R_k lose their voltage with
    moments              [W, 2 + K] the hardest of each minute: its power in W, its current in A, and y_k
    """

    power_w: float
    current_a: float
    loss_a: FloatArray
    moments: FloatArray


class LoadTracker:
    """Learns the load while the bus drives; charging and standing are left out."""

    def __init__(self, model: CellModel) -> None:
        q, volts = model.capacity_ah, float(model.at(model.ocv_v, 0.5, 25.0))
        k = len(model.tau_s)
        self.model = model
        mean, square, hardest = PRIOR_MEAN_C * q, (PRIOR_RMS_C * q) ** 2, PRIOR_HARDEST_C * q
        # sums, forgotten with LOAD_TAU_S: seconds, i, i·v, i·i, i·j, i·y_k
        self._sums = PRIOR_S * np.array([1.0, mean, mean * volts, square, square, *[mean * mean] * k])
        self._prior = np.array([[hardest * volts, hardest, *[mean] * k]])
        self._moments = np.empty((0, 2 + k))
        self._now = np.zeros(2 + k)  # the hardest of the present minute
        self._now_v = 0.0  # its overpotential
        self._now_s = 0.0
        self._recent_w = 0.0

    def update(
        self,
        dt_s: float,
        current_a: float,
        voltage_v: float,
        relaxation_a: FloatArray,
        soc: float,
        temp_degc: float,
    ) -> None:
        """What a typical cell did for `dt_s`: its current and voltage, y_k [K], soc and temperature. What holds a NaN is
        left out."""
        state = np.array([current_a, voltage_v, soc, temp_degc, *relaxation_a])
        if not (np.isfinite(state).all() and dt_s > 0):
            return
        power = current_a * voltage_v
        self._recent_w += (power - self._recent_w) * (1 - math.exp(-dt_s / CHARGING_TAU_S))
        if self._recent_w <= 0:
            return
        m = self.model
        knee = float(np.interp(temp_degc, m.temp_degc, m.knee_a))
        amps = np.array([current_a, knee * math.asinh(current_a / knee), *relaxation_a])
        step = min(dt_s, LOAD_TAU_S) * np.array([1.0, current_a, power, *(current_a * amps)])
        self._sums = self._sums * math.exp(-dt_s / LOAD_TAU_S) + step
        overpotential_v = float(amps @ _ohm(m, soc, temp_degc))
        if overpotential_v > self._now_v:
            self._now_v, self._now = overpotential_v, np.array([power, current_a, *relaxation_a])
        self._now_s += dt_s
        if self._now_s >= MOMENT_S:
            self._moments = np.vstack([self._moments, self._now])[-MOMENTS:]
            self._now, self._now_v, self._now_s = np.zeros_like(self._now), 0.0, 0.0

    @property
    def driving(self) -> bool:
        """Whether the battery has lately given more than it took."""
        return self._recent_w > 0

    @property
    def load(self) -> Load:
        """As learnt so far."""
        seconds, current, power, *loss = self._sums.tolist()
        mean = max(current / seconds, 1e-3 * self.model.capacity_ah)
        loss_a = np.array(loss) / seconds / mean
        few = len(self._moments) < ENOUGH
        moments = np.vstack([self._moments, self._prior]) if few else self._moments.copy()
        # a process slower than the drive was old goes on to fill up
        moments[:, 2:] = np.maximum(moments[:, 2:], np.minimum(loss_a[2:], mean))
        return Load(max(power / seconds, 0.0), mean, loss_a, moments)

    def dump(self) -> bytes:
        """The memory, for `restore` on the same number of relaxation processes."""
        values = [*self._sums, *self._now, self._now_v, self._now_s, self._recent_w, *self._moments.ravel()]
        return struct.pack(f"<{len(values)}d", *values)

    def restore(self, memory: bytes) -> None:
        """Go on from a `dump`.

        Raises
        ------
        CellModelError
            It is no such memory; nothing changes.
        """
        width = 2 + len(self.model.tau_s)
        head = 3 + width + width + 3
        values = _numbers(memory, "load")
        rows, left = divmod(len(values) - head, width)
        if left or not 0 <= rows <= MOMENTS:
            raise CellModelError("the load's memory is damaged")
        self._sums, self._now = values[: 3 + width].copy(), values[3 + width : head - 3].copy()
        self._now_v, self._now_s, self._recent_w = values[head - 3 : head].tolist()
        self._moments = values[head:].reshape(rows, width).copy()


@dataclass(frozen=True)
class Energy:
    """What is left.

    energy_wh, energy_sd_wh   of the pack
    string_wh                 [S]
    cell                      [S] which cell ends its string
    soc_end                   [S] that cell's soc then
    by_voltage                [S] whether the voltage limit ends it (or else the lowest soc)
    unknown_cells             how many cells' states hold a NaN; their strings have nothing left
    """

    energy_wh: float
    energy_sd_wh: float
    string_wh: FloatArray
    cell: IntArray
    soc_end: FloatArray
    by_voltage: npt.NDArray[np.bool_]
    unknown_cells: int


def energy_left(
    model: CellModel,
    states: CellStates,
    string_of_cell: npt.ArrayLike,
    load: Load,
    *,
    parallel: int = 1,
    series: int | None = None,
    voltage_min_v: float | None = None,
    capacity_rel_sd: float | None = None,
) -> Energy:
    """Energy until the first cell of each string meets its lower voltage limit or lowest soc; strings add up.

    Parameters
    ----------
    states : of n cells
    string_of_cell : [n] number of the string that each cell is in, rising
    load : of one cell
    parallel : cells in parallel behind each state
    series : cells in series in each string, where the n stand for more than themselves; None: as many as are given
    voltage_min_v : of one cell; None: the model's
    capacity_rel_sd : of the states' capacities; None: the model's
    """
    limit = model.voltage_min_v if voltage_min_v is None else voltage_min_v
    capacity_sd = model.capacity_rel_sd if capacity_rel_sd is None else capacity_rel_sd
    string = np.asarray(string_of_cell, dtype=np.int64)
    first = np.searchsorted(string, np.arange(int(string[-1]) + 1))
    known = np.isfinite([getattr(states, k) for k in NEEDED]).all(axis=0) & (states.capacity_ah > 0)
    cells = _Cells(*(np.where(known, getattr(states, k), harmless) for k, harmless in NEEDED.items()))
    per_ah = model.capacity_ah / cells.capacity_ah  # a larger cell has less resistance
    cells = replace(
        cells,
        soc=np.where(known, np.clip(cells.soc, 0, 1), model.limits.soc_min),
        resistance_ratio=np.maximum(cells.resistance_ratio, 0.01) * per_ah,
        resistance_ratio_sd=cells.resistance_ratio_sd * per_ah,
    )
    # which cell ends each string: by one moment for all
    typical = _typical(model, load)
    ends, _ = _end(model, cells, replace(load, moments=typical), limit, np.array([0.5]))
    charge = (cells.soc - ends[0]) * cells.capacity_ah
    least = np.minimum.reduceat(charge, first)
    place = np.where(charge <= least[string], np.arange(len(string)), len(string))
    cell = np.minimum.reduceat(place, first)
    # when, and how sure that is
    weak = cells.take(cell)
    (early, end, late), by_voltage = _end(model, weak, load, limit, np.array(QUANTILES))
    doubted = replace(
        weak,
        resistance_ratio=weak.resistance_ratio + weak.resistance_ratio_sd,
        model_error_v=weak.model_error_v - weak.model_error_sd_v,
    )
    (sooner,), _ = _end(model, doubted, load, limit, np.array([0.5]))
    string_ah = (weak.soc - end) * weak.capacity_ah
    sd_soc = np.sqrt(((early - late) / 2) ** 2 + (sooner - end) ** 2 + weak.soc_sd**2)
    sd_ah = np.hypot(sd_soc * weak.capacity_ah, capacity_sd * string_ah)
    string_v = np.add.reduceat(_mean_v(model, load, cells, string_ah[string]), first)
    if series is not None:
        string_v *= series / np.bincount(string)
    string_wh = string_ah * string_v * parallel
    return Energy(
        energy_wh=float(string_wh.sum()),
        energy_sd_wh=float((sd_ah * string_v).sum()) * parallel,  # the strings' errors are taken as one
        string_wh=string_wh,
        cell=cell,
        soc_end=end,
        by_voltage=by_voltage,
        unknown_cells=int(len(known) - known.sum()),
    )


# what of the states is needed, and what stands where it is not known
NEEDED = {
    "soc": 0.0,
    "soc_sd": 0.0,
    "resistance_ratio": 1.0,
    "resistance_ratio_sd": 0.0,
    "temp_degc": 25.0,
    "capacity_ah": 1.0,
    "model_error_v": 0.0,
    "model_error_sd_v": 0.0,
}


@dataclass(frozen=True)
class _Cells:
    """[n] the states that are needed, all of them numbers."""

    soc: FloatArray
    soc_sd: FloatArray
    resistance_ratio: FloatArray
    resistance_ratio_sd: FloatArray
    temp_degc: FloatArray
    capacity_ah: FloatArray
    model_error_v: FloatArray
    model_error_sd_v: FloatArray

    def take(self, cells: IntArray) -> _Cells:
        return _Cells(*(getattr(self, k)[cells] for k in NEEDED))


def _typical(model: CellModel, load: Load) -> FloatArray:
    """[1, 2 + K] of the moments that which is harder than most."""
    hardness = load.moments[:, 0]
    return load.moments[np.argsort(hardness)[[int(TYPICAL * (len(hardness) - 1))]]]


def _end(
    model: CellModel, cells: _Cells, load: Load, limit_v: float, quantiles: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """[quantile, n] at what soc the cell is empty with that probability; [n] whether the voltage limit is why, at the
    median."""
    floor = np.minimum(cells.soc, model.limits.soc_min)
    way = np.linspace(0, 1, GRID)[:, None] * (cells.soc - floor)
    at = cells.soc - way
    minutes = way * cells.capacity_ah / load.current_a * 60
    lasting = np.exp(-60 * minutes / model.uncertainty.model_tau_s)  # of the error now
    room = _ocv(model, at, cells.temp_degc) + cells.model_error_v * lasting - limit_v
    ohm = _ohm(model, at, cells.temp_degc) * cells.resistance_ratio
    share = (_moment_v(model, load, limit_v, cells.temp_degc, ohm) >= room).mean(axis=0)
    # where even the mean load meets the limit there is no more
    share = np.where(np.tensordot(load.loss_a, ohm, 1) >= room, AT_ONCE, share)
    per_step = (share[1:] + share[:-1]) / 2 * np.diff(minutes, axis=0) * 60 / MOMENT_S
    begin = np.where(share[:1] == AT_ONCE, AT_ONCE, 0.0)
    hazard = np.vstack([begin, begin + np.cumsum(per_step, axis=0)])
    wanted = -np.log1p(-quantiles)
    ends = np.stack([_crossing(hazard, w, at) for w in wanted])
    return ends, hazard[-1] >= math.log(2)


def _crossing(rising: FloatArray, value: float, at: FloatArray) -> FloatArray:
    """[n] where each column of `rising` [G, n] reaches a value; the last of `at` where it does not."""
    met = rising >= value
    row = np.where(met.any(axis=0), np.argmax(met, axis=0), len(rising) - 1)
    columns = np.arange(rising.shape[1])
    before = np.maximum(row - 1, 0)
    low, high = rising[before, columns], rising[row, columns]
    steep = high > low
    part = np.where(steep, (value - low) / np.where(steep, high - low, 1.0), 0.0)
    part = np.where(met.any(axis=0), np.clip(part, 0, 1), 1.0)
    return np.asarray(at[before, columns] + part * (at[row, columns] - at[before, columns]))


def _ohm(model: CellModel, soc: float | FloatArray, temp_degc: float | FloatArray) -> FloatArray:
    """[2 + K, ...] R0, Rct and R_k."""
    return np.stack(
        [model.at(r, soc, temp_degc) for r in (model.r0_ohm, model.rct_ohm, *model.relaxation_ohm)]
    )


def _ocv(model: CellModel, soc: FloatArray, temp_degc: FloatArray) -> FloatArray:
    """On the discharge branch, where a drive soon is."""
    return model.at(model.ocv_v, soc, temp_degc) - model.at(model.hysteresis_v, soc, temp_degc)


def _moment_v(
    model: CellModel, load: Load, limit_v: float, temp_degc: FloatArray, ohm: FloatArray
) -> FloatArray:
    """[W, G, n] overpotential of the moments where they just meet the limit: with their power, so their current grows."""
    power, was = load.moments[:, :1], load.moments[:, 1:2]
    current = np.maximum(power, 0) / limit_v
    knee = np.interp(temp_degc, model.temp_degc, model.knee_a)
    j, j_was = knee * np.arcsinh(current / knee), knee * np.arcsinh(was / knee)  # [W, n]
    grown = np.clip(j / np.maximum(j_was, 1e-9), 0.5, 2.0)  # the relaxation with it
    lost = current[:, :, None] * ohm[0] + j[:, None] * ohm[1]
    for k in range(len(model.tau_s)):
        lost += (grown * load.moments[:, 2 + k : 3 + k])[:, None] * ohm[2 + k]
    return np.where(current[:, :, None] > 0, lost, -np.inf)


def _mean_v(model: CellModel, load: Load, cells: _Cells, used_ah: FloatArray) -> FloatArray:
    """[n] mean voltage, weighted with the current, over the next `used_ah`."""
    at = cells.soc - used_ah / cells.capacity_ah * (NODES[:, None] + 1) / 2
    ocv = _ocv(model, at, cells.temp_degc)
    lost = cells.resistance_ratio * np.tensordot(load.loss_a, _ohm(model, at, cells.temp_degc), 1)
    volts = np.maximum(ocv - lost, 0.3 * ocv)
    volts = np.maximum(
        ocv - lost * load.power_w / load.current_a / volts, 0.3 * ocv
    )  # less voltage, more current
    return np.asarray(WEIGHTS @ volts / 2)


# The way

HEATING_BELOW_DEGC = 15.0
COOLING_ABOVE_DEGC = 20.0
# Of a 12 m bus, kWh/km: ViriCiti, "Report on e-bus performance" (2020), 79 buses of 12 m in 7 Dutch cities: 1.15 in the mean of
# the year, 14 % more than between 15 and 19 degC in days of -10 to 14 degC (mean taken as 6), 9 % more in days of 20 to 29 (22)
PRIOR_KWH_KM = np.array([1.07, 0.017, 0.045])  # between, per degC below, per degC above
PRIOR_SD = np.array([0.3, 0.012, 0.03])
SEGMENT_SD = 0.25  # kWh/km of a segment of 1 km: stops, slopes, passengers, traffic
ROUTE_SD = 0.06  # kWh/km that the next 100 km differ by, however well the mean is known
FORGET_KM = 2000.0  # what was learnt counts for 1/e after so many km
SEGMENT_KM = (0.2, 50.0)
KWH_KM_MAX = 10.0


class Consumption:
    """kWh/km against the ambient temperature, learnt from the segments driven.

    The basis: 1, degC below HEATING_BELOW_DEGC, degC above COOLING_ABOVE_DEGC.
    """

    def __init__(self) -> None:
        self._precision = np.diag(1 / PRIOR_SD**2)
        self._weighted = self._precision @ PRIOR_KWH_KM
        self.refused = 0  # segments that can't be

    def learn(self, distance_km: float, energy_kwh: float, ambient_degc: float) -> None:
        """One segment of the way. What can't be (NaN, too short or long, more than 10 kWh/km) is counted and left out."""
        low, high = SEGMENT_KM
        rate = energy_kwh / distance_km if distance_km > 0 else math.nan
        if not (low <= distance_km <= high and abs(rate) <= KWH_KM_MAX and abs(ambient_degc) <= 70):
            self.refused += 1
            return
        kept = math.exp(-distance_km / FORGET_KM)
        prior = np.diag(1 / PRIOR_SD**2)
        self._precision = kept * self._precision + (1 - kept) * prior
        self._weighted = kept * self._weighted + (1 - kept) * prior @ PRIOR_KWH_KM
        x = _basis(ambient_degc)
        certainty = distance_km / SEGMENT_SD**2
        self._precision += certainty * np.outer(x, x)
        self._weighted += certainty * rate * x

    def at(self, ambient_degc: float) -> tuple[float, float]:
        """(kWh/km, its sd) to be expected; of the prior at 15 degC where the temperature is unknown."""
        x = _basis(ambient_degc if math.isfinite(ambient_degc) else HEATING_BELOW_DEGC)
        mean = float(x @ np.linalg.solve(self._precision, self._weighted))
        variance = float(x @ np.linalg.solve(self._precision, x)) + ROUTE_SD**2
        return max(mean, 0.1), math.sqrt(variance)

    def dump(self) -> bytes:
        """The memory, for `restore`."""
        return struct.pack("<12d", *self._precision.ravel(), *self._weighted)

    def restore(self, memory: bytes) -> None:
        """Go on from a `dump`.

        Raises
        ------
        CellModelError
            It is no such memory; nothing changes.
        """
        values = _numbers(memory, "consumption")
        precision = values[:9].reshape(3, 3) if len(values) == 12 else np.zeros((3, 3))
        if not (np.linalg.eigvalsh(precision) > 0).all():
            raise CellModelError("the consumption's memory is damaged")
        self._precision, self._weighted = precision.copy(), values[9:].copy()


@dataclass(frozen=True)
class Range:
    """How far: the mean and the band that holds it with 95 %."""

    range_km: float
    low_km: float
    high_km: float


def range_left(energy: Energy, consumption: Consumption, ambient_degc: float) -> Range:
    """How far the energy goes. To first order, the relative variances of energy and consumption add."""
    kwh = energy.energy_wh / 1000
    rate, rate_sd = consumption.at(ambient_degc)
    mean = kwh / rate
    sd = math.hypot(energy.energy_sd_wh / 1000 / rate, mean * rate_sd / rate)
    return Range(mean, max(mean - 1.96 * sd, 0.0), mean + 1.96 * sd)


def _basis(ambient_degc: float) -> FloatArray:
    return np.array(
        [1.0, max(HEATING_BELOW_DEGC - ambient_degc, 0.0), max(ambient_degc - COOLING_ABOVE_DEGC, 0.0)]
    )


def _numbers(memory: bytes, what: str) -> FloatArray:
    if len(memory) % 8 or not np.isfinite(values := np.frombuffer(memory, dtype="<f8")).all():
        raise CellModelError(f"the {what}'s memory is damaged")
    return values.astype(np.float64)
