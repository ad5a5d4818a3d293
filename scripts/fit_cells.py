"""Make edge/battery/cells/*.toml from measurements: `python scripts/fit_cells.py DATA [--out FOLDER]`.

DATA holds the folders lg_hg2_nmc and a123_lfp (CSV.gz: time_s,current_A,voltage_V,temperature_C,soc).
numpy only. At each temperature the voltage is linear in the unknowns once the time constants are
chosen, so everything is one regularised least-squares problem:

    voltage = OCV(soc) + M(soc)·h - R0(soc)·i - R1(soc)·i1 - R2(soc)·i2,   i1, i2 = low-passed j

where j = knee·asinh(i/knee): in the cold, the overpotential grows less than the current does.

    lg_hg2      OCV, R0, R1, R2 on slow_*, pulses_*, US06_*, LA92_*; Mixed1_*, Mixed2_* and UDDS_* are kept for judging
    a123_26650  OCV and M from slow_*; R0, R1, R2 on drive_*. There are no other data with load: to judge,
                leave one temperature out (--leave-out +25) and run the estimator on the drive at that temperature
    lfp_bus     a123_26650 at 280 Ah, resistances scaled: an assumption, and its uncertainty says so
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
KELVIN = 273.15
OCV_SOC = np.r_[
    [0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04],
    np.arange(3, 48) / 50,
    [0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 1],
]
R_SOC = np.array([0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
DELTA_SOC = np.linspace(0, 1, 11)  # how the OCV differs from that at 25 degC: smooth
# Charge of the LG cell at each chamber temperature, as the data set's curators give it
LG_CAPACITY_AH = {40: 2.74, 25: 2.74, 10: 2.70, 0: 2.68, -10: 2.66, -20: 2.64}
LG_ACTIVATION_K = (2500.0, 3500.0)  # R0; R1 and R2: follows the can's own warming within one file
A123_CAPACITY_AH = 2.072
A123_DRIVES = (-25, -5, 5, 25, 45)
A123_SLOW = (-25, -15, -5, 5, 15, 25, 35, 45)
KNEES_A = (100.0, 10.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.25)  # the first: none, practically
DRIVES = ("US06", "LA92", "drive")
MAX_HYSTERESIS_V = 0.025  # more, at the ends, is overpotential
SLOPE_MIN_V = 0.02  # per unit of soc: the OCV must rise
# sd of the counted rate, in capacities per hour: an offset that is equally likely within ± that of the
# sensors we judge with (NMC: 50 mA on 3 Ah; LFP: 0.5 % of the capacity per hour) has the sd of its limit / sqrt(3)
OFFSET_C = {"NMC": 0.05 / 3 / 3**0.5, "LFP": 0.005 / 3**0.5}


@dataclass
class Fit:
    """What one temperature gave."""

    r: Array  # [3, R_SOC]
    tau: tuple[float, float]
    knee_a: float
    rms_v: dict[str, float] = field(default_factory=dict)
    slow_v: float = 0.0  # sd of the error averaged over 300 s


def read(path: Path) -> Array:
    return np.genfromtxt(path, delimiter=",", skip_header=1)


def label(temp: int) -> str:
    return f"{temp:+03d}"


def thin(rows: Array, bin_s: float) -> Array:
    """Averages over bins of time; where rows are sparser than the bins, the rows themselves."""
    first = np.flatnonzero(np.diff(np.floor(rows[:, 0] / bin_s), prepend=-1.0))
    return np.add.reduceat(rows, first, axis=0) / np.diff(np.append(first, len(rows)))[:, None]


def intervals(rows: Array) -> Array:
    return np.diff(rows[:, 0], prepend=rows[0, 0])


def low_pass(x: Array, dt: Array, tau: float) -> Array:
    keep = np.exp(-dt / tau).tolist()
    out, state = np.empty(len(x)), 0.0
    for k, value in enumerate(x.tolist()):
        state = keep[k] * state + (1 - keep[k]) * value
        out[k] = state
    return out


def hysteresis(current: Array, dt: Array, rate: float, capacity_ah: float) -> Array:
    keep = np.exp(-np.abs(current) * dt * rate / (3600 * capacity_ah)).tolist()
    out, state = np.empty(len(current)), 1.0  # all of these drives begin after a full charge
    for k, sign in enumerate(np.sign(current).tolist()):
        state = keep[k] * state - (1 - keep[k]) * sign
        out[k] = state
    return out


def hat(x: Array, nodes: Array) -> Array:
    """Weights of piecewise linear interpolation, one row per x."""
    x = np.clip(x, nodes[0], nodes[-1])
    left = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
    weight = (x - nodes[left]) / (nodes[left + 1] - nodes[left])
    out = np.zeros((len(x), len(nodes)))
    rows = np.arange(len(x))
    out[rows, left], out[rows, left + 1] = 1 - weight, weight
    return out


def bending(nodes: Array, weight: float, columns: int, offset: int) -> Array:
    """Rows that punish a change of slope."""
    out = np.zeros((len(nodes) - 2, columns))
    for k in range(1, len(nodes) - 1):
        before, after = nodes[k] - nodes[k - 1], nodes[k + 1] - nodes[k]
        row = np.array([1 / before, -1 / before - 1 / after, 1 / after]) * (before + after) / 2
        out[k - 1, offset + k - 1 : offset + k + 2] = row * weight
    return out


def solve(normal: Array, right: Array, positive: slice) -> Array:
    """The normal equations, with lower bounds on some unknowns (by a penalty, repeated)."""
    normal, right = normal + 1e-8 * np.eye(len(right)), right.copy()
    for _ in range(6):
        x = np.linalg.solve(normal, right)
        low = np.arange(len(right))[positive]
        low = low[x[low] < 1e-4]
        if not len(low):
            break
        normal[low, low] += 1e3
        right[low] += 1e3 * 2e-4
    x[positive] = np.maximum(x[positive], 1e-4)
    return x


def rising(voltage: Array, soc: Array) -> Array:
    """The nearest curve (pool adjacent violators) that rises by at least SLOPE_MIN_V per unit of soc."""
    blocks: list[list[float]] = []
    for value in (voltage - SLOPE_MIN_V * soc).tolist():
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, n) = blocks[-2:]
            blocks[-2:] = [[(a * m + b * n) / (m + n), m + n]]
    flat = np.concatenate([np.full(int(n), v) for v, n in blocks])
    return flat + SLOPE_MIN_V * 1.001 * soc


def slow_error(error: Array, rows: Array) -> float:
    """rms of the error's mean over 300 s."""
    first = np.flatnonzero(np.diff(np.floor(rows[:, 0] / 300), prepend=-1.0))
    means = np.add.reduceat(error, first) / np.diff(np.append(first, len(error)))
    return float(np.sqrt(np.mean(means**2)))


