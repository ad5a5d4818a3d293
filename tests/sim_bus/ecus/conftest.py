"""A small battery for the BMS to believe in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from sim_bus.doors import STEPS, FloatArray, Orders, Readings
from sim_bus.ecus import Bms, CellLimits
from sim_bus.scenario.model import BatteryPlan, BmsPlan
from sim_bus.streams import Streams

STRINGS, CELLS, SENSORS = 2, 8, 2


@dataclass(frozen=True)
class Limits:
    """A data sheet."""

    chemistry: str = "LFP"
    capacity_ah: float = 100.0
    voltage_min_v: float = 2.5
    voltage_max_v: float = 3.65


LFP, OXIDE = Limits(), Limits("NMC", 100.0, 2.8, 4.2)


def readings(
    *,
    string_a: float | FloatArray = 0.0,
    cell_v: float | FloatArray = 3.29,
    degc: float | FloatArray = 20.0,
    link_v: float | None = None,
    kohm: float = 2000.0,
) -> Readings:
    """A second in which nothing changes; the link follows the battery unless said otherwise."""
    cells = np.broadcast_to(np.asarray(cell_v, float), (STEPS, STRINGS, CELLS)).copy()
    follows = float(cells[0, 0].sum()) if link_v is None else link_v
    values = {"DcVoltage": np.full(STEPS, follows), "InsulationResistance": np.full(STEPS, kohm)}
    return Readings(
        0,
        values,
        np.broadcast_to(np.asarray(string_a, float), (STEPS, STRINGS)).copy(),
        cells,
        np.broadcast_to(np.asarray(degc, float), (STEPS, STRINGS, SENSORS)).copy(),
        np.zeros((STRINGS, CELLS), np.bool_),
        {},
    )


class Live:
    """A BMS, second after second."""

    def __init__(self, soc: float = 0.5, error: float = 0.0, cell: CellLimits = LFP) -> None:
        plan = BatteryPlan(soc=soc, temp_degc=20.0, strings=STRINGS, cells=CELLS)
        self.bms = Bms(BmsPlan(soc_error=error), plan, cell, Streams(7), soc)
        self.t_s = 0.0

    def run(
        self, r: Readings | None, seconds: int = 1, *, ignition: bool = True, plugged: bool = False
    ) -> list[Orders]:
        """The orders of each second."""
        orders = []
        for _ in range(seconds):
            orders.append(self.bms.second(self.t_s, r, ignition, plugged))
            self.t_s += 1
        return orders

    def started(self, *, plugged: bool = False, **said: float | FloatArray) -> Live:
        """With its contactors closed."""
        self.run(readings(**said), 10, plugged=plugged, ignition=not plugged)  # type: ignore[arg-type]
        return self


@pytest.fixture
def live() -> Callable[..., Live]:
    """Makes one."""
    return Live
