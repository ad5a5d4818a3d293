"""Playback: the bus says what the measured file says; a file that can't be played leaves nothing behind."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.cli import run_command
from sim_bus.command import run_simulation
from sim_bus.playback import (
    BMS_SOC_ERROR,
    CELL_SPREAD_V,
    NOISE,
    SENSOR_BIAS_C,
    SENSOR_GAIN,
    SENSOR_SPREAD_DEGC,
    Playback,
)

EXTRACT = Path(__file__).parent.parent / "data" / "battery" / "lg_hg2_US06_-10_extract.csv.gz"
DURATION_S = 120
PARALLEL = 12  # keeps the strings' currents within what their signals hold
CELL_NOISE_V, CURRENT_NOISE_A = NOISE.voltage_noise_v, NOISE.current_noise_a
START_S = 3.0  # a BMS boots, and then measures
HEADER = "time_s,current_A,voltage_V,temperature_C,soc\n"


@pytest.fixture(scope="module")
def measured() -> dict[str, np.ndarray]:
    """The file, read without the code under test."""
    with gzip.open(EXTRACT, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, decode_log: Any, read_truth: Any) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("played")
    log, truth = folder / "a.log", folder / "a.csv"
    run_simulation(EXTRACT, str(log), 4, DURATION_S, None, truth, parallel=PARALLEL)
    return decode_log(log), read_truth(truth)


def at(measured: dict[str, np.ndarray], name: str, times: np.ndarray) -> np.ndarray:
    return np.interp(times + measured["time_s"][0], measured["time_s"], measured[name])


def capacity_ah(measured: dict[str, np.ndarray]) -> float:
    """The measured cell's: what was counted, over what that changed."""
    moved = np.trapezoid(measured["current_A"], measured["time_s"]) / 3600
    return float(moved / (measured["soc"][0] - measured["soc"][-1]))


def test_the_bus_says_what_was_measured(played: tuple[Any, Any], measured: dict[str, np.ndarray]) -> None:
    decoded, _ = played
    times = START_S + np.arange(1, DURATION_S) / 2
    current = at(measured, "current_A", times)
    sensed = SENSOR_GAIN * current + SENSOR_BIAS_C * capacity_ah(measured)
    offset_v = 5 * (CELL_SPREAD_V + CELL_NOISE_V) / 176**0.5  # of a string's mean cell
    for name, expected, tolerance in (
        ("PackCurrent", -2 * PARALLEL * sensed, 5 * CURRENT_NOISE_A * 2**0.5 + 0.05),
        ("String2_Current", -PARALLEL * sensed, 5 * CURRENT_NOISE_A + 0.025),
        ("PackVoltage", 176 * at(measured, "voltage_V", times), 176 * offset_v + 0.05),
    ):
        error = decoded.last_before(name, times) - expected
        assert np.abs(error).max() <= tolerance, name
    assert np.ptp(current) > 2


def test_temperatures_and_cells_lie_around_the_measured_ones(
    played: tuple[Any, Any], measured: dict[str, np.ndarray]
) -> None:
    decoded, _ = played
    end = np.array([float(DURATION_S)])
    degc = np.array([decoded.last_before(f"String1_Temp{n:02d}", end)[0] for n in range(1, 45)])
    assert abs(degc.mean() - at(measured, "temperature_C", end)[0]) < 0.3
    assert np.abs(degc - degc.mean()).max() < 5 * SENSOR_SPREAD_DEGC + 1
    times, first = decoded.signals["String1_Cell001_Voltage"]
    times, first = times[times > START_S], first[times > START_S]
    error = first - at(measured, "voltage_V", np.ceil(times * 10 + 1e-6) / 10)
    assert np.abs(error).max() < 5 * (CELL_SPREAD_V + CELL_NOISE_V) + 0.0005
    means = [decoded.signals[f"String1_Cell{n:03d}_Voltage"][1][2:].mean() for n in range(1, 5)]
    assert 0.0005 < np.ptp(means) < 0.03, "cells of one page differ a little"


