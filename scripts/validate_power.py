"""Judge power limits and energy left on measurements: `python scripts/validate_power.py DATA [--cell FILE] [--write]`.

DATA holds lg_hg2_nmc (CSV.gz: time_s,current_A,voltage_V,temperature_C,soc). The estimator is started right at the begin of a
file, with the model's capacity and no sensor errors, and runs to the moment of each question: nothing of what comes after
is known to it.

Power, 10 s: of a pulse of constant current that was measured, the lowest (highest) voltage is set as the limit and the
predictor is asked, at its begin, for the limit. The truth is that pulse's power: its current times the lesser voltage of
begin and end. Pulses: HPPC (`pulses_*`; the model was fitted on these files) from a
current of no more than 0.1 A. Drives: stretches of 10 s within 15 % of their mean current, of at least 0.4 C. Both only where the
limit is LEAST_V or more from the OCV: a limit that is met at 2.5 V is further off.

Energy: until the drive first meets 2.8 V (or its lowest voltage, where it ends before), from 80 to 30 % of soc. `own load`: the
statistics of the load from the question to the end, as a bus that knows its route has them; `so far`: as learnt until the
question, from a drive whose second half is another.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent.parent))

from edge.battery.energy import Load, LoadTracker, energy_left
from edge.battery.estimator import CellStates, PackEstimator
from edge.battery.model import CellModel, load_cell
from edge.battery.power import PowerPredictor

Array = npt.NDArray[np.float64]
TEMPS = (-20, -10, 0, 10, 25, 40)
FITTED, HELD_OUT = ("US06", "LA92"), ("Mixed1", "Mixed2", "UDDS")
PAGE = Path(__file__).parent.parent / "docs/battery/power.md"
BEGIN, END = "<!-- validation: begin -->", "<!-- validation: end -->"
CUT_V = 2.8
LEAST_V = (0.3, 0.15)  # discharging, charging
TEN_S = 1  # the place of 10 s in HORIZONS_S


class Replay:
    """One file, and the estimator along it."""

    def __init__(self, model: CellModel, path: Path) -> None:
        rows = np.genfromtxt(path, delimiter=",", skip_header=1)
        rows = rows[np.isfinite(rows).all(axis=1)]
        rows = rows[np.argmax(rows[:, 4] <= 1.0) :]
        self.time_s, self.current_a, self.voltage_v, self.temp_degc, self.soc = rows.T
        self.model = model
        self._estimator = PackEstimator(model, [0], initial_soc=float(self.soc[0]), initial_soc_sd=0.01)
        self._done = 0

    def states(self, row: int) -> CellStates:
        """What is known after that row; rows must not fall."""
        part = slice(max(self._done - 1, 0), row + 1)
        volts = self.voltage_v[part, None].copy()
        if self._done:
            volts[0] = np.nan  # it was taken in before
        current, temp = self.current_a[part, None], self.temp_degc[part, None]
        self._estimator.run(self.time_s[part], current, volts, temp)
        self._done = row + 1
        return self._estimator.states()


def files(folder: Path, names: tuple[str, ...], temp: int) -> Iterator[Path]:
    for name in names:
        path = folder / f"{name}_{temp:+03d}.csv.gz"
        if path.is_file():
            yield path


def pulses(r: Replay) -> list[tuple[int, int]]:
    """(row before, last row) of each HPPC pulse."""
    edges = np.flatnonzero(np.abs(np.diff(r.current_a)) > 0.05)
    found = []
    for before, last in itertools.pairwise(edges):
        current = r.current_a[before + 2 : last + 1]
        if not (9.5 <= r.time_s[last] - r.time_s[before] <= 10.6) or np.ptp(current) > 0.1:
            continue
        if abs(r.current_a[before]) < 0.1 and abs(current.mean()) > 0.2:
            found.append((int(before), int(last)))
    return found


def stretches(r: Replay) -> list[tuple[int, int]]:
    """(row before, last row) of 10 s of nearly constant current in a drive."""
    found, row, rows = [], 0, 100
    least = 0.4 * r.model.capacity_ah
    while row + rows < len(r.time_s):
        current = r.current_a[row + 1 : row + rows + 1]
        mean = current.mean()
        steady = mean >= least and np.abs(current - mean).max() <= 0.15 * mean
        if steady and abs(r.time_s[row + rows] - r.time_s[row] - 10) < 0.3:
            found.append((row, row + rows))
            row += rows
        else:
            row += 5
    return found


def power_cases(r: Replay, parts: list[tuple[int, int]]) -> list[tuple[float, bool]]:
    """(promised over true, charging) of each."""
    cases = []
    for before, last in parts:
        states = r.states(before)
        volts, current = r.voltage_v[before + 2 : last + 1], r.current_a[before + 2 : last + 1].mean()
        charging = bool(current < 0)
        ocv = float(r.model.at(r.model.ocv_v, r.soc[last], r.temp_degc[last]))
        if abs(ocv - volts[-1]) < LEAST_V[charging]:
            continue
        given = {"voltage_max_v": volts.max()} if charging else {"voltage_min_v": volts.min()}
        found = PowerPredictor(r.model, [0], **given).limits(states)
        limit = found.charge if charging else found.discharge
        cases.append((float(limit.power_w[TEN_S]) / abs(current * volts[[0, -1]].min()), charging))
    return cases


def without_limits(model: CellModel) -> CellModel:
    """Only the voltage's: what is asked is where it is met."""
    wide = {"temp_min_degc": -60.0, "temp_max_degc": 100.0, "charge_temp_min_degc": -60.0, "soc_min": 0.0}
    amps = dict.fromkeys(("discharge_max_a", "discharge_pulse_a", "charge_max_a", "charge_pulse_a"), 1e3)
    return replace(model, limits=replace(model.limits, **wide, **amps))