def bent(current: Array, knee_a: float) -> Array:
    return knee_a * np.arcsinh(current / knee_a)


def cost(fit: Fit) -> float:
    """What a choice of time constants and knee is judged by: the slow error, and a little of the fast."""
    drives = [v for k, v in fit.rms_v.items() if k in DRIVES]
    return fit.slow_v**2 + 0.2 * sum(v**2 for v in drives) / len(drives)


# LG 18650HG2


def lg_rows(folder: Path, temp: int) -> dict[str, Array]:
    """Everything that may be used to fit at that temperature."""
    out = {}
    for name in ("US06", "LA92", "pulses"):
        path = folder / f"{name}_{label(temp)}.csv.gz"
        if path.exists():
            out[name] = thin(read(path), 0.5)
    out["pulses"] = out["pulses"][: np.argmin(out["pulses"][:, 4]) + 1]
    out["slow"] = lg_slow(folder, temp)
    return out


def lg_slow(folder: Path, temp: int) -> Array:
    """C/20, with its soc: discharge by its charge, and the charge branch scaled to come back to full."""
    rows = read(folder / f"slow_{label(temp)}.csv.gz")
    charge = np.cumsum(rows[:, 1] * intervals(rows)) / 3600
    soc = 1 - charge / LG_CAPACITY_AH[temp]
    low = int(np.argmax(charge))
    back = (charge[low] - charge[low:]) / (charge[low] - charge[-1])
    soc[low:] = soc[low] + back * (1 - soc[low])
    rows[:, 4] = soc
    return rows


