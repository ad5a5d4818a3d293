"""A cell at -30 degC, where no one has measured: `python scripts/lab_pybamm.py DATA OUT [--cell nmc|lfp]`.

Simulates two cells with PyBaMM's single-particle model with electrolyte (the `[lab]` extra; an hour of drive in
some seconds, and within 7 mV of the Doyle-Fuller-Newman model at -20 degC) with a lumped temperature, and writes what a laboratory would have measured, in the format of `ayaz soc` and `ayaz fit-cell`, into OUT/CELL/:

    fit/    slow_T, pulses_T, US06_T, LA92_T at 25, 10, 0, -10 and -20 degC
    judge/  Mixed1_T, Mixed2_T at -30, Mixed1 at -15 and 5, and Mixed1, Mixed2 from -20 to 15 (`warming_*`)

The drives' currents are those of the LG cell's drives in DATA/lg_hg2_nmc, scaled to the capacity, repeated until the
lower voltage limit. The cells (PyBaMM's own parameter sets) are electrochemical models: none of them knows an
equivalent circuit, so that our cell model is as wrong about them as about a real cell.

The sets' resistances rise 2 to 4 times from 25 to -20 degC; those of measured cells rise 8 times and more. So each
exchange current, diffusivity and the electrolyte's conductivity gets an Arrhenius factor in addition, of EXTRA_J_MOL
times one number, which is sought until the 10 s resistance at C/2 and half charge rises RISE times. And the exchange
currents are EXCHANGE times the sets', at all temperatures: at 25 degC the cells have then the resistance for their
size of the measured ones (LG HG2, A123), twice or thrice less than the sets make it.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("PYBAMM_DISABLE_TELEMETRY", "true")
sys.path.insert(0, str(Path(__file__).parent.parent))

import pybamm

from edge.measured import load_measured
from scripts.validate_soc import second_by_second

Array = npt.NDArray[np.float64]
KELVIN = 273.15
REFERENCE_K = 298.15
GAS_CONSTANT = 8.314
LG_CAPACITY_AH = 2.7
RISE = 9.0  # of the 10 s resistance from 25 to -20 degC; the measured LG cell's rises 8 times and more
EXTRA_J_MOL = {"exchange-current density": 40e3, "particle diffusivity": 15e3, "Electrolyte": 12e3}
EXCHANGE = 4.0
FIT_DEGC = (25, 10, 0, -10, -20)
FIT_DRIVES = ("US06", "LA92")
JUDGED = (("Mixed1", -30), ("Mixed2", -30), ("Mixed1", -15), ("Mixed1", 5))
WARMING_DEGC = (-20.0, 15.0)
DRIVE_DEGC = {-30: -20, -20: -20, -15: -20, -10: -10, 0: 0, 5: 0, 10: 25, 25: 25}  # whose currents are taken
COLD_SHARE = {
    -30: 0.35,
    -20: 0.55,
    -15: 0.6,
    -10: 0.6,
    0: 0.6,
    5: 0.65,
    10: 0.75,
}  # of them: more would end at the voltage limit within minutes
FULL_SOC = 0.95  # no braking into a fuller battery
OVERSHOOT_V = 0.3  # no upper limit of voltage ends a drive
MAX_HOURS = 4.0
MOST_CHARGE_OFF = 0.002
HEAT_TRANSFER_W_M2K = 30.0  # a chamber with a fan
PULSE_C, CHARGE_PULSE_C, STEP_C = 1.0, 0.75, 1 / 3
COLD_PULSE_C = 0.5  # below 0 degC


@dataclass(frozen=True)
class Cell:
    """One of PyBaMM's parameter sets. `heat`: the set that lends its thermal properties, for want of own ones."""

    parameters: str
    heat: str | None = None


CELLS = {"nmc": Cell("Chen2020"), "lfp": Cell("Prada2013", heat="Chen2020")}
HEAT = (
    "density [kg",
    "heat capacity",
    "thermal conductivity",
    "entropic",
    "current collector",
    "Cell ",
    "heat transfer",
)


