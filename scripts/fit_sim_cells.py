"""Fit the simulator's cells to measured ones: `python scripts/fit_sim_cells.py DATA [CELL... | --left-out TEMP...]`.

DATA is the folder with `battery/` in it. Writes sim_bus/battery/cells/*.toml and prints, file by file, how far the
model is from the measurement, for files that were fitted and files that were not; with --left-out it judges the A123
cell at temperatures that a fit did not see, and writes nothing. docs/simulator/cells.md says what the numbers mean.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sim_bus.battery.cell import NUMBERS, TEXTS, Cell
from sim_bus.battery.cells import run_cell

FloatArray = npt.NDArray[np.float64]

CELLS = Path(__file__).parent.parent / "sim_bus" / "battery" / "cells"
SOC = np.unique(np.round(np.r_[0:0.05:0.0025, 0.05:0.95:0.01, 0.95:1.00001:0.0025], 4))
GAS = 8.314462618
KELVIN = 273.15


@dataclass
class File:
    """One measured file: rows of time, current (positive discharge), voltage, temperature, soc."""

    name: str
    time: FloatArray
    current: FloatArray
    volts: FloatArray
    temp: FloatArray
    soc: FloatArray

    def charge_ah(self) -> FloatArray:
        return np.cumsum(self.current * np.diff(self.time, prepend=self.time[0])) / 3600


def load(path: Path) -> File:
    with gzip.open(path) as stream:
        rows = np.genfromtxt(stream, delimiter=",", skip_header=1)
    return File(path.name.removesuffix(".csv.gz"), *(np.ascontiguousarray(rows[:, k]) for k in range(5)))


def safari_delacourt(x: FloatArray) -> FloatArray:
    """Graphite of an LFP cell. M. Safari, C. Delacourt, J. Electrochem. Soc. 158 (2011) A562."""
    return (
        0.6379
        + 0.5416 * np.exp(-305.5309 * x)
        + 0.044 * np.tanh(-(x - 0.1958) / 0.1088)
        - 0.1978 * np.tanh((x - 1.0571) / 0.0854)
        - 0.6875 * np.tanh((x + 0.0117) / 0.0529)
        - 0.0175 * np.tanh((x - 0.5692) / 0.0875)
    )


def chen(x: FloatArray) -> FloatArray:
    """Graphite with silicon of an LG cell. C.-H. Chen et al., J. Electrochem. Soc. 167 (2020) 080534."""
    return (
        1.9793 * np.exp(-39.3631 * x)
        + 0.2482
        - 0.0909 * np.tanh(29.8538 * (x - 0.1234))
        - 0.04478 * np.tanh(14.9159 * (x - 0.2769))
        - 0.0205 * np.tanh(30.4444 * (x - 0.6103))
    )


def arrhenius(value_25: float, ea_j_mol: float, temp_degc: FloatArray) -> FloatArray:
    return value_25 * np.exp(ea_j_mol / GAS * (1 / (temp_degc + KELVIN) - 1 / (25 + KELVIN)))


def branch(file: File, soc: FloatArray) -> FloatArray:
    """Voltage over SOC of a slow one-way test, straight on beyond its ends."""
    flowing = np.abs(file.current) > 0.02
    x, v = soc[flowing], file.volts[flowing]
    order = np.argsort(x)
    return np.interp(SOC, x[order], v[order])


# ---- the model and what is known of it before ----------------------------------------------------------------------

SHAPED = (
    "ohmic_ohm",
    "exchange_a",
    "anode_diffusion_s",
    "cathode_diffusion_s",
    "electrolyte_ohm",
    "slow_ohm",
)
FLAT = ("electrolyte_s", "slow_s", "hysteresis_factor")  # over temperature only
KEYS = (*SHAPED, *FLAT)
SPLIT = 1.5  # the anode's exchange current over the cathode's: voltages of one cell don't tell them apart
FIRST = {  # at 25 degC for 1 Ah: value, activation energy in J/mol, sd of ln about it
    "ohmic_ohm": (0.025, 15e3, 1.5),
    "exchange_a": (2.0, -45e3, 1.5),
    "anode_diffusion_s": (800.0, 35e3, 1.0),
    "cathode_diffusion_s": (800.0, 35e3, 1.0),
    "electrolyte_ohm": (0.01, 20e3, 1.0),
    "slow_ohm": (0.015, 25e3, 1.0),
    "electrolyte_s": (15.0, 10e3, 0.5),
    "slow_s": (400.0, 10e3, 0.5),
    "hysteresis_factor": (1.0, 0.0, 0.2),
}
SOC_SD = {
    "anode_diffusion_s": 0.5,
    "cathode_diffusion_s": 0.5,
    "ohmic_ohm": 0.1,
    "slow_ohm": 0.1,
}  # of ln, between neighbours in soc
SOC_SD_ELSE = 0.2
BEND_SD = (0.15, 0.06)  # of ln, from the straight line over 1/T through the neighbours: at first, and at last
KNOTS = np.array(
    [
        0,
        0.005,
        0.01,
        0.02,
        0.035,
        0.05,
        0.07,
        0.1,
        0.15,
        0.2,
        *np.arange(0.25, 0.9, 0.05),
        0.9,
        0.94,
        0.97,
        0.985,
        1.0,
    ]
)
HEAT_KNOTS = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
OCV_SD_V, OCV_SD_SOC = 0.004, 0.002  # of the bends of the slow tests' OCV: in V, and in soc times the slope
LOOP_SD = 0.3  # of ln of the hysteresis
ENTROPY_SD = 0.15e-3  # V/K
PRIOR = 0.3  # weight of all that against the files, whose errors count in units of 10 mV


@dataclass
class Model:
    """What is fitted. `ln[key]`: (temperatures, socs), or (temperatures,) for FLAT."""

    ocv: FloatArray
    loop: FloatArray
    graphite: Callable[[FloatArray], FloatArray]
    anode: tuple[float, float]
    cathode: tuple[float, float]
    width: FloatArray
    temps: FloatArray
    socs: FloatArray
    x: FloatArray  # tables in the order of KEYS and, within, of temperatures; then bends of the OCV, ln loop, entropy
    ratio: float = SPLIT  # exchange current of the anode over the cathode's

    def split(self, x: FloatArray) -> tuple[dict[str, FloatArray], FloatArray, FloatArray, FloatArray]:
        t, z, at, ln = self.temps.size, self.socs.size, 0, {}
        for key in KEYS:
            shape = (t, z) if key in SHAPED else (t, 1)
            size = shape[0] * shape[1]
            ln[key] = x[at : at + size].reshape(shape)
            at += size
        a, b = at + KNOTS.size, at + KNOTS.size + HEAT_KNOTS.size
        return ln, x[at:a], x[a:b], x[b:]

    def cell(self, x: FloatArray | None = None, **texts: Any) -> Cell:
        ln, bend, loop, entropy = self.split(self.x if x is None else x)
        dynamics = {k: np.repeat(np.exp(v), self.socs.size // v.shape[1], axis=1) for k, v in ln.items()}
        both = dynamics.pop("exchange_a")
        dynamics |= {"anode_exchange_a": both * self.ratio**0.5, "cathode_exchange_a": both / self.ratio**0.5}
        potential = {
            "cell_v": self.ocv + np.interp(SOC, KNOTS, bend),
            "anode_v": self.graphite(self.anode[0] + SOC * (self.anode[1] - self.anode[0])),
            "hysteresis_v": self.loop * np.exp(np.interp(SOC, HEAT_KNOTS, loop)),
            "entropy_v_per_k": np.interp(SOC, HEAT_KNOTS, entropy),
        }
        about = dict.fromkeys(NUMBERS, 1.0) | dict.fromkeys(TEXTS, "") | {"sources": ()} | texts
        return Cell(
            soc=SOC, potential=potential, anode=self.anode, cathode=self.cathode, width_soc=self.width,
            share=np.full(self.width.size, 1 / self.width.size), temp_degc=self.temps, dynamics_soc=self.socs,
            dynamics=dynamics, **about,
        )  # fmt: skip


def first_x(temps: FloatArray, socs: FloatArray, capacity_ah: float) -> FloatArray:
    parts = []
    for key, (value, ea, _) in FIRST.items():
        scale = {"exchange_a": capacity_ah}.get(key, 1 / capacity_ah if key.endswith("ohm") else 1.0)
        row = np.log(arrhenius(value * scale, ea, temps))
        parts.append(np.repeat(row, socs.size) if key in SHAPED else row)
    return np.concatenate([*parts, np.zeros(KNOTS.size + 2 * HEAT_KNOTS.size)])


@dataclass
class Task:
    """A file, and how it is run. Only every `every`-th row counts in a fit."""

    file: File
    soc0: float
    capacity_ah: float
    hysteresis: float
    dt_s: float
    weight: float = 1.0
    every: int = 5

    def error(self, cell: Cell) -> FloatArray:
        f = self.file
        return f.volts - run_cell(
            cell, f.time, f.current, f.temp, self.soc0, self.dt_s,
            capacity_ah=self.capacity_ah, hysteresis=self.hysteresis, every_s=5.0,
        )  # fmt: skip

    def residual(self, cell: Cell) -> FloatArray:
        e = self.error(cell)[:: self.every]
        return e * (100 * self.weight * ROWS / np.sqrt(e.size))


COARSE_S = 2.0
ROWS = 10.0  # a file weighs as so many squared independent rows


class Fit:
    """Least squares over all files and temperatures at once. A table's row for a temperature moves only the files
    whose temperatures touch it: that makes the derivatives affordable."""

    def __init__(self, model: Model, tasks: list[Task], first: FloatArray, bend_sd: float) -> None:
        self.model, self.tasks, self.first = model, tasks, first
        self.prior = self._prior(bend_sd)
        cell = model.cell()
        sizes = [t.residual(cell).size for t in tasks]
        self.rows = np.cumsum([0, *sizes])

    def _prior(self, bend_sd: float) -> FloatArray:
        """Rows of a matrix P: P (x - first) are standard normal."""
        m, n, rows = self.model, self.first.size, []
        place = m.split(np.arange(n, dtype=float))
        inv = 1 / (m.temps + KELVIN)

        def row(**values: float) -> None:
            line = np.zeros(n)
            for k, v in values.items():
                line[int(float(k[1:]))] += v
            rows.append(line)

        for key, where in place[0].items():
            t_n, z_n = where.shape
            for t in range(t_n):
                row(**{f"_{where[t, z]}": 1 / FIRST[key][2] / z_n for z in range(z_n)})
                for z in range(z_n - 1):
                    sd = SOC_SD.get(key, SOC_SD_ELSE)
                    row(**{f"_{where[t, z]}": -1 / sd, f"_{where[t, z + 1]}": 1 / sd})
            for t in range(1, t_n - 1):
                f = (inv[t] - inv[t - 1]) / (inv[t + 1] - inv[t - 1])
                for z in range(z_n):
                    row(
                        **{
                            f"_{where[t - 1, z]}": (f - 1) / bend_sd,
                            f"_{where[t, z]}": 1 / bend_sd,
                            f"_{where[t + 1, z]}": -f / bend_sd,
                        }
                    )
        slope = np.abs(np.interp(KNOTS, SOC, np.gradient(m.ocv, SOC)))
        sd = OCV_SD_V + OCV_SD_SOC * slope
        for k, w in enumerate(place[1]):
            row(**{f"_{w}": 1 / sd[k]})
        for table, sd1 in ((place[2], LOOP_SD), (place[3], ENTROPY_SD)):
            for k, w in enumerate(table):
                row(**{f"_{w}": 1 / sd1})
                if k:
                    row(**{f"_{w}": 1 / sd1, f"_{table[k - 1]}": -1 / sd1})
        return PRIOR * np.array(rows)

    def residual(self, x: FloatArray) -> FloatArray:
        cell = self.model.cell(x)
        return np.concatenate([*(t.residual(cell) for t in self.tasks), self.prior @ (x - self.first)])

    def _touched(self, index: int) -> list[int]:
        ln, *_ = self.model.split(np.arange(self.first.size, dtype=float))
        for where in ln.values():
            hit = np.argwhere(where == index)
            if hit.size:
                t, temps = hit[0][0], self.model.temps
                low = temps[t - 1] if t else -300.0
                high = temps[t + 1] if t + 1 < temps.size else 300.0
                return [
                    k
                    for k, task in enumerate(self.tasks)
                    if task.file.temp.max() > low and task.file.temp.min() < high
                ]
        return list(range(len(self.tasks)))

    def jacobian(self, x: FloatArray) -> FloatArray:
        cell = self.model.cell(x)
        base = [t.residual(cell) for t in self.tasks]
        out = np.zeros((self.rows[-1] + len(self.prior), x.size))
        out[self.rows[-1] :] = self.prior
        steps = self.steps()
        for j in range(x.size):
            moved = x.copy()
            moved[j] += steps[j]
            cell = self.model.cell(moved)
            for k in self._touched(j):
                out[self.rows[k] : self.rows[k + 1], j] = (self.tasks[k].residual(cell) - base[k]) / steps[j]
        return out

    def steps(self) -> FloatArray:
        ends = [np.full(KNOTS.size, 1e-4), np.full(HEAT_KNOTS.size, 1e-2), np.full(HEAT_KNOTS.size, 1e-6)]
        return np.concatenate([np.full(self.first.size - sum(e.size for e in ends), 1e-3), *ends])

    def solve(self, rounds: int = 30, loud: bool = True) -> Model:
        """Levenberg-Marquardt."""
        x, damping = self.model.x, 1e-2
        r = self.residual(x)
        for k in range(rounds):
            jac = self.jacobian(x)
            normal, gradient = jac.T @ jac, jac.T @ r
            before = r @ r
            for _ in range(8):
                step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -gradient)
                limit = 2.5 / max(np.abs(step / self.steps()).max() * 1e-3, 2.5)
                new = self.residual(x + limit * step)
                if new @ new < before:
                    x, r, damping = x + limit * step, new, damping / 5
                    break
                damping *= 5
            if loud:
                print(f"    {k}: {before:.0f} -> {r @ r:.0f}", flush=True)
            if r @ r > before * 0.99:
                break
        return replace(self.model, x=x)


def fit(model: Model, tasks: list[Task], loud: bool = True) -> Model:
    """First on means over COARSE_S and loosely over temperature, then on the files as they are and straighter."""
    coarse = [
        replace(t, file=thin(t.file, COARSE_S), dt_s=COARSE_S) if t.dt_s < COARSE_S else t for t in tasks
    ]
    start = Fit(model, coarse, model.x, BEND_SD[0]).solve(loud=loud)
    return Fit(start, tasks, model.x, BEND_SD[1]).solve(loud=loud)


def report(tasks: list[Task], cell: Cell, note: str) -> None:
    for t in tasks:
        e = 1e3 * t.error(cell)
        print(
            f"  {t.file.name:28s} {note:8s} rms {np.sqrt((e**2).mean()):6.1f} mV  largest {np.abs(e).max():6.1f}",
            flush=True,
        )


def thin(file: File, bin_s: float) -> File:
    """Means over bins of time, each at its last row's time."""
    group = np.floor(file.time / bin_s).astype(int)
    begins = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    count = np.diff(np.append(begins, group.size))
    last = begins + count - 1
    mean = [np.add.reduceat(c, begins) / count for c in (file.current, file.volts, file.temp, file.soc)]
    return File(file.name, file.time[last], *mean)