def lg_columns(rows: Array, temp: int, taus: tuple[float, float], knee_a: float, ocv_nodes: Array) -> Array:
    dt, current = intervals(rows), rows[:, 1]
    slow = bent(current, knee_a)
    cold = 1 / (rows[:, 3] + KELVIN) - 1 / (temp + KELVIN)
    ohm = hat(rows[:, 4], R_SOC)
    parts = [hat(rows[:, 4], ocv_nodes)]
    for part, activation in zip(
        (current, low_pass(slow, dt, taus[0]), low_pass(slow, dt, taus[1])),
        (LG_ACTIVATION_K[0], LG_ACTIVATION_K[1], LG_ACTIVATION_K[1]),
        strict=True,
    ):
        parts.append(-ohm * (part * np.exp(activation * cold))[:, None])
    return np.hstack(parts)


def lg_fit(
    data: dict[str, Array], temp: int, taus: tuple[float, float], knee_a: float, base: Array | None
) -> tuple[Array, Fit]:
    """OCV (on OCV_SOC; at 25 degC itself, elsewhere `base` plus a smooth difference) and resistances."""
    nodes = OCV_SOC if base is None else DELTA_SOC
    n = len(nodes) + 3 * len(R_SOC)
    smooth = [bending(nodes, 0.1 if base is None else 1.0, n, 0)]
    smooth += [bending(R_SOC, 0.1, n, len(nodes) + k * len(R_SOC)) for k in range(3)]
    rough = np.vstack(smooth)
    normal, right, parts = 1e-4 * rough.T @ rough, np.zeros(n), {}
    for name, rows in data.items():
        x = lg_columns(rows, temp, taus, knee_a, nodes)
        weight = np.minimum(intervals(rows), 20.0)
        weight /= weight.sum()
        y = rows[:, 2] - (0 if base is None else np.interp(rows[:, 4], OCV_SOC, base))
        normal = normal + (x * weight[:, None]).T @ x
        right = right + (x * weight[:, None]).T @ y
        parts[name] = (x, weight, y, rows)
    found = solve(normal, right, slice(len(nodes), n))
    fit = Fit(found[len(nodes) :].reshape(3, -1), taus, knee_a)
    fit.rms_v = {k: float(np.sqrt(w @ (y - x @ found) ** 2)) for k, (x, w, y, _) in parts.items()}
    drives = [
        slow_error(y - x @ found, rows) for k, (x, _, y, rows) in parts.items() if k in ("US06", "LA92")
    ]
    fit.slow_v = max(drives)
    difference = found[: len(nodes)]
    ocv = (
        difference if base is None else base + np.interp(OCV_SOC, DELTA_SOC, np.clip(difference, -0.06, 0.06))
    )
    return rising(ocv, OCV_SOC), fit


