"""Make edge/battery/cells/*.toml: `python scripts/fit_shipped_cells.py DATA [--out FOLDER] [--without +25] [--judge]`.

DATA holds the folders lg_hg2_nmc and a123_lfp. Nothing here but which files, and what is cited: the fit is the one of
`ayaz fit-cell`, with the same settings for all cells.

    lg_hg2      slow_*, pulses_*, US06_*, LA92_*; Mixed1_*, Mixed2_*, UDDS_* are kept for judging
    a123_26650  slow_*, drive_*. There are no other data with load: --without T leaves the drive at T out, to judge on it
    lfp_bus     a123_26650 at 280 Ah, resistances scaled: an assumption, and its uncertainty says so

--judge prints how well the models meet the voltages that they were not fitted on: LG's kept drives; LG fitted without
all of one temperature, at 10 and -10 degC; A123 without each drive in turn (a quarter of an hour).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edge.battery.fitting import axes, defaults
from edge.battery.fitting.cell import toml
from edge.battery.fitting.joint import Record, hysteresis, low_pass
from edge.battery.fitting.run import SLOW_S, Request, fit_cell
from edge.battery.model import CellModel, FloatArray, load_cell

LG_JUDGES = ("Mixed1", "Mixed2", "UDDS")
A123_DRIVES = ("+45", "+25", "+05", "-05", "-25")
BUS_CAPACITY_AH = 280.0
BUS_OHMIC = 3.0  # R0 and Rct of an energy cell over a power cell of the same capacity: 0.2 mohm at 25 degC
BUS_LIMITS = {
    "discharge_max_a": 280.0,
    "charge_max_a": 280.0,
    "discharge_pulse_a": 560.0,
    "charge_pulse_a": 280.0,
    "temp_min_degc": -30.0,
    "temp_max_degc": 55.0,
    "charge_temp_min_degc": 0.0,
}


def lg(folder: Path, leave: Callable[[Path], bool] = lambda _path: False) -> Request:
    def found(*names: str) -> list[Path]:
        return [p for n in names for p in sorted(folder.glob(f"{n}_*.csv.gz")) if not leave(p)]

    return Request(
        name="lg_hg2",
        chemistry="NMC",
        capacity_ah=2.70,
        ocv=found("slow"),
        pulses=found("pulses"),
        drive=found("US06", "LA92"),
        voltage_min_v=2.5,
        voltage_max_v=4.2,
        summary="LG 18650HG2, 3 Ah nominal, lightly used: 2.64 to 2.74 Ah during the campaign",
        data="P. Kollmeyer, C. Vidal, M. Naguib, M. Skells, LG 18650HG2 Li-ion Battery Data, Mendeley Data, "
        "doi:10.17632/cp3473x7xv; soc as in its curated form",
        licence="CC BY 4.0",
    )


def a123(folder: Path, leave: Callable[[Path], bool] = lambda _path: False) -> Request:
    return Request(
        name="a123_26650",
        chemistry="LFP",
        capacity_ah=2.072,
        ocv=[p for p in sorted(folder.glob("slow_*.csv.gz")) if not leave(p)],
        drive=[p for p in sorted(folder.glob("drive_*.csv.gz")) if not leave(p)],
        voltage_min_v=2.0,
        voltage_max_v=3.6,
        summary="A123 26650, 2.07 Ah; temperatures are those of the chamber",
        data="G. Plett, ESC toolbox data, via batterysim/esctoolbox-python",
        licence="MIT",
    )


def lfp_bus(small: dict[str, Any]) -> dict[str, Any]:
    """A large-format cell: the small one's chemistry, more capacity, less resistance, more doubt."""
    scale = small["capacity_ah"] / BUS_CAPACITY_AH
    dynamics = dict(small["dynamics"])
    dynamics["knee_a"] = np.asarray(dynamics["knee_a"]) / scale
    for key in ("r0_ohm", "rct_ohm"):
        dynamics[key] = [row * scale * BUS_OHMIC for row in dynamics[key]]
    dynamics["relaxation_ohm"] = [[row * scale for row in table] for table in dynamics["relaxation_ohm"]]
    unsure = small["uncertainty"]
    doubt = {
        "model_sd_v": np.maximum(1.5 * np.asarray(unsure["model_sd_v"]), 0.008),
        "axis_sd": 0.01,
        "resistance_rel_sd": 0.5,
    }
    source = small["sources"][0] | {
        "used_for": "the cell a123_26650 scaled: capacity 280 Ah; R·Ah of R0 and Rct three times the small power cell's, "
        "that of the relaxation the same. An assumption for a prismatic energy cell, not a measurement of one: fit your own"
    }
    return {
        **small,
        "name": "lfp_bus",
        "summary": "Prismatic LFP cell of the 280 Ah class for a bus, derived from a123_26650",
        "capacity_ah": BUS_CAPACITY_AH,
        "capacity_rel_sd": 0.03,
        "voltage_min_v": 2.5,
        "voltage_max_v": 3.65,
        "sources": [source],
        "limits": BUS_LIMITS,
        "dynamics": dynamics,
        "uncertainty": unsure | doubt,
    }