# ---- the measured cells -------------------------------------------------------------------------------------------


def thinned(path: Path, bin_s: float) -> File:
    file = load(path)
    return thin(file, bin_s) if np.median(np.diff(file.time)) < bin_s / 2 else file


def slow_branches(
    discharge: File, charge: File, out_ah: float, in_ah: float
) -> tuple[FloatArray, FloatArray]:
    """Voltages over SOC: going down from full, by the charge that goes out in all, and coming up, by what goes in."""
    down = branch(discharge, 1 - discharge.charge_ah() / out_ah)
    up = branch(charge, -charge.charge_ah() / in_ah)
    return down, up


@dataclass
class Subject:
    """A measured cell: its files by what they are for, and what is said of it."""

    name: str
    tasks: list[Task]
    judged: list[Task]
    model: Model
    about: dict[str, Any]


WIDTH = np.array([0.005, 0.015, 0.04, 0.1])  # of the hysteresis's play operators, in soc
A123_SLOW_V = 0.0015  # of the slow branches' distance from the middle is resistance
LG_AH = {40: 2.74, 25: 2.74, 10: 2.70, 0: 2.68, -10: 2.66, -20: 2.64}  # shared with the data's own soc


def degc(path: Path) -> int:
    return int(path.name.removesuffix(".csv.gz").rsplit("_", 1)[1])