def lg_hg2(folder: Path) -> dict[str, Any]:
    choices = list(itertools.product(((10.0, 100.0), (10.0, 300.0), (30.0, 300.0)), KNEES_A[:6]))
    base, ocv, fits = None, {}, {}
    for temp in (25, 40, 10, 0, -10, -20):
        data = lg_rows(folder, temp)
        results = [lg_fit(data, temp, taus, knee, base) for taus, knee in choices]
        ocv[temp], fits[temp] = min(results, key=lambda r: cost(r[1]))
        base = ocv[25]
        report("lg_hg2", temp, fits[temp])
    temps = sorted(ocv)
    return {
        "name": "lg_hg2",
        "chemistry": "NMC",
        "summary": "LG 18650HG2, 3 Ah nominal, lightly used: 2.64 to 2.74 Ah during the campaign",
        "capacity_ah": 2.70,
        "capacity_rel_sd": 0.015,
        "voltage_min_v": 2.5,
        "voltage_max_v": 4.2,
        "sources": [
            {
                "data": "P. Kollmeyer, C. Vidal, M. Naguib, M. Skells, LG 18650HG2 Li-ion Battery Data, Mendeley "
                "Data, doi:10.17632/cp3473x7xv; soc and capacities as in its curated form",
                "licence": "CC BY 4.0",
                "used_for": "OCV and resistances on slow_* (C/20), pulses_* (HPPC), US06_*, LA92_*. "
                "Mixed1_*, Mixed2_*, UDDS_* were not used",
                "fit_rms_mv": {
                    label(t): {k: round(v * 1e3, 1) for k, v in fits[t].rms_v.items()} for t in temps
                },
            }
        ],
        "ocv": {"soc": OCV_SOC, "temp_degc": temps, "voltage_v": [ocv[t] for t in temps]},
        "dynamics": dynamics({t: fits[t] for t in temps}),
        "uncertainty": {
            "model_sd_v": [max(1.5 * fits[t].slow_v, 0.010) for t in temps],
            "sample_sd_v": [max(v for k, v in fits[t].rms_v.items() if k in ("US06", "LA92")) for t in temps],
            "model_tau_s": 1800.0,
            "axis_sd": 0.008,
            "resistance_rel_sd": 0.25,
            "resistance_tau_s": 36_000.0,
            "branch_rel_sd": 0.3,
            "hysteresis_sd": 0.0,
            "current_offset_c": OFFSET_C["NMC"],
        },
    }


# A123 26650


def a123_branches(folder: Path, temp: int) -> tuple[Array, Array]:
    """(discharge, charge) voltage on OCV_SOC at C/30; NaN where the branch was not reached."""
    down = read(folder / f"slow_discharge_{label(temp)}.csv.gz")
    up = read(folder / f"slow_charge_{label(temp)}.csv.gz")
    end = read(folder / f"slow_charge_end_{label(temp)}.csv.gz")
    soc_down = 1 - np.cumsum(down[:, 1] * intervals(down)) / 3600 / A123_CAPACITY_AH
    charge = -np.cumsum(up[:, 1] * intervals(up)) / 3600
    soc_up = charge / (charge[-1] - np.sum(end[:, 1] * intervals(end)) / 3600)
    loaded = down[:, 1] > 0.02
    below = np.interp(OCV_SOC, soc_down[loaded][::-1], down[loaded, 2][::-1], left=np.nan)
    loaded = up[:, 1] < -0.02
    above = np.interp(OCV_SOC, soc_up[loaded], up[loaded, 2], right=np.nan)
    return below, above


def filled(values: Array, known: npt.NDArray[np.bool_]) -> Array:
    known = known & np.isfinite(values)
    return np.interp(OCV_SOC, OCV_SOC[known], values[known])


def a123_ocv(folder: Path) -> tuple[dict[int, Array], Array]:
    """OCV by temperature, and M: half the gap between the branches at 45 degC, where least of it is overpotential.

    Where the cold branches end early, the shape at 45 degC goes on. The ends are rests: 3.55 V + M is what
    the drives show after a full charge, 2.11 V what slow_charge_* shows before it begins.
    """
    branches = {t: a123_branches(folder, t) for t in A123_SLOW}
    below, above = branches[45]
    everywhere = np.ones(len(OCV_SOC), dtype=bool)
    middle = (below + above) / 2
    middle[0], middle[-1] = 2.11, 3.55
    shape = filled(middle, everywhere)
    gap = np.clip(filled((above - below) / 2, everywhere), 0, MAX_HYSTERESIS_V)
    inside = (OCV_SOC > 0.05) & (OCV_SOC < 0.94)
    ocv = {}
    for temp, (low, high) in branches.items():
        ocv[temp] = rising(shape + filled((low + high) / 2 - shape, inside), OCV_SOC)
    return ocv, gap


