"""The simulator's cell model against PyBaMM: `python scripts/validate_sim_cells.py DATA OUT`.

A cell of PyBaMM (the `[lab]` extra) is measured as a real one would be: its Doyle-Fuller-Newman model, isothermal, with
the parameters of scripts/lab_pybamm.py (Chen2020 for NMC, Prada2013 for LFP, both made as dependent on temperature as
measured cells are). OUT/CELL/ gets, at 25, 0 and -20 degC,

    fit/    slow_T, pulses_T, US06_T: what scripts/fit_sim_cells.py fits the simulator's cell model to
    judge/  Mixed1_T, UDDS_T: drives that no fit saw
    spme/   the same drives by PyBaMM's own single-particle model with electrolyte, with the parameters of the DFN

Files that are there already are used again. Then the fitted cell runs each drive open loop, from the known first state of
charge on the known current, and the table says how far its voltage is from the DFN's. The last rows of the table say
how far PyBaMM's SPMe is from the DFN: what the electrodes' depth, which neither it nor our cell has, is worth.
With --own the fit is told the set's own electrodes, which no one knows of a measured cell: what is left is the model's.
With --diffusion the particles alone are compared, without any fit.
DATA holds lg_hg2_nmc: the drives' currents are those of the LG cell, scaled to the capacity. All is deterministic.

    python scripts/validate_sim_cells.py ../shared/data/battery pybamm_cells
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from scripts.fit_sim_cells import (
    PULSES_WEIGHT,
    SPLIT,
    WIDTH,
    File,
    FloatArray,
    Model,
    Task,
    beyond,
    chen,
    first_x,
    fit,
    from_full,
    load,
    out_and_back,
    safari_delacourt,
    slow_branches,
    slow_out,
    toml,
)
from scripts.validate_soc import put
from sim_bus.battery._cells import modes
from sim_bus.battery.cell import Cell

PAGE = Path(__file__).parent.parent / "docs" / "simulator" / "cells.md"
TEMPS = (25, 0, -20)
FITTED, JUDGED = ("slow", "pulses", "US06"), ("Mixed1", "UDDS")
MEASURED_DEGC = {"UDDS": {25: -10, 0: -10}}  # the LG cell has no warmer UDDS
PULSES_STEP_S = 5.0  # of the solver at most, as in lab_pybamm
DRIVE_STEP_S = 1.0
RTOL = 1e-4  # of the solver, as PyBaMM has it
FINE_RTOL = 1e-5  # for drives that lose up to 0.3 % of their charge with the other
STRETCH = 3.0  # of the points in the particles
SINCE = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)  # of `diffusion`
FAR_MV = 100.0  # of `far_off`
LOW_SOC = 0.1  # above it the table counts a second time


@dataclass(frozen=True)
class Electrodes:
    """What a fit is told of them, and does not look for."""

    graphite: Callable[[FloatArray], FloatArray]
    anode: tuple[float, float]  # stoichiometry at soc 0 and 1
    cathode: tuple[float, float]
    ratio: float = SPLIT  # exchange current of the anode over the cathode's


@dataclass(frozen=True)
class Kind:
    """A PyBaMM cell. `assumed` is what is assumed of the measured cell of its chemistry in fit_sim_cells; `own` is what
    its parameters say: the exchange currents' ratio at half stoichiometry and 25 degC."""

    parameters: str
    voltage_min_v: float
    voltage_max_v: float
    socs: tuple[float, ...]
    assumed: Electrodes
    own: Electrodes


KINDS = {
    "nmc": Kind(
        "Chen2020", 2.5, 4.2, (0.0, 0.1, 0.3, 0.7, 1.0),
        assumed=Electrodes(chen, (0.03, 0.90), (0.91, 0.27)),
        own=Electrodes(chen, (0.0263, 0.9106), (0.8540, 0.2638), 0.11),
    ),
    "lfp": Kind(
        "Prada2013", 2.0, 3.6, (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0),
        assumed=Electrodes(safari_delacourt, (0.0176, 0.81), (0.95, 0.03)),
        own=Electrodes(chen, (0.0176, 0.8100), (0.7035, 0.0038), 0.01),
    ),
}  # fmt: skip


