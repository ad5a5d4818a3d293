"""Cell models: what a type of cell is, read from `cells/NAME.toml`.

A cell is an equivalent circuit whose numbers lie in tables over temperature T and state of charge:

    v       = OCV(soc, T) + M(soc, T)·h - R0(soc, T)·i - Rct(soc, T)·j - Σ R_k(soc, T)·y_k       i > 0 = discharge
    j       = knee(T)·asinh(i/knee(T))
    dy_k/dt = (j - y_k)/tau_k
    dh/dt   = -|i|·rate/(3600·Q) · (h + sign(i))                                                -1 <= h <= 1

R0 is ohmic. Rct is the charge transfer: `j` is the current as the electrodes feel it, for by Butler and Volmer (both
charge-transfer coefficients 1/2) their overpotential grows with asinh(i). The R_k are the relaxation's spectrum at
fixed, log-spaced time constants; they multiply at the present soc and temperature, so the `y_k` are the same for
all cells with one current and temperature. h is the one-state hysteresis of G. Plett, "Battery Management
Systems, Volume I: Battery Modeling", Artech House 2015, chapter 2 (M = 0 for a cell without).

The file
    name, chemistry, summary            what it is
    capacity_ah, capacity_rel_sd        at 25 degC and a low rate; how well that is known (relative sd)
    voltage_min_v, voltage_max_v        the limits of its data sheet
    [[sources]]                         data, licence, and what was fitted on it
    [limits]                            see `Limits`; all of it may be left out
    [ocv]                               soc[s], temp_degc[t], voltage_v[t][s], hysteresis_v[t][s] (or none)
    [dynamics]                          soc[s], temp_degc[t], knee_a[t], r0_ohm[t][s], rct_ohm[t][s], tau_s[k],
                                        relaxation_ohm[k][t][s]
    [hysteresis]                        rate (only where the OCV has hysteresis)
    [uncertainty]                       what the model does not know: see `Uncertainty`

On loading, everything is put on one even grid of temperature and state of charge, so that the kernel
needs no search. Resistances are interpolated in ln(R) over 1/T (Arrhenius), also beyond the measured
temperatures; all else is held at the last measured temperature.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import CellModelError

FloatArray = npt.NDArray[np.float64]

TEMP_GRID_DEGC = np.linspace(-40.0, 60.0, 41)
SOC_GRID = np.linspace(0.0, 1.0, 201)
KELVIN = 273.15
MAX_ACTIVATION_K = 8000.0  # ln(R) per 1/K: twice what cells show; holds an extrapolation in check
OUTSIDE_PER_DEGC = 0.03  # the model's error grows by 3 % per degC outside the measured temperatures


@dataclass(frozen=True)
class Limits:
    """What one cell may be asked for. Where the file says nothing: rates of 3 C out and 1 C in, the same for
    pulses, -30 to 60 degC, no charging below 0 degC, all of the charge."""

    discharge_max_a: float
    charge_max_a: float
    discharge_pulse_a: float
    """for 10 s"""
    charge_pulse_a: float
    temp_min_degc: float
    temp_max_degc: float
    charge_temp_min_degc: float
    soc_min: float
    soc_max: float


@dataclass(frozen=True)
class Uncertainty:
    """What the model does not know. Standard deviations (sd) of a single cell on a bus.

    The error of the model in volts is mostly slow. The filter carries two shaping states for it, with the sds
    `model_sd_v` and `relaxation_sd_v` and the time constants below, so that a thousand equally wrong samples do
    not look like a thousand pieces of evidence. What is left, of the sensor and of fast errors, is
    `sample_sd_v`, for some 40 s of samples. All three are tables over temperature in `CellModel`.
    """

    model_tau_s: float
    """time constant of the model's slow error"""
    relaxation_tau_s: float
    """time constant of its faster one, mostly of the relaxation"""
    axis_sd: float
    """how well the OCV curve is placed along the axis of soc (matters where it is steep)"""
    resistance_rel_sd: float
    """this cell's resistance over the model's: prior of the resistance state"""
    resistance_tau_s: float
    """how fast that ratio can change"""
    hysteresis_sd: float
    """error of the hysteresis state h"""
    current_offset_c: float
    """error of the counted current that does not scale (the sensor's offset, mostly), in fractions of the capacity
    per hour"""
    current_gain_sd: float
    """relative error of the counted current: the sensor's gain. With `capacity_rel_sd` it makes one unknown"""


