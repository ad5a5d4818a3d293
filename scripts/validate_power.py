"""Judge power limits and energy left on measurements: `python scripts/validate_power.py DATA [--cell FILE] [--write]`.

DATA holds lg_hg2_nmc (CSV.gz: time_s,current_A,voltage_V,temperature_C,soc). The estimator is started right at the begin of a
file, with the model's capacity and no sensor errors, and runs to the moment of each question: nothing of what comes after
is known to it.

Power, 10 s: of a pulse of constant current that was measured, the lowest (highest) voltage is set as the limit and the
predictor is asked, at its begin, for the limit. The truth is that pulse's power: its current times the lesser voltage of
begin and end. Pulses: HPPC (`pulses_*`; the model was fitted on these files; the margin's constants were chosen on those nearest to
even tenths of soc, the others judge) from a current of no more than 0.1 A. Drives: stretches of 10 s within 15 % of their mean current, of at least 0.4 C. Both only where the
limit is LEAST_V or more from the OCV: a limit that is met at 2.5 V is further off.

Energy: from 80 to 20 % of soc, until the cell no longer follows its drive: the cycler holds 2.8 V and gives less than was asked; from
where it has done so for HELD_S of the last minute on, the drive is not followed. Beside it, to the `end` of the drive and to the `first`
moment of 2.8 V. These drives were ended by their charge (at the same soc of one temperature, whatever the load): where the
end comes before the limit has been held so long, what is left to the limit is that much or more (>=), and only less is an error. `own
load`: the statistics of the load from the question to the end, as a bus that knows its route has them; `so far`: as learnt
until the question, from a drive whose second half is another; its band is the 95 % one.
"""

from __future__ import annotations

import argparse
import itertools
import math
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
HELD_S = 20.0
SHOWN = (0.8, 0.6, 0.4)  # the others are in the sums
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


def power_cases(r: Replay, parts: list[tuple[int, int]]) -> list[tuple[float, bool, bool]]:
    """(promised over true, charging, at a tenth of soc that is even) of each."""
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
        even = round(10 * float(r.soc[before])) % 2 == 0
        cases.append((float(limit.power_w[TEN_S]) / abs(current * volts[[0, -1]].min()), charging, even))
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
    for what, names, finder, halves in (
        ("pulses, even tenths (margin chosen)", ("pulses",), pulses, (True,)),
        ("pulses, odd tenths", ("pulses",), pulses, (False,)),
        ("drives, fitted (margin chosen)", FITTED, stretches, (True, False)),
        ("drives, held out", HELD_OUT, stretches, (True, False)),
    ):
        for temp in TEMPS:
            cases: list[tuple[float, bool, bool]] = []
            for path in files(folder, names, temp):
                replay = Replay(free, path)
                cases += power_cases(replay, finder(replay))
            for charging, word in ((False, "discharge"), (True, "charge")):
                ratio = [q for q, back, even in cases if back == charging and even in halves]
                if not ratio:
                    continue
                every.setdefault(f"{word} | {what}", []).extend(ratio)
                if "chosen" not in what:
                    every.setdefault(f"{word} | all that judge", []).extend(ratio)
                yield row_of(f"{word} | {what} | {temp}", ratio)
    for key, ratio in every.items():
        yield row_of(f"{key} | all", ratio)


def row_of(key: str, ratio: list[float]) -> str:
    q = np.array(ratio)
    over = 100 * np.mean(q > 1.05)
    return f"| {key} | {len(q)} | {over:.1f} % | {q.mean():.3f} | {q.min():.2f} | {q.max():.2f} |"


@dataclass
class Answer:
    """At one soc: Wh to each of the three ends, and those that were foretold."""

    soc: float
    followed_wh: float
    at_least: bool  # the drive was followed to its end
    end_wh: float
    first_wh: float
    own_wh: float
    so_far_wh: float
    sd_wh: float

    def error(self, wh: float) -> float:
        error = wh / self.followed_wh - 1
        return min(error, 0.0) if self.at_least else error

    @property
    def held(self) -> bool:
        """Whether the truth lies in the band."""
        off = self.so_far_wh - self.followed_wh
        return abs(min(off, 0.0) if self.at_least else off) <= 1.96 * self.sd_wh