def test_the_truth_is_the_files_and_the_bms_is_off_by_its_error(
    played: tuple[Any, Any], measured: dict[str, np.ndarray]
) -> None:
    decoded, truth = played
    for column, name, factor in (
        ("soc", "soc", 1.0),
        ("current_a", "current_A", 2 * PARALLEL),
        ("voltage_v", "voltage_V", 176.0),
        ("temp_degc", "temperature_C", 1.0),
    ):
        np.testing.assert_allclose(truth[column], factor * at(measured, name, truth["t_s"]), atol=1e-5)
    error = truth["bms_soc"] - truth["soc"]
    assert abs(error[0] - BMS_SOC_ERROR) < 0.001
    hours = truth["t_s"][-1] / 3600
    gained = (SENSOR_GAIN - 1) * (truth["soc"][0] - truth["soc"][-1]) + SENSOR_BIAS_C * hours
    assert error[0] - error[-1] == pytest.approx(gained, abs=0.001), "it drifts, as its sensor says"
    awake = truth["t_s"] > START_S
    shown = 0.05 + decoded.last_before("SoC", truth["t_s"][awake]) / 100 * 0.9
    assert np.abs(shown - np.clip(truth["bms_soc"][awake], 0.05, 0.95)).max() <= 0.0026
    assert np.isnan(truth["speed_kmh"]).all()


def test_no_vehicle_is_played(played: tuple[Any, Any]) -> None:
    assert not {"MotorSpeed", "WheelBasedVehicleSpeed", "ChargerState"} & played[0].signals.keys()


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    def bytes_of(name: str, seed: int) -> bytes:
        run_simulation(EXTRACT, str(tmp_path / name), seed, 5, None)
        return (tmp_path / name).read_bytes()

    first = bytes_of("a.log", 1)
    assert first == bytes_of("b.log", 1)
    assert first != bytes_of("c.log", 2)


def test_a_playback_ends_with_its_data(tmp_path: Path, decode_log: Any) -> None:
    data = tmp_path / "d.csv"
    data.write_text(HEADER + "".join(f"{100 + n},1,3.3,20,0.5\n" for n in range(4)))
    run_simulation(data, str(tmp_path / "d.log"), 1, None, None)
    assert 2.97 < decode_log(tmp_path / "d.log").times[-1] < 3.0


def test_without_a_known_soc_the_bms_says_not_available(tmp_path: Path, read_truth: Any) -> None:
    data = tmp_path / "d.csv"
    data.write_text("\ufefftime_s,current_A,voltage_V,temperature_C\n0,1,3.3,20\n5,1,3.3,20\n")
    playback = Playback(data, 1)
    frames = np.concatenate([second.frames for second in playback.seconds()])
    status = frames[(frames["id"] == 0x100) & (frames["channel"] == 0)]
    assert len(status) > 30
    assert (status["data"][:, 4] == 255).all()
    run_simulation(data, None, 1, None, None, tmp_path / "t.csv")
    assert np.isnan(read_truth(tmp_path / "t.csv")["soc"]).all()


def rows(*lines: str) -> bytes:
    return (HEADER + "".join(line + "\n" for line in lines)).encode()