@dataclass(frozen=True)
class CellModel:
    """One type of cell. Tables have the shape [temperature, soc] or [temperature]; SI units, Ah, degC."""

    name: str
    chemistry: str
    summary: str
    capacity_ah: float
    capacity_rel_sd: float
    voltage_min_v: float
    voltage_max_v: float
    sources: tuple[dict[str, Any], ...]
    limits: Limits
    temp_degc: FloatArray
    soc: FloatArray
    ocv_v: FloatArray
    hysteresis_v: FloatArray
    r0_ohm: FloatArray
    rct_ohm: FloatArray
    relaxation_ohm: FloatArray
    """[process, temperature, soc]"""
    tau_s: FloatArray
    """[process]"""
    knee_a: FloatArray
    model_sd_v: FloatArray
    relaxation_sd_v: FloatArray
    sample_sd_v: FloatArray
    hysteresis_rate: float
    uncertainty: Uncertainty
    fingerprint: str
    """of the file's content: a filter's memory belongs to one model"""

    def at(self, table: FloatArray, soc: Any, temp_degc: Any) -> FloatArray:
        """A table's values at soc (0..1) and temperature, bilinear, held at the edges."""
        t, wt = _place(temp_degc, self.temp_degc)
        s, ws = _place(soc, self.soc)
        low = table[t, s] * (1 - ws) + table[t, s + 1] * ws
        high = table[t + 1, s] * (1 - ws) + table[t + 1, s + 1] * ws
        return np.asarray(low * (1 - wt) + high * wt)