# ---- PyBaMM's cell is measured -------------------------------------------------------------------------------------


def need_pybamm() -> None:
    if importlib.util.find_spec("pybamm") is None:
        sys.exit("PyBaMM is needed: it is in the extra [lab]")


Use = tuple[str, str, int]  # folder, kind of test, degC


def simulate(name: str, data: Path, out: Path) -> None:
    """The files of one cell that are not there yet."""
    wanted: list[Use] = [("fit", k, t) for k in FITTED for t in TEMPS]
    wanted += [(folder, k, t) for folder in ("judge", "spme") for k in JUDGED for t in TEMPS]
    missing = [w for w in wanted if not place(out / name, *w).exists()]
    if not missing:
        return
    need_pybamm()
    from scripts import lab_pybamm as lab

    cell = lab.CELLS[name]
    values = lab.parameters(cell, lab.scale_for(cell))
    slow = lab.slow(lab.at(values, 25), setup("DFN"))
    capacity = float(slow[:, 4].max() - slow[0, 4])
    for use in missing:
        begun = time.perf_counter()
        rows = measured(values, use, capacity, data)
        folder, kind, temp = use
        print(" ", lab.keep(lab.Job(name, kind, temp, folder), rows, capacity, out, begun), flush=True)


def measured(values: Any, use: Use, capacity_ah: float, data: Path) -> FloatArray:
    """Rows of one file, as lab_pybamm makes them."""
    from scripts import lab_pybamm as lab

    folder, kind, temp = use
    here, how = lab.at(values, temp), setup("SPMe" if folder == "spme" else "DFN")
    if kind == "slow":
        return lab.slow(here, how)
    if kind == "pulses":
        return lab.run(here, *lab.stretched(lab.pulses(capacity_ah, temp)), PULSES_STEP_S, how)
    drive = lab.drive(data, kind, temp, capacity_ah, MEASURED_DEGC.get(kind, {}).get(temp))
    rtol = FINE_RTOL if temp == 25 or folder == "spme" else RTOL
    return lab.run(here, *drive, DRIVE_STEP_S, how, rtol)


def setup(model: str) -> dict[str, Any]:
    """A model of PyBaMM's with as many points as it has by default, but those in the particles closer to the surface.

    A second after a step of current, particles of 20 points at equal distances have half of the exact surface's move,
    these 99 %.
    """
    import pybamm

    made = getattr(pybamm.lithium_ion, model)()
    near = pybamm.MeshGenerator(
        pybamm.Exponential1DSubMesh, submesh_params={"side": "right", "stretch": STRETCH}
    )
    meshes = {f"{side} particle": near for side in ("negative", "positive")}
    return {"model": made, "submesh_types": {**made.default_submesh_types, **meshes}}


def place(folder: Path, use: str, kind: str, temp_degc: int) -> Path:
    return folder / use / f"{kind}_{temp_degc:+03d}.csv.gz"


# ---- what needs no fit: diffusion into a particle ------------------------------------------------------------------


def our_step(since: FloatArray) -> FloatArray:
    """From mean to surface after a step of current, over where it ends; `since` in units of radius^2 / diffusivity."""
    pole, weight = (np.array(m) for m in modes())
    return 1 - np.exp(-np.outer(since, pole)) @ weight / weight.sum()