def fitted(request: Request) -> dict[str, Any]:
    return fit_cell(request, lambda what, _done: print(f"  {what}", flush=True)).cell


def write(folder: Path, cell: dict[str, Any]) -> CellModel:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{cell['name']}.toml"
    path.write_text(toml(cell, "Made by scripts/fit_shipped_cells.py from the data named below"), "utf-8")
    print(path, flush=True)
    return load_cell(path)


# Judging


def voltage(model: CellModel, record: Record) -> FloatArray:
    """What the model says at the record's current, temperature and soc, from rest."""

    def at(table: FloatArray) -> FloatArray:
        return model.at(table, record.soc, record.temp_degc)

    knee = np.interp(record.temp_degc, model.temp_degc, model.knee_a)
    bent = knee * np.arcsinh(record.current_a / knee)
    out = at(model.ocv_v) - at(model.r0_ohm) * record.current_a - at(model.rct_ohm) * bent
    for table, tau in zip(model.relaxation_ohm, model.tau_s.tolist(), strict=True):
        out -= at(table) * low_pass(bent, record.dt_s, tau)
    h, left = hysteresis(record, model.hysteresis_rate, model.capacity_ah)
    return out + at(model.hysteresis_v) * (h + record.start_h * left)


def judge(title: str, model: CellModel, paths: list[Path]) -> None:
    kind = defaults.CHEMISTRIES[model.chemistry]
    print(f"{title}\n  {'file':<14}{'rms mV':>8}{'slow mV':>9}{'slow % SoC':>12}")
    for path in paths:
        file = axes.read(path, "drive", [])
        (record,) = axes.Axes([file], model.capacity_ah, kind.full_below_v, []).records()
        error, use = record.voltage_v - voltage(model, record), record.used & (record.soc > 0.1)
        slow = low_pass(np.where(record.used, error, 0.0), record.dt_s, SLOW_S)
        step = 0.02
        slope = (
            model.at(model.ocv_v, record.soc + step, record.temp_degc)
            - model.at(model.ocv_v, record.soc - step, record.temp_degc)
        ) / (2 * step)
        sizes = [float(np.sqrt(np.mean(x[use] ** 2))) for x in (error, slow, slow / np.maximum(slope, 0.05))]
        print(
            f"  {file.name:<14}{1e3 * sizes[0]:8.1f}{1e3 * sizes[1]:9.1f}{1e2 * sizes[2]:12.2f}", flush=True
        )


def judge_all(data: Path, out: Path) -> None:
    folder, model = data / "lg_hg2_nmc", load_cell(out / "lg_hg2.toml")
    kept = [p for n in LG_JUDGES for p in sorted(folder.glob(f"{n}_*.csv.gz"))]
    judge("lg_hg2 on drives that it was not fitted on", model, kept)
    for temp in ("+10", "-10"):
        part = write(out / f"without{temp}", fitted(without_temperature(folder, temp)))
        judge(
            f"lg_hg2 fitted without {temp} degC",
            part,
            [p for p in kept if p.name.endswith(f"_{temp}.csv.gz")],
        )
    folder = data / "a123_lfp"
    for temp in A123_DRIVES:
        drive = folder / f"drive_{temp}.csv.gz"
        part = write(out / f"without_{temp}", fitted(without_drive(folder, temp)))
        judge(f"a123_26650 fitted without {drive.name}", part, [drive])


def without_temperature(folder: Path, temp: str) -> Request:
    return lg(folder, lambda path: path.name.endswith(f"_{temp}.csv.gz"))


def without_drive(folder: Path, temp: str) -> Request:
    return a123(folder, lambda path: path.name == f"drive_{temp}.csv.gz")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "edge/battery/cells")
    parser.add_argument(
        "--cell", choices=("lg_hg2", "a123_26650"), help="only this one (and what is derived of it)"
    )
    parser.add_argument(
        "--without", choices=A123_DRIVES, help="writes only a123_26650, fitted without that drive"
    )
    parser.add_argument(
        "--judge", action="store_true", help="judge the models in --out; fits of parts go below it"
    )
    options = parser.parse_args()
    if options.judge:
        judge_all(options.data, options.out)
    elif options.without:
        write(options.out, fitted(without_drive(options.data / "a123_lfp", options.without)))
    else:
        if options.cell != "a123_26650":
            write(options.out, fitted(lg(options.data / "lg_hg2_nmc")))
        if options.cell != "lg_hg2":
            small = fitted(a123(options.data / "a123_lfp"))
            write(options.out, small)
            write(options.out, lfp_bus(small))


if __name__ == "__main__":
    main()
