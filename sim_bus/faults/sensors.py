"""What faults do to sensors: each kind a function that changes a second's samples before anybody reads them.

Samples are (STEPS, k) views into the readings: k strings of pack_current, which is what all strings' sensors make
together, else 1. Faults act in the scenario's order, one on what the other left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from edge.errors import ScenarioError
from sim_bus.doors import FloatArray, Readings
from sim_bus.faults.places import SIGNAL, Sensor
from sim_bus.faults.schedule import Act, Faults, titled


def sensor_offset(act: Act, samples: FloatArray) -> None:
    """Added; of several sensors to each its part."""
    samples += act.sensors[0].sign * act.number("offset") / samples.shape[1]


def sensor_gain(act: Act, samples: FloatArray) -> None:
    """Multiplied."""
    samples *= act.number("gain")


def sensor_noise(act: Act, samples: FloatArray) -> None:
    """Added; of several sensors together as much."""
    noise = act.random.standard_normal(samples.shape)
    noise *= act.number("sd") / samples.shape[1] ** 0.5
    samples += noise


def sensor_stuck(act: Act, samples: FloatArray) -> None:
    """The first sample, for ever."""
    samples[:] = act.state.setdefault("first", samples[0].copy())


def sensor_dropout(act: Act, samples: FloatArray) -> None:
    """NaN, which is "not available" on the wire."""
    samples[act.random.random(len(samples)) < act.number("share")] = np.nan


ACTIONS: dict[str, Callable[[Act, FloatArray], None]] = {
    action.__name__: action
    for action in (sensor_offset, sensor_gain, sensor_noise, sensor_stuck, sensor_dropout)
}


class SensorFaults:
    """The sensor faults of a scenario. `names`: the signals that the readings have.

    Raises
    ------
    ScenarioError
        A fault names a signal that is not among them: what the BMS works out of its cells is no sensor.
    """

    def __init__(self, faults: Faults, names: Collection[str]) -> None:
        self._faults = faults
        problems = []
        for act in faults.plans_of("sensor"):
            wrong = [s.signal for s in act.sensors if s.what == SIGNAL and s.signal not in names]
            problems += titled(act.index, act.plan, ScenarioError([_no_sensor(name) for name in wrong]))
        if problems:
            raise ScenarioError(problems)

    def apply(self, readings: Readings) -> Readings:
        """Change the readings, of whose arrays those that change are copied before; the same object comes back.

        Raises
        ------
        ScenarioError
            The readings lack a signal that a fault names.
        """
        acts = self._faults.of("sensor")
        if acts:
            self._own(readings, acts)
        for act in acts:
            samples = [self._samples(readings, sensor) for sensor in act.sensors]
            if len(samples) == 2:
                one, other = samples
                one[:], other[:] = other.copy(), one.copy()
            else:
                ACTIONS[act.kind.name](act, samples[0])
        return readings

    def _own(self, readings: Readings, acts: Collection[Act]) -> None:
        """Copies, so that what others hold, the truth above all, stays as it is."""
        readings.string_a = readings.string_a.copy()
        readings.cell_v = readings.cell_v.copy()
        readings.cell_degc = readings.cell_degc.copy()
        for name in {s.signal for act in acts for s in act.sensors if s.what == SIGNAL}:
            if name not in readings.values:
                raise ScenarioError(_no_sensor(name))
            readings.values[name] = np.array(readings.values[name], np.float64)

    def _samples(self, readings: Readings, sensor: Sensor) -> FloatArray:
        s, n = sensor.string - 1, sensor.number - 1
        if sensor.what == "pack_current":
            return readings.string_a
        if sensor.what == "string_current":
            return readings.string_a[:, s : s + 1]
        if sensor.what == "cell_voltage":
            return readings.cell_v[:, s, n : n + 1]
        if sensor.what == "cell_temp":
            return readings.cell_degc[:, s, n : n + 1]
        return readings.values[sensor.signal][:, None]


def _no_sensor(name: str) -> str:
    return f"no sensor gives the signal {name[:80]}"