def with_factor(value: Any, joule_mol: float, argument: int, times: float = 1.0) -> Callable[..., Any]:
    """A parameter times `times` and an Arrhenius factor, 1 at 25 degC; the temperature is that argument of it."""

    def scaled(*arguments: Any) -> Any:
        factor = times * pybamm.exp(joule_mol / GAS_CONSTANT * (1 / REFERENCE_K - 1 / arguments[argument]))
        return (value(*arguments) if callable(value) else value) * factor

    return scaled


def parameters(cell: Cell, scale: float) -> Any:
    """The set, with its kinetics made as temperature-dependent as `scale` says."""
    values = pybamm.ParameterValues(cell.parameters)
    if cell.heat:
        other = pybamm.ParameterValues(cell.heat)
        lent = {k: other[k] for k in other if any(h in k for h in HEAT) and k not in values}
        values.update(lent, check_already_exists=False)
    changed: dict[str, Any] = {"Total heat transfer coefficient [W.m-2.K-1]": HEAT_TRANSFER_W_M2K}
    for side in ("Negative", "Positive"):
        name = f"{side} electrode exchange-current density [A.m-2]"
        extra = scale * EXTRA_J_MOL["exchange-current density"]
        changed[name] = with_factor(values[name], extra, 3, EXCHANGE)
        name = f"{side} particle diffusivity [m2.s-1]"
        changed[name] = with_factor(values[name], scale * EXTRA_J_MOL["particle diffusivity"], 1)
    for name in ("Electrolyte diffusivity [m2.s-1]", "Electrolyte conductivity [S.m-1]"):
        changed[name] = with_factor(values[name], scale * EXTRA_J_MOL["Electrolyte"], 1)
    values.update(changed)
    return values


def model() -> Any:
    return pybamm.lithium_ion.SPMe({"thermal": "lumped"})


def prepared(setup: dict[str, Any] | None) -> dict[str, Any]:
    return {"model": model()} if setup is None else setup


def at(values: Any, temp_degc: float) -> Any:
    """The same, in a chamber of that temperature."""
    out = values.copy()
    out.update(dict.fromkeys(("Ambient temperature [K]", "Initial temperature [K]"), temp_degc + KELVIN))
    return out


def resistance(values: Any, temp_degc: float) -> float:
    """10 s at C/2 from half charge, in ohm."""
    out = at(values, temp_degc)
    current = 0.5 * float(values["Nominal cell capacity [A.h]"])
    out["Current function [A]"] = current
    solution = pybamm.Simulation(model(), parameter_values=out, solver=pybamm.IDAKLUSolver()).solve(
        [0, 10], initial_soc=0.5
    )
    open_v = solution["Battery open-circuit voltage [V]"].entries[0]
    return float((open_v - solution["Terminal voltage [V]"].entries[-1]) / current)


def rise(cell: Cell, scale: float) -> float:
    """10 s resistance at -20 over that at 25 degC."""
    values = parameters(cell, scale)
    return resistance(values, -20) / resistance(values, 25)


@cache
def scale_for(cell: Cell) -> float:
    """The scale with which the resistance rises RISE times (bisection)."""
    low, high = 0.0, 1.6
    while high - low > 0.02:
        middle = (low + high) / 2
        low, high = (middle, high) if rise(cell, middle) < RISE else (low, middle)
    return high


# What is done to the cell


def pulses(capacity_ah: float, temp_degc: float) -> Iterator[tuple[float, float]]:
    """(seconds, current): at every tenth of the charge a pulse out and, but for the full cell, one in, each of 10 s."""
    out = COLD_PULSE_C if temp_degc < 0 else PULSE_C
    for tenth in range(10):
        yield 60, 0
        yield 10, out * capacity_ah
        yield 300, 0
        yield 10, -CHARGE_PULSE_C * out * capacity_ah if tenth else 0
        yield 300, 0
        yield 0.1 / STEP_C * 3600, STEP_C * capacity_ah
        yield 3600, 0


def stretched(parts: Iterator[tuple[float, float]]) -> tuple[Array, Array]:
    """Times and currents at whole seconds."""
    current = np.concatenate([np.full(round(s), a) for s, a in parts])
    return np.arange(len(current), dtype=float), current


