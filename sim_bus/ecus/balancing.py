"""Which cells the BMS drains: the highest, while all are near full and little flows."""

from __future__ import annotations

import numpy as np

from sim_bus.doors import BoolArray
from sim_bus.ecus.sensed import Sensed
from sim_bus.ecus.tables import CellLimits, is_lfp

LFP_FROM_V, OXIDE_BELOW_MAX_V = 3.38, 0.10  # from where on voltages tell cells apart
MOST_C = 1 / 10
BEGIN_V, END_V = 0.010, 0.005  # above the lowest cell of the string


class Balancing:
    """`on` (strings, cells): drained now."""

    def __init__(self, cell: CellLimits, strings: int, cells: int) -> None:
        self._from_v = LFP_FROM_V if is_lfp(cell) else cell.voltage_max_v - OXIDE_BELOW_MAX_V
        self._most_a = MOST_C * cell.capacity_ah
        self.on: BoolArray = np.zeros((strings, cells), np.bool_)

    def stop(self) -> None:
        """No supply, or a fault."""
        self.on = np.zeros_like(self.on)

    def second(self, sensed: Sensed) -> None:
        """Judge a second's voltages; a cell whose voltage is not known is not drained."""
        small = np.abs(sensed.string_a) < self._most_a
        if not (sensed.highest_v >= self._from_v and small.any()):
            if self.on.any():
                self.stop()
            return
        volts = sensed.cell_v
        above = volts - np.fmin.reduce(volts, axis=1, keepdims=True)
        high = above > np.where(self.on, END_V, BEGIN_V)
        self.on = high & (volts >= self._from_v) & small[:, None]