def a123_fit(
    rows: Array, ocv: Array, gap: Array, taus: tuple[float, float], knee_a: float, rate: float
) -> Fit:
    dt, current, soc = intervals(rows), rows[:, 1], rows[:, 4]
    slow = bent(current, knee_a)
    memory = np.interp(soc, OCV_SOC, gap) * hysteresis(current, dt, rate, A123_CAPACITY_AH)
    y = rows[:, 2] - np.interp(soc, OCV_SOC, ocv) - memory
    ohm = hat(soc, R_SOC)
    x = np.hstack([-ohm * p[:, None] for p in (current, *(low_pass(slow, dt, tau) for tau in taus))])
    n = x.shape[1]
    rough = np.vstack([bending(R_SOC, 0.1, n, k * len(R_SOC)) for k in range(3)])
    inside = (soc > 0.08) & (soc < 0.97)  # beyond, the OCV's own error would be taken for resistance
    found = solve(
        x[inside].T @ x[inside] / len(x) + 1e-4 * rough.T @ rough,
        x[inside].T @ y[inside] / len(x),
        slice(0, n),
    )
    error = (y - x @ found)[inside]
    fit = Fit(found.reshape(3, -1), taus, knee_a, {"drive": float(np.sqrt(np.mean(error**2)))})
    fit.slow_v = slow_error(error, rows[inside])
    return fit


def a123_26650(folder: Path, leave_out: int | None = None) -> dict[str, Any]:
    ocv, gap = a123_ocv(folder)
    drives = {t: read(folder / f"drive_{label(t)}.csv.gz") for t in A123_DRIVES if t != leave_out}

    def fit_all(taus: tuple[float, float], rate: float) -> dict[int, Fit]:
        every = {
            t: [a123_fit(rows, ocv[t], gap, taus, knee, rate) for knee in KNEES_A]
            for t, rows in drives.items()
        }
        return {t: min(fits, key=cost) for t, fits in every.items()}

    choices = itertools.product(((10.0, 300.0), (30.0, 300.0), (30.0, 1000.0)), (5.0, 15.0))
    results = [(fit_all(taus, rate), rate) for taus, rate in choices]
    fits, rate = min(results, key=lambda r: sum(cost(f) for f in r[0].values()))
    for temp, fit in fits.items():
        report(f"a123_26650 (hysteresis rate {rate:g})", temp, fit)
    temps = sorted(fits)
    return {
        "name": "a123_26650",
        "chemistry": "LFP",
        "summary": "A123 26650, 2.07 Ah; temperatures are those of the chamber",
        "capacity_ah": A123_CAPACITY_AH,
        "capacity_rel_sd": 0.01,
        "voltage_min_v": 2.0,
        "voltage_max_v": 3.6,
        "sources": [
            {
                "data": "G. Plett, ESC toolbox data, via batterysim/esctoolbox-python",
                "licence": "MIT",
                "used_for": "OCV and hysteresis on slow_* (C/30, mean and half gap of the branches); resistances on "
                "drive_*: to judge on these, leave one temperature out",
                "fit_rms_mv": {
                    label(t): {k: round(v * 1e3, 1) for k, v in fits[t].rms_v.items()} for t in temps
                },
            }
        ],
        "ocv": {
            "soc": OCV_SOC,
            "temp_degc": list(A123_SLOW),
            "voltage_v": [ocv[t] for t in A123_SLOW],
            "hysteresis_v": [gap for _ in A123_SLOW],
        },
        "dynamics": dynamics(fits),
        "hysteresis": {"rate": rate},
        "uncertainty": {
            "model_sd_v": [max(2 * fits[t].slow_v, 0.010) for t in temps],
            "sample_sd_v": [fits[t].rms_v["drive"] for t in temps],
            "model_tau_s": 7200.0,
            "axis_sd": 0.008,
            "resistance_rel_sd": 0.25,
            "resistance_tau_s": 36_000.0,
            "branch_rel_sd": 0.3,
            "hysteresis_sd": 0.3,
            "current_offset_c": OFFSET_C["LFP"],
        },
    }


BUS_CAPACITY_AH = 280.0
BUS_OHMIC = 3.0  # R0 and R1 of an energy cell over a power cell of the same capacity: 0.2 mohm at 25 degC


