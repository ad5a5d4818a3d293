"""Cells: the kernel against a plain twin, hysteresis that remembers, files of parameters, measured voltages."""

from __future__ import annotations

import contextlib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ScenarioError
from edge.measured.reader import load_measured
from sim_bus.battery._cells import modes
from sim_bus.battery.cell import GRID_FIRST, GRID_PER_SOC, Cell, load_cell
from sim_bus.battery.cells import Cells, run_cell

SEED = 20_267
GAS_OVER_FARADAY, KELVIN = 8.314462618 / 96485.33212, 273.15


def at(cell: Cell, name: str, degc: float, soc: float) -> float:
    """A parameter: ln straight over 1/T and over soc; beyond the ends as there."""
    inverse, x = 1 / (cell.temp_degc + KELVIN), 1 / (degc + KELVIN)
    ln = np.log(cell.dynamics[name])
    rows = [np.interp(soc, cell.dynamics_soc, row) for row in ln]
    return float(np.exp(np.interp(-x, -inverse, rows)))


def twin(
    cell: Cell, current_a: np.ndarray, degc: float, soc: float, capacity: float, dt_s: float
) -> np.ndarray:
    """Plain: one cell, step by step, from rest; hysteresis in the middle."""
    poles, weights = (np.array(part) for part in modes())
    p = {k: at(cell, k, degc, soc) for k in cell.dynamics}  # prepared once, as the kernel is
    tau = {"n": p["anode_diffusion_s"], "p": p["cathode_diffusion_s"]}
    y = {e: np.zeros(len(poles)) for e in "np"}
    lag, lag_s, lag_ohm = np.zeros(2), np.array([p["electrolyte_s"], p["slow_s"]]), np.array([p["electrolyte_ohm"], p["slow_ohm"]])  # fmt: skip
    play = np.zeros(len(cell.width_soc))
    grid = cell.grid()
    socs = GRID_FIRST + np.arange(len(grid)) / GRID_PER_SOC
    kin = 2 * GAS_OVER_FARADAY * (degc + KELVIN)
    out = []
    for amps in current_a:
        surface, exchange = {}, {}
        still = p["hysteresis_factor"] * float((cell.share * play / cell.width_soc).sum())
        still *= float(np.interp(soc, socs, grid[:, 3]))
        still += (degc - 25) * float(np.interp(soc, socs, grid[:, 2]))
        ends = {"n": (cell.anode, "anode_exchange_a"), "p": (cell.cathode, "cathode_exchange_a")}
        for e, (stoichiometry, key) in ends.items():
            x = stoichiometry[0] + (stoichiometry[1] - stoichiometry[0]) * (
                soc - tau[e] / 3 * float(weights @ y[e]) / (3600 * capacity)
            )
            x = min(max(x, 0.005), 0.995)
            exchange[e] = p[key] * 2 * np.sqrt(x * (1 - x))
            decay = np.exp(-dt_s * poles / tau[e])
            y[e] = amps + decay * (y[e] - amps)
            surface[e] = soc - (amps * dt_s + tau[e] / 3 * float(weights @ y[e])) / (3600 * capacity)
        decay = np.exp(-dt_s / lag_s)
        lag = lag_ohm * amps + decay * (lag - lag_ohm * amps)
        kinetic = kin * (np.arcsinh(amps / 2 / exchange["n"]) + np.arcsinh(amps / 2 / exchange["p"]))
        up = float(np.interp(surface["p"], socs, grid[:, 0]))
        un = float(np.interp(surface["n"], socs, grid[:, 1]))
        out.append(up - un + still - kinetic - p["ohmic_ohm"] * amps - lag.sum())
        moved = amps * dt_s / (3600 * capacity)
        play = np.clip(play - moved, -cell.width_soc, cell.width_soc)
        soc -= moved
    return np.array(out)


@pytest.mark.parametrize("degc", [-30.0, -12.0, 25.0, 41.0])
@pytest.mark.parametrize("name", ["a123_26650", "lg_hg2", "lfp_280"])
def test_the_kernel_agrees_with_a_plain_twin(name: str, degc: float) -> None:
    print("seed", SEED)
    rng, cell = np.random.default_rng(SEED), load_cell(name)
    current = cell.capacity_ah * rng.normal(0.2, 0.7, 300)
    one = np.ones((1, 1))
    cells = Cells(cell, one * cell.capacity_ah, one, one * 0.55, one * degc)
    said = []
    for amps in current:
        trial = float(cells.terminal(np.array([amps]))[0][0])
        cells.advance(0.1, np.array([amps]))
        said.append(float(cells.cell_v[0, 0]))
        assert trial == pytest.approx(said[-1], abs=1e-12)
    assert np.abs(np.array(said) - twin(cell, current, degc, 0.55, cell.capacity_ah, 0.1)).max() < 1e-9


