"""Health: the capacity and resistance of every cell, with error bars.

Arrays go in and out; nothing here reads a clock or a file. docs/battery/health.md explains and measures it.

**Capacity** is the charge that went through between two ANCHORS over the change of soc between them. An anchor is a moment
at which the voltage alone tells a cell's soc: the OCV is extrapolated from the relaxation seen at rest, inverted, and
what that leaves open (relaxation, hysteresis, noise) is divided by the slope of the curve. On the flat of LFP that is nothing,
at rest near full and near empty it is about 1 %. Where "enough" is follows from these uncertainties, so no chemistry
is named here. No counting and no capacity goes into an anchor, so what comes out may be given to an
estimator that counts with it, and nothing feeds itself. OCV is at the present temperature, soc and capacity are those
at 25 degC: cold is not age.

**Resistance** is what the estimator finds of each cell relative to its model at the same soc and temperature. That
is regressed on temperature, ln(ratio) = a + c·(1/T - 1/T0), so that a model that is wrong in the cold ends in c and not
in a, the resistance at 25 degC.

Memory (`dump`): MAGIC, uint32 CRC-32 of all that follows, 16 characters of the cell model's fingerprint, uint32
n, uint32 S, then little-endian float64: the arrays of `_MEMORY`.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.battery.arrays import shaped
from edge.battery.model import KELVIN, CellModel, FloatArray
from edge.battery.resistance import pulse_resistance_ohm
from edge.battery.total_least_squares import SUMS, prior_of, solve, sums_of
from edge.errors import CellModelError

BoolArray = npt.NDArray[np.bool_]

# Capacity
PRIOR_REL_SD = 0.1  # what is known of the capacity of a battery of any age
MIN_SWING = 0.4  # less change of soc than this says nothing about capacity
MAX_PAIR_REL_SD = 0.08  # nor does a pair that is known worse than this
POSSIBLE = (0.3, 1.5)  # capacity over rated: what is outside is a broken pair, refused and counted
SWING_H = 24.0  # of running: two anchors that are no pair are given up the sooner after that
MEMORY_PAIRS = 50  # a pair that came so many swings ago counts 1/e
# Anchors
BLOCK_S = 10.0  # cells are gone through so often, by the mean current of the time between
LOOK_SHARE = 0.1  # at rest, voltages are looked at the more rarely the longer it has lasted
PLACED_SD = 0.03  # an anchor this good corrects where on the axis the resistances are read
QUIET_C = 0.1  # with more current than this no sample is an anchor: not looked at
REST_C = 0.03  # up to this it is a rest: relaxation is followed
UNSEEN_C = 0.05  # current before the first sample, either way
AMPLITUDE_REL_SD = 0.4  # of the relaxation against the model's, all processes together
SHARE_REL_SD = 0.25  # and of each process by itself
EXTRAPOLATION_REL_SD = 0.5  # of the way that a voltage still has to go, whatever the regression says
SHAPE_REL_SD = 0.1  # what no such amplitudes describe, of the relaxation that is left
SAMPLE_SD_V = 0.003  # of a voltage at rest
AMPLITUDE_SD_V = 0.002  # relaxation that the model does not know
UNKNOWN_C = 1.0  # a current that is unknown
HELD_S = 60.0  # it is taken to go on for so long, and then to be none
HELD_C = 0.3  # and to be as wrong as this while it goes on
UNKNOWN_REST_S = 3600.0  # taken for a time that nobody knows, with a current that is unknown
STANDBY_C = 5e-5  # charge lost while nobody looked: about 0.1 % a day
# The sensor's zero
ZERO_NOISE_C = 0.002  # of what it shows without current, for 10 s
ZERO_DRIFT_C = 0.001  # in a day
# Resistance
REFERENCE_DEGC = 25.0
REFERENCE_SOC = 0.5
PULSE_S = 10.0
MIDDLE_SOC = (0.1, 0.9)  # outside, resistances are too steep in soc to compare
ACTIVATION_SD_K = 250.0  # how wrong the model's ln(R) over 1/T may be: 15 % at -20 degC
MODEL_REL_SD = 0.02  # how well any model's resistance is known at the reference
MEMORY_S = 1000 * 3600.0  # of running
EVIDENCE_S = 3600.0  # estimates of one resistance closer than this are one piece of evidence
TEMP_MAX_DEGC = 150.0
CURRENT_MAX_C = 200.0

MAGIC = b"AyazHLT1"
_HEAD = struct.Struct("<8sI16sII")
_ANCHOR = ("is_set", "soc", "variance", "charge_ah", "hours", "jitter_ah2")
SET, SOC, VARIANCE, CHARGE, HOURS, JITTER = range(len(_ANCHOR))
WEIGHT, RANDOM, AXIS, ZERO = range(4)
CHARGE_AS, JITTER_AS2, UNKNOWN_S, CLOSED_S, PEAK_A = range(5)


@dataclass(frozen=True)
class PackHealth:
    """The pack by its weakest cells. Ah and shares of the rated capacity; ohm of one cell, 10 s, 25 degC, 50 %."""

    capacity_ah: float
    capacity_sd_ah: float
    soh_capacity: float
    soh_capacity_sd: float
    weakest: int
    resistance_ohm: float
    resistance_sd_ohm: float
    soh_resistance: float
    most_resistive: int
    pairs: float
    """swings that have told something of the weakest cell's capacity"""
    measured: bool
    """whether one has, of each string's weakest cell: before, its capacity is the rated one, and wide"""