def lfp_bus(a123: dict[str, Any]) -> dict[str, Any]:
    """A large-format cell: the small one's chemistry, more capacity, less resistance, more doubt."""
    scale = A123_CAPACITY_AH / BUS_CAPACITY_AH
    dyn = dict(a123["dynamics"])
    dyn["knee_a"] = [v / scale for v in dyn["knee_a"]]
    for key, factor in (("r0_ohm", BUS_OHMIC), ("r1_ohm", BUS_OHMIC), ("r2_ohm", 1.0)):
        dyn[key] = [row * scale * factor for row in dyn[key]]
    source = {k: v for k, v in a123["sources"][0].items() if k != "fit_rms_mv"}
    source["used_for"] = (
        "the cell a123_26650 scaled: capacity 280 Ah; R·Ah of R0 and R1 three times the small power cell's, "
        "that of R2 the same. An assumption for a prismatic energy cell, not a measurement of one: fit your own"
    )
    doubt = {
        "model_sd_v": [max(1.5 * v, 0.015) for v in a123["uncertainty"]["model_sd_v"]],
        "axis_sd": 0.015,
        "resistance_rel_sd": 0.5,
        "branch_rel_sd": 0.5,
    }
    return a123 | {
        "name": "lfp_bus",
        "summary": "Prismatic LFP cell of the 280 Ah class for a bus, derived from a123_26650",
        "capacity_ah": BUS_CAPACITY_AH,
        "capacity_rel_sd": 0.03,
        "voltage_min_v": 2.5,
        "voltage_max_v": 3.65,
        "sources": [source],
        "dynamics": dyn,
        "uncertainty": a123["uncertainty"] | doubt,
    }


# Out


def dynamics(fits: dict[int, Fit]) -> dict[str, Any]:
    temps = sorted(fits)
    return {
        "soc": R_SOC,
        "temp_degc": temps,
        "tau1_s": [fits[t].tau[0] for t in temps],
        "tau2_s": [fits[t].tau[1] for t in temps],
        "knee_a": [fits[t].knee_a for t in temps],
        **{f"r{k}_ohm": [bounded(fits[t].r[k]) for t in temps] for k in range(3)},
    }


def bounded(ohm: Array) -> Array:
    """Outside the measured states of charge the fit is free: hold it near what it is inside."""
    inside = ohm[(R_SOC >= 0.15) & (R_SOC <= 0.95)]
    return np.clip(ohm, 0.3 * np.median(inside), 2.5 * inside.max())


def report(name: str, temp: int, fit: Fit) -> None:
    errors = ", ".join(f"{k} {v * 1e3:.1f}" for k, v in fit.rms_v.items())
    print(
        f"{name} {temp:+d} degC: tau {fit.tau}, knee {fit.knee_a} A, rms mV: {errors}; slow {fit.slow_v * 1e3:.1f}"
    )
    for k in range(3):
        print(f"    R{k} mohm", " ".join(f"{v * 1e3:.1f}" for v in fit.r[k]))


def toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{k}" = {toml_value(v)}' for k, v in value.items()) + " }"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, np.ndarray) or (isinstance(value, list) and not isinstance(value[0], np.ndarray)):
        return "[" + ", ".join(f"{float(v):.6g}" for v in value) + "]"
    if isinstance(value, list):
        return "[\n" + "".join(f"    {toml_value(row)},\n" for row in value) + "]"
    return f"{value:g}"


def write(path: Path, cell: dict[str, Any]) -> None:
    lines = ["# Made by scripts/fit_cells.py from the data named below. The keys: edge/battery/model.py."]
    lines += [f"{k} = {toml_value(v)}" for k, v in cell.items() if not isinstance(v, dict) and k != "sources"]
    for source in cell["sources"]:
        lines += ["", "[[sources]]", *(f"{k} = {toml_value(v)}" for k, v in source.items())]
    for name, table in cell.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", *(f"{k} = {toml_value(v)}" for k, v in table.items())]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "edge/battery/cells")
    parser.add_argument(
        "--leave-out", type=int, help="temperature; writes only a123_26650, fitted without it"
    )
    options = parser.parse_args()
    a123 = a123_26650(options.data / "a123_lfp", options.leave_out)
    cells = [a123]
    if options.leave_out is None:
        cells += [lfp_bus(a123), lg_hg2(options.data / "lg_hg2_nmc")]
    for cell in cells:
        write(options.out / f"{cell['name']}.toml", cell)


if __name__ == "__main__":
    main()