def a123(folder: Path) -> Subject:
    """Slow tests by their own capacities: the rest of it goes in and out in the files `..._end_...`."""
    capacity = 2.072

    def slow(kind: str, temp: str) -> tuple[File, float]:
        part, end = (load(folder / f"slow_{kind}{e}_{temp}.csv.gz") for e in ("", "_end"))
        return part, abs(float(part.charge_ah()[-1] + end.charge_ah()[-1]))

    (discharge, out_ah), (charge, in_ah) = slow("discharge", "+25"), slow("charge", "+25")
    down, up = slow_branches(discharge, charge, out_ah, in_ah)
    middle, loop = (down + up) / 2, np.clip((up - down) / 2 - A123_SLOW_V, 0.001, 0.02)
    middle[0] = 2.0
    tasks = [Task(load(p), 1.0, capacity, 1.0, 1.0, every=4) for p in sorted(folder.glob("drive_*.csv.gz"))]
    for temp in sorted(p.name[15:18] for p in folder.glob("slow_discharge_[+-]*.csv.gz")):
        if abs(int(temp)) in (15, 35) and temp != "-15":
            continue  # between others, and without a drive
        for kind, soc0 in (("discharge", 1.0), ("charge", 0.0)):
            file, total = slow(kind, temp)
            tasks.append(Task(file, soc0, total, 2 * soc0 - 1, 20.0, 0.3, every=10))
    temps = np.array([-25.0, -15.0, -5.0, 5.0, 25.0, 45.0])
    socs = np.array([0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0])
    model = Model(middle, loop, safari_delacourt, (0.0176, 0.81), (0.95, 0.03), WIDTH,
                  temps, socs, first_x(temps, socs, capacity))  # fmt: skip
    about = {
        "name": "a123_26650", "chemistry": "LFP", "summary": "A123 26650, 2.07 Ah; temperatures are those of the chamber",
        "capacity_ah": capacity, "voltage_min_v": 2.0, "voltage_max_v": 3.6, "mass_kg": 0.07, "heat_j_per_kg_k": 1000.0,
        "sources": (
            {"data": "G. Plett, ESC toolbox data, via batterysim/esctoolbox-python", "licence": "MIT",
             "used_for": "all but graphite's potential: fitted on every drive and slow test by scripts/fit_sim_cells.py"},
            {"data": "M. Safari, C. Delacourt, J. Electrochem. Soc. 158 (2011) A562", "licence": "facts",
             "used_for": "graphite's potential and stoichiometries"},
        ),
    }  # fmt: skip
    return Subject("a123_26650", tasks, [], model, about)


