"""What the sensors in the battery make of one second of truth: noise, bias, gain."""

from __future__ import annotations

import numpy as np

from sim_bus.doors import STEPS, FloatArray
from sim_bus.scenario.model import BmsPlan
from sim_bus.streams import Streams

CELLS_PER_SENSOR = 4


class BatterySensors:
    """Each cell's voltage, temperatures on the cells' surfaces, each string's current; each with noise of its own stream."""

    def __init__(self, plan: BmsPlan, strings: int, cells: int, streams: Streams) -> None:
        self._plan = plan
        self._bias_a = plan.current_bias_a / strings
        self._shape = (STEPS, strings, cells)
        self._starts = np.arange(0, cells, CELLS_PER_SENSOR)
        self._counts = np.diff([*self._starts, cells])
        self._voltage, self._current, self._temp = (
            streams(f"sensors.{what}") for what in ("voltage", "current", "temperature")
        )

    def cell_v(self, true_v: FloatArray) -> FloatArray:
        """(STEPS, strings, cells)."""
        noise = self._voltage.standard_normal(self._shape)
        noise *= self._plan.voltage_noise_v
        noise += true_v
        return noise

    def cell_degc(self, surface_degc: FloatArray) -> FloatArray:
        """(STEPS, strings, sensors): each feels the mean of the CELLS_PER_SENSOR cells that it sits on."""
        mean = np.add.reduceat(surface_degc, self._starts, axis=2) / self._counts
        mean += self._plan.temp_noise_degc * self._temp.standard_normal(mean.shape)
        return np.asarray(mean)

    def string_a(self, true_a: FloatArray) -> FloatArray:
        """(STEPS, strings)."""
        noise = self._plan.current_noise_a * self._current.standard_normal(true_a.shape)
        return np.asarray(self._plan.current_gain * true_a + self._bias_a + noise)
