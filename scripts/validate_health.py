"""The tables of docs/battery/health.md: `python scripts/validate_health.py DATA [--cell-dir DIR] [--write]`.

DATA holds lg_hg2_nmc and a123_lfp (CSV.gz: time_s,current_A,voltage_V,temperature_C,soc). With --write the tables
in docs/battery/health.md are replaced, else they are printed. Rows are joined to 1 s, as a bus sends them.

Capacity: each drive once, from its known full charge (an anchor with an sd of 1 %), with the right current and with
two wrong ones (offset and gain that add up, and both reversed). The judge is the charge over the change of soc of
the file's own columns, times the gain. Resistance: the voltage's fall over 10 s of the pulse tests, the OCV's own fall
taken off, against the model at the file's soc and temperature, and against the model times the ratio that
the estimator finds on a drive at that temperature.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from edge.battery.estimator import PackEstimator
from edge.battery.health import Health
from edge.battery.model import CellModel, load_cell
from edge.battery.resistance import pulse_resistance_ohm
from edge.battery.rests import rests
from edge.battery.total_least_squares import FloatArray
from edge.measured import Measured, load_measured

PAGE = Path(__file__).parent.parent / "docs" / "battery" / "health.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
NMC = ("US06", "LA92", "Mixed1", "Mixed2", "UDDS")
FITTED = ("US06", "LA92", "drive")
SENSORS = {"lg_hg2": (0.05, 0.01), "a123_26650": (0.005 * 2.072, 0.005)}  # offset in A, gain - 1
FULL_SD = 0.01
DRIVE_OF_RATIO = "Mixed1"
TEMPS = (40, 25, 10, 0, -10, -20)


@dataclasses.dataclass(frozen=True)
class Capacity:
    """One drive: errors of capacity over gain in %, without and with sensor errors, and the sd in %."""

    drive: str
    temp: int
    swing: float
    truth_ah: float
    errors: FloatArray
    sds: FloatArray
    measured: bool


def second_by_second(data: Measured) -> Measured:
    """Mean current and the last of all else in each second."""
    last = np.flatnonzero(np.diff(np.floor(data.time_s), append=np.inf))
    count = np.diff(last, prepend=-1)
    current = np.add.reduceat(data.current_a, np.append(0, last[:-1] + 1)) / count
    soc = None if data.soc is None else data.soc[last]
    return Measured(data.time_s[last], current, data.voltage_v[last], data.temp_degc[last], soc)


def capacity_of(path: Path, cell: CellModel, sensors: tuple[float, float]) -> Capacity:
    data = second_by_second(load_measured(path))
    assert data.soc is not None
    dt = np.diff(data.time_s, prepend=data.time_s[0])
    charge = np.cumsum(data.current_a * dt) / 3600
    low, high = int(np.nanargmin(data.soc)), int(np.nanargmax(data.soc))
    swing = float(data.soc[high] - data.soc[low])
    truth = float(charge[low] - charge[high]) / swing
    ways = np.array([0.0, 1.0, -1.0])  # three strings of one cell: each sees the same cell by another sensor
    gain = 1 + sensors[1] * ways
    seen = data.current_a[:, None] * gain + sensors[0] * ways
    still = np.stack([rests(data.time_s, s, cell) for s in seen.T], axis=1)
    health = Health(cell, [0, 1, 2])
    health.anchor(np.full(3, float(np.clip(data.soc[0], 0, 1))), np.full(3, FULL_SD))
    for k in range(len(dt)):
        health.step(
            dt[k], seen[k], np.full(3, data.voltage_v[k]), np.full(3, data.temp_degc[k]), open=still[k]
        )
    errors = 100 * (health.capacity_ah / (truth * gain) - 1)
    sds = 100 * health.capacity_sd_ah / (truth * gain)
    name, _, temp = path.name.removesuffix(".csv.gz").rpartition("_")
    return Capacity(name, int(temp), swing, truth, errors, sds, bool(health.measured.all()))


def capacity_table(found: list[Capacity], chemistry: str) -> list[str]:
    lines = [
        f"| {chemistry}: drive | °C | swing, % | capacity, Ah | error, %: no sensor errors | + | - | sd, % | swing seen |",
        "|" + "---|" * 9,
    ]
    for c in sorted(found, key=lambda c: (c.drive not in FITTED, -c.temp, c.drive)):
        role = " (fitted)" if c.drive in FITTED else ""
        errors = " | ".join(f"{e:+.1f}" for e in c.errors)
        seen = "yes" if c.measured else "no"
        lines.append(
            f"| {c.drive}{role} | {c.temp} | {100 * c.swing:.0f} | {c.truth_ah:.3f} | {errors} | {c.sds.max():.1f} | {seen} |"
        )
    return lines


def summary(found: list[Capacity], what: str) -> str:
    errors, sds = (np.concatenate([getattr(c, k) for c in found]) for k in ("errors", "sds"))
    inside = np.mean(np.abs(errors) < 1.96 * sds)
    return (
        f"{what}: {len(errors)} cases, rms {np.sqrt(np.mean(errors**2)):.2f} %, worst {np.abs(errors).max():.1f} %, "
        f"{100 * inside:.0f} % within the 95 % bars, which are ±{1.96 * np.mean(sds):.1f} % on average."
    )


def pulses(path: Path, cell: CellModel) -> FloatArray:
    """[pulse, (soc, degC, A, ohm measured, ohm of the model)]: 10 s, from a rest, between 10 and 95 % soc."""
    columns = np.genfromtxt(path, delimiter=",", names=True)
    t, i, v, temps, soc = (columns[name] for name in columns.dtype.names)
    empty = int(np.nanargmin(soc)) + 1  # beyond it the files charge again, and soc is not theirs
    t, i, v, temps, soc = t[:empty], i[:empty], v[:empty], temps[:empty], soc[:empty]
    rows = []
    for s in (np.flatnonzero((np.abs(i[1:]) > 0.5) & (np.abs(i[:-1]) < 0.05)) + 1).tolist():
        k = int(np.searchsorted(t, t[s - 1] + 10.0))
        if k >= len(t) or t[k] - t[s - 1] > 11 or not 0.1 < soc[s - 1] < 0.95:
            continue
        amps = float(i[s + 2 : k].mean()) if k > s + 2 else 0.0
        if amps == 0 or np.ptp(i[s + 2 : k]) > 0.05 * abs(amps) + 0.02:
            continue
        temp, seconds = float(temps[s]), float(t[k] - t[s - 1])
        after = soc[s - 1] - amps * seconds / 3600 / cell.capacity_ah
        sag = float(cell.at(cell.ocv_v, soc[s - 1], temp) - cell.at(cell.ocv_v, after, temp))
        ohm = float(v[s - 1] - v[k] - sag) / amps
        rows.append(
            (soc[s - 1], temp, amps, ohm, float(pulse_resistance_ohm(cell, soc[s - 1], temp, amps, seconds)))
        )
    return np.array(rows)


def ratio_on(path: Path, cell: CellModel) -> float:
    """The estimator's resistance ratio over a new cell's, mean over the drive from 600 s on."""
    data = second_by_second(load_measured(path))
    estimator = PackEstimator(cell, [0], initial_soc=1.0, initial_soc_sd=0.02)
    dt, seen = np.diff(data.time_s, prepend=data.time_s[0]), []
    for k in range(len(dt)):
        estimator.step(dt[k], data.current_a[k : k + 1], data.voltage_v[k : k + 1], data.temp_degc[k : k + 1])
        if data.time_s[k] > 600 and 0.1 < estimator.soc[0] < 0.9:
            seen.append(float(estimator.resistance_ratio[0]))
    return float(np.mean(seen))


def resistance_table(data: Path, cell: CellModel) -> list[str]:
    lines = [
        "| °C | pulses | median, mΩ | model: mean error, % | rms, % | ratio on a drive | model times ratio: mean error, % | rms, % |",
        "|" + "---|" * 8,
    ]
    for temp in TEMPS:
        found = pulses(data / f"pulses_{temp:+03d}.csv.gz", cell)
        ratio = ratio_on(data / f"{DRIVE_OF_RATIO}_{temp:+03d}.csv.gz", cell)
        errors = [100 * (r * found[:, 4] / found[:, 3] - 1) for r in (1.0, ratio)]
        plain, timed = (f"{e.mean():+.1f} | {np.sqrt(np.mean(e**2)):.1f}" for e in errors)
        lines.append(
            f"| {temp} | {len(found)} | {1e3 * np.median(found[:, 3]):.1f} | {plain} | {ratio:.2f} | {timed} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Capacity and resistance against measurements.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--cell-dir", type=Path, help="cell files to use in place of the shipped ones")
    parser.add_argument("--write", action="store_true", help="replace the tables in docs/battery/health.md")
    args = parser.parse_args()
    cells = {k: load_cell(args.cell_dir / f"{k}.toml" if args.cell_dir else k) for k in SENSORS}
    paths = {
        "lg_hg2": [p for name in NMC for p in sorted(args.data.glob(f"lg_hg2_nmc/{name}_*.csv.gz"))],
        "a123_26650": sorted(args.data.glob("a123_lfp/drive_*.csv.gz")),
    }
    found = {k: [capacity_of(p, cells[k], SENSORS[k]) for p in of] for k, of in paths.items()}
    nmc, lfp = found["lg_hg2"], found["a123_26650"]
    held_out = [c for c in nmc if c.drive not in FITTED]
    lines = [
        *capacity_table(nmc, "NMC"),
        "",
        summary(
            [c for c in held_out if c.temp >= 0 and c.measured], "NMC, held out, 0 °C and above, swing seen"
        ),
        summary([c for c in held_out if c.temp < 0 and c.measured], "NMC, held out, below 0 °C, swing seen"),
        "",
        *capacity_table(lfp, "LFP"),
        "",
        summary(lfp, "LFP"),
        "",
        *resistance_table(args.data / "lg_hg2_nmc", cells["lg_hg2"]),
    ]
    text = "\n".join(lines)
    if not args.write:
        print(text)
        return
    page = PAGE.read_text("utf-8")
    head, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