def out_and_back(slow: File) -> tuple[File, File]:
    """The discharge and the charge of a slow test."""

    def part(mask: npt.NDArray[np.bool_]) -> File:
        return File(slow.name, *(c[mask] for c in (slow.time, slow.current, slow.volts, slow.temp, slow.soc)))

    return part(slow.current > 0.02), part(slow.current < -0.02)


def from_full(path: Path, capacity_ah: float, weight: float = 1.0) -> Task:
    """A drive or pulses of a full cell, in rows of a second."""
    return Task(thinned(path, 1.0), 1.0, capacity_ah, 1.0, 1.0, weight)


def slow_out(path: Path, capacity_ah: float) -> Task:
    """A slow test of a full cell until its charge begins."""
    file = thinned(path, 10.0)
    end = int(np.argmax(file.current < -0.02)) or file.time.size
    file = File(file.name, *(c[:end] for c in (file.time, file.current, file.volts, file.temp, file.soc)))
    return Task(file, 1.0, capacity_ah, 1.0, 10.0, 0.5)


PULSES_WEIGHT = 0.7


def lg(folder: Path) -> Subject:
    out, back = out_and_back(load(folder / "slow_+25.csv.gz"))
    gone, come = out.charge_ah()[-1], -back.charge_ah()[-1]
    down = branch(out, 1 - out.charge_ah() / LG_AH[25])
    up = branch(back, 1 - gone / LG_AH[25] - back.charge_ah() * (gone / come) / LG_AH[25])

    def files(kind: str) -> list[Path]:
        return sorted(folder.glob(f"{kind}_*.csv.gz"))

    tasks = [from_full(p, LG_AH[degc(p)]) for kind in ("US06", "LA92") for p in files(kind)]
    tasks += [from_full(p, LG_AH[degc(p)], PULSES_WEIGHT) for p in files("pulses")]
    tasks += [slow_out(p, LG_AH[degc(p)]) for p in files("slow")]
    judged = [from_full(p, LG_AH[degc(p)]) for kind in ("Mixed1", "Mixed2", "UDDS") for p in files(kind)]
    temps, socs = np.array([-20.0, -10.0, 0.0, 10.0, 25.0, 40.0]), np.array([0.0, 0.1, 0.3, 0.7, 1.0])
    model = Model((down + up) / 2, np.clip(0.3 * (up - down), 1e-4, None), chen, (0.03, 0.90), (0.91, 0.27),
                  WIDTH, temps, socs, first_x(temps, socs, 2.7))  # fmt: skip
    about = {
        "name": "lg_hg2", "chemistry": "NMC", "summary": "LG 18650HG2, 3 Ah nominal, lightly used",
        "capacity_ah": 2.74, "voltage_min_v": 2.5, "voltage_max_v": 4.2, "mass_kg": 0.047, "heat_j_per_kg_k": 900.0,
        "sources": (
            {"data": "P. Kollmeyer, C. Vidal, M. Naguib, M. Skells, LG 18650HG2 Li-ion Battery Data, Mendeley Data, "
             "doi:10.17632/cp3473x7xv; soc as in its curated form", "licence": "CC BY 4.0",
             "used_for": "all but graphite's potential: fitted on slow, pulses, US06, LA92 by scripts/fit_sim_cells.py; "
             "Mixed1, Mixed2, UDDS judge"},
            {"data": "C.-H. Chen et al., J. Electrochem. Soc. 167 (2020) 080534", "licence": "facts",
             "used_for": "the anode's potential and stoichiometries"},
        ),
    }  # fmt: skip
    return Subject("lg_hg2", tasks, judged, model, about)