def pybamm_step(since: FloatArray) -> FloatArray:
    """The same of PyBaMM's Fickian particle, with points enough to be exact to 1 %: Chen2020's anode, at C/5."""
    import pybamm

    values = pybamm.ParameterValues("Chen2020")
    values["Current function [A]"] = 1.0
    unit_s = float(values["Negative particle radius [m]"]) ** 2 / float(
        values["Negative particle diffusivity [m2.s-1]"]
    )
    points = {"x_n": 5, "x_s": 5, "x_p": 5, "r_n": 60, "r_p": 20}
    solver = pybamm.IDAKLUSolver(rtol=1e-8, atol=1e-10)
    simulation = pybamm.Simulation(**setup("SPM"), parameter_values=values, var_pts=points, solver=solver)
    times = unit_s * np.r_[0, since, 1]
    solution = simulation.solve([0, unit_s], t_interp=times, initial_soc=0.5)
    surface, mean = (
        solution[f"{name} negative particle {what}stoichiometry"].entries
        for name, what in (("X-averaged", "surface "), ("Average", ""))
    )
    moved: FloatArray = surface - mean
    return (moved / moved[-1])[1:-1]


def diffusion() -> str:
    since = np.array(SINCE)
    ours, theirs = our_step(since), pybamm_step(since)
    off = ", ".join(
        f"{100 * (a / b - 1):+.1f} % at {t:g}" for t, a, b in zip(since, ours, theirs, strict=True)
    )
    return f"Diffusion after a step of current, ours over PyBaMM's particle (time in radius^2/diffusivity): {off}"


# ---- our cell is fitted to it --------------------------------------------------------------------------------------


def capacity_of(folder: Path) -> float:
    """Charge in Ah that C/20 takes out at 25 degC."""
    return float(out_and_back(load(place(folder, "fit", "slow", 25)))[0].charge_ah()[-1])


def first_model(electrodes: Electrodes, socs: tuple[float, ...], folder: Path) -> Model:
    """Before the fit: the open circuit in the middle of the slow test's branches, no hysteresis (PyBaMM's has none)."""
    out, back = out_and_back(load(place(folder, "fit", "slow", 25)))
    capacity = capacity_of(folder)
    down, up = slow_branches(out, back, capacity, capacity)
    temps, at = np.array(sorted(TEMPS), dtype=float), np.array(socs)
    e = electrodes
    return Model((down + up) / 2, np.zeros_like(down), e.graphite, e.anode, e.cathode, WIDTH,
                 temps, at, first_x(temps, at, capacity), e.ratio)  # fmt: skip


def tasks(folder: Path, use: str, kinds: tuple[str, ...]) -> list[Task]:
    capacity = capacity_of(folder)
    found = []
    for kind in kinds:
        for temp in TEMPS:
            path = place(folder, use, kind, temp)
            weight = PULSES_WEIGHT if kind == "pulses" else 1.0
            found.append(slow_out(path, capacity) if kind == "slow" else from_full(path, capacity, weight))
    return found


def fitted(name: str, folder: Path, own: bool = False) -> Cell:
    kind = KINDS[name]
    about: dict[str, Any] = {
        "name": f"pybamm_{name}", "chemistry": name.upper(), "summary": f"PyBaMM's {kind.parameters}, DFN",
        "capacity_ah": capacity_of(folder), "voltage_min_v": kind.voltage_min_v, "voltage_max_v": kind.voltage_max_v,
    }  # fmt: skip
    first = first_model(kind.own if own else kind.assumed, kind.socs, folder)
    return beyond(fit(first, tasks(folder, "fit", FITTED), loud=False).cell(**about))


# ---- and judged ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """Errors of the voltage on one file, in mV; the low ones are the rows below LOW_SOC."""

    rms: float
    largest: float
    rms_above: float
    largest_above: float
    last_soc: float

    def __str__(self) -> str:
        return f"{self.rms:.1f}, {self.largest:.0f}"

    def above(self) -> str:
        return f"{self.rms_above:.1f}, {self.largest_above:.0f}"


def rms(values: FloatArray) -> float:
    return float(np.sqrt((values**2).mean())) if values.size else math.nan


def score(error_v: FloatArray, soc: FloatArray) -> Score:
    e = 1e3 * error_v
    above = e[soc >= LOW_SOC]
    return Score(rms(e), float(np.abs(e).max()), rms(above), float(np.abs(above).max()), float(soc[-1]))


