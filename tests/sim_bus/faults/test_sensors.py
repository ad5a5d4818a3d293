"""What faults make of a second's samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edge.errors import ScenarioError
from sim_bus.doors import Readings
from sim_bus.faults.schedule import Faults
from sim_bus.faults.sensors import SensorFaults
from sim_bus.scenario.model import FaultPlan

Make = Callable[..., Faults]
Read = Callable[[int], Readings]
NAMES = {"DcVoltage", "MotorTemp"}


def lived(faults: Faults, readings: Read, seconds: int = 1) -> tuple[Readings, Readings]:
    """The last of some seconds, as it was and as it is read."""
    sensors = SensorFaults(faults, NAMES)
    for n in range(seconds):
        faults.second(float(n))
        true, read = readings(n), readings(n)
        assert sensors.apply(read) is read
    return true, read


def differences(true: Readings, read: Readings) -> dict[str, np.ndarray]:
    """What differs, by sensor, as `places` names it; (STEPS,) each, read - true."""
    found = {}
    pairs = {"string_current": (true.string_a, read.string_a), "cell_voltage": (true.cell_v, read.cell_v),
             "cell_temp": (true.cell_degc, read.cell_degc)}  # fmt: skip
    pairs |= {name: (true.values[name], read.values[name]) for name in true.values}
    for name, (one, other) in pairs.items():
        for at in np.argwhere((one != other).any(axis=0)):
            key = (slice(None), *at)
            found[":".join([name, *(str(n + 1) for n in at)])] = other[key] - one[key]
    return found


def fault(kind: str, sensor: str, **parameters: float | str) -> FaultPlan:
    return FaultPlan(kind, parameters={"sensor": sensor, **parameters})


@pytest.mark.parametrize(
    ("sensor", "shown"),
    [
        ("pack_current", {"string_current:1": 3.0, "string_current:2": 3.0}),  # together 6
        ("PackCurrent", {"string_current:1": -3.0, "string_current:2": -3.0}),  # the bus's sign
        ("string_current:2", {"string_current:2": 6.0}),
        ("String2_Current", {"string_current:2": -6.0}),
        ("cell_voltage:1:17", {"cell_voltage:1:17": 6.0}),
        ("String1_Cell017_Voltage", {"cell_voltage:1:17": 6.0}),
        ("cell_temp:2:44", {"cell_temp:2:44": 6.0}),
        ("String2_Temp05", {"cell_temp:2:5": 6.0}),
        ("DcVoltage", {"DcVoltage": 6.0}),
    ],
)
def test_an_offset_is_where_it_shall_be(
    faults_of: Make, readings: Read, sensor: str, shown: dict[str, float]
) -> None:
    found = differences(*lived(faults_of(fault("sensor_offset", sensor, offset=6.0)), readings))
    assert found.keys() == shown.keys()
    for name, value in shown.items():
        assert found[name] == pytest.approx(value)


def test_a_gain(faults_of: Make, readings: Read) -> None:
    true, read = lived(faults_of(fault("sensor_gain", "pack_current", gain=1.1)), readings)
    assert read.string_a == pytest.approx(1.1 * true.string_a)


def test_noise_of_the_pack_is_as_large_as_said(faults_of: Make, readings: Read) -> None:
    faults = faults_of(fault("sensor_noise", "pack_current", sd=4.0))
    sensors, sums = SensorFaults(faults, NAMES), []
    for n in range(200):
        faults.second(float(n))
        read = sensors.apply(readings(n))
        sums += (read.string_a - readings(n).string_a).sum(axis=1).tolist()
    assert abs(np.std(sums) / 4 - 1) < 5 / np.sqrt(2 * len(sums))
    assert abs(np.mean(sums)) < 5 * 4 / np.sqrt(len(sums))
    assert abs(np.corrcoef(sums[1:], sums[:-1])[0, 1]) < 0.1


def test_stuck_is_stuck_at_its_beginning(faults_of: Make, readings: Read) -> None:
    plan = FaultPlan("sensor_stuck", at_s=2, for_s=3, parameters={"sensor": "cell_voltage:2:9"})
    faults = faults_of(plan)
    sensors = SensorFaults(faults, NAMES)
    shown = []
    for n in range(7):
        faults.second(float(n))
        shown.append(sensors.apply(readings(n)).cell_v[:, 1, 8])
    assert (np.array(shown[2:5]) == shown[2][0]).all()
    for n in (0, 1, 5, 6):
        assert (shown[n] == readings(n).cell_v[:, 1, 8]).all()


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_dropout_is_not_available(faults_of: Make, readings: Read, share: float) -> None:
    faults = faults_of(fault("sensor_dropout", "string_current:1", share=share))
    sensors, gone = SensorFaults(faults, NAMES), []
    for n in range(100):
        faults.second(float(n))
        read = sensors.apply(readings(n)).string_a
        assert not np.isnan(read[:, 1]).any()
        gone += np.isnan(read[:, 0]).tolist()
    assert abs(np.mean(gone) - share) < 0.08


def test_wires_are_swapped(faults_of: Make, readings: Read) -> None:
    plans = [
        fault("swapped_harness", "cell_voltage:1:10", other="cell_voltage:2:150"),
        fault("swapped_harness", "cell_temp:1:1", other="cell_temp:1:2"),
        fault("swapped_harness", "DcVoltage", other="MotorTemp"),
    ]
    true, read = lived(faults_of(*plans), readings)
    assert (read.cell_v[:, 0, 9] == true.cell_v[:, 1, 149]).all()
    assert (read.cell_v[:, 1, 149] == true.cell_v[:, 0, 9]).all()
    assert (read.cell_degc[:, 0, 0] == true.cell_degc[:, 0, 1]).all()
    assert (read.values["DcVoltage"] == true.values["MotorTemp"]).all()
    assert len(differences(true, read)) == 6


def test_the_truth_stays_true(faults_of: Make, readings: Read) -> None:
    """Whoever holds the arrays that the readings had goes on holding what they said; read-only ones, too."""
    faults = faults_of(
        *(fault("sensor_gain", s) for s in ("pack_current", "cell_voltage:1:1", "cell_temp:1:1", "MotorTemp"))
    )
    faults.second(0.0)
    read, true = readings(0), readings(0)
    held = [read.string_a, read.cell_v, read.cell_degc, read.values["MotorTemp"]]
    for array in held:
        array.flags.writeable = False
    SensorFaults(faults, NAMES).apply(read)
    same = [true.string_a, true.cell_v, true.cell_degc, true.values["MotorTemp"]]
    assert all((a == b).all() for a, b in zip(held, same, strict=True))


def test_without_a_fault_nothing_is_touched(faults_of: Make, readings: Read) -> None:
    faults = faults_of(FaultPlan("sensor_gain", at_s=5))
    faults.second(0.0)
    read = readings(0)
    held = (read.string_a, read.cell_v, read.cell_degc)
    SensorFaults(faults, NAMES).apply(read)
    assert all(a is b for a, b in zip((read.string_a, read.cell_v, read.cell_degc), held, strict=True))


def test_what_is_no_sensor_is_told(faults_of: Make) -> None:
    faults = faults_of(FaultPlan("outage"), fault("sensor_gain", "MinCellVoltage"))
    with pytest.raises(
        ScenarioError, match=r"^\[\[faults\]\] 2 \(sensor_gain\): no sensor gives the signal MinCell"
    ):
        SensorFaults(faults, NAMES)


def test_readings_that_lack_it_are_told(faults_of: Make, readings: Read) -> None:
    faults = faults_of(fault("sensor_gain", "CoolantTemp"))
    sensors = SensorFaults(faults, NAMES | {"CoolantTemp"})
    faults.second(0.0)
    with pytest.raises(ScenarioError, match="no sensor gives the signal CoolantTemp"):
        sensors.apply(readings(0))
