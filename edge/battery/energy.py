"""Energy left at the present temperature and load, and how far it takes the bus.

In the cold the charge is still there; what moves is the moment at which the voltage limit is met. Of the load its losses are
learnt (`LoadTracker`), of one cell:

    E[i·i]/E[i], E[i·j]/E[i], E[i·y_k]/E[i]     with R0, Rct and R_k of any soc and temperature they give the voltage that is
                                                lost on the way, weighted with the current as energy is (letters:
                                                `edge.battery.model`)

`energy_left` walks down from the soc of the weakest cell of each string to where that mean voltage meets the limit: from there
on the bus can no longer follow its route. (A single hard second meets it sooner; then power is held back for that second.) The
energy is the integral of the mean voltage of all cells of the string over the charge until there. The sd is that of the
end (soc, resistance, voltage error, how the load to come differs from that learnt) and of the capacity.

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
BoolArray = npt.NDArray[np.bool_]

# The load
LOAD_TAU_S = 3600.0  # of its means
CHARGING_TAU_S = 120.0  # the mean power over so long tells driving from charging and standing
PRIOR_S = 300.0  # how many seconds of driving the prior of the means counts for
# Before anything was learnt: a 12 m bus with 350 kWh draws 25 kW in the mean, 50 kW in the root mean square
PRIOR_MEAN_C = 0.07
PRIOR_RMS_C = 0.15

# Energy
GRID = 60  # steps of soc on the way down
LOAD_REL_SD = 0.25  # of the losses: the next hours' load differs from that learnt
NODES, WEIGHTS = np.polynomial.legendre.leggauss(5)


@dataclass(frozen=True)
class Load:
    """What one cell is asked for; discharge is positive.

    power_w, current_a   means
    loss_a               [2 + K] currents that R0, Rct and R_k lose their voltage with
    """

    power_w: float
    current_a: float
    loss_a: FloatArray


class LoadTracker:
    """Learns the load while the bus drives; charging and standing are left out."""

    def __init__(self, model: CellModel) -> None:
        q, volts = model.capacity_ah, float(model.at(model.ocv_v, 0.5, 25.0))
        k = len(model.tau_s)
        self.model = model
        mean, square = PRIOR_MEAN_C * q, (PRIOR_RMS_C * q) ** 2
        # sums, forgotten with LOAD_TAU_S: seconds, i, i·v, i·i, i·j, i·y_k
        self._sums = PRIOR_S * np.array([1.0, mean, mean * volts, square, square, *[mean * mean] * k])
        self._recent_w = 0.0

    def update(
        self,
        dt_s: float,
        current_a: float,
        voltage_v: float,
        relaxation_a: FloatArray,
        temp_degc: float,
    ) -> None:
        """What a typical cell did for `dt_s`: its mean current and voltage, y_k [K] and temperature. What holds a NaN is
        left out."""
        state = np.array([current_a, voltage_v, temp_degc, *relaxation_a])
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

    @property
    def driving(self) -> bool:
        """Whether the battery has lately given more than it took."""
        return self._recent_w > 0

    @property
    def load(self) -> Load:
        """As learnt so far."""
        seconds, current, power, *loss = self._sums.tolist()
        mean = max(current / seconds, 1e-3 * self.model.capacity_ah)
        return Load(max(power / seconds, 0.0), mean, np.maximum(np.array(loss) / seconds / mean, 0.0))

    def dump(self) -> bytes:
        """The memory, for `restore` on the same number of relaxation processes."""
        values = [*self._sums, self._recent_w]
        return struct.pack(f"<{len(values)}d", *values)

    def restore(self, memory: bytes) -> None:
        """Go on from a `dump`.

        Raises
        ------
        CellModelError
            It is no such memory; nothing changes.
        """
        values = _numbers(memory, "load")
        if len(values) != len(self._sums) + 1 or values[0] < 0:
            raise CellModelError("the load's memory is damaged")
        self._sums, self._recent_w = values[:-1].copy(), float(values[-1])


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
    by_voltage: BoolArray
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
    unseen_soc: float | FloatArray = 0.0,
    unseen_soc_sd: float | FloatArray = 0.0,
) -> Energy:
    """Energy until the first cell of each string holds back its load, or meets its lowest soc; strings add up.

    Parameters
    ----------
    states : of n cells
    string_of_cell : [n] number of the string that each cell is in, rising
    load : of one cell
    parallel : cells in parallel behind each state
    series : cells in series in each string, where the n stand for more than themselves; None: as many as are given
    voltage_min_v : of one cell; None: the model's
    capacity_rel_sd : of the states' capacities; None: the model's
    unseen_soc, unseen_soc_sd : [n] how far below each state the emptiest of the cells that it stands for lies
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
    emptiest = replace(
        cells,
        soc=np.maximum(cells.soc - unseen_soc, np.minimum(cells.soc, model.limits.soc_min)),
        soc_sd=np.hypot(cells.soc_sd, unseen_soc_sd),
    )
    # which cell ends each string
    ends, voltage = _end(model, emptiest, load, limit)
    charge = (emptiest.soc - ends) * cells.capacity_ah
    least = np.minimum.reduceat(charge, first)
    place = np.where(charge <= least[string], np.arange(len(string)), len(string))
    cell = np.minimum.reduceat(place, first)
    # how sure that is
    weak, end = emptiest.take(cell), ends[cell]
    harder = replace(weak, resistance_ratio=weak.resistance_ratio * (1 + LOAD_REL_SD))
    worse = replace(
        weak,
        resistance_ratio=weak.resistance_ratio + weak.resistance_ratio_sd,
        model_error_v=weak.model_error_v - weak.model_error_sd_v,
    )
    by_load, by_cell = (_end(model, doubted, load, limit)[0] - end for doubted in (harder, worse))
    string_ah = (weak.soc - end) * weak.capacity_ah
    sd_soc = np.sqrt(by_load**2 + by_cell**2 + weak.soc_sd**2)
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
        by_voltage=voltage[cell],
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