GARBAGE: dict[str, tuple[str, bytes, str]] = {
    "no column": ("d.csv", b"time_s,current_A\n0,1\n1,1\n", "no column voltage_V"),
    "no temperature": ("d.csv", b"time_s,current_A,voltage_V\n0,1,3.3\n1,1,3.3\n", "no column temperature_C"),
    "empty": ("d.csv", b"", "no column time_s"),
    "only a header": ("d.csv", rows(), "no rows"),
    "one row": ("d.csv", rows("0,1,3.3,20,0.5"), "holds less than 0.1 s"),
    "text": ("d.csv", rows("0,1,3.3,20,0.5", "1,1,warm,20,0.5"), ":3: voltage_V is not a number: 'warm'"),
    "short row": ("d.csv", rows("0,1,3.3,20,0.5", "1,1"), ":3: 2 columns where the header has 5"),
    "percent": ("d.csv", rows("0,1,3.3,20,50", "1,1,3.3,20,50"), "is it in percent?"),
    "backwards": ("d.csv", rows("5,1,3.3,20,0.5", "4,1,3.3,20,0.5"), "time runs backwards, from 5 to 4"),
    "cut gzip": ("d.csv.gz", EXTRACT.read_bytes()[:9000], "cannot be read"),
    "damaged gzip": ("d.csv.gz", EXTRACT.read_bytes()[:5000] + bytes(500), "cannot be read"),
    "binary": ("d.csv", bytes(range(256)) * 20, "cannot be read"),
    "zeros": ("d.csv", bytes(1000), "d.csv"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_one_line_and_leaves_nothing(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file_name, content, expected = GARBAGE[name]
    data = tmp_path / file_name
    data.write_bytes(content)
    command = [
        "sim",
        "--playback",
        str(data),
        "--to",
        str(tmp_path / "o.log"),
        "--truth",
        str(tmp_path / "t.csv"),
    ]
    assert run_command(command) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert error.startswith("ayaz: ")
    assert expected in error
    assert [p.name for p in tmp_path.iterdir()] == [file_name]


def test_no_such_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["sim", "--playback", str(tmp_path / "no.csv"), "--to", str(tmp_path / "o.log")]) == 1
    assert "no.csv: no such file" in capsys.readouterr().err
    assert run_command(["sim", "--playback", str(tmp_path), "--to", str(tmp_path / "o.log")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_what_the_file_does_not_know_is_not_available(
    tmp_path: Path, decode_log: Any, read_truth: Any
) -> None:
    """A stretch without voltage and current; before and after it the bus speaks."""
    data = tmp_path / "d.csv"
    lines = [f"{n},{'' if 6 <= n <= 9 else 1},{'' if 6 <= n <= 9 else 3.3},20,0.5" for n in range(16)]
    data.write_bytes(rows(*lines))
    run_simulation(data, str(tmp_path / "d.log"), 1, None, None, tmp_path / "t.csv", parallel=PARALLEL)
    truth = read_truth(tmp_path / "t.csv")
    unknown = (truth["t_s"] >= 6) & (truth["t_s"] <= 9)
    np.testing.assert_array_equal(np.isnan(truth["voltage_v"]), unknown)
    times, volts = decode_log(tmp_path / "d.log").signals["PackVoltage"]
    known = (times > 3) & ((times < 5) | (times > 10.1))
    silent = (times > 6.2) & (times < 9)
    assert np.abs(volts[known] - 176 * 3.3).max() < 1
    assert (volts[silent] > 1000).all(), "the raw value that says not available"


def test_battery_data_format_and_parquet_are_played_too(tmp_path: Path, read_truth: Any) -> None:
    import pyarrow
    import pyarrow.parquet

    time_s = np.arange(20.0)
    table = {
        "time_s": time_s,
        "current_A": 2 + 0 * time_s,
        "voltage_V": 3.6 - time_s / 1000,
        "temperature_C": 5 + 0 * time_s,
    }
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "d.parquet")
    names = ("Test Time / s", "Current / A", "Voltage / V", "Surface Temperature / degC")
    values = np.column_stack([time_s, -table["current_A"], table["voltage_V"], table["temperature_C"]])
    text = ",".join(names) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in values.tolist())
    (tmp_path / "d.csv").write_text(text)
    for name in ("d.parquet", "d.csv"):
        run_simulation(tmp_path / name, None, 1, None, None, tmp_path / f"{name}.truth.csv")
        truth = read_truth(tmp_path / f"{name}.truth.csv")
        np.testing.assert_allclose(truth["current_a"], 2 * 80 * 2)
        np.testing.assert_allclose(truth["voltage_v"], 176 * (3.6 - truth["t_s"] / 1000), atol=1e-5)