def load_cell(name_or_path: str | Path) -> CellModel:
    """The cell model of that name (one we ship), or from that TOML file.

    Raises
    ------
    CellModelError
        There is no such model, or the file is wrong; the text names every mistake and where it is.
    """
    where, text = _read(name_or_path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CellModelError(f"{where}: not valid TOML: {error}") from None
    return _build(where, data, hashlib.sha256(text.encode()).hexdigest()[:16])


def cell_names() -> list[str]:
    """The cell models that we ship."""
    folder = resources.files("edge.battery.cells")
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def _read(name_or_path: str | Path) -> tuple[str, str]:
    name = str(name_or_path)
    if name in cell_names():
        return name, (resources.files("edge.battery.cells") / f"{name}.toml").read_text("utf-8")
    path = Path(name_or_path)
    if not path.is_file():
        raise CellModelError(f"no cell model {name!r}: neither a file nor one of {', '.join(cell_names())}")
    try:
        return name, path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CellModelError(f"{name}: cannot be read: {error}") from None


class _Table:
    """Reads one TOML table. Every mistake is noted, with its key; something harmless is given in its place."""

    def __init__(self, data: dict[str, Any], name: str, mistakes: list[str]) -> None:
        part = data.get(name) if name else data
        self.data = part if isinstance(part, dict) else {}
        self.missing = not isinstance(part, dict)
        self.prefix = f"{name}." if name else ""
        self.mistakes = mistakes
        if self.missing:
            mistakes.append(f"the table [{name}] is missing")

    def fail(self, key: str, problem: str) -> None:
        if not self.missing:  # said once, for the table
            self.mistakes.append(f"{self.prefix}{key} {problem}")

    def text(self, key: str) -> str:
        value = self.data.get(key)
        if isinstance(value, str) and value:
            return value
        self.fail(key, "must be a text")
        return ""

    def number(self, key: str, low: float, high: float) -> float:
        value = self.data.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        self.fail(key, f"must be a number from {low:g} to {high:g}, not {value!r}")
        return low

    def optional(self, key: str, default: float, low: float, high: float) -> float:
        return self.number(key, low, high) if key in self.data else default

    def array(self, key: str, shape: tuple[int, ...], low: float, high: float) -> FloatArray:
        """An array of that shape (0 = any length) with every value in low..high."""
        try:
            value = np.array(self.data.get(key))
        except ValueError:
            value = np.array(None)
        wanted = " by ".join(str(n) if n else "some" for n in shape)
        if value.dtype.kind not in "fi":
            self.fail(key, f"must be {wanted} numbers")
        elif value.ndim != len(shape) or any(w and w != n for n, w in zip(value.shape, shape, strict=True)):
            self.fail(key, f"must be {wanted} numbers, not {' by '.join(map(str, value.shape)) or 'one'}")
        elif not ((value >= low) & (value <= high)).all():
            self.fail(key, f"must lie within {low:g} to {high:g}")
        else:
            return value.astype(np.float64)
        return np.full([n or 2 for n in shape], low)

    def axis(self, key: str, low: float, high: float) -> FloatArray:
        """Values that rise; none of them where they are wrong."""
        count = len(self.mistakes)
        value = self.array(key, (0,), low, high)
        if len(self.mistakes) == count and not self.missing and len(value) and (np.diff(value) > 0).all():
            return value
        if len(self.mistakes) == count:
            self.fail(key, "must rise from value to value")
        return np.empty(0)

    def axes(self) -> tuple[FloatArray, FloatArray]:
        """(temp_degc, soc)."""
        temps, soc = self.axis("temp_degc", -60, 100), self.axis("soc", 0, 1)
        if len(soc) and (soc[0] != 0 or soc[-1] != 1):
            self.fail("soc", "must begin with 0 and end with 1")
        return temps, soc


UNCERTAINTY_LIMITS = {
    "model_tau_s": (1, 1e6),
    "relaxation_tau_s": (1, 1e6),
    "axis_sd": (0, 0.2),
    "resistance_rel_sd": (0.001, 2),
    "resistance_tau_s": (1, 1e9),
    "hysteresis_sd": (0, 1),
    "current_offset_c": (0, 0.2),
    "current_gain_sd": (0, 0.2),
}
MAX_PROCESSES = 4
MOST_OHM = 1e4  # charge transfer at small currents: a small cell at -40 degC has some tens


def _limits(data: dict[str, Any], mistakes: list[str], capacity: float) -> Limits:
    table = _Table({"limits": {}} | data, "limits", mistakes)
    out_a = table.optional("discharge_max_a", 3 * capacity, 0, 1e6)
    in_a = table.optional("charge_max_a", capacity, 0, 1e6)
    limits = Limits(
        discharge_max_a=out_a,
        charge_max_a=in_a,
        discharge_pulse_a=table.optional("discharge_pulse_a", out_a, 0, 1e6),
        charge_pulse_a=table.optional("charge_pulse_a", in_a, 0, 1e6),
        temp_min_degc=table.optional("temp_min_degc", -30.0, -60, 100),
        temp_max_degc=table.optional("temp_max_degc", 60.0, -60, 100),
        charge_temp_min_degc=table.optional("charge_temp_min_degc", 0.0, -60, 100),
        soc_min=table.optional("soc_min", 0.0, 0, 1),
        soc_max=table.optional("soc_max", 1.0, 0, 1),
    )
    for low, high in (("temp_min_degc", "temp_max_degc"), ("soc_min", "soc_max")):
        if getattr(limits, low) >= getattr(limits, high):
            table.fail(low, f"must be less than {high}")
    return limits


def _build(where: str, data: dict[str, Any], fingerprint: str) -> CellModel:
    mistakes: list[str] = []
    top, ocv, dyn, unsure = (_Table(data, name, mistakes) for name in ("", "ocv", "dynamics", "uncertainty"))
    name, chemistry, summary = (top.text(k) for k in ("name", "chemistry", "summary"))
    capacity, capacity_sd = top.number("capacity_ah", 0.01, 10_000), top.number("capacity_rel_sd", 1e-4, 0.5)
    low, high = top.number("voltage_min_v", 0.5, 5), top.number("voltage_max_v", 0.5, 5)
    if low >= high and "voltage_max_v" in data:
        top.fail("voltage_min_v", "must be less than voltage_max_v")
    sources = data.get("sources")
    if not isinstance(sources, list) or not sources or not all(isinstance(s, dict) for s in sources):
        top.fail("sources", "must name where the numbers come from, in [[sources]]")
    limits = _limits(data, mistakes, capacity)
    temps, soc = ocv.axes()
    voltage = ocv.array("voltage_v", (len(temps), len(soc)), 0.5, 5)
    if (np.diff(voltage, axis=1) <= 0).any() and not mistakes:
        ocv.fail("voltage_v", "must rise with soc")
    gap = np.zeros_like(voltage)
    if "hysteresis_v" in ocv.data:
        gap = ocv.array("hysteresis_v", (len(temps), len(soc)), 0, 1)
    rate = _Table(data, "hysteresis", mistakes).number("rate", 0.1, 1e4) if gap.any() else 1.0
    dyn_temps, dyn_soc = dyn.axes()
    shape = (len(dyn_temps), len(dyn_soc))
    ohms = {k: dyn.array(k, shape, 1e-7, MOST_OHM) for k in ("r0_ohm", "rct_ohm")}
    tau = dyn.axis("tau_s", 0.1, 1e5)
    if len(tau) > MAX_PROCESSES:
        dyn.fail("tau_s", f"must be at most {MAX_PROCESSES} numbers")
    relaxation = dyn.array("relaxation_ohm", (len(tau), *shape), 1e-7, MOST_OHM)
    knee = dyn.array("knee_a", (len(dyn_temps),), 1e-3, 1e6)
    sds = {
        k: unsure.array(k, (len(dyn_temps),), 1e-5, 1)
        for k in ("model_sd_v", "relaxation_sd_v", "sample_sd_v")
    }
    unsure_of = {k: unsure.number(k, *between) for k, between in UNCERTAINTY_LIMITS.items()}
    if mistakes:
        raise CellModelError(f"{where}: {'; '.join(mistakes)}")
    outside = np.maximum(dyn_temps[0] - TEMP_GRID_DEGC, 0) + np.maximum(TEMP_GRID_DEGC - dyn_temps[-1], 0)
    return CellModel(
        name=name,
        chemistry=chemistry,
        summary=summary,
        capacity_ah=capacity,
        capacity_rel_sd=capacity_sd,
        voltage_min_v=low,
        voltage_max_v=high,
        sources=tuple(sources or ()),
        limits=limits,
        temp_degc=TEMP_GRID_DEGC,
        soc=SOC_GRID,
        ocv_v=_over_temperature(temps, _over_soc(soc, voltage)),
        hysteresis_v=_over_temperature(temps, _over_soc(soc, gap)),
        **{k: _arrhenius(dyn_temps, _over_soc(dyn_soc, v)) for k, v in ohms.items()},
        relaxation_ohm=np.stack([_arrhenius(dyn_temps, _over_soc(dyn_soc, v)) for v in relaxation]),
        tau_s=tau,
        knee_a=np.exp(_over_temperature(dyn_temps, np.log(knee))),
        **{k: _over_temperature(dyn_temps, v) * (1 + OUTSIDE_PER_DEGC * outside) for k, v in sds.items()},
        hysteresis_rate=rate,
        uncertainty=Uncertainty(**unsure_of),
        fingerprint=fingerprint,
    )


def _over_soc(axis: FloatArray, rows: FloatArray) -> FloatArray:
    return np.stack([np.interp(SOC_GRID, axis, row) for row in rows])


def _over_temperature(temps: FloatArray, values: FloatArray) -> FloatArray:
    columns = values.reshape(len(temps), -1)
    out = np.stack([np.interp(TEMP_GRID_DEGC, temps, c) for c in columns.T], axis=1)
    return np.ascontiguousarray(out.reshape((len(TEMP_GRID_DEGC), *values.shape[1:])))


def _arrhenius(temps: FloatArray, ohm: FloatArray) -> FloatArray:
    """ln(R) over 1/T, piecewise linear; the outermost slopes go on, if they are physical."""
    x, grid = -1 / (temps + KELVIN), -1 / (TEMP_GRID_DEGC + KELVIN)
    log = np.stack([np.interp(grid, x, c) for c in np.log(ohm).T], axis=1)
    if len(temps) > 1:
        slope = -np.diff(np.log(ohm), axis=0) / np.diff(x)[:, None]
        slope = np.clip(slope, 0, MAX_ACTIVATION_K)
        log += (
            slope[0] * np.maximum(x[0] - grid, 0)[:, None] - slope[-1] * np.maximum(grid - x[-1], 0)[:, None]
        )
    return np.ascontiguousarray(np.exp(log))


def _place(value: Any, grid: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    position = (np.asarray(value, dtype=np.float64) - grid[0]) / (grid[1] - grid[0])
    position = np.clip(position, 0, len(grid) - 1)
    index = np.minimum(position.astype(np.int64), len(grid) - 2)
    return index, position - index