def _end(model: CellModel, cells: _Cells, load: Load, limit_v: float) -> tuple[FloatArray, BoolArray]:
    """[n] at what soc the mean load can no longer be had; [n] whether the voltage limit is why."""
    floor = np.minimum(cells.soc, model.limits.soc_min)
    way = np.linspace(0, 1, GRID)[:, None] * (cells.soc - floor)
    at = cells.soc - way
    seconds = way * cells.capacity_ah / load.current_a * 3600
    error = cells.model_error_v * np.exp(-seconds / model.uncertainty.model_tau_s)  # of now, and goes
    lost = cells.resistance_ratio * np.tensordot(load.loss_a, _ohm(model, at, cells.temp_degc), 1)
    over = limit_v - (_ocv(model, at, cells.temp_degc) + error - lost)  # rises on the way
    met = over >= 0
    by_voltage: BoolArray = np.asarray(met.any(axis=0))
    row = np.where(by_voltage, np.argmax(met, axis=0), len(met) - 1)
    before, columns = np.maximum(row - 1, 0), np.arange(len(cells.soc))
    low, high = over[before, columns], over[row, columns]
    steep = high > low
    part = np.where(steep & by_voltage, -low / np.where(steep, high - low, 1.0), 1.0)
    start, stop = at[before, columns], at[row, columns]
    return np.asarray(start + np.clip(part, 0, 1) * (stop - start)), by_voltage


def _ohm(model: CellModel, soc: float | FloatArray, temp_degc: float | FloatArray) -> FloatArray:
    """[2 + K, ...] R0, Rct and R_k."""
    return np.stack(
        [model.at(r, soc, temp_degc) for r in (model.r0_ohm, model.rct_ohm, *model.relaxation_ohm)]
    )


def _ocv(model: CellModel, soc: FloatArray, temp_degc: FloatArray) -> FloatArray:
    """On the discharge branch, where a drive soon is."""
    return model.at(model.ocv_v, soc, temp_degc) - model.at(model.hysteresis_v, soc, temp_degc)


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
