"""The sign of the current: told where the data can tell it, never told wrong, the same for the mirrored file."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from edge.measured import Measured, load_measured
from edge.measured.current_sign import current_sign

FILES = Path(__file__).parents[2] / "data/battery"
US06, CAPACITY, SLOW = (
    FILES / f"lg_hg2_{name}.csv.gz" for name in ("US06_-10_extract", "Cap_-20", "slow_+25_thinned")
)
SEED = 11


def verdict(data: Measured, factor: float = 1.0, rows: slice = slice(None), soc: bool = False) -> int:
    truth = data.soc[rows] if soc and data.soc is not None else None
    return current_sign(data.time_s[rows], factor * data.current_a[rows], data.voltage_v[rows], truth).verdict


@pytest.mark.parametrize("path", [US06, CAPACITY, SLOW], ids=lambda p: p.name)
def test_real_files(path: Path) -> None:
    """A drive, a capacity test in the cold that heats itself, and C/20 both ways."""
    data = load_measured(path)
    assert verdict(data) == 1
    assert verdict(data, -1) == -1
    assert verdict(data, -1000) == -1, "in mA"


def test_mirrored_evidence_is_mirrored() -> None:
    data = load_measured(US06)
    right = current_sign(data.time_s, data.current_a, data.voltage_v, data.soc)
    turned = current_sign(data.time_s, -data.current_a, data.voltage_v, data.soc)
    for field in dataclasses.fields(right):
        a, b = getattr(right, field.name), getattr(turned, field.name)
        same = field.name in ("count", "chance", "swing_v")
        assert a == pytest.approx(b if same else -b, nan_ok=True), field.name
    assert 0.02 < right.resistance_ohm < 0.15, "of such a cell at -10 °C"
    assert "falls when the current rises" in right.because
    assert "rises when the current rises" in turned.because


@pytest.mark.parametrize("path", [US06, CAPACITY, SLOW], ids=lambda p: p.name)
def test_a_piece_never_accuses(path: Path) -> None:
    """Also where the voltage rises under load, because the cell warms itself."""
    data, rng = load_measured(path), np.random.default_rng(SEED)
    print("seed", SEED)
    found = set()
    for _ in range(300):
        first, last = sorted(rng.integers(0, len(data.time_s), 2).tolist())
        found.add(verdict(data, rows=slice(first, last)))
    assert -1 not in found
    assert 1 in found


@pytest.mark.parametrize("volts", [0.001, 0.01, 0.1])
def test_noise_tells_nothing(volts: float) -> None:
    rng = np.random.default_rng(SEED)
    print("seed", SEED)
    for rows in (3, 10, 30, 100, 1000):
        for _ in range(100):
            current, voltage = rng.normal(0, 1, rows), 3.7 + rng.normal(0, volts, rows)
            assert current_sign(np.arange(rows) * 1.0, current, voltage).verdict == 0


@pytest.mark.parametrize(
    ("period_s", "rows_late"), [(0.1, 0), (0.1, 1), (1.0, 0), (1.0, 1), (10.0, 0), (60.0, 0)]
)
def test_period_and_lag(period_s: float, rows_late: int) -> None:
    """A cell of 30 mohm with currents of a minute each, at any pace; its voltage may be read a little late."""
    rng = np.random.default_rng(SEED)
    print("seed", SEED)
    time = np.arange(0, 7200, period_s)
    current = rng.uniform(-2, 4, 121)[(time // 60).astype(int)]
    voltage = 3.7 - np.roll(current, rows_late) * 0.03 + rng.normal(0, 0.001, len(time))
    assert current_sign(time, current, voltage).verdict == 1
    assert current_sign(time, -current, voltage).verdict == -1


def test_constant_current_is_told_by_the_way_of_the_voltage() -> None:
    time = np.arange(0, 36000, 60.0)
    for way in (1, -1):
        current, voltage = np.full(len(time), 0.3), np.linspace(4.2, 3.0, len(time))[::way]
        evidence = current_sign(time, current, voltage)
        assert evidence.count == 0
        assert evidence.verdict == way
        assert "1.20 V" in evidence.because
    assert current_sign(time, current, np.linspace(3.30, 3.31, len(time))).verdict == 0, "the flat of LFP"


def test_steps_that_the_charge_contradicts_say_nothing() -> None:
    """As where a logger writes the voltage of the step before: small steps come out the wrong way round."""
    time = np.arange(0, 3600, 1.0)
    current = np.where(time % 20 < 10, 1.0, 0.5)
    voltage = np.linspace(4.2, 3.4, len(time)) + 0.002 * current
    evidence = current_sign(time, current, voltage)
    assert evidence.steps < -0.9
    assert evidence.charge > 0.5
    assert evidence.verdict >= 0


def test_soc_alone() -> None:
    """With no step and a voltage that stays, the soc column is the last witness."""
    time = np.arange(0, 3600, 10.0)
    current, voltage = np.full(len(time), 1.0), np.full(len(time), 3.3)
    soc = np.linspace(0.9, 0.4, len(time))
    assert current_sign(time, current, voltage, soc).verdict == 1
    assert current_sign(time, -current, voltage, soc).verdict == -1
    assert current_sign(time, current, voltage, np.full(len(time), 0.5)).verdict == 0


def test_depth_of_discharge_is_not_a_turned_current() -> None:
    data = load_measured(US06)
    assert data.soc is not None
    evidence = current_sign(data.time_s, data.current_a, data.voltage_v, 1 - data.soc)
    assert evidence.verdict == 1
    assert evidence.soc_runs_backwards
    assert not current_sign(data.time_s, data.current_a, data.voltage_v, data.soc).soc_runs_backwards


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
@pytest.mark.parametrize("value", [0.0, math.nan, 1.0])
def test_too_little(rows: int, value: float) -> None:
    column = np.full(rows, value)
    assert current_sign(np.arange(rows) * 1.0, column, column, column).verdict == 0
    assert current_sign(np.zeros(rows), column, column, column).verdict == 0


def test_holes_do_not_matter() -> None:
    data, rng = load_measured(US06), np.random.default_rng(SEED)
    current, voltage = data.current_a.copy(), data.voltage_v.copy()
    current[rng.random(len(current)) < 0.2] = math.nan
    voltage[rng.random(len(voltage)) < 0.2] = math.nan
    assert current_sign(data.time_s, current, voltage).verdict == 1


def test_every_file_at_hand(shared_data: Path) -> None:
    """None is accused; all drives and pulses are told, and caught when turned."""
    told = 0
    paths = sorted((shared_data / "battery").glob("*/*.csv.gz"))
    for path in paths:
        data = load_measured(path, "discharge-positive")
        right, turned = verdict(data, soc=True), verdict(data, -1, soc=True)
        assert (right, turned) in ((1, -1), (0, 0)), path.name
        assert right == 1 or "discharge_end" in path.name, path.name
        told += right
    print(f"{told} of {len(paths)} told")
    assert told > 70


def test_no_piece_of_any_file_is_accused(shared_data: Path) -> None:
    """A minute to two hours of each: as it is, with noise, with the voltage a row late, and thinned."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    told = tried = 0
    for path in sorted((shared_data / "battery").glob("*/*.csv.gz")):
        data = load_measured(path, "discharge-positive")
        for length_s in (60, 300, 1800, 7200):
            begin = data.time_s[0] + rng.uniform(0, max(0.0, np.ptp(data.time_s) - length_s))
            first, last = np.searchsorted(data.time_s, [begin, begin + length_s])
            time, current, voltage = (a[first:last] for a in (data.time_s, data.current_a, data.voltage_v))
            if len(time) < 3:
                continue
            step = slice(None, None, int(rng.integers(1, 50)))
            for t, i, v in (
                (time, current, voltage),
                (time, current, voltage + rng.normal(0, 0.01, len(time))),
                (time[1:], current[1:], voltage[:-1]),
                (time[step], current[step], voltage[step]),
            ):
                found = current_sign(t, i, v)
                assert found.verdict >= 0, (path.name, begin, length_s, found)
                told, tried = told + found.verdict, tried + 1
    print(f"{told} of {tried} told")
    assert told > 300