# ---- what is written ----------------------------------------------------------------------------------------------

BEYOND = (-40.0, 60.0)  # the tables run on to these, ln(value) straight over 1/T, no steeper than MOST_EA
MOST_EA = 60e3  # J/mol


def beyond(cell: Cell) -> Cell:
    """With a row for each end of BEYOND."""
    temps = np.array([BEYOND[0], *cell.temp_degc, BEYOND[1]])
    inv = 1 / (temps + KELVIN)
    dynamics = {}
    for key, rows in cell.dynamics.items():
        ln = np.log(rows)
        ends = []
        for edge, inner, far in ((0, 1, inv[0]), (-1, -2, inv[-1])):
            slope = (ln[edge] - ln[inner]) / (inv[1:-1][edge] - inv[1:-1][inner])
            slope = np.clip(slope, -MOST_EA / GAS, MOST_EA / GAS)
            ends.append(ln[edge] + slope * (far - inv[1:-1][edge]))
        dynamics[key] = np.exp(np.vstack([ends[0], ln, ends[1]]))
    return replace(cell, temp_degc=temps, dynamics=dynamics)


def toml(cell: Cell) -> str:
    """The file of a cell."""

    def row(values: FloatArray) -> str:
        return "[" + ", ".join(f"{float(f'{v:.5g}')!r}" for v in values) + "]"

    lines = ["# Made by scripts/fit_sim_cells.py. The keys: sim_bus/battery/cell.py."]
    lines += [f'{k} = "{getattr(cell, k)}"' for k in TEXTS]
    lines += [f"{k} = {float(getattr(cell, k))!r}" for k in NUMBERS]
    for source in cell.sources:
        lines += ["", "[[sources]]", *(f'{k} = "{v}"' for k, v in source.items())]
    lines += ["", "[potential]", f"soc = {row(cell.soc)}"]
    lines += [f"{k} = {row(v)}" for k, v in cell.potential.items()]
    lines += [
        "",
        "[stoichiometry]",
        f"anode = {row(np.array(cell.anode))}",
        f"cathode = {row(np.array(cell.cathode))}",
    ]
    lines += ["", "[hysteresis]", f"width_soc = {row(cell.width_soc)}", f"share = {row(cell.share)}"]
    lines += ["", "[dynamics]", f"temp_degc = {row(cell.temp_degc)}", f"soc = {row(cell.dynamics_soc)}"]
    for key, rows in cell.dynamics.items():
        lines += [f"{key} = [", *(f"    {row(r)}," for r in rows), "]"]
    return "\n".join(lines) + "\n"


