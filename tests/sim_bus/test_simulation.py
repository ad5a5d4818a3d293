"""What a simulated bus writes: the same for the same seed, and what the truth says."""

from __future__ import annotations

import csv
import threading
import time
from pathlib import Path
from typing import Any

import cantools
import numpy as np
import pytest

from sim_bus.command import run_simulation
from sim_bus.scenario import load_scenario
from sim_bus.simulation import CELL_NOISE_V, CURRENT_NOISE_A, DISPLAY, TRUTH_COLUMNS, Simulation
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def drive(
    tmp_path_factory: pytest.TempPathFactory, decode_log: Any, read_truth: Any
) -> tuple[Any, dict[str, np.ndarray]]:
    """90 s of the spring day: what its log says and what its truth says."""
    folder = tmp_path_factory.mktemp("drive")
    log, truth = folder / "a.log", folder / "a.csv"
    run_simulation("spring_day", str(log), 3, 90, None, truth)
    return decode_log(log), read_truth(truth)


def made(folder: Path, name: str, scenario: str, seed: int) -> tuple[bytes, bytes]:
    log, truth = folder / f"{name}.log", folder / f"{name}.csv"
    run_simulation(scenario, str(log), seed, 12, None, truth)
    return log.read_bytes(), truth.read_bytes()


@pytest.mark.parametrize("scenario", ["winter_day", "night_charge"])
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path, scenario: str) -> None:
    first, again, other = (made(tmp_path, n, scenario, seed) for n, seed in (("a", 5), ("b", 5), ("c", 6)))
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]


@pytest.mark.parametrize("duration_s", [0.1, 0.15, 0.95, 1.0, 7.25])
def test_the_duration_is_exact(tmp_path: Path, duration_s: float, decode_log: Any, read_truth: Any) -> None:
    log, truth = tmp_path / "a.log", tmp_path / "a.csv"
    run_simulation("winter_day", str(log), 1, duration_s, None, truth)
    times = decode_log(log).times
    assert (np.diff(times) >= 0).all()
    assert times[0] >= 0
    assert duration_s - 0.02 < times[-1] < duration_s
    assert read_truth(truth)["t_s"].tolist() == [float(n) for n in range(int(duration_s) + 1)]


def test_the_bus_says_what_is_true(drive: tuple[Any, dict[str, np.ndarray]]) -> None:
    """Within the sensors' noise (five sigma), their bias and half a quantum."""
    decoded, truth = drive
    bias = load_scenario("spring_day").current_bias_a
    cases = (
        # signal, column of the truth, factor, offset, tolerance
        ("PackVoltage", "voltage_v", 1, 0, 5 * CELL_NOISE_V * 176**0.5 + 0.05),
        ("PackCurrent", "current_a", -1, -bias, 5 * CURRENT_NOISE_A * 2**0.5 + 0.05),
        ("WheelBasedVehicleSpeed", "speed_kmh", 1, 0, 1 / 512),
        ("HvessAverageCellTemp", "temp_degc", 1, 0, 0.03125 / 2),
    )
    for name, column, factor, offset, tolerance in cases:
        said = decoded.last_before(name, truth["t_s"][1:])
        error = said - (factor * truth[column][1:] + offset)
        period_s = 1.0 if name.startswith("Hvess") else 0.1
        moved = np.abs(np.diff(truth[column])) if period_s > 0.5 else 0
        assert (np.abs(error) <= tolerance + moved + 1e-6).all(), (name, np.abs(error).max())
        assert np.ptp(said) > 2 * tolerance or "Temp" in name, f"{name} must move, or this proves nothing"


def test_the_bms_shows_its_own_state_of_charge(drive: tuple[Any, dict[str, np.ndarray]]) -> None:
    decoded, truth = drive
    low, high = DISPLAY
    shown = low + decoded.last_before("SoC", truth["t_s"][1:]) / 100 * (high - low)
    assert np.abs(shown - truth["bms_soc"][1:]).max() <= 0.0025 * (high - low) + 1e-6
    error = truth["bms_soc"] - truth["soc"]
    assert np.abs(error - load_scenario("spring_day").bms_soc_error).max() < 0.002


def test_cells_on_the_bus_are_the_batterys() -> None:
    """Each frame is the sensors' reading to half a quantum, and on average the battery's voltage."""
    simulation = Simulation(load_scenario("night_charge"), 8)
    database = cantools.database.load_file(ROOT / "dbc/bms.dbc")
    sums, seen, true = np.zeros((2, 176)), np.zeros((2, 176)), np.zeros((2, 176))
    for _, frames in zip(range(600), simulation.steps(), strict=False):
        for string in (0, 1):
            for frame in frames[frames["id"] == 0x200 + string]:
                page = int(frame["data"][0])
                values = database.decode_message(0x200 + string, frame["data"].tobytes()[:8])
                for k in range(4 * page, 4 * page + 4):
                    sums[string, k] += values[f"String{string + 1}_Cell{k + 1:03d}_Voltage"]
                    true[string, k] += simulation.battery.cell_v[string, k]
                    seen[string, k] += 1
    assert seen.min() > 60
    error = (sums - true) / seen
    assert np.abs(error).max() < 5 * np.hypot(CELL_NOISE_V, 0.0003) / seen.min() ** 0.5
    assert np.abs(error).max() < 0.001 + 0.0002
    assert np.ptp(sums / seen) > 0.002, "cells differ"


def test_the_inverter_and_the_energy_counters_agree_with_the_truth(
    drive: tuple[Any, dict[str, np.ndarray]],
) -> None:
    decoded, truth = drive
    at = truth["t_s"][1:]
    consumers = sum(decoded.last_before(n, at) for n in ("AuxPower", "HvacPower", "BatteryHeaterPower"))
    motor_kw = decoded.last_before("DcVoltage", at) * decoded.last_before("DcCurrent", at) / 1000
    assert np.abs(motor_kw + consumers - truth["power_w"][1:] / 1000).max() < 0.2
    rad_s = decoded.last_before("MotorSpeed", at) / 9.549
    shaft_kw = decoded.last_before("MotorTorque", at) * rad_s / 1000
    driving = motor_kw > 20
    assert driving.sum() > 5
    assert (np.abs(shaft_kw[driving] / motor_kw[driving] - 0.87) < 0.02).all()


def test_speed_is_a_factor_on_real_time(tmp_path: Path) -> None:
    begin = time.monotonic()
    run_simulation("winter_day", str(tmp_path / "a.log"), 1, 4, 4.0)
    assert 0.9 < time.monotonic() - begin < 3.0


def test_a_stop_leaves_a_whole_log(tmp_path: Path, decode_log: Any) -> None:
    stop = threading.Event()
    log, truth = tmp_path / "a.log", tmp_path / "a.csv"
    threading.Timer(0.5, stop.set).start()
    run_simulation("winter_day", str(log), 1, 3600, None, truth, stop)
    assert len(decode_log(log).times) > 100
    assert log.read_text().endswith("\n")
    with truth.open() as file:
        assert all(len(row) == len(TRUTH_COLUMNS) for row in csv.reader(file))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.log"]