def drive(
    data: Path, name: str, temp_degc: int, capacity_ah: float, measured_degc: int | None = None
) -> tuple[Array, Array]:
    """The LG cell's current at 1 Hz, for a cell of this capacity, again and again.

    It is the one measured at DRIVE_DEGC[temp_degc], or at measured_degc.
    """
    degc = DRIVE_DEGC[temp_degc] if measured_degc is None else measured_degc
    measured = second_by_second(load_measured(data / f"lg_hg2_nmc/{name}_{degc:+03d}.csv.gz"))
    seconds = np.arange(np.floor(measured.time_s[-1]))
    place = np.searchsorted(measured.time_s, seconds)
    current = measured.current_a[place] * COLD_SHARE.get(temp_degc, 1.0) * capacity_ah / LG_CAPACITY_AH
    current = np.tile(current, int(MAX_HOURS * 3600 / len(current)) + 1)[: int(MAX_HOURS * 3600)]
    full = np.cumsum(current) / 3600 < (1 - FULL_SOC) * capacity_ah
    current = np.where(full, np.maximum(current, 0), current)
    return np.arange(len(current), dtype=float), current


def run(
    values: Any,
    time_s: Array,
    current_a: Array,
    longest_step_s: float,
    setup: dict[str, Any] | None = None,
    rtol: float = 1e-4,
) -> Array:
    """[rows, (time, current, voltage, degC, charge taken out)] of a full cell, until its lower voltage limit.

    setup: arguments of pybamm.Simulation in place of `model()` and its mesh; rtol: the solver's relative tolerance.
    """
    values = values.copy()
    values["Current function [A]"] = pybamm.Interpolant(time_s, current_a, pybamm.t)
    values["Upper voltage cut-off [V]"] += OVERSHOOT_V
    # A longer step would leap over a pulse.
    solver = pybamm.IDAKLUSolver(rtol=rtol, options={"dt_max": longest_step_s})
    simulation = pybamm.Simulation(**prepared(setup), parameter_values=values, solver=solver)
    solution = simulation.solve([0, time_s[-1]], t_interp=time_s, initial_soc=1.0)
    times = time_s[time_s <= solution.t[-1]]
    return columns(solution, times)


def slow(values: Any, setup: dict[str, Any] | None = None) -> Array:
    """C/20 from full to empty, an hour's rest, and back; setup as in `run`."""
    steps = [
        "Discharge at C/20 until {:g} V",
        "Rest for 1 hour",
        "Charge at C/20 until {:g} V",
        "Rest for 1 hour",
    ]
    low, high = (float(values[f"{k} voltage cut-off [V]"]) for k in ("Lower", "Upper"))
    text = [s.format(v) for s, v in zip(steps, (low, 0, high, 0), strict=True)]
    simulation = pybamm.Simulation(
        **prepared(setup),
        experiment=pybamm.Experiment(text, period="60 seconds"),
        parameter_values=values,
        solver=pybamm.IDAKLUSolver(),
    )
    solution = simulation.solve(initial_soc=1.0)
    return columns(solution, np.unique(solution.t))


def columns(solution: Any, times: Array) -> Array:
    names = (
        "Current [A]",
        "Terminal voltage [V]",
        "Volume-averaged cell temperature [K]",
        "Discharge capacity [A.h]",
    )
    current, voltage, temp, charge = (np.asarray(solution[n](times)) for n in names)
    return np.column_stack([times, current, voltage, temp - KELVIN, charge])


