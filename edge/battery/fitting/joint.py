"""One fit of all tables of a cell model over all files and temperatures at once.

The unknowns are the OCV on nodes of soc (one curve, and its smooth change with temperature), the logarithms of
all resistances on nodes of soc and temperature, the logarithm of the knee, the hysteresis, and for every file
what is not known of it: the scale and the offset of its soc, and the hysteresis state that it began with. The voltage
(edge/battery/model.py) is linear in nearly all of them, so a few Gauss-Newton steps find the most
probable values under `Prior`: what is known of batteries in general. Where the data say much, the prior
says nothing; where they say nothing (other temperatures, soc never reached, a file that is
missing), it is the answer: Arrhenius's law in temperature, and the shape that was seen at the other temperatures.

Each row touches only some forty unknowns, those of its cell of the grid, and rows of one cell share them:
the normal equations are sums of small dense blocks, so no sparse solver is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from edge.battery.model import FloatArray

IntArray = npt.NDArray[np.int64]

KELVIN = 273.15
REFERENCE_DEGC = 25.0
TAU_S = np.array([3.0, 30.0, 300.0, 3000.0])
OCV_SOC = np.r_[
    [0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04],
    np.arange(3, 48) / 50,
    [0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.995, 1],
]
DELTA_SOC = np.array([0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1])
R_SOC = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.9, 1])
PER_10K = 1.2e-4  # of 1/T: ten degrees near 10 degC
# rows of a file that the fit looks at; all rows make the currents that the resistances meet
MOST_ROWS = {"ocv": 3000, "pulses": 40_000, "drive": 8000}
PULSE_SHARE = 0.6  # of a pulse test's weight: rows under load, however long its rests are
MAX_STEP = 0.7  # of a logarithm, in one step of Gauss-Newton


@dataclass(frozen=True)
class Record:
    """One file's rows, thinned. Arrays of one length."""

    name: str
    kind: str
    """ocv, pulses or drive"""
    dt_s: FloatArray
    """since the row before; 0 in the first"""
    current_a: FloatArray
    voltage_v: FloatArray
    temp_degc: FloatArray
    soc: FloatArray
    used: npt.NDArray[np.bool_]
    """rows that count in the fit"""
    offset_sd: float
    scale_sd: float
    start_h: float
    start_h_sd: float


@dataclass(frozen=True)
class Prior:
    """What is known of cells before any of it is measured. Standard deviations; logarithms are natural.

    log_ohm          [process]: ln(R·Ah) at 25 degC in the middle; R0, Rct, then one per tau
    activation_k     [process]
    """

    log_ohm_ah: FloatArray
    activation_k: FloatArray
    ocv_v: FloatArray
    """on OCV_SOC: a typical curve; matters where nothing was measured"""
    hysteresis_v: float
    knee_c: float
    """knee over capacity, per hour, at 25 degC"""
    ocv_sd_v: float = 0.3
    level_sd: float = 1.5
    activation_sd_k: float = 1500.0
    bend_temp_sd: float = 0.15
    """change of the slope of ln R over 1/T, per 10 K and 10 K"""
    shape_sd: float = 0.1
    """how the course of ln R over soc changes: per 0.1 of soc and 10 K"""
    soc_slope_sd: float = 0.1
    """of ln R, per 0.1 of soc"""
    soc_bend_sd: float = 0.15
    ocv_bend_sd_v: float = 0.01
    ocv_delta_sd_v: float = 0.004
    """of the OCV per 10 K"""
    ocv_delta_bend_sd_v: float = 0.004
    hysteresis_sd_v: float = 0.010
    hysteresis_bend_sd_v: float = 0.004
    hysteresis_temp_sd: float = 0.1
    """of its logarithm, per 10 K"""
    knee_sd: float = 0.7
    knee_activation_k: float = 4600.0
    knee_activation_sd_k: float = 1500.0
    knee_bend_sd: float = 0.02
    """small: the knee follows Arrhenius's law"""
    error_v: float = 0.005
    error_of_axis: float = 0.007
    error_time_s: float = 100.0
    shortest_s: float = 3600.0
    longest_s: float = 14_400.0
    """a drive counts no more than one of this length; any other test no more than a usual drive of this fit"""


