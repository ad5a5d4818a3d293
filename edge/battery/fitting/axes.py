"""From files to what the fit reads: thinned rows, each with its state of charge.

A file with a column `soc` is believed (to `SCALE_SD`). Without one the charge is counted from where the cell is known
to be full or empty: the ends of slow tests, drives that begin at the upper voltage; else from the OCV
of the rest that the file begins with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.battery.fitting.joint import Record
from edge.battery.model import FloatArray
from edge.errors import DataError
from edge.measured import load_measured

BIN_S = 1.0
LONGEST_GAP_S = 3600.0
CLUSTER_DEGC = 4.0  # files that begin closer than this are of one chamber temperature
SOAKED_S = 120.0  # the temperature of this beginning is the chamber's
ASSUMED_DEGC = 25.0  # of files without temperature; said in the report
UNKNOWN = 0.05  # of the rows
LARGE = 0.5  # of the capacity: what moves less is an end step, not a curve
OFFSET_SD, SCALE_SD = 0.001, 0.001  # of a file's own soc
DISAGREES = 0.04  # a soc this far from the charge that flowed is not believed
COUNTED_SD = 0.01  # scale of a soc that we counted
RESTED_SD = 0.02  # offset of a soc that was read off the OCV
REST_C = 0.02  # current below this, over capacity: at rest


@dataclass(frozen=True)
class File:
    """One file, thinned."""

    path: Path
    kind: str
    """ocv, pulses or drive"""
    dt_s: FloatArray
    current_a: FloatArray
    voltage_v: FloatArray
    temp_degc: FloatArray
    soc: FloatArray | None
    rows: int

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(".gz").removesuffix(".csv").removesuffix(".parquet")

    @property
    def drawn_ah(self) -> FloatArray:
        """Charge taken out since the start."""
        return np.cumsum(self.current_a * self.dt_s) / 3600

    @property
    def chamber_degc(self) -> float:
        """Where it began: under load a cell warms by ten degrees and more."""
        return float(np.median(self.temp_degc[np.cumsum(self.dt_s) <= SOAKED_S]))


def read(path: Path, kind: str, remarks: list[str]) -> File:
    """Raises DataError where the file is no usable test."""
    data = load_measured(path)
    if len(data.time_s) < 10:
        raise DataError(f"{path}: {len(data.time_s)} rows are no test of a cell")
    bad = ~(np.isfinite(data.current_a) & np.isfinite(data.voltage_v))
    if bad.mean() > UNKNOWN:
        raise DataError(f"{path}: {bad.mean():.0%} of the rows have no usable current or voltage")
    if not np.abs(data.current_a[~bad]).max():
        raise DataError(f"{path}: the current is 0 in all rows")
    _check_gaps(path, data.time_s[~bad], data.current_a[~bad])
    temp = data.temp_degc
    known = np.isfinite(temp)
    if not known.any():
        remarks.append(f"{path.name} has no temperature: {ASSUMED_DEGC:g} degC is assumed")
        temp = np.full(len(temp), ASSUMED_DEGC)
    elif not known.all():
        temp = np.interp(data.time_s, data.time_s[known], temp[known])
    time, current, voltage, temp = (x[~bad] for x in (data.time_s, data.current_a, data.voltage_v, temp))
    dt = np.diff(time, prepend=time[0])
    first = np.flatnonzero(np.diff(np.floor(time / BIN_S), prepend=-np.inf))
    count = np.diff(np.append(first, len(dt)))

    def mean(x: FloatArray) -> FloatArray:
        return np.asarray(np.add.reduceat(x, first) / count)

    step = np.add.reduceat(dt, first)
    charge = np.add.reduceat(dt * current, first)
    current = np.where(step > 0, charge / np.where(step > 0, step, 1.0), mean(current))
    soc = None if data.soc is None else mean(data.soc[~bad])
    return File(path, kind, step, current, mean(voltage), mean(temp), soc, len(dt))


def _check_gaps(path: Path, time_s: FloatArray, current_a: FloatArray) -> None:
    """A gap of hours is a rest that was hardly recorded, or the charge is lost."""
    gaps, small = np.diff(time_s), 0.02 * np.abs(current_a).max()
    lost = (gaps > LONGEST_GAP_S) & ((np.abs(current_a[:-1]) > small) | (np.abs(current_a[1:]) > small))
    for row in np.flatnonzero(lost)[:1].tolist():
        raise DataError(
            f"{path}: a gap of {gaps[row] / 3600:.1f} h under load after {time_s[row]:.0f} s: what flowed is unknown; "
            "split the file there"
        )


def clusters(files: list[File]) -> list[list[File]]:
    """Files of one chamber temperature, the coldest first."""
    found: list[list[File]] = []
    for file in sorted(files, key=lambda f: f.chamber_degc):
        if found and file.chamber_degc - found[-1][-1].chamber_degc < CLUSTER_DEGC:
            found[-1].append(file)
        else:
            found.append([file])
    return found


def implied_capacity(file: File) -> tuple[float, npt.NDArray[np.bool_]] | None:
    """(what the file's own soc takes for 100 %, the rows whose soc agrees with the charge that flowed).

    A line through soc over charge with least absolute errors: some files count on after a charge, beyond 1.
    """
    if file.soc is None:
        return None
    known = np.isfinite(file.soc)
    soc, drawn = file.soc[known], file.drawn_ah[known]
    if not known.any() or np.ptp(soc) < 0.3:
        return None
    x = np.stack([drawn, np.ones(len(drawn))], axis=1)
    weight: FloatArray = np.ones(len(drawn))
    line: FloatArray = np.zeros(2)
    for _ in range(30):
        line = np.asarray(np.linalg.lstsq(x * weight[:, None], soc * weight, rcond=None)[0], dtype=np.float64)
        weight = 1 / np.sqrt(np.maximum(np.abs(soc - x @ line), 1e-3))
    if line[0] >= 0:
        raise DataError(
            f"{file.path}: its soc rises while current flows out of the cell: is the sign of the current reversed?"
        )
    agrees = known.copy()
    agrees[known] = np.abs(soc - x @ line) < DISAGREES
    return -1 / float(line[0]), agrees


class Axes:
    """The state of charge of every file."""

    def __init__(
        self, files: list[File], capacity_ah: float, full_below_v: float, remarks: list[str]
    ) -> None:
        self.files, self.capacity_ah, self.remarks = files, capacity_ah, remarks
        self.groups = clusters(files)
        self.temps = np.array([np.median([f.chamber_degc for f in g]) for g in self.groups])
        slow = [f for f in files if f.kind == "ocv"]
        top = max(float(f.voltage_v.max()) for f in (slow or files))
        self.full_v = top - full_below_v
        self.own = {f.path: implied_capacity(f) for f in files}
        implied = [[own[0] for f in g if (own := self.own[f.path])] for g in self.groups]
        self.known = np.array([bool(q) for q in implied])
        self.implied = np.array([np.median(q) if q else np.nan for q in implied])
        for temp, q in zip(self.temps, self.implied, strict=True):
            if np.isfinite(q) and abs(q / capacity_ah - 1) > 0.1:
                remarks.append(
                    f"the soc of the files at {temp:.0f} degC takes {q:.2f} Ah for 100 %, not {capacity_ah:g} Ah"
                )

    def capacity(self, temp_degc: float) -> float:
        if not self.known.any():
            return self.capacity_ah
        return float(np.interp(temp_degc, self.temps[self.known], self.implied[self.known]))

    def records(self) -> list[Record]:
        """Raises DataError where the state of charge of a file cannot be told."""
        done: dict[Path, Record] = {}
        for group in self.groups:
            for file in group:
                if file.soc is not None:
                    done[file.path] = self._believed(file)
            self._slow([f for f in group if f.kind == "ocv" and f.soc is None], done)
        for file in self.files:
            if file.soc is None and file.kind != "ocv":
                done[file.path] = self._counted(file, list(done.values()))
        return [done[f.path] for f in self.files if f.path in done]

    def _believed(self, file: File) -> Record:
        assert file.soc is not None
        own, rows = self.own[file.path], np.arange(len(file.soc))
        known = np.isfinite(file.soc) if own is None else own[1]
        wrong = int(np.isfinite(file.soc).sum() - known.sum())
        if wrong:
            self.remarks.append(
                f"{file.name}: the soc of {wrong / len(rows):.1%} of the rows contradicts the charge that flowed: not used"
            )
        soc = np.interp(rows, rows[known], file.soc[known])
        return self._test(file, soc, OFFSET_SD, SCALE_SD, used=known)

    def _test(
        self,
        file: File,
        soc: FloatArray,
        offset_sd: float,
        scale_sd: float,
        used: npt.NDArray[np.bool_] | None = None,
    ) -> Record:
        full, empty = soc[0] > 0.97, soc[0] < 0.03
        return Record(
            name=file.name,
            kind=file.kind,
            dt_s=file.dt_s,
            current_a=file.current_a,
            voltage_v=file.voltage_v,
            temp_degc=file.temp_degc,
            soc=np.clip(soc, 0.0, 1.0),
            used=np.ones(len(soc), dtype=bool) if used is None else used,
            offset_sd=offset_sd,
            scale_sd=scale_sd,
            start_h=1.0 if full else -1.0 if empty else 0.0,
            start_h_sd=0.1 if full or empty else 0.6,
        )

    def _slow(self, files: list[File], done: dict[Path, Record]) -> None:
        """Slow discharge and charge of one temperature, in one file or several."""
        if not files:
            return
        capacity = self.capacity(files[0].chamber_degc)
        large = [f for f in files if np.ptp(f.drawn_ah) >= LARGE * capacity]
        steps = [f for f in files if f not in large]
        out_step = sum(max(f.drawn_ah[-1], 0.0) for f in steps)
        in_step = -sum(min(f.drawn_ah[-1], 0.0) for f in steps)
        emptied = [f.drawn_ah[-1] + out_step for f in large if f.drawn_ah[-1] > 0]
        if emptied and out_step:  # discharged to the end of it: that is the capacity
            capacity = float(np.median(emptied))
        lowest: list[float] = []  # where the discharge ended, end steps included
        for file in sorted(large, key=lambda f: -f.drawn_ah[-1]):  # discharges first
            drawn, low = file.drawn_ah, int(np.argmax(file.drawn_ah))
            fell, rose = drawn[low] / capacity, (drawn[low] - drawn[-1]) / capacity
            if fell >= LARGE:
                if file.voltage_v[0] >= self.full_v:
                    begin = 1.0
                elif rose >= LARGE:  # it ends full
                    begin = 1 - rose + fell
                else:
                    begin = fell
                soc = begin - drawn / capacity
                if rose >= LARGE:
                    back = (drawn[low] - drawn[low:]) / (drawn[low] - drawn[-1])
                    soc[low:] = soc[low] + back * (1 - soc[low])
                lowest.append(float(soc[low]) - out_step / capacity)
            else:
                end = 1 - in_step / capacity
                begin = lowest[0] if lowest else end - rose
                soc = begin + (end - begin) * (drawn[0] - drawn) / (drawn[0] - drawn[-1])
            done[file.path] = self._test(file, soc, COUNTED_SD / 2, COUNTED_SD)
        for file in steps:
            self.remarks.append(
                f"{file.name}: {np.ptp(file.drawn_ah):.2f} Ah are an end step: only its charge is used"
                if large
                else f"{file.name}: {np.ptp(file.drawn_ah):.2f} Ah are no slow curve, and it has no soc: not used"
            )

    def _counted(self, file: File, known: list[Record]) -> Record:
        capacity = self.capacity(file.chamber_degc)
        if file.voltage_v[0] >= self.full_v:
            return self._test(file, 1 - file.drawn_ah / capacity, OFFSET_SD, COUNTED_SD)
        slow = [t for t in known if t.kind == "ocv"]
        if not slow or abs(file.current_a[0]) > REST_C * capacity:
            raise DataError(
                f"{file.path}: no column soc; it begins neither full ({file.voltage_v[0]:.3f} V) nor at a rest with "
                "an OCV to read it from (--ocv): its state of charge cannot be told"
            )
        begin = rest_soc(slow, float(file.voltage_v[0]), file.chamber_degc)
        return self._test(file, begin - file.drawn_ah / capacity, RESTED_SD, COUNTED_SD)


def rest_soc(slow: list[Record], voltage_v: float, temp_degc: float) -> float:
    """soc at that voltage, on the middle of the slow branches at the nearest temperature."""
    distance = [abs(float(np.median(t.temp_degc)) - temp_degc) for t in slow]
    near = [t for t, d in zip(slow, distance, strict=True) if d <= min(distance) + CLUSTER_DEGC]
    grid, branches = np.linspace(0, 1, 201), []
    for test in near:
        for sign in (1, -1):
            run = np.flatnonzero(test.current_a * sign > 0)
            if len(run) > 10:
                order = run[np.argsort(test.soc[run], kind="stable")]
                branches.append(np.interp(grid, test.soc[order], test.voltage_v[order]))
    middle = np.maximum.accumulate(np.mean(branches, axis=0))
    return float(np.interp(voltage_v, middle, grid))


def nodes(temps: FloatArray, widest: float = 15.0, low: float = -40.0, high: float = 60.0) -> FloatArray:
    """Temperatures of the tables: those of the tests, and between and beyond them where they are far apart."""
    inner = np.unique(np.round(np.clip(temps, low + 1, high - 1), 1))
    out = [low]
    for temp in [*inner.tolist(), high]:
        parts = int(np.ceil((temp - out[-1]) / widest - 1e-9))
        begin = out[-1]
        out += [begin + (temp - begin) * k / parts for k in range(1, parts + 1)]
    return np.array(out)