def test_the_slope_is_the_derivative() -> None:
    cell = load_cell("lfp_280")
    cells = Cells(cell, *(np.full((2, 3), x) for x in (280.0, 1.0, 0.5, -10.0)))
    for amps in (-200.0, -1.0, 0.0, 3.0, 250.0):
        low, high = (cells.terminal(np.full(2, amps + d))[0].copy() for d in (-1e-3, 1e-3))
        assert cells.terminal(np.full(2, amps))[1] == pytest.approx((low - high) / 2e-3, rel=1e-4)


def test_hysteresis_comes_back_to_where_it_turned() -> None:
    """Return-point memory: a small loop within a large one leaves no trace."""
    cell = load_cell("a123_26650")
    one = np.ones((1, 1))

    def moved(*amounts: float) -> float:
        cells = Cells(cell, one * cell.capacity_ah, one, one * 0.5, one * 25.0)
        for amount in amounts:
            step = 3600 * cell.capacity_ah * amount / 200 / 0.1
            for _ in range(200):
                cells.advance(0.1, np.array([step]))
        return float(cells.open_circuit_v[0, 0])

    assert moved(0.03) == pytest.approx(moved(0.03, -0.015, 0.015), abs=1e-9)
    assert moved(0.2, -0.2) - moved(-0.2, 0.2) > 0.001, "charged last is higher than discharged last"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "name"),
        (b"\xff\xfe", "TOML|read|UTF"),
        (b"name = 3", "must be a text"),
        (b"[potential]\nsoc = 'x'", "potential"),
    ],
)
def test_files_that_are_no_cell(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "cell.toml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match=match):
        load_cell(str(path))


def test_a_shipped_cell_with_a_line_changed_is_one_error_or_a_cell(tmp_path: Path) -> None:
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    lines = (resources.files("sim_bus.battery") / "cells" / "lfp_280.toml").read_text("utf-8").splitlines()
    for n in range(60):
        broken = list(lines)
        at_line = int(rng.integers(len(lines)))
        broken[at_line] = [broken[at_line][: len(broken[at_line]) // 2], "", "x = -1", broken[at_line].replace("0", "nan")][n % 4]  # fmt: skip
        path = tmp_path / "cell.toml"
        path.write_text("\n".join(broken), "utf-8")
        with contextlib.suppress(ScenarioError):
            assert load_cell(str(path)).capacity_ah > 0


def rms_mv(cell: str, path: Path, rows: int, capacity_ah: float) -> float:
    data = load_measured(path)
    part = slice(0, rows)
    volts = run_cell(
        load_cell(cell), data.time_s[part], data.current_a[part], data.temp_degc[part], 1.0, 0.1,
        capacity_ah=capacity_ah, hysteresis=1.0,
    )  # fmt: skip
    error = 1000 * float(np.sqrt(np.mean((volts - data.voltage_v[part]) ** 2)))
    print(path.name, f"{error:.1f} mV")
    return error


@pytest.mark.parametrize(
    ("name", "ah", "most_mv"), [("Mixed1_+25", 2.74, 15), ("Mixed2_+25", 2.74, 15), ("Mixed1_-20", 2.64, 40), ("UDDS_-20", 2.64, 40)]
)  # fmt: skip
def test_measured_drives_that_were_not_fitted(
    shared_data: Path, name: str, ah: float, most_mv: float
) -> None:
    path = shared_data / "battery" / "lg_hg2_nmc" / f"{name}.csv.gz"
    assert rms_mv("lg_hg2", path, 1 << 30, ah) <= most_mv


@pytest.mark.parametrize(("name", "most_mv"), [("drive_+25", 15), ("drive_-25", 40)])
def test_the_measured_drives_of_lfp(shared_data: Path, name: str, most_mv: float) -> None:
    """There is one for each temperature, and it was fitted: the model is rich enough. What a fit without one says of it: docs."""
    assert (
        rms_mv("a123_26650", shared_data / "battery" / "a123_lfp" / f"{name}.csv.gz", 1 << 30, 2.072)
        <= most_mv
    )


def test_a_measured_drive_in_the_cold() -> None:
    """A shipped hour of the LG cell, which was not fitted."""
    path = resources.files("sim_bus.playbacks") / "lg_hg2_mixed1_-10degC.csv.gz"
    assert rms_mv("lg_hg2", Path(str(path)), 1 << 30, 2.66) <= 40