def beside(one: File, other: File) -> tuple[FloatArray, FloatArray]:
    """How far the second's voltage is from the first's at its own times, and the soc, for as long as both run."""
    both = min(one.time.size, other.time.size)
    if not np.array_equal(one.time[:both], other.time[:both]):
        raise ValueError(f"{one.name}, {other.name}: not at the same times")
    return one.volts[:both] - other.volts[:both], one.soc[:both]


Line = tuple[str, list[str]]


def judged(folder: Path, cell: Cell) -> list[Line]:
    """Rows of the table: a title, and a text for each of TEMPS."""
    found: list[Line] = []
    for kind in JUDGED:
        scores = [score(t.error(cell), t.file.soc) for t in tasks(folder, "judge", (kind,))]
        found.append((f"{kind}, judged", [str(s) for s in scores]))
        if min(s.last_soc for s in scores) < LOW_SOC:
            found.append((f"{kind} above 10 %", [s.above() for s in scores]))
    return found


def far_off(folder: Path, cell: Cell) -> list[str]:
    """Of the judged files with errors above FAR_MV: how many rows have them, where, and what the other rows have."""
    found = []
    for task in tasks(folder, "judge", JUDGED):
        e, file = 1e3 * task.error(cell), task.file
        far = np.abs(e) > FAR_MV
        if far.any():
            left = file.time[-1] - file.time[far][0]
            found.append(
                f"{file.name}: {far.sum()} of {far.size} rows are more than {FAR_MV:g} mV off, in the last {left:.0f} s,"
                f" from {100 * file.soc[far].max():.0f} % down; the others' rms {rms(e[~far]):.1f} mV"
            )
    return found


def lines(folder: Path, cell: Cell) -> list[Line]:
    """The judged rows, the fitted ones, and PyBaMM's SPMe."""
    found = judged(folder, cell)
    for kind in FITTED:
        scores = [score(t.error(cell), t.file.soc) for t in tasks(folder, "fit", (kind,))]
        found.append((f"{kind}, fitted", [str(s) for s in scores]))
    for kind in JUDGED:
        found.append((f"{kind}, PyBaMM's SPMe above 10 %", [spme(folder, kind, t) for t in TEMPS]))
    return found


def spme(folder: Path, kind: str, temp_degc: int) -> str:
    """The SPMe beside the DFN; where it meets the voltage limit while the DFN goes on, its last soc."""
    dfn, other = (load(place(folder, use, kind, temp_degc)) for use in ("judge", "spme"))
    error, soc = beside(dfn, other)
    made = score(error, soc)
    ends = (
        f" (ends at {100 * made.last_soc:.0f} %)" if made.last_soc > max(dfn.soc[-1], LOW_SOC) + 0.01 else ""
    )
    return made.above() + ends


def table(title: str, rows: list[Line]) -> str:
    head = [f"| {title} | " + " | ".join(f"{t} °C".replace("-", "−") for t in TEMPS) + " |"]
    head.append("|---" * (len(TEMPS) + 1) + "|")
    return "\n".join([*head, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cell", choices=KINDS, action="append", help="only this cell")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/simulator/cells.md")
    parser.add_argument("--diffusion", action="store_true", help="only compare diffusion, which needs no fit")
    parser.add_argument(
        "--own",
        action="store_true",
        help="tell the fit the electrodes' own curves and ratio; judged drives only",
    )
    options = parser.parse_args()
    if options.diffusion:
        need_pybamm()
        print(diffusion())
        return
    for name in options.cell or KINDS:
        simulate(name, options.data, options.out)
        folder, suffix = options.out / name, "_own" if options.own else ""
        cell = fitted(name, folder, options.own)
        (folder / f"fitted{suffix}.toml").write_text(toml(cell), "utf-8")
        title = f"{KINDS[name].parameters} ({name.upper()})" + (", its own electrodes" if options.own else "")
        rows = judged(folder, cell) if options.own else lines(folder, cell)
        text = table(title, rows)
        print("\n".join([text, *far_off(folder, cell)]), flush=True)
        if options.write:
            put(PAGE, f"pybamm {name}{suffix}", text)


if __name__ == "__main__":
    main()