@dataclass
class Layout:
    """Where each unknown lies in the vector."""

    temp_degc: FloatArray
    """nodes"""
    hysteresis: bool
    files: int
    ocv: IntArray = field(init=False)
    delta: IntArray = field(init=False)
    gap: IntArray = field(init=False)
    gap_log: IntArray = field(init=False)
    """of what the hysteresis is multiplied by, over temperature"""
    ohm: IntArray = field(init=False)
    knee: IntArray = field(init=False)
    nuisance: IntArray = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        t, place = len(self.temp_degc), 0
        for name, shape in (
            ("ocv", (len(OCV_SOC),)),
            ("delta", (t, len(DELTA_SOC))),
            ("gap", (len(OCV_SOC),)),
            ("gap_log", (t,)),
            ("ohm", (2 + len(TAU_S), t, len(R_SOC))),
            ("knee", (t,)),
            ("nuisance", (self.files, 3)),
        ):
            n = int(np.prod(shape))
            setattr(self, name, np.arange(place, place + n).reshape(shape))
            place += n
        self.size = place


def picked(record: Record, rows: IntArray) -> Record:
    """Some rows of it; the time since the row before is that since the row picked before."""
    time = np.cumsum(record.dt_s)[rows]
    return replace(
        record,
        dt_s=np.diff(time, prepend=time[0]),
        **{k: getattr(record, k)[rows] for k in ("current_a", "voltage_v", "temp_degc", "soc", "used")},
    )


def low_pass(x: FloatArray, dt_s: FloatArray, tau_s: float) -> FloatArray:
    """dy/dt = (x - y)/tau from y = 0, x[k] held over dt_s[k]."""
    keep = np.exp(-dt_s / tau_s).tolist()
    out, state = np.empty(len(x)), 0.0
    for k, value in enumerate(x.tolist()):
        state = keep[k] * (state - value) + value
        out[k] = state
    return out


def hysteresis(test: Record, rate: float, capacity_ah: float) -> tuple[FloatArray, FloatArray]:
    """(h from h = 0, what is left of the first h)."""
    keep = np.exp(-np.abs(test.current_a) * test.dt_s * rate / (3600 * capacity_ah))
    out, state, kept = np.empty(len(keep)), 0.0, keep.tolist()
    for k, sign in enumerate(np.sign(test.current_a).tolist()):
        state = kept[k] * state - (1 - kept[k]) * sign
        out[k] = state
    return out, np.asarray(np.cumprod(keep))


def place(x: FloatArray, nodes: FloatArray) -> tuple[IntArray, FloatArray]:
    """(left node, weight of the right one), held at the ends. One node alone: itself."""
    if len(nodes) == 1:
        return np.zeros(len(x), dtype=np.int64), np.zeros(len(x))
    x = np.clip(x, nodes[0], nodes[-1])
    left = np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
    return left, (x - nodes[left]) / (nodes[left + 1] - nodes[left])


def inverse(temp_degc: FloatArray) -> FloatArray:
    """-1/T in tens of degrees near 10 degC: Arrhenius's axis, rising with temperature."""
    return (1 / (REFERENCE_DEGC + KELVIN) - 1 / (temp_degc + KELVIN)) / PER_10K


