"""What the sensors of the bus make of one second of truth: noise, bias, gain; the DBC's names, units and signs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim_bus.doors import STEPS, BoolArray, FloatArray
from sim_bus.scenario.model import BmsPlan
from sim_bus.streams import Streams

CELLS_PER_SENSOR = 4


@dataclass
class Block:
    """The truth of one second: arrays over STEPS, each step's end."""

    begin_us: int
    cell_v: FloatArray  # (STEPS, strings, cells)
    surface_degc: FloatArray  # (STEPS, strings, cells)
    soc: FloatArray  # (STEPS, strings, cells)
    capacity_ah: FloatArray  # (strings, cells)
    string_a: FloatArray  # (STEPS, strings)
    closed: BoolArray  # (STEPS, strings)
    battery: dict[str, FloatArray]  # by name, (STEPS,)
    vehicle: dict[str, FloatArray]  # by name, (STEPS,)


class BatterySensors:
    """The sensors in the battery: each cell's voltage, a temperature for each four cells, each string's current."""

    def __init__(self, plan: BmsPlan, strings: int, cells: int, streams: Streams) -> None:
        self._plan = plan
        self._bias_a = plan.current_bias_a / strings
        self._cells = cells
        self._starts = np.arange(0, cells, CELLS_PER_SENSOR)
        self._counts = np.diff([*self._starts, cells])
        self._shape = (STEPS, strings, cells)
        self._voltage, self._current, self._temp = (
            streams(f"sensors.{what} noise") for what in ("voltage", "current", "temperature")
        )

    def cell_v(self, true_v: FloatArray) -> FloatArray:
        """(STEPS, strings, cells)."""
        noise = self._voltage.standard_normal(self._shape)
        noise *= self._plan.voltage_noise_v
        noise += true_v
        return noise

    def cell_degc(self, surface_degc: FloatArray) -> FloatArray:
        """(STEPS, strings, sensors): the mean of the four cells under a sensor."""
        mean = np.add.reduceat(surface_degc, self._starts, axis=2) / self._counts
        mean += self._plan.temp_noise_degc * self._temp.standard_normal(mean.shape)
        return np.asarray(mean)

    def string_a(self, true_a: FloatArray) -> FloatArray:
        """(STEPS, strings)."""
        noise = self._plan.current_noise_a * self._current.standard_normal(true_a.shape)
        return np.asarray(self._plan.current_gain * true_a + self._bias_a + noise)