class Health:
    """Capacity and resistance of n cells in S strings.

    Parameters
    ----------
    model : the type of cell; its capacity and resistances are those of a new cell
    string_of_cell : [n] the string of each cell, 0..S-1
    parallel : cells in parallel behind each voltage; capacities are those of one
    rated_ah : capacity of one cell when new; without it, the model's
    rated_rel_sd : how far the present capacity may be from that (relative sd) before anything was measured
    min_swing : the least change of soc that a capacity may come from

    Raises
    ------
    ValueError
        A parameter is out of bounds.
    """

    def __init__(
        self,
        model: CellModel,
        string_of_cell: npt.ArrayLike,
        parallel: int = 1,
        rated_ah: float | None = None,
        rated_rel_sd: float = PRIOR_REL_SD,
        min_swing: float = MIN_SWING,
    ) -> None:
        strings = np.asarray(string_of_cell, dtype=np.int64)
        if strings.ndim != 1 or not len(strings) or set(strings.tolist()) != set(range(strings.max() + 1)):
            raise ValueError("string_of_cell must number the strings 0, 1, ... with a cell in each")
        if parallel < 1 or not 0.05 <= min_swing <= 1:
            raise ValueError("parallel must be 1 or more, and min_swing 0.05 to 1")
        if not 0.001 <= rated_rel_sd <= 1:
            raise ValueError(f"rated_rel_sd must be 0.001 to 1, not {rated_rel_sd}")
        if rated_ah is not None and not 0 < rated_ah < math.inf:
            raise ValueError(f"rated_ah must be more than 0, not {rated_ah}")
        self.model = model
        self.parallel = parallel
        self.rated_ah = rated_ah or model.capacity_ah
        self.rated_rel_sd = rated_rel_sd
        self.min_swing = min_swing
        self._string = strings
        self._rated = np.array([self.rated_ah])
        n, count, k = len(strings), int(strings.max()) + 1, len(model.tau_s)
        usual = (UNSEEN_C * self.rated_ah) ** 2
        # Capacity: [n, ...]. What has gone through since the beginning, and where the anchors stand
        self._charge_ah, self._hours, self._jitter_ah2 = np.zeros(n), np.zeros(n), np.zeros(n)
        self._start, self._end = np.zeros((n, len(_ANCHOR))), np.zeros((n, len(_ANCHOR)))
        self._sums, self._shares, self._pairs = np.zeros((n, SUMS)), np.zeros((n, 4)), np.zeros(n)
        self._refused = np.zeros(n)
        # Rest: the low-passed current, hysteresis, and the regression of the relaxation
        self._temp_degc = np.full(n, REFERENCE_DEGC)
        self._current_a, self._peak_a, self._known = np.zeros(n), np.zeros(n), np.zeros(n)
        # The block: what has come in since the cells were last gone through
        self._block, self._last_a = np.zeros((count, 5)), np.zeros(count)
        self._gap_h = np.zeros(count)
        self._drained_as, self._voltage_v, self._block_s = np.zeros(n), np.zeros(n), np.zeros(1)
        self._first = np.ones(1)
        self._bent_a, self._bent_var = np.zeros((n, k)), np.full((n, k), usual)
        self._h, self._h_var = np.zeros(n), np.full(n, 0.7**2)
        self._place_soc = np.full(n, -1.0)
        self._rest_s, self._fresh, self._since_s = np.zeros(n), np.ones(n), np.zeros(n)
        self._first_s, self._first_a = np.zeros(n), np.zeros((n, k))
        self._mean, self._cov = np.zeros((n, k + 1)), np.zeros((n, k + 1, k + 1))
        # The sensor's zero: [S]
        self._zero_a = np.zeros(count)
        self._zero_var = np.full(count, (model.uncertainty.current_offset_c * self.rated_ah * parallel) ** 2)
        # Resistance: sums of w, w·z, w·z², w·ln(ratio), w·z·ln(ratio)
        self._ohmic = np.zeros((n, 5))
        self._solved: tuple[FloatArray, FloatArray, FloatArray] | None = None

    # What is known

    @property
    def capacity_ah(self) -> FloatArray:
        """[n] capacity at 25 degC, by the current sensor's own measure: over its gain."""
        return self._capacity()[0]

    @property
    def capacity_sd_ah(self) -> FloatArray:
        """[n] its standard deviation: chance, the OCV curve's place, and the current sensor's zero and gain."""
        return self._capacity()[1]

    @property
    def measured(self) -> BoolArray:
        """[n] whether any swing has told something: before, the capacity is the rated one, and wide."""
        return np.asarray((self._pairs > 0) | self._good(*self._pair(self._start, self._end)[:4]))

    @property
    def refused(self) -> npt.NDArray[np.int64]:
        """[n] pairs that no cell can have made."""
        return self._refused.astype(np.int64)

    @property
    def resistance_ratio(self) -> FloatArray:
        """[n] resistance over that of a new cell at 25 degC."""
        return np.asarray(np.exp(self._ratio()[0]))

    @property
    def resistance_ratio_sd(self) -> FloatArray:
        """[n] its standard deviation."""
        log, sd = self._ratio()
        return np.asarray(np.exp(log) * sd)

    @property
    def resistance_ohm(self) -> FloatArray:
        """[n] resistance over 10 s at 1 C, at 25 degC and a soc of 50 %."""
        return self.resistance_ratio * self._new_ohm()

    @property
    def resistance_sd_ohm(self) -> FloatArray:
        """[n] its standard deviation."""
        return self.resistance_ratio_sd * self._new_ohm()

    @property
    def soh_capacity(self) -> FloatArray:
        """[n] present over rated capacity."""
        return self.capacity_ah / self.rated_ah

    @property
    def soh_resistance(self) -> FloatArray:
        """[n] a new cell's resistance over the present one: 1 = new, 0.5 = doubled."""
        return 1 / self.resistance_ratio

    @property
    def zero_a(self) -> FloatArray:
        """[S] what the current sensor shows without current."""
        return self._zero_a.copy()

    def pack(self) -> PackHealth:
        """The pack: of each string its weakest cell counts.

        The least of many uncertain numbers is too small. So each cell is first drawn to its string's mean by the
        share of the spread that chance explains (empirical Bayes: Efron and Morris, Journal of the American
        Statistical Association 70, 1975).
        """
        capacity, sd, chance = self._capacity()
        drawn = self._drawn(capacity, chance)
        log, log_sd = self._ratio()
        ratio = self._drawn(log, np.minimum(log_sd, 1.0) ** 2)
        cells = [np.flatnonzero(self._string == s) for s in range(len(self._zero_a))]
        least = np.array([c[np.argmin(drawn[c])] for c in cells])
        weakest, worst = int(least[np.argmin(drawn[least])]), int(np.argmax(ratio))
        total, doubt = float(drawn[least].sum()), float(sd[least].sum())  # errors as one: the model's are
        rated = self.rated_ah * len(cells)
        return PackHealth(
            capacity_ah=total * self.parallel,
            capacity_sd_ah=doubt * self.parallel,
            soh_capacity=total / rated,
            soh_capacity_sd=doubt / rated,
            weakest=weakest,
            resistance_ohm=float(np.exp(ratio[worst]) * self._new_ohm()),
            resistance_sd_ohm=float(np.exp(ratio[worst]) * log_sd[worst] * self._new_ohm()),
            soh_resistance=float(np.exp(-ratio[worst])),
            most_resistive=worst,
            pairs=float(self._pairs[weakest]),
            measured=bool(self.measured[least].all()),
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
        open: npt.ArrayLike | None = None,
    ) -> None:
        """Go on by `dt_s` and take in what was measured at its end. Any rate; 1 Hz is enough.

        The steps of ten seconds are added up by string; then every cell is gone through.

        Parameters
        ----------
        dt_s : seconds since the last step
        string_current_a : [S], positive = discharge; NaN = unknown: the charge's uncertainty grows
        cell_voltage_v : [n]; NaN = no new sample
        temp_degc : [n]; NaN = as last known, at first 25 degC
        balancing_a : [n] what leaves the cells behind one voltage besides, or None
        open : [S] the contactors are open: the current is 0, and what the sensor shows is its zero

        Raises
        ------
        ValueError
            An array has the wrong shape, or time runs backwards.
        """
        n, count = len(self._string), len(self._zero_a)
        shown = shaped("string_current_a", string_current_a, count)
        voltage = shaped("cell_voltage_v", cell_voltage_v, n)
        temp = shaped("temp_degc", temp_degc, n)
        is_open = np.zeros(count, dtype=bool) if open is None else shaped("open", open, count) > 0
        if not 0 <= dt_s < math.inf:
            raise ValueError(f"dt_s must be 0 or more, not {dt_s}")
        drained = None if balancing_a is None else shaped("balancing_a", balancing_a, n)
        dt_s = float(dt_s)
        if is_open.any():
            self._learn_zero(dt_s, shown, is_open)
        self._add(dt_s, np.where(is_open, 0.0, shown), ~is_open)
        if drained is not None:
            self._drained_as += np.where(np.isfinite(drained), drained, 0.0) * dt_s
        self._voltage_v = np.where(np.isfinite(voltage), voltage, self._voltage_v)
        self._block_s += dt_s
        if self._block_s[0] < BLOCK_S and not self._first[0]:
            return
        self._first[0] = 0.0
        self._temp_degc = np.where(np.abs(temp) <= TEMP_MAX_DEGC, temp, self._temp_degc)
        self._flush()
        self._look()

    def rest(self, seconds: float | None, charge_sd: float = 0.0) -> None:
        """The battery was off and unseen for so long: it relaxed, and may have lost a little charge.

        None: nobody knows for how long, nor whether it was off. `charge_sd`: what else may have gone through, sd, in capacities.

        Raises
        ------
        ValueError
            `seconds` or `charge_sd` is negative or not finite.
        """
        if seconds is not None and not 0 <= seconds < math.inf:
            raise ValueError(f"seconds must be 0 or more, not {seconds}")
        if not 0 <= charge_sd < math.inf:
            raise ValueError(f"charge_sd must be 0 or more, not {charge_sd}")
        self._flush()
        self._current_a[:], self._peak_a[:], self._known[:] = 0.0, 0.0, float(seconds is not None)
        passed_s = UNKNOWN_REST_S if seconds is None else seconds
        self._relax(passed_s)
        self._fresh[:] = 1.0  # what was seen of the relaxation was not seen on
        self._jitter_ah2 += ((STANDBY_C * passed_s / 3600) ** 2 + charge_sd**2) * self.rated_ah**2
        self._zero_var += (ZERO_DRIFT_C * self.rated_ah * self.parallel) ** 2 * passed_s / 86400

    def anchor(self, soc: npt.ArrayLike, soc_sd: npt.ArrayLike) -> None:
        """The soc is known without counting, [n] each: a charger that says full, a given state at the start.

        NaN and what is not 0..1 with an sd above 0 is passed over.

        Raises
        ------
        ValueError
            An array has the wrong shape.
        """
        n = len(self._string)
        told, sd = shaped("soc", soc, n), shaped("soc_sd", soc_sd, n)
        ok = (told >= 0) & (told <= 1) & (sd > 0) & (sd < math.inf)
        self._take(np.where(ok, told, 0.5), np.where(ok, sd, 1.0) ** 2, ok)

    def resistance(
        self,
        dt_s: float,
        ratio: npt.ArrayLike,
        ratio_sd: npt.ArrayLike,
        soc: npt.ArrayLike,
        temp_degc: npt.ArrayLike,
        capacity_ah: npt.ArrayLike,
    ) -> None:
        """Take in the estimator's resistance ratios, [n] each, which have held for the last `dt_s` (10 s to hours).

        An estimator takes a cell's resistances to be the model's by its capacity (`capacity_ah`, which it counts with); a
        ratio is over that, and is made here one over a new cell's. The part of it that is the estimator's
        prior (1, the model's `resistance_rel_sd`) is taken out. NaN, and ratios that are not known better
        than the prior, say nothing.

        Raises
        ------
        ValueError
            An array has the wrong shape, or time runs backwards.
        """
        n = len(self._string)
        parts = (("ratio", ratio), ("ratio_sd", ratio_sd), ("soc", soc), ("temp_degc", temp_degc))
        r, sd, s, t = (shaped(name, values, n) for name, values in parts)
        q = shaped("capacity_ah", capacity_ah, n)
        if not 0 <= dt_s < math.inf:
            raise ValueError(f"dt_s must be 0 or more, not {dt_s}")
        prior = self.model.uncertainty.resistance_rel_sd**-2
        with np.errstate(all="ignore"):
            gained = sd**-2 - prior
            found = (r * sd**-2 - prior) / gained
            ok = (gained > 0) & (found > 0.05) & (found < 20) & (abs(t) <= TEMP_MAX_DEGC)
            ok &= (s >= MIDDLE_SOC[0]) & (s <= MIDDLE_SOC[1]) & (sd > 0) & (q > 0) & (q < math.inf)
            log, weight = (
                np.where(ok, np.log(found * self.rated_ah / q), 0.0),
                np.where(ok, gained * found**2, 0.0),
            )
        weight *= min(dt_s / EVIDENCE_S, 1.0)
        z = np.where(ok, 1 / (t + KELVIN) - 1 / (REFERENCE_DEGC + KELVIN), 0.0)
        new = np.stack([weight, weight * z, weight * z * z, weight * log, weight * z * log], axis=1)
        fade = np.where(ok, math.exp(-dt_s / MEMORY_S), 1.0)
        self._ohmic = self._ohmic * fade[:, None] + new

    # Memory

    def dump(self) -> bytes:
        """Everything that is remembered, for `load` on the same cell model and number of cells."""
        arrays = b"".join(getattr(self, k).astype("<f8").tobytes() for k in self._shapes())
        sizes = struct.pack("<II", len(self._string), len(self._zero_a))
        body = self.model.fingerprint.encode() + sizes + arrays
        return MAGIC + struct.pack("<I", zlib.crc32(body)) + body

    def load(self, memory: bytes) -> None:
        """Go on from a `dump`. Nothing changes where it is refused.

        Raises
        ------
        CellModelError
            The memory is damaged, or of another cell model, rated capacity or number of cells.
        """
        sizes = (len(self._string), len(self._zero_a))
        if len(memory) < _HEAD.size or memory[:8] != MAGIC:
            raise CellModelError("the memory of health is not one of ours")
        _, crc, fingerprint, *found = _HEAD.unpack_from(memory)
        if zlib.crc32(memory[12:]) != crc:
            raise CellModelError("the memory of health is damaged")
        if fingerprint.decode("ascii", "replace") != self.model.fingerprint:
            raise CellModelError(f"the memory of health is of another cell model than {self.model.name}")
        if tuple(found) != sizes:
            raise CellModelError(
                f"the memory of health is of {found[0]} cells in {found[1]} strings, not {sizes}"
            )
        shapes = self._shapes()
        counts = [math.prod(s) for s in shapes.values()]
        if len(memory) != _HEAD.size + 8 * sum(counts):
            raise CellModelError("the memory of health is damaged")
        values = np.frombuffer(memory, dtype="<f8", offset=_HEAD.size).astype(np.float64)
        if not np.isfinite(values).all():
            raise CellModelError("the memory of health is damaged")
        parts = dict(zip(shapes, np.split(values, np.cumsum(counts)[:-1]), strict=True))
        if parts["_rated"][0] != self.rated_ah:
            raise CellModelError(
                f"the memory of health is of cells of {parts['_rated'][0]:g} Ah, not {self.rated_ah:g}"
            )
        for name, shape in shapes.items():
            setattr(self, name, parts[name].reshape(shape).copy())
        self._solved = None

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {k: getattr(self, k).shape for k in _MEMORY}

    # Capacity

    def _capacity(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Capacity, its sd, and the part of its variance that is chance and each cell's own. [n] each."""
        if self._solved is None:
            self._solved = self._solve()
        return self._solved

    def _solve(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        sums, shares, pairs = self._with(self._sums, self._shares, self._pairs)
        n = len(self._string)
        prior = np.zeros((n, 4))
        prior[:, WEIGHT] = prior[:, RANDOM] = self.rated_rel_sd**-2
        shares = shares + prior
        slope, variance, chi2 = solve(sums + prior_of(np.ones(n), self.rated_rel_sd))
        # where the pairs differ by more than they should, the bars are too short (Birge's ratio)
        variance *= np.maximum(chi2 / np.maximum(pairs, 1.0), 1.0)
        weight = shares[:, WEIGHT]
        chance = variance * shares[:, RANDOM] / weight
        told = 1 - self.rated_rel_sd**-2 / weight
        common = (shares[:, AXIS] / weight) ** 2 + (shares[:, ZERO] / weight) ** 2
        common = (common + (told * self.model.uncertainty.current_gain_sd) ** 2) * slope**2
        q = self.rated_ah
        return slope * q, np.sqrt(chance + common) * q, chance * q**2

    def _with(
        self, sums: FloatArray, shares: FloatArray, pairs: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Those sums and the pair that stands."""
        x, y, variance, chance, zero = self._pair(self._start, self._end)
        good = self._good(x, y, variance, chance)
        x, y, variance = np.where(good, x, 1.0), np.where(good, y, 1.0), np.where(good, variance, 1.0)
        weight = good * x**2 / variance
        axis = math.sqrt(2) * self.model.uncertainty.axis_sd
        new = np.stack([weight, weight * chance / variance, weight * axis / x, weight * zero / y], axis=1)
        return sums + good[:, None] * sums_of(x, y, variance), shares + new, pairs + good

    def _pair(
        self, start: FloatArray, end: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
        """Between two anchors: change of soc, charge over rated, variance, chance's part of it, and the error by the zero.

        The last has the sign in which a zero that is too high shifts the charge.
        """
        q = self.rated_ah
        zero, zero_sd = (v[self._string] / self.parallel for v in (self._zero_a, np.sqrt(self._zero_var)))
        up = np.where(end[:, SOC] >= start[:, SOC], 1.0, -1.0)
        hours = end[:, HOURS] - start[:, HOURS]
        x = np.where(start[:, SET] * end[:, SET] > 0, abs(end[:, SOC] - start[:, SOC]), 0.0)
        y = -up * (end[:, CHARGE] - start[:, CHARGE] - zero * hours) / q
        chance = start[:, VARIANCE] + end[:, VARIANCE] + (end[:, JITTER] - start[:, JITTER]) / q**2
        by_zero = up * zero_sd * hours / q
        variance = chance + by_zero**2 + 2 * self.model.uncertainty.axis_sd**2
        return x, y, variance, chance, by_zero

    def _enough(self, x: FloatArray, y: FloatArray, variance: FloatArray, chance: FloatArray) -> BoolArray:
        return np.asarray((x >= self.min_swing) & (variance <= (MAX_PAIR_REL_SD * x) ** 2) & (chance >= 0))

    def _good(self, x: FloatArray, y: FloatArray, variance: FloatArray, chance: FloatArray) -> BoolArray:
        possible = (y >= POSSIBLE[0] * x) & (y <= POSSIBLE[1] * x)
        return np.asarray(self._enough(x, y, variance, chance) & possible)

    def _take(self, soc: FloatArray, variance: FloatArray, ok: BoolArray) -> None:
        """Anchors, where `ok`. Two stand for each cell, the start and the end of a swing; a new one may take the
        end's place, or the end the start's and the new one the end's: whichever pair is known best."""
        new = np.stack([ok * 1.0, soc, variance, self._charge_ah, self._hours, self._jitter_ah2], axis=1)
        pairs = [self._pair(*p) for p in ((self._start, self._end), (self._start, new), (self._end, new))]
        stands, longer, back = (self._good(*p[:4]) for p in pairs)
        with np.errstate(divide="ignore"):
            kept, first, second = (p[2] / np.maximum(p[0], 1e-9) ** 2 for p in pairs)
        kept = kept * (1 + np.maximum(self._hours - self._end[:, HOURS], 0.0) / SWING_H) ** 2
        has_end = self._end[:, SET] > 0
        lengthens = longer & (~stands | (pairs[1][2] * pairs[0][0] ** 2 <= pairs[0][2] * pairs[1][0] ** 2))
        lengthens &= stands | ~back | (first <= second)
        turns = back & ~lengthens
        waits = ~(stands | longer | back)
        lengthens |= waits & (~has_end | ((first < kept) & (first <= second)))
        follows = turns | (waits & has_end & (second < kept) & (second < first))
        broken = ok & np.any([self._enough(*p[:4]) & ~self._good(*p[:4]) for p in pairs[1:]], axis=0)
        self._refused += broken
        # so much is not known of what flowed since, that nothing can make a pair with this one any more: it is over
        lost = stands & ~longer & ~back & (pairs[2][2] - variance > MAX_PAIR_REL_SD**2)
        self._commit(ok & ((turns & stands & ~broken) | lost))
        begins = ok & (broken | lost | (self._start[:, SET] == 0))
        moved = ok & follows & ~begins
        self._start[moved] = self._end[moved]
        # up and down again share an anchor, whose error then counts twice, the same way: its variance
        # (1 + 2) times in the second pair makes the sum's right
        self._start[moved & turns & stands, VARIANCE] *= 3.0
        ended = ok & (lengthens | follows) & ~begins
        self._end[ended] = new[ended]
        self._start[begins], self._end[begins] = new[begins], 0.0
        self._solved = None

    def _commit(self, over: BoolArray) -> None:
        """The pair that stands is over: into the sums."""
        if not over.any():
            return
        fade = math.exp(-1 / MEMORY_PAIRS)
        parts = (self._sums, self._shares, self._pairs)
        for old, new in zip(parts, self._with(*(fade * p for p in parts)), strict=True):
            old[over] = new[over]

    def _add(self, dt_s: float, current: FloatArray, closed: BoolArray) -> None:
        """One step into the block of each string: a matter of a few numbers, whatever the number of cells."""
        q = self.rated_ah * self.parallel
        known = np.abs(current) <= CURRENT_MAX_C * q
        now = np.where(known, current, self._last_a)
        # what the current did between two samples is not known: uniform between them
        jitter = (now - self._last_a) ** 2 / 12 * dt_s**2
        self._block[:, UNKNOWN_S] += np.where(known, 0.0, dt_s)
        self._block[:, CHARGE_AS] += np.where(known, now * dt_s, 0.0)
        self._block[:, CLOSED_S] += np.where(closed & known, dt_s, 0.0)
        self._block[:, JITTER_AS2] += jitter
        self._block[:, PEAK_A] = np.maximum(self._block[:, PEAK_A], np.abs(now - self._zero_a * closed))
        self._last_a = now

    def _flush(self) -> None:
        """The block into every cell: charge, its doubts, relaxation and hysteresis."""
        s, q, seconds = self._string, self.rated_ah, float(self._block_s[0])
        unknown_s = self._block[:, UNKNOWN_S]
        # a few lost samples were like those beside them; beyond that, an unknown current may have been anything, but
        # the same all the time: its charge's doubt grows with the square of the gap
        known = unknown_s <= seconds / 2
        gap_h = np.where(known, 0.0, self._gap_h + unknown_s / 3600)
        held = ~known & (gap_h <= HELD_S / 3600)
        wrong = np.where(held, HELD_C, UNKNOWN_C) * q
        doubt = wrong**2 * np.where(known, 0.0, gap_h**2 - self._gap_h**2)
        self._gap_h = gap_h
        filled = np.where(known, seconds / np.maximum(seconds - unknown_s, 1e-9), 1.0)
        block = (self._block * filled[:, None])[s] / self.parallel
        held_as = np.where(held, self._last_a * unknown_s, 0.0)
        charge_as = block[:, CHARGE_AS] + (held_as[s] + self._drained_as) / self.parallel
        self._charge_ah += charge_as / 3600
        self._hours += block[:, CLOSED_S] * self.parallel / 3600
        self._jitter_ah2 += (block[:, JITTER_AS2] * filled[s] / self.parallel / 3600**2) + doubt[s]
        self._zero_var += (ZERO_DRIFT_C * q * self.parallel) ** 2 * seconds / 86400
        self._solved = None
        zero_as = self._zero_a[s] * block[:, CLOSED_S]
        self._known = known[s].astype(np.float64)
        mean_a = (charge_as - zero_as) / max(seconds, 1e-9)
        self._current_a = np.asarray(mean_a)
        self._peak_a = self._block[s, PEAK_A] / self.parallel
        self._relax(seconds)
        self._place_soc = np.where(
            self._place_soc < 0, -1.0, np.clip(self._place_soc - (charge_as - zero_as) / 3600 / q, 0.0, 1.0)
        )
        self._block[:] = 0.0
        self._drained_as[:] = 0.0
        self._block_s[:] = 0.0

    def _learn_zero(self, dt_s: float, shown: FloatArray, is_open: BoolArray) -> None:
        q = self.rated_ah * self.parallel
        seen = is_open & (np.abs(shown) <= QUIET_C * q)
        noise = (ZERO_NOISE_C * q) ** 2 * 10 / max(dt_s, 1e-3)
        gain = np.where(seen, self._zero_var / (self._zero_var + noise), 0.0)
        self._zero_a += gain * np.where(seen, shown - self._zero_a, 0.0)
        self._zero_var *= 1 - gain

    # Anchors

    def _relax(self, dt_s: float) -> None:
        """Low-passed current and hysteresis, over a time in which the current was `_current_a`."""
        bent = self._bend()
        left = np.exp(-dt_s / self.model.tau_s)
        self._bent_a = left * self._bent_a + (1 - left) * bent[:, None]
        unknown = ((1 - self._known) * (UNKNOWN_C * self.rated_ah) ** 2)[:, None]
        self._bent_var = left**2 * self._bent_var + (1 - left) ** 2 * unknown
        moved = np.abs(self._current_a) * self.model.hysteresis_rate * dt_s / (3600 * self.rated_ah)
        stays = np.exp(-moved)
        self._h = stays * self._h - (1 - stays) * np.sign(self._current_a)
        moved = UNKNOWN_C * self.model.hysteresis_rate * dt_s / 3600 * (1 - self._known)
        self._h_var = stays**2 * self._h_var + (1 - np.exp(-moved)) * 0.7**2
        resting = (self._known > 0) & (self._peak_a <= REST_C * self.rated_ah)
        self._rest_s = np.where(resting, self._rest_s + dt_s, 0.0)
        self._fresh = np.where(resting, self._fresh, 1.0)
        self._since_s += dt_s

    def _bend(self) -> FloatArray:
        """[n] the current as the electrodes feel it."""
        knee = np.interp(self._temp_degc, self.model.temp_degc, self.model.knee_a)
        knee = knee * self.rated_ah / self.model.capacity_ah
        return np.asarray(knee * np.arcsinh(self._current_a / knee))

    def _look(self) -> None:
        """See whether the voltages of this block are anchors."""
        m, voltage = self.model, self._voltage_v
        self._voltage_v = np.zeros(len(voltage))
        ok = (voltage >= 0.8 * m.voltage_min_v) & (voltage <= 1.1 * m.voltage_max_v) & (self._known > 0)
        ok &= self._peak_a <= QUIET_C * self.rated_ah
        ok &= (self._since_s >= LOOK_SHARE * self._rest_s) | (self._fresh > 0)
        if not ok.any():
            return
        self._since_s[ok] = 0.0
        volts = np.where(ok, voltage, m.voltage_max_v)
        nowhere = ok & (self._place_soc < 0)
        self._place_soc = np.where(nowhere, self._soc_at(volts, self._h), self._place_soc)
        ocv, variance = self._extrapolate(volts, ok)
        gap = m.at(m.hysteresis_v, self._place_soc, self._temp_degc)
        h_var = self._h_var + m.uncertainty.hysteresis_sd**2 * (gap > 0)
        ahead = EXTRAPOLATION_REL_SD * np.abs(ocv - volts)
        sd = np.sqrt(variance + ahead**2 + gap**2 * h_var)
        soc, high, low = (self._soc_at(ocv + k * sd, self._h) for k in (0.0, 1.0, -1.0))
        soc_sd = np.maximum(np.maximum(high - soc, soc - low), 1e-4)
        self._place_soc = np.where(ok & (soc_sd < PLACED_SD), soc, self._place_soc)
        self._take(soc, soc_sd**2, ok & (soc_sd < 0.2))

    def _extrapolate(self, voltage: FloatArray, ok: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Where the voltage relaxes to, and the variance of that.

        A regression for each cell and rest, as a Kalman filter: the voltage without the present current's part is OCV -
        Σ A_k·exp(-t/tau_k), where the model tells what A_k to expect, and the relaxation that is seen corrects it.
        """
        m = self.model
        soc, temp = np.maximum(self._place_soc, 0.0), self._temp_degc
        ratio = self.resistance_ratio * m.capacity_ah / self.rated_ah
        ohm = np.stack([m.at(table, soc, temp) for table in m.relaxation_ohm], axis=1) * ratio[:, None]
        now = m.at(m.r0_ohm, soc, temp) * self._current_a + m.at(m.rct_ohm, soc, temp) * self._bend()
        now = now * ratio
        fresh = ok & (self._fresh > 0)
        expected = ohm * self._bent_a
        spread = (SHARE_REL_SD * expected) ** 2 + ohm**2 * self._bent_var + AMPLITUDE_SD_V**2
        k = len(m.tau_s)
        cov = np.zeros_like(self._cov)
        cov[:, 0, 0] = 1.0
        cov[:, range(1, k + 1), range(1, k + 1)] = spread
        cov[:, 1:, 1:] += AMPLITUDE_REL_SD**2 * expected[:, :, None] * expected[:, None, :]
        self._cov[fresh] = cov[fresh]
        self._mean[fresh, 0], self._mean[fresh, 1:] = voltage[fresh], expected[fresh]
        self._first_a[fresh] = self._bent_a[fresh]
        self._first_s = np.where(fresh, self._rest_s, self._first_s)
        left = np.exp(-(self._rest_s - self._first_s)[:, None] / m.tau_s)
        self._fresh = np.where(ok & (self._rest_s > 0), 0.0, self._fresh)
        known = now + (ohm * (self._bent_a - self._first_a * left)).sum(axis=1)
        row = np.concatenate([np.ones((len(soc), 1)), -left], axis=1)
        noise = SAMPLE_SD_V**2 + (SHAPE_REL_SD * (np.abs(ohm * self._bent_a)).sum(axis=1)) ** 2
        noise = noise + (AMPLITUDE_REL_SD * now) ** 2
        ph = np.einsum("nij,nj->ni", self._cov, row)
        gain = ph / (np.einsum("ni,ni->n", ph, row) + noise)[:, None] * ok[:, None]
        missed = np.where(ok, voltage + known - np.einsum("ni,ni->n", self._mean, row), 0.0)
        self._mean = self._mean + gain * missed[:, None]
        cov = self._cov - gain[:, :, None] * ph[:, None, :]
        self._cov = (cov + cov.transpose(0, 2, 1)) / 2
        return self._mean[:, 0].copy(), np.maximum(self._cov[:, 0, 0], SAMPLE_SD_V**2 / 9)

    def _soc_at(self, voltage: FloatArray, h: FloatArray) -> FloatArray:
        """[n] the soc at which OCV + M·h is that voltage, held in 0..1; bisection down to the table's grid."""
        m, temp = self.model, self._temp_degc
        last = len(m.soc) - 1
        low, high = np.zeros(len(voltage), dtype=np.int64), np.full(len(voltage), last)

        def at(index: Any) -> FloatArray:
            soc = m.soc[index]
            return m.at(m.ocv_v, soc, temp) + m.at(m.hysteresis_v, soc, temp) * h

        for _ in range(last.bit_length()):
            middle = (low + high) // 2
            above = at(middle) > voltage
            high, low = np.where(above, middle, high), np.where(above, low, middle)
        below, over = at(low), at(high)
        part = (voltage - below) / np.maximum(over - below, 1e-9)
        return np.asarray(np.clip(m.soc[low] + part * (m.soc[high] - m.soc[low]), 0.0, 1.0))

    # Resistance

    def _ratio(self) -> tuple[FloatArray, FloatArray]:
        """ln of the resistance over a new cell's, at 25 degC, and its sd. [n] each.

        Two unknowns, a and c, of ln(ratio) = a + c·z with z = 1/T - 1/T0: normal equations with both priors.
        """
        w, wz, wzz, wl, wzl = self._ohmic.T
        w = w + self.model.uncertainty.resistance_rel_sd**-2
        wzz = wzz + ACTIVATION_SD_K**-2
        determinant = w * wzz - wz**2
        return (wl * wzz - wzl * wz) / determinant, np.sqrt(wzz / determinant + MODEL_REL_SD**2)

    def _new_ohm(self) -> float:
        m = self.model
        of_model = float(pulse_resistance_ohm(m, REFERENCE_SOC, REFERENCE_DEGC, m.capacity_ah, PULSE_S))
        return of_model * m.capacity_ah / self.rated_ah

    def _drawn(self, values: FloatArray, variance: FloatArray) -> FloatArray:
        """Each value drawn to its string's mean by chance's share in the spread."""
        out = values.copy()
        for s in range(len(self._zero_a)):
            of = self._string == s
            apart = values[of] - values[of].mean()
            real = max(float((apart**2).sum() / max(of.sum() - 1, 1) - variance[of].mean()), 0.0)
            out[of] = values[of].mean() + apart * real / np.maximum(real + variance[of], 1e-300)
        return out


_MEMORY = (
    "_rated",
    *("_charge_ah", "_hours", "_jitter_ah2", "_start", "_end", "_sums", "_shares", "_pairs", "_refused"),
    *("_temp_degc", "_current_a", "_known", "_bent_a", "_bent_var", "_h", "_h_var", "_place_soc"),
    *("_rest_s", "_fresh", "_since_s", "_first_s", "_first_a", "_mean", "_cov"),
    *("_block", "_last_a", "_gap_h", "_drained_as", "_voltage_v", "_block_s", "_first"),
    *("_zero_a", "_zero_var", "_ohmic", "_peak_a"),
)
