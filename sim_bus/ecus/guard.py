"""The BMS's watch over its cells: which trouble there is, after how many seconds of it."""

from __future__ import annotations

from sim_bus.ecus import trouble
from sim_bus.ecus.sensed import Sensed
from sim_bus.ecus.tables import CellLimits
from sim_bus.ecus.trouble import Code

BEYOND_V = 0.10  # of a cell's limits
HOT_DEGC, WARM_DEGC = 60.0, 52.0
BROKEN_KOHM = 40.0
LOW_KOHM_PER_V = 0.1  # 100 ohm/V
# code -> for how many seconds in a row it must be so
AFTER_S: dict[Code, int] = {
    trouble.CELL_VOLTAGE_HIGH: 3,
    trouble.CELL_VOLTAGE_LOW: 3,
    trouble.CELL_TEMP_HIGH: 3,
    trouble.CELL_TEMP_WARM: 3,
    trouble.INSULATION_BROKEN: 5,
    trouble.INSULATION_LOW: 5,
    trouble.CELL_SENSOR_LOST: 2,
    trouble.CELL_SENSORS_LOST: 5,
    trouble.TEMP_SENSOR_LOST: 2,
    trouble.CURRENT_SENSOR_LOST: 5,
    trouble.STRINGS_APART: 10,
    trouble.PRECHARGE_FAILED: 5,
}


class Guard:
    """`active`: the trouble codes in force. Severe ones stay until `forget`, the others while they last."""

    def __init__(self, cell: CellLimits) -> None:
        self._cell = cell
        self._seconds: dict[Code, int] = {}
        self.active: tuple[Code, ...] = ()

    @property
    def fault(self) -> bool:
        """Whether something is severe."""
        return any(code in trouble.SEVERE for code in self.active)

    def forget(self) -> None:
        """Supply was cut."""
        self._seconds, self.active = {}, ()

    def second(self, sensed: Sensed, *, apart: bool, precharging: bool) -> None:
        """Judge a second. NaN is never beyond a limit."""
        cell, volts = self._cell, sensed.string_v
        now = {
            trouble.CELL_VOLTAGE_HIGH: sensed.highest_v > cell.voltage_max_v + BEYOND_V,
            trouble.CELL_VOLTAGE_LOW: sensed.lowest_v < cell.voltage_min_v - BEYOND_V,
            trouble.CELL_TEMP_HIGH: sensed.hottest_degc > HOT_DEGC,
            trouble.CELL_TEMP_WARM: sensed.hottest_degc > WARM_DEGC,
            trouble.INSULATION_BROKEN: sensed.insulation_kohm < BROKEN_KOHM,
            trouble.INSULATION_LOW: sensed.insulation_kohm < LOW_KOHM_PER_V * float(volts.max()),
            trouble.CELL_SENSOR_LOST: bool(sensed.lost_cells.any()),
            trouble.CELL_SENSORS_LOST: bool(sensed.lost_cells.all(axis=1).any()),
            trouble.TEMP_SENSOR_LOST: sensed.lost_temps,
            trouble.CURRENT_SENSOR_LOST: bool((sensed.string_a != sensed.string_a).any()),
            trouble.STRINGS_APART: apart,
            trouble.PRECHARGE_FAILED: precharging,
        }
        self._seconds = {code: self._seconds.get(code, 0) + 1 for code, there in now.items() if there}
        stay = {code for code in self.active if code in trouble.SEVERE}
        self.active = tuple(
            code for code in AFTER_S if code in stay or self._seconds.get(code, 0) >= AFTER_S[code]
        )