def ends_of(r: Replay) -> tuple[int, int, int]:
    """The rows where the drive is no longer followed, where it ends, and where the limit is first met."""
    end = int(np.flatnonzero(r.current_a > 0.05 * r.model.capacity_ah)[-1])
    low = r.voltage_v <= CUT_V + 1e-3
    held = np.cumsum(low * np.diff(r.time_s, prepend=r.time_s[0]))
    before = np.interp(r.time_s - 60, r.time_s, held)
    rows = [np.flatnonzero(met[: end + 1]) for met in (held - before >= HELD_S, low)]
    followed, first = (int(met[0]) if len(met) else end for met in rows)
    return followed, end, first


def energy_cases(model: CellModel, path: Path) -> Iterator[Answer]:
    r = Replay(model, path)
    followed, end, first = ends_of(r)
    time = np.diff(r.time_s, prepend=r.time_s[0])
    used = np.cumsum(r.voltage_v * r.current_a * time) / 3600
    tracker = LoadTracker(model)
    sums = [np.zeros(3 + 2 + len(model.tau_s))]
    asked: list[tuple[int, int, CellStates, Load]] = []  # row, length of sums then
    wanted = [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
    for row in range(10, end, 10):
        states = r.states(row)
        part = slice(row - 9, row + 1)
        dt, current = float(time[part].sum()), float(r.current_a[part].mean())
        power = float((r.current_a[part] * r.voltage_v[part]).mean())
        y, temp = states.relaxation_a[0], float(states.temp_degc[0])
        tracker.update(dt, current, power / current if current else math.nan, y, temp)
        knee = float(np.interp(temp, model.temp_degc, model.knee_a))
        amps = np.array([current, knee * math.asinh(current / knee), *y])
        sums.append(sums[-1] + dt * np.array([1.0, current, power, *(current * amps)]))
        if wanted and r.soc[row] <= wanted[0]:
            wanted.pop(0)
            asked.append((row, len(sums), states, tracker.load))
    for row, begin, states, so_far in asked:
        seconds, charge, energy, *loss = (sums[-1] - sums[begin - 1]).tolist()
        if row >= followed or charge <= 0:
            continue
        ahead = Load(energy / seconds, charge / seconds, np.array(loss) / charge)
        own, now = (energy_left(model, states, [0], load, voltage_min_v=CUT_V) for load in (ahead, so_far))
        left, to_end, to_first = (float(used[place] - used[row]) for place in (followed, end, first))
        yield Answer(
            round(float(r.soc[row]), 1),
            left,
            followed == end,
            to_end,
            to_first,
            own.energy_wh,
            now.energy_wh,
            now.energy_sd_wh,
        )


def energy_table(model: CellModel, folder: Path) -> Iterator[str]:
    yield (
        "| energy left | °C | from soc | true Wh | to the end | to the first 2.8 V | own load: error | so far: error | its sd |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    every: dict[tuple[str, float], list[Answer]] = {}
    for what, names in (("fitted", FITTED), ("held out", HELD_OUT)):
        for temp in TEMPS:
            for path in files(folder, names, temp):
                for a in energy_cases(model, path):
                    every.setdefault((what, a.soc), []).append(a)
                    if a.soc not in SHOWN:
                        continue
                    least = "≥ " if a.at_least else ""
                    left = f"{least}{a.followed_wh:.2f} | {a.end_wh:.2f} | {a.first_wh:.2f}"
                    errors = " | ".join(f"{100 * a.error(wh):+.1f} %" for wh in (a.own_wh, a.so_far_wh))
                    sd = 100 * a.sd_wh / a.followed_wh
                    yield f"| {path.name.split('_')[0]} | {temp} | {a.soc:.1f} | {left} | {errors} | {sd:.0f} % |"
    yield ""
    yield "| energy left | from soc | drives | own load: mean error | within 5 % | of those not ≥ | to the end: within 5 % | so far: mean error | in its band |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for (what, soc), answers in every.items():
        own = 100 * np.abs([a.error(a.own_wh) for a in answers])
        met = np.array([not a.at_least for a in answers])
        end = 100 * np.abs([a.own_wh / a.end_wh - 1 for a in answers])
        now = 100 * np.abs([a.error(a.so_far_wh) for a in answers])
        n, band = len(answers), sum(a.held for a in answers)
        yield (
            f"| {what} | {soc:.1f} | {n} | {own.mean():.1f} % | {np.sum(own <= 5)} of {n} | {np.sum(own[met] <= 5)} of {met.sum()} "
            f"| {np.sum(end <= 5)} of {n} | {now.mean():.1f} % | {band} of {n} |"
        )


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