def write(path: Path, rows: Array, capacity_ah: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soc = 1 - (rows[:, 4] - rows[0, 4]) / capacity_ah
    with gzip.open(path, "wt", encoding="utf-8", newline="\n") as file:
        file.write("time_s,current_A,voltage_V,temperature_C,soc\n")
        for (t, i, v, temp, _), s in zip(rows.tolist(), soc.tolist(), strict=True):
            file.write(f"{t:.1f},{i:.4f},{v:.4f},{temp:.2f},{s:.5f}\n")


@dataclass(frozen=True)
class Job:
    """One file."""

    cell: str
    kind: str  # slow, pulses, warming or the name of a drive
    temp_degc: int
    folder: str

    @property
    def name(self) -> str:
        return f"{self.kind}_{self.temp_degc:+03d}" if "warming" not in self.kind else self.kind


def jobs(cell: str) -> Iterator[Job]:
    for name, temp in JUDGED:
        yield Job(cell, name, temp, "judge")
    for temp in FIT_DEGC:
        for kind in ("slow", "pulses", *FIT_DRIVES):
            yield Job(cell, kind, temp, "fit")
    for name in ("Mixed1", "Mixed2"):
        yield Job(cell, f"warming_{name}", -20, "judge")


def make(job: Job, scale: float, capacity_ah: float, data: Path, out: Path) -> str:
    """One file; returns what was done."""
    begun = time.perf_counter()
    values = at(parameters(CELLS[job.cell], scale), job.temp_degc)
    if job.kind == "slow":
        rows = slow(values)
    elif job.kind == "pulses":
        rows = run(values, *stretched(pulses(capacity_ah, job.temp_degc)), 5.0)
    else:
        name = job.kind.removeprefix("warming_")
        times, current = drive(data, name, job.temp_degc, capacity_ah)
        if job.kind != name:
            first, last = WARMING_DEGC
            span = duration_s(current, capacity_ah)
            values["Ambient temperature [K]"] = pybamm.Interpolant(
                np.array([0, span, 10 * span]), np.array([first, last, last]) + KELVIN, pybamm.t
            )
        rows = run(values, times, current, 2.0)
    return keep(job, rows, capacity_ah, out, begun)


def keep(job: Job, rows: Array, capacity_ah: float, out: Path, begun: float) -> str:
    """Check and write what was simulated since `begun` (perf_counter); returns what it is."""
    check(job, rows, capacity_ah)
    write(out / job.cell / job.folder / f"{job.name}.csv.gz", rows, capacity_ah)
    seconds = time.perf_counter() - begun
    left = 1 - (rows[-1, 4] - rows[0, 4]) / capacity_ah
    return (
        f"{job.cell} {job.folder}/{job.name}: {rows[-1, 0] / 3600:.2f} h to soc {left:.2f}, "
        f"{rows[:, 3].min():.1f} to {rows[:, 3].max():.1f} degC, {seconds:.0f} s"
    )


def check(job: Job, rows: Array, capacity_ah: float) -> None:
    """The charge that the solver took out is what the current column says."""
    middle = (rows[1:, 1] + rows[:-1, 1]) / 2
    counted = np.append(0, np.cumsum(middle * np.diff(rows[:, 0])) / 3600)
    off = np.abs(counted - (rows[:, 4] - rows[0, 4])).max() / capacity_ah
    if off > MOST_CHARGE_OFF:
        raise RuntimeError(f"{job.name}: the solver's charge is {100 * off:.2f} % off")


def duration_s(current_a: Array, capacity_ah: float) -> float:
    """How long the drive can last: the ambient is warm when nine tenths of the charge are out."""
    return float(np.argmax(np.cumsum(current_a) / 3600 > 0.9 * capacity_ah)) or float(len(current_a))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cell", choices=CELLS, action="append", help="only this cell")
    parser.add_argument("--only", default="", help="files whose name contains this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        for name in options.cell or CELLS:
            scale = scale_for(CELLS[name])
            values = parameters(CELLS[name], scale)
            ohms = [1000 * resistance(values, t) for t in (25, -20, -30)]
            print(
                f"{name} ({CELLS[name].parameters}): 10 s resistance at 25, -20, -30 degC "
                f"{ohms[0]:.1f}, {ohms[1]:.1f}, {ohms[2]:.1f} mohm: {ohms[1] / ohms[0]:.1f} times at -20 "
                f"({rise(CELLS[name], 0):.1f} as the set is)",
                flush=True,
            )
            rows = slow(at(values, 25))
            capacity = float(rows[:, 4].max() - rows[0, 4])
            print(f"{name}: {capacity:.3f} Ah at C/20 and 25 degC", flush=True)
            todo = [
                pool.submit(make, job, scale, capacity, options.data, options.out)
                for job in jobs(name)
                if options.only in job.name
            ]
            for done in todo:
                print(done.result(), flush=True)


if __name__ == "__main__":
    main()
