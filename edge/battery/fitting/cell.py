"""From the fit to a cell model's file: tables made safe, and how wrong they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge.battery.fitting import defaults
from edge.battery.fitting.joint import (
    DELTA_SOC,
    OCV_SOC,
    PER_10K,
    R_SOC,
    TAU_S,
    Joint,
    Prior,
    Record,
    inverse,
    low_pass,
)
from edge.battery.model import MOST_OHM, FloatArray

SLOPE_MIN_V = 0.02  # per unit of soc: the OCV must rise
FAST_S = 20.0  # an error faster than this is the sample's own
MOST_AWAY = 4.0  # a file that is the only one of its temperature is far off where it is left out
POOLED_DEGC = 7.0  # files within about this range share their errors
LEAST_V = (0.003, 0.0015, 0.001)  # model, relaxation, sample: less is not believed
MOST_V = 0.3
USUAL_C = 0.5  # of the capacity per hour: the current at which a resistance is compared between temperatures
SLOPE_OVER = (
    1.0  # tens of degrees above the coldest test under load, over which it is seen how resistance rises
)
LEAST_KNEE_A = 1e-3  # of a cell model's file
MOST_KINETIC_K = 8000.0  # activation energy over the gas constant: more is not physical
NEAR_EMPTY = 0.1  # below, the place on the axis dominates the error, and axis_sd says it
ALONE = 1.5  # what the error grows by where no other file could be judged on
ALONE_HERE = 1.3  # the same where no other file under load is near in temperature
UNLOADED = (
    1.0,
    0.5,
    0.5,
)  # errors without any load, over the voltage drop that is guessed at a usual current
LASTING = 1.5  # the filter takes an error to pass within model_tau_s; a resistance that is wrong stays wrong


def rising(voltage: FloatArray, soc: FloatArray) -> FloatArray:
    """The nearest curve (pool adjacent violators) that rises by at least SLOPE_MIN_V per unit of soc."""
    blocks: list[list[float]] = []
    for value in (voltage - SLOPE_MIN_V * soc).tolist():
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, n) = blocks[-2:]
            blocks[-2:] = [[(a * m + b * n) / (m + n), m + n]]
    flat = np.concatenate([np.full(int(n), v) for v, n in blocks])
    return np.asarray(flat + SLOPE_MIN_V * 1.001 * soc)


def bands(error: FloatArray, dt_s: FloatArray) -> FloatArray:
    """[model, relaxation, sample] parts of an error, by how fast they change: [3, rows]."""
    slow, fast = (low_pass(error, dt_s, tau) for tau in (defaults.MODEL_TAU_S, FAST_S))
    return np.stack([slow, fast - slow, error - fast])


def errors(joint: Joint, prior: Prior, ohm: FloatArray, knee_a: FloatArray) -> tuple[FloatArray, list[str]]:
    """([model, relaxation, sample] sds over the nodes of temperature, remarks).

    Of each file under load: the geometric mean of its rms error in the fit, which is too good, and where it is left out,
    which is too bad: the model has seen more than the one and less than the other. Each node takes the files near
    its temperature. Where there is none, the same share of the voltage drop, and in addition what the resistance
    may be off there: `doubt`.
    """
    records, nodes = joint.rows.records, joint.layout.temp_degc
    kinds = {r.kind for r in records}
    kind = next(k for k in ("drive", "pulses", "ocv") if k in kinds)
    alone = sum(r.kind != "ocv" for r in records) < 2
    temps, sizes, drops, met = [], [], [], []
    for k, record in enumerate(records):
        part = slice(joint.rows.edges[k], joint.rows.edges[k + 1])
        if record.kind != kind:
            continue
        use = (record.soc > NEAR_EMPTY) & record.used
        use = use if use.any() else record.used
        drop = np.interp(record.soc, OCV_SOC, joint.x[joint.layout.ocv]) - record.voltage_v
        seen, away, dropped = (
            np.sqrt(np.mean(bands(np.where(record.used, e, 0.0), record.dt_s)[:, use] ** 2, axis=1))
            for e in (joint.error_v[part], joint.left_out_v[part], drop)
        )
        away = ALONE**2 * seen if alone else np.clip(away, seen, MOST_AWAY * seen)
        temps.append(float(np.median(record.temp_degc)))
        sizes.append(np.log(np.sqrt(seen * away)))
        drops.append(np.log(dropped))
        met += np.linspace(record.temp_degc.min(), record.temp_degc.max(), 20).tolist()
    distance = np.abs(nodes[:, None] - np.array(temps)[None, :])
    nearest = distance.min(axis=1, keepdims=True)
    if not alone:
        apart = np.abs(np.subtract.outer(temps, temps)) > POOLED_DEGC
        few = np.where(apart.sum(axis=1) == len(temps) - 1, np.log(ALONE_HERE), 0.0)
        sizes = [size + more for size, more in zip(sizes, few, strict=True)]
    weight = np.exp(-(((distance - nearest) / POOLED_DEGC) ** 2))
    weight /= weight.sum(axis=1, keepdims=True)
    sd, drop = (np.exp(weight @ np.array(a)).T * growth(joint, min(met), ohm, knee_a) for a in (sizes, drops))
    sd = np.hypot(sd, drop * doubt(nodes, np.array(met), prior))
    remarks = (
        ["with no second file under load the errors of the model are those of the fit, times 1.5"]
        if alone
        else []
    )
    return np.clip(sd, np.array(LEAST_V)[:, None], MOST_V), remarks


def bend(knee_a: FloatArray, current_a: float) -> FloatArray:
    """The bent current over the current."""
    return np.asarray(knee_a * np.arcsinh(current_a / knee_a) / current_a)


def usual_ohm(ohm: FloatArray, knee_a: FloatArray, current_a: float) -> FloatArray:
    """[t, s]: resistance over 10 s at a usual current."""
    reached = np.r_[1.0, 1 - np.exp(-10.0 / TAU_S)]
    return np.asarray(ohm[0] + np.einsum("pts,p->ts", ohm[1:], reached) * bend(knee_a, current_a)[:, None])


def growth(joint: Joint, coldest_degc: float, ohm: FloatArray, knee_a: FloatArray) -> FloatArray:
    """[node]: resistance over that where it was coldest, 1 elsewhere: an extrapolation errs by a share of the voltage drop."""
    nodes = joint.layout.temp_degc
    total = np.log(usual_ohm(ohm, knee_a, USUAL_C * joint.rows.capacity_ah).mean(axis=1))
    edge = np.interp(coldest_degc, nodes, total)
    return np.asarray(np.exp(np.maximum(np.where(nodes < coldest_degc, total - edge, 0), 0)))


def doubt(nodes: FloatArray, temps: FloatArray, prior: Prior) -> FloatArray:
    """[node]: relative sd of the resistance away from the temperatures that were met under load."""
    away = np.abs(inverse(nodes)[:, None] - inverse(temps)[None, :]).min(axis=1)
    return np.asarray(LASTING * prior.activation_sd_k * PER_10K * away)


def colder(
    ohm: FloatArray, knee_a: FloatArray, nodes: FloatArray, coldest_degc: float, current_a: float
) -> tuple[FloatArray, FloatArray]:
    """Tables with the nodes below the coldest test under load replaced: (ohm[p, t, s], knee_a[t]).

    What was fitted on tests at hand says nothing there, and the slopes of ten tables, each carried on alone, may together
    make a resistance that falls with the cold. By Butler and Volmer one activation energy rules knee and
    charge transfer, and beyond the knee the voltage drop grows as the logarithm of the current. So what is carried
    on by Arrhenius's law is each resistance as a usual current meets it, with the slope it had last, never falling,
    and the knee with its own; no activation energy is more than MOST_KINETIC_K. Each table keeps its course over soc.
    """
    x = inverse(nodes)
    edge = int(np.argmin(np.abs(nodes - coldest_degc)))
    if edge == 0 or edge == len(nodes) - 1:
        return ohm, knee_a
    met = ohm * np.r_[[np.ones(len(nodes))], [bend(knee_a, current_a)] * (len(ohm) - 1)][:, :, None]
    middle = np.log(met[:, :, (R_SOC >= 0.2) & (R_SOC <= 0.9)]).mean(axis=2)
    most = MOST_KINETIC_K * PER_10K

    def slope(values: FloatArray) -> float:
        over = min(SLOPE_OVER, x[-1] - x[edge])
        return float((np.interp(x[edge] + over, x, values) - values[edge]) / over)

    cold, below = slice(0, edge), x[edge] - x[:edge]
    knee, out = knee_a.copy(), ohm.copy()
    knee[cold] = knee_a[edge] * np.exp(-np.clip(slope(np.log(knee_a)), 0, most) * below)
    knee = np.maximum(knee, LEAST_KNEE_A)
    for p in range(len(ohm)):
        rise = np.exp(np.clip(-slope(middle[p]), 0, most) * below)
        out[p, cold] = met[p, edge] * rise[:, None]
        if p:
            out[p, cold] /= bend(knee[cold], current_a)[:, None]
    return out, knee


def held(table: FloatArray, seen: list[tuple[float, float] | None]) -> FloatArray:
    """Beyond the soc that was seen under load, resistance holds or grows, never falls. [process, t, s]"""
    out = table.copy()
    for t, span in enumerate(seen):
        if span is None:
            continue
        low = int(np.clip(np.searchsorted(R_SOC, span[0]), 0, len(R_SOC) - 1))
        high = int(np.clip(np.searchsorted(R_SOC, span[1], side="right") - 1, low, len(R_SOC) - 1))
        for s in range(low - 1, -1, -1):
            out[:, t, s] = np.maximum(out[:, t, s], out[:, t, s + 1])
        for s in range(high + 1, len(R_SOC)):
            out[:, t, s] = np.maximum(out[:, t, s], out[:, t, s - 1])
    return out


def spans(nodes: FloatArray, records: list[Record], capacity_ah: float) -> list[tuple[float, float] | None]:
    """The soc that was seen under load near each node."""
    found: list[tuple[float, float] | None] = []
    for node in nodes:
        near = []
        for r in records:
            use = (np.abs(r.temp_degc - node) < 8) & (np.abs(r.current_a) > capacity_ah / 10) & r.used
            near += [r.soc[use].min(), r.soc[use].max()] if use.any() else []
        found.append((float(min(near)), float(max(near))) if near else None)
    known = [k for k, span in enumerate(found) if span]
    return [found[min(known, key=lambda o: abs(o - k))] if known else None for k in range(len(found))]


def model(
    joint: Joint,
    records: list[Record],
    *,
    name: str,
    chemistry: str,
    capacity_ah: float,
    rate: float | None,
    limits_v: tuple[float, float],
    summary: str,
    sources: list[dict[str, Any]],
) -> tuple[dict[str, Any], list[str]]:
    """(the cell model's file as a dictionary, remarks)."""
    layout, x = joint.layout, joint.x
    kind = defaults.CHEMISTRIES[chemistry]
    smooth = np.stack([np.interp(OCV_SOC, DELTA_SOC, row) for row in x[layout.delta]])
    ocv = [rising(x[layout.ocv] + row, OCV_SOC) for row in smooth]
    ohm = held(np.exp(x[layout.ohm]), spans(layout.temp_degc, records, capacity_ah))
    knee = np.exp(x[layout.knee])
    under = [r.temp_degc[0] for r in records if r.kind != "ocv"]
    loaded = bool(under)
    coldest = min(under) if loaded else min(r.temp_degc[0] for r in records)
    ohm, knee = colder(ohm, knee, layout.temp_degc, coldest, USUAL_C * capacity_ah)
    ohm = np.clip(ohm, 1e-6, MOST_OHM)
    sd, remarks = errors(joint, defaults.prior(kind), ohm, knee)
    if not loaded:
        drop_v = usual_ohm(ohm, knee, USUAL_C * capacity_ah).mean(axis=1) * USUAL_C * capacity_ah
        sd = np.clip(np.hypot(sd, np.outer(UNLOADED, drop_v)), 0.0, MOST_V)
    known = defaults.RESISTANCE_REL_SD if loaded else defaults.GUESSED_RESISTANCE_REL_SD
    cell: dict[str, Any] = {
        "name": name,
        "chemistry": chemistry,
        "summary": summary,
        "capacity_ah": capacity_ah,
        "capacity_rel_sd": defaults.CAPACITY_REL_SD,
        "voltage_min_v": limits_v[0],
        "voltage_max_v": limits_v[1],
        "sources": sources,
        "ocv": {"soc": OCV_SOC, "temp_degc": layout.temp_degc, "voltage_v": ocv},
        "dynamics": {
            "soc": R_SOC,
            "temp_degc": layout.temp_degc,
            "knee_a": knee,
            "r0_ohm": list(ohm[0]),
            "rct_ohm": list(ohm[1]),
            "tau_s": TAU_S,
            "relaxation_ohm": [list(table) for table in ohm[2:]],
        },
        "uncertainty": {
            "model_sd_v": sd[0],
            "relaxation_sd_v": sd[1],
            "sample_sd_v": sd[2],
            "model_tau_s": defaults.MODEL_TAU_S,
            "relaxation_tau_s": defaults.RELAXATION_TAU_S,
            "axis_sd": kind.axis_sd,
            "resistance_rel_sd": min(max(known, float(joint.resistance_sd.min())), 1.0),
            "resistance_tau_s": defaults.RESISTANCE_TAU_S,
            "hysteresis_sd": kind.hysteresis_sd,
            "current_offset_c": kind.current_offset_c,
            "current_gain_sd": defaults.CURRENT_GAIN_SD,
        },
    }
    if rate is not None:
        gap = np.clip(x[layout.gap], 0.0, 0.5)
        cell["ocv"]["hysteresis_v"] = [gap * factor for factor in np.exp(x[layout.gap_log])]
        cell["hysteresis"] = {"rate": rate}
    return cell, remarks


def toml(cell: dict[str, Any], made_by: str) -> str:
    lines = [f"# {made_by}. The keys: edge/battery/model.py."]
    lines += [f"{k} = {_value(v)}" for k, v in cell.items() if not isinstance(v, dict) and k != "sources"]
    for source in cell["sources"]:
        lines += ["", "[[sources]]", *(f"{k} = {_value(v)}" for k, v in source.items())]
    for name, table in cell.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", *(f"{k} = {_value(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any, indent: str = "") -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_value(str(k))} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple | np.ndarray):
        if len(value) and isinstance(value[0], list | tuple | np.ndarray):
            inner = indent + "    "
            return "[\n" + "".join(f"{inner}{_value(row, inner)},\n" for row in value) + f"{indent}]"
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return f"{value:.6g}"