class Rows:
    """All records in one, with everything that does not depend on the unknowns."""

    def __init__(self, records: list[Record], layout: Layout, capacity_ah: float, rate: float) -> None:
        self.layout, self.capacity_ah = layout, capacity_ah
        self.whole = records
        picks = [np.arange(0, len(r.soc), -(-len(r.soc) // MOST_ROWS[r.kind])) for r in records]
        self.records = [picked(r, pick) for r, pick in zip(records, picks, strict=True)]
        self.counts = [len(r.soc) for r in self.records]
        self.edges = np.r_[0, np.cumsum(self.counts)]
        starts = np.r_[0, np.cumsum([len(r.soc) for r in records])]
        self.pick = np.concatenate([a + pick for a, pick in zip(starts, picks, strict=False)])
        self.whole_edges = starts
        self.dt, self.voltage, self.temp, self.soc = (
            np.concatenate([getattr(r, name) for r in self.records])
            for name in ("dt_s", "voltage_v", "temp_degc", "soc")
        )
        self.used = np.concatenate([r.used for r in self.records])
        self.file = np.repeat(np.arange(len(records)), self.counts)
        nodes = layout.temp_degc
        self.t, self.wt = place(self.temp, nodes)
        self.t2 = np.minimum(self.t + 1, len(nodes) - 1)
        self.ti, self.wi = place(inverse(self.temp), inverse(nodes))
        self.o, self.wo = place(self.soc, OCV_SOC)
        self.d, self.wd = place(self.soc, DELTA_SOC)
        self.s, self.ws = place(self.soc, R_SOC)
        memory = [hysteresis(r, rate, capacity_ah) for r in records]
        self.h = np.concatenate([m[0] for m in memory])[self.pick]
        self.h_left = np.concatenate([m[1] for m in memory])[self.pick]
        self.all_current = np.concatenate([r.current_a for r in records])
        self.all_dt = np.concatenate([r.dt_s for r in records])
        left, weight = place(np.concatenate([r.temp_degc for r in records]), nodes)
        self.all_t = left, np.minimum(left + 1, len(nodes) - 1), weight
        self.knee_memory: tuple[bytes, FloatArray, FloatArray] | None = None
        key = (self.file * len(nodes) + self.t) * len(OCV_SOC) + self.o
        key = key * (len(R_SOC) * len(DELTA_SOC)) + self.s * len(DELTA_SOC) + self.d
        self.order = np.argsort(key, kind="stable")
        self.order = self.order[self.used[self.order]]
        self.blocks = np.flatnonzero(np.diff(key[self.order], prepend=-1))

    def currents(self, log_knee: FloatArray) -> tuple[FloatArray, FloatArray]:
        """([process, row] currents that the resistances meet, the same differentiated by ln knee)."""
        stamp = log_knee.tobytes()
        if self.knee_memory is None or self.knee_memory[0] != stamp:
            left, right, weight = self.all_t
            knee = np.exp(log_knee[left] * (1 - weight) + log_knee[right] * weight)
            current = self.all_current
            bent = knee * np.arcsinh(current / knee)
            slope = bent - current / np.sqrt(1 + (current / knee) ** 2)
            parts, slopes = [current, bent], [np.zeros(len(bent)), slope]
            for tau in TAU_S:
                for x, out in ((bent, parts), (slope, slopes)):
                    passed = [
                        low_pass(x[a:b], self.all_dt[a:b], tau)
                        for a, b in zip(self.whole_edges[:-1], self.whole_edges[1:], strict=True)
                    ]
                    out.append(np.concatenate(passed))
            parts, slopes = [p[self.pick] for p in parts], [p[self.pick] for p in slopes]
            self.knee_memory = stamp, np.stack(parts), np.stack(slopes)
        return self.knee_memory[1], self.knee_memory[2]

    def predict(self, x: FloatArray) -> tuple[FloatArray, FloatArray, IntArray, FloatArray]:
        """(voltage, Jacobian [row, local], its columns [row, local], slope of the OCV)."""
        L, n = self.layout, len(self.soc)
        part, slope = self.currents(x[L.knee])
        jac, col = [], []

        def add(columns: IntArray, values: FloatArray) -> None:
            col.append(columns)
            jac.append(values)

        ocv = x[L.ocv]
        base = ocv[self.o] * (1 - self.wo) + ocv[self.o + 1] * self.wo
        add(L.ocv[self.o], 1 - self.wo)
        add(L.ocv[self.o + 1], self.wo)
        delta = x[L.delta]
        for t, wt in ((self.t, 1 - self.wt), (self.t2, self.wt)):
            for d, wd in ((self.d, 1 - self.wd), (self.d + 1, self.wd)):
                base = base + delta[t, d] * wt * wd
                add(L.delta[t, d], wt * wd)
        steep = np.diff(ocv)[self.o] / np.diff(OCV_SOC)[self.o]
        files = x[L.nuisance]
        out = base + steep * (files[self.file, 0] + files[self.file, 1] * (1 - self.soc))
        add(L.nuisance[self.file, 0], steep)
        add(L.nuisance[self.file, 1], steep * (1 - self.soc))
        if L.hysteresis:
            gap = x[L.gap]
            over_temp = np.exp(x[L.gap_log])[self.t] * (1 - self.wt) + np.exp(x[L.gap_log])[self.t2] * self.wt
            m = (gap[self.o] * (1 - self.wo) + gap[self.o + 1] * self.wo) * over_temp
            h = self.h + files[self.file, 2] * self.h_left
            out = out + m * h
            add(L.gap[self.o], (1 - self.wo) * h * over_temp)
            add(L.gap[self.o + 1], self.wo * h * over_temp)
            add(L.gap_log[self.t], m * h * (1 - self.wt))
            add(L.gap_log[self.t2], m * h * self.wt)
            add(L.nuisance[self.file, 2], m * self.h_left)
        over, by_knee = np.zeros(n), np.zeros(n)
        ti2 = np.minimum(self.ti + 1, len(L.temp_degc) - 1)
        for p in range(len(part)):
            table = np.exp(x[L.ohm[p]])
            low = table[self.ti, self.s] * (1 - self.ws) + table[self.ti, self.s + 1] * self.ws
            high = table[ti2, self.s] * (1 - self.ws) + table[ti2, self.s + 1] * self.ws
            ohm = low ** (1 - self.wi) * high**self.wi
            drop = ohm * part[p]
            over += drop
            by_knee += ohm * slope[p]
            for t, w, here in ((self.ti, 1 - self.wi, low), (ti2, self.wi, high)):
                factor = -drop * w / here
                add(L.ohm[p][t, self.s], factor * (1 - self.ws) * table[t, self.s])
                add(L.ohm[p][t, self.s + 1], factor * self.ws * table[t, self.s + 1])
        add(L.knee[self.t], -by_knee * (1 - self.wt))
        add(L.knee[self.t2], -by_knee * self.wt)
        return out - over, np.stack(jac, axis=1), np.stack(col, axis=1), steep

    def weights(self, prior: Prior, steep: FloatArray) -> FloatArray:
        """1/variance of a row, as if errors stayed the same for `error_time_s`."""
        variance = prior.error_v**2 + (prior.error_of_axis * steep) ** 2
        length = np.minimum(self.dt, 60.0)
        for k, record in enumerate(self.records):
            if record.kind == "pulses":
                part = length[self.edges[k] : self.edges[k + 1]]
                loaded = np.abs(record.current_a) > 0.02 * self.capacity_ah
                under = float(part[loaded].sum()) / max(float(part.sum()), 1e-9)
                if 0 < under < PULSE_SHARE:
                    part[loaded] *= PULSE_SHARE / under
                    part[~loaded] *= (1 - PULSE_SHARE) / (1 - under)
        total = np.array([length[a:b].sum() for a, b in zip(self.edges[:-1], self.edges[1:], strict=True)])
        drives = [t for t, r in zip(total.tolist(), self.records, strict=True) if r.kind == "drive"]
        usual = float(np.clip(np.median(drives or [np.inf]), prior.shortest_s, prior.longest_s))
        longest = [prior.longest_s if r.kind == "drive" else usual for r in self.records]
        factor = np.minimum(1, np.array(longest) / np.maximum(total, 1))
        return np.asarray(length * factor[self.file] / prior.error_time_s / variance)


def solve_blocks(
    rows: Rows, jac: FloatArray, col: IntArray, error: FloatArray, weight: FloatArray
) -> tuple[list[list[tuple[IntArray, FloatArray, FloatArray]]], FloatArray, FloatArray]:
    """([file] blocks (columns, normal, right), and their sums)."""
    size = rows.layout.size
    normal, right = np.zeros((size, size)), np.zeros(size)
    root = np.sqrt(weight)[rows.order]
    x, y = jac[rows.order] * root[:, None], error[rows.order] * root
    ends = np.r_[rows.blocks[1:], len(rows.order)]
    blocks: list[list[tuple[IntArray, FloatArray, FloatArray]]] = [[] for _ in rows.records]
    for a, b in zip(rows.blocks.tolist(), ends.tolist(), strict=True):
        row = rows.order[a]
        columns = col[row]
        g, v = x[a:b].T @ x[a:b], x[a:b].T @ y[a:b]
        if len(np.unique(columns)) < len(columns):  # two nodes are one at the edge of the grid
            np.add.at(normal, (columns[:, None], columns[None, :]), g)
            np.add.at(right, columns, v)
        else:
            normal[columns[:, None], columns[None, :]] += g
            right[columns] += v
        blocks[rows.file[row]].append((columns, g, v))
    return blocks, normal, right


def prior_rows(
    layout: Layout, prior: Prior, records: list[Record], capacity_ah: float
) -> tuple[FloatArray, FloatArray]:
    """(A, b): the penalty |A x - b|²."""
    found: list[tuple[list[int], list[float], float]] = []

    def row(columns: list[int], factors: list[float], value: float, sd: float) -> None:
        found.append((columns, [f / sd for f in factors], value / sd))

    def bend(ids: IntArray, nodes: FloatArray, unit: float, sd: float) -> None:
        for k in range(1, len(nodes) - 1):
            b, a = (nodes[k] - nodes[k - 1]) / unit, (nodes[k + 1] - nodes[k]) / unit
            scale = sd * np.sqrt((a + b) / 2)
            row([ids[k - 1], ids[k], ids[k + 1]], [1 / b, -1 / b - 1 / a, 1 / a], 0.0, scale)

    nt, axis = len(layout.temp_degc), inverse(layout.temp_degc)
    reference = int(np.argmin(np.abs(layout.temp_degc - REFERENCE_DEGC)))
    bend(layout.ocv, OCV_SOC, 0.02, prior.ocv_bend_sd_v)
    for k, v in zip(layout.ocv, prior.ocv_v, strict=True):
        row([k], [1.0], float(v), prior.ocv_sd_v)
    end = np.exp(-DELTA_SOC / 0.03)  # near empty the curve is steep, and its place on the axis uncertain
    delta_sd = prior.ocv_delta_sd_v * (1 + 15 * end)
    for t in range(nt):
        for d in range(len(DELTA_SOC)):
            if t == reference:
                row([layout.delta[t, d]], [1.0], 0.0, 1e-6)
            else:
                o = t + 1 if t < reference else t - 1
                gap = abs(layout.temp_degc[t] - layout.temp_degc[o]) / 10
                row([layout.delta[t, d], layout.delta[o, d]], [1.0, -1.0], 0.0, delta_sd[d] * np.sqrt(gap))
        for d in range(1, len(DELTA_SOC) - 1):
            b, a = (DELTA_SOC[d] - DELTA_SOC[d - 1]) / 0.1, (DELTA_SOC[d + 1] - DELTA_SOC[d]) / 0.1
            sd = prior.ocv_delta_bend_sd_v * np.sqrt((a + b) / 2) * (1 + 15 * end[d] / min(a, b))
            row([layout.delta[t, d + k] for k in (-1, 0, 1)], [1 / b, -1 / b - 1 / a, 1 / a], 0.0, sd)
    for k in layout.gap:
        row([k], [1.0], prior.hysteresis_v, prior.hysteresis_sd_v if layout.hysteresis else 1e-9)
    bend(layout.gap, OCV_SOC, 0.02, prior.hysteresis_bend_sd_v)
    row([layout.gap_log[reference]], [1.0], 0.0, 1e-6)
    for t in range(nt - 1):
        gap = np.sqrt((layout.temp_degc[t + 1] - layout.temp_degc[t]) / 10)
        sd = (prior.hysteresis_temp_sd if layout.hysteresis else 1e-6) * gap
        row([layout.gap_log[t + 1], layout.gap_log[t]], [1.0, -1.0], 0.0, sd)
    bend_t = [(inverse(layout.temp_degc)[k + 1] - inverse(layout.temp_degc)[k]) for k in range(nt - 1)]
    for p in range(2 + len(TAU_S)):
        ids = layout.ohm[p]
        middle = np.flatnonzero((R_SOC >= 0.2) & (R_SOC <= 0.9))
        level = prior.log_ohm_ah[p] - np.log(capacity_ah)
        row([ids[reference, s] for s in middle], [1 / len(middle)] * len(middle), level, prior.level_sd)
        for t in range(nt):
            for s in range(len(R_SOC) - 1):
                step = (R_SOC[s + 1] - R_SOC[s]) / 0.1
                row([ids[t, s + 1], ids[t, s]], [1.0, -1.0], 0.0, prior.soc_slope_sd * np.sqrt(step))
            bend(ids[t], R_SOC, 0.1, prior.soc_bend_sd)
        for t in range(nt - 1):
            rise = -prior.activation_k[p] * PER_10K * bend_t[t]
            sd = prior.activation_sd_k * PER_10K * bend_t[t]
            for s in range(len(R_SOC)):
                row([ids[t + 1, s], ids[t, s]], [1.0, -1.0], rise, sd * np.sqrt(len(R_SOC)))
            for s in range(len(R_SOC) - 1):
                step = np.sqrt((R_SOC[s + 1] - R_SOC[s]) / 0.1 * bend_t[t])
                row(
                    [ids[t + 1, s + 1], ids[t + 1, s], ids[t, s + 1], ids[t, s]],
                    [1.0, -1.0, -1.0, 1.0],
                    0.0,
                    prior.shape_sd * step,
                )
        for s in range(len(R_SOC)):
            bend(ids[:, s], axis, 1.0, prior.bend_temp_sd)
    row([layout.knee[reference]], [1.0], np.log(prior.knee_c * capacity_ah), prior.knee_sd)
    for t in range(nt - 1):
        rise = prior.knee_activation_k * PER_10K * bend_t[t]
        sd = prior.knee_activation_sd_k * PER_10K * bend_t[t] * np.sqrt(nt)
        row([layout.knee[t + 1], layout.knee[t]], [1.0, -1.0], rise, sd)
    bend(layout.knee, axis, 1.0, prior.knee_bend_sd)
    for ids, test in zip(layout.nuisance, records, strict=True):
        row([ids[0]], [1.0], 0.0, test.offset_sd)
        row([ids[1]], [1.0], 0.0, test.scale_sd)
        row([ids[2]], [1.0], test.start_h, test.start_h_sd)
    a, b = np.zeros((len(found), layout.size)), np.zeros(len(found))
    for k, (columns, factors, value) in enumerate(found):
        a[k, columns] += factors
        b[k] = value
    return a, b


def start(layout: Layout, prior: Prior, records: list[Record], capacity_ah: float) -> FloatArray:
    x = np.zeros(layout.size)
    x[layout.ocv] = prior.ocv_v
    x[layout.gap] = prior.hysteresis_v
    axis = inverse(layout.temp_degc)
    for p in range(2 + len(TAU_S)):
        x[layout.ohm[p]] = (
            prior.log_ohm_ah[p] - np.log(capacity_ah) - prior.activation_k[p] * PER_10K * axis[:, None]
        )
    x[layout.knee] = np.log(prior.knee_c * capacity_ah) + prior.knee_activation_k * PER_10K * axis
    x[layout.nuisance[:, 2]] = [t.start_h for t in records]
    return x


def resistance_sd(layout: Layout, x: FloatArray, normal: FloatArray) -> FloatArray:
    """[node] posterior sd of the logarithm of the resistance over 10 s in the middle."""
    reached = np.r_[1.0, 1.0, 1 - np.exp(-10.0 / TAU_S)]
    middle = int(np.argmin(np.abs(R_SOC - 0.5)))
    sides = np.zeros((layout.size, len(layout.temp_degc)))
    for t in range(len(layout.temp_degc)):
        part = np.exp(x[layout.ohm[:, t, middle]]) * reached
        sides[layout.ohm[:, t, middle], t] = part / part.sum()
    return np.asarray(np.sqrt(np.sum(sides * np.linalg.solve(normal, sides), axis=0)))


@dataclass
class Joint:
    layout: Layout
    rows: Rows
    x: FloatArray
    error_v: FloatArray
    """[row]"""
    left_out_v: FloatArray
    """[row]: the error where its file was left out"""
    steep: FloatArray
    cost: float
    resistance_sd: FloatArray
    """[node] relative, of the resistance over 10 s: what data and prior leave open"""


def fit(
    records: list[Record],
    temp_degc: FloatArray,
    capacity_ah: float,
    prior: Prior,
    hysteresis_rate: float | None,
    x: FloatArray | None = None,
    steps: int = 12,
    left_out: bool = True,
) -> Joint:
    layout = Layout(temp_degc, hysteresis_rate is not None, len(records))
    rows = Rows(records, layout, capacity_ah, hysteresis_rate or 1.0)
    penalty, wanted = prior_rows(layout, prior, records, capacity_ah)
    base, base_right = penalty.T @ penalty, penalty.T @ wanted
    x = start(layout, prior, records, capacity_ah) if x is None else x.copy()
    logs = np.r_[layout.ohm.ravel(), layout.knee]
    last = np.inf
    predicted, jac, col, steep = rows.predict(x)
    for _ in range(steps):
        error = rows.voltage - predicted
        weight = rows.weights(prior, np.maximum(steep, 0))
        blocks, normal, right = solve_blocks(rows, jac, col, error, weight)
        gradient = right + base_right - base @ x
        step = np.linalg.solve(normal + base, gradient)
        largest = float(np.abs(step[logs]).max())
        step *= min(1, MAX_STEP / max(largest, 1e-9))
        x = x + step
        predicted, jac, col, steep = rows.predict(x)
        error = rows.voltage - predicted
        cost = float(weight[rows.used] @ error[rows.used] ** 2 + np.sum((penalty @ x - wanted) ** 2))
        if largest < 0.02 or (largest < MAX_STEP and abs(last - cost) < 1e-3 * cost):
            break
        last = cost
    away, unsure = np.full(len(error), np.nan), np.full(len(temp_degc), np.nan)
    if left_out:
        weight = rows.weights(prior, np.maximum(steep, 0))
        blocks, normal, right = solve_blocks(rows, jac, col, error, weight)
        whole, gradient = normal + base, right + base_right - base @ x
        unsure = resistance_sd(layout, x, whole)
        for f in range(len(records)):
            a, b = rows.edges[f], rows.edges[f + 1]
            less, right_less = whole.copy(), gradient.copy()
            for columns, g, v in blocks[f]:
                np.subtract.at(less, (columns[:, None], columns[None, :]), g)
                np.subtract.at(right_less, columns, v)
            other = np.linalg.solve(less, right_less)
            other[layout.nuisance[f]] = 0.0
            shift = np.sum(jac[a:b] * other[col[a:b]], axis=1)
            own = np.zeros(layout.size)  # nothing is known of it: neither its scale nor its offset
            own[layout.nuisance[f]] = x[layout.nuisance[f]] - [0.0, 0.0, records[f].start_h]
            mine = np.sum(jac[a:b] * own[col[a:b]], axis=1)
            away[a:b] = error[a:b] - shift + mine
    return Joint(layout, rows, x, error, away, steep, cost, unsure)