BUS_AH = 280.0
BUS_OHMIC = 3.0  # ohmic resistance times capacity, over the small power cell's: 0.2 to 0.25 mohm at 25 degC
BUS_SUMMARY = "Prismatic LFP cell of the 280 Ah class for a bus: a123_26650's chemistry, an assumption, not a measurement"


def bus(small: Cell) -> Cell:
    """The small cell's chemistry at 280 Ah; an energy cell's ohmic resistance. Mass and heat: EVE LF280K's data sheet."""
    ratio = BUS_AH / small.capacity_ah
    scale = dict.fromkeys(("electrolyte_ohm", "slow_ohm"), 1 / ratio)
    scale |= {"ohmic_ohm": BUS_OHMIC / ratio, "anode_exchange_a": ratio, "cathode_exchange_a": ratio}
    return replace(
        small, name="lfp_280", summary=BUS_SUMMARY, capacity_ah=BUS_AH, voltage_min_v=2.5, voltage_max_v=3.65, mass_kg=5.4,
        heat_j_per_kg_k=1000.0, dynamics={k: v * scale.get(k, 1.0) for k, v in small.dynamics.items()},
        sources=(
            *small.sources,
            {"data": "EVE LF280K, data sheet", "licence": "facts", "used_for": "capacity, mass, voltage limits; size of the resistance"},
        ),
    )  # fmt: skip