def power_table(model: CellModel, folder: Path) -> Iterator[str]:
    yield "| 10 s power | set | °C | cases | over by > 5 % | promised / true | least | most |"
    yield "|---|---|---|---|---|---|---|---|"
    free = without_limits(model)
    every: dict[str, list[float]] = {}
    for what, names, finder in (
        ("pulses", ("pulses",), pulses),
        ("drives, fitted", FITTED, stretches),
        ("drives, held out", HELD_OUT, stretches),
    ):
        for temp in TEMPS:
            cases: list[tuple[float, bool]] = []
            for path in files(folder, names, temp):
                replay = Replay(free, path)
                cases += power_cases(replay, finder(replay))
            for charging, word in ((False, "discharge"), (True, "charge")):
                ratio = [q for q, back in cases if back == charging]
                if ratio:
                    every.setdefault(f"{word} | {what}", []).extend(ratio)
                    yield row_of(f"{word} | {what} | {temp}", ratio)
    for key, ratio in every.items():
        yield row_of(f"{key} | all", ratio)


def row_of(key: str, ratio: list[float]) -> str:
    q = np.array(ratio)
    over = 100 * np.mean(q > 1.05)
    return f"| {key} | {len(q)} | {over:.1f} % | {q.mean():.3f} | {q.min():.2f} | {q.max():.2f} |"


@dataclass
class Question:
    """How much is left, asked at one soc."""

    soc: float
    states: CellStates
    left_wh: float
    so_far: Load
    ahead: LoadTracker


def energy_cases(model: CellModel, path: Path) -> Iterator[tuple[float, float, float, float, float]]:
    """(soc, true energy, error with the own load, error with the load so far, its sd); the last three over the true energy."""
    r = Replay(model, path)
    power = r.voltage_v * r.current_a
    met = np.flatnonzero(r.voltage_v <= CUT_V + 1e-3)
    end = int(met[0]) if len(met) else int(np.argmin(r.voltage_v))
    used = np.cumsum(power * np.diff(r.time_s, prepend=r.time_s[0])) / 3600
    tracker = LoadTracker(model)
    asked: list[Question] = []
    wanted = [0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    for row in range(10, end, 10):
        states = r.states(row)
        part = slice(row - 9, row + 1)
        hard = row - 9 + int(np.argmax(r.current_a[part]))  # of this second
        second = (
            r.time_s[row] - r.time_s[row - 10],
            float(r.current_a[hard]),
            float(r.voltage_v[hard]),
            states.relaxation_a[0],
            float(states.soc[0]),
            float(states.temp_degc[0]),
        )
        for learner in (tracker, *(a.ahead for a in asked)):
            learner.update(*second)
        if wanted and r.soc[row] <= wanted[0]:
            asked.append(
                Question(wanted.pop(0), states, used[end] - used[row], tracker.load, LoadTracker(model))
            )
    limit = float(max(CUT_V, r.voltage_v[end]))
    for q in asked:
        own = energy_left(model, q.states, [0], q.ahead.load, voltage_min_v=limit).energy_wh
        now = energy_left(model, q.states, [0], q.so_far, voltage_min_v=limit)
        yield (
            q.soc,
            q.left_wh,
            own / q.left_wh - 1,
            now.energy_wh / q.left_wh - 1,
            now.energy_sd_wh / q.left_wh,
        )


def energy_table(model: CellModel, folder: Path) -> Iterator[str]:
    yield "| energy left | °C | from soc | true Wh | own load: error | so far: error | its sd |"
    yield "|---|---|---|---|---|---|---|"
    own_load: list[float] = []
    for temp in TEMPS:
        for path in files(folder, HELD_OUT, temp):
            for soc, left, own, now, sd in energy_cases(model, path):
                name = path.name.split("_")[0]
                yield f"| {name} | {temp} | {soc:.1f} | {left:.2f} | {100 * own:+.1f} % | {100 * now:+.1f} % | {100 * sd:.0f} % |"
                if soc == 0.8:
                    own_load.append(abs(own))
    error = 100 * np.array(own_load)
    yield f"| all | all | 0.8 | | mean {error.mean():.1f} %, within 5 %: {np.sum(error <= 5)} of {len(error)} | | |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--cell", default="lg_hg2", help="name or file of the LG cell's model")
    parser.add_argument("--only", choices=("power", "energy"))
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    options = parser.parse_args()
    model, folder = load_cell(options.cell), options.data / "lg_hg2_nmc"
    lines: list[str] = []
    for name, table in (("power", power_table), ("energy", energy_table)):
        if options.only in (None, name):
            lines.append("")
            for line in table(model, folder):
                print(line, flush=True)
                lines.append(line)
    if options.write:
        before, rest = PAGE.read_text("utf-8").split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines[1:]) + f"\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