SUBJECTS: dict[str, tuple[Callable[[Path], Subject], str]] = {
    "a123_26650": (a123, "a123_lfp"),
    "lg_hg2": (lg, "lg_hg2_nmc"),
}


def left_out(subject: Subject, temp_degc: float) -> None:
    """The drive at a temperature, judged by a fit without any file of that temperature."""
    away = [abs(float(t.file.temp.mean()) - temp_degc) > 1 for t in subject.tasks]
    others = [t for t, far in zip(subject.tasks, away, strict=True) if far]
    mine = [t for t, far in zip(subject.tasks, away, strict=True) if not far]
    report(mine, beyond(fit(subject.model, others, loud=False).cell()), "left out")


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(SUBJECTS)
    if names[0] == "--left-out":
        for text in names[1:]:
            left_out(a123(folder / "battery" / "a123_lfp"), float(text))
        return
    for name in names:
        make, sub = SUBJECTS[name]
        subject = make(folder / "battery" / sub)
        print(name, flush=True)
        fitted = beyond(fit(subject.model, subject.tasks).cell(**subject.about))
        report(subject.tasks, fitted, "fitted")
        report(subject.judged, fitted, "judged")
        (CELLS / f"{name}.toml").write_text(toml(fitted), "utf-8")
        if name == "a123_26650":
            (CELLS / "lfp_280.toml").write_text(toml(bus(fitted)), "utf-8")


if __name__ == "__main__":
    main()
