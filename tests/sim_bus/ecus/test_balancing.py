"""Balancing drains the highest cells, near full, and no others."""

from __future__ import annotations

import numpy as np

from sim_bus.ecus.balancing import BEGIN_V, END_V, Balancing
from sim_bus.ecus.sensed import sense
from tests.sim_bus.ecus.conftest import CELLS, LFP, STRINGS, Live, readings

FULL_V = 3.45


def cells(above: dict[int, float], base: float = FULL_V) -> np.ndarray:
    volts = np.full((STRINGS, CELLS), base)
    for cell, more in above.items():
        volts[0, cell] += more
    return volts


def on(balancing: Balancing, volts: np.ndarray, amps: float = 0.0) -> list[int]:
    balancing.second(sense(readings(cell_v=volts, string_a=amps)))
    assert not balancing.on[1].any()
    return np.flatnonzero(balancing.on[0]).tolist()


def test_the_highest_near_full_until_they_are_near_the_others() -> None:
    balancing = Balancing(LFP, STRINGS, CELLS)
    assert on(balancing, cells({2: 2 * BEGIN_V, 5: 0.9 * BEGIN_V})) == [2]
    between = (BEGIN_V + END_V) / 2
    assert on(balancing, cells({2: between, 5: between})) == [2], "what drains goes on, what doesn't waits"
    assert on(balancing, cells({2: 0.9 * END_V})) == []


def test_not_on_the_plateau_not_under_load_not_without_a_voltage() -> None:
    balancing = Balancing(LFP, STRINGS, CELLS)
    assert on(balancing, cells({2: 0.05}, base=3.30)) == []
    assert on(balancing, cells({2: 0.05}), amps=-50.0) == []
    assert on(balancing, cells({2: np.nan, 3: 0.05})) == [3]


def test_a_fault_or_no_supply_ends_it() -> None:
    live = Live(0.95).started(plugged=True, cell_v=cells({2: 0.05}))
    assert live.run(readings(cell_v=cells({2: 0.05})), plugged=True)[0].balancing[0, 2]
    assert not live.run(readings(cell_v=cells({2: 0.05})), ignition=False)[0].balancing.any()
    live = Live(0.95).started(plugged=True, cell_v=cells({2: 0.05}))
    assert not live.run(readings(cell_v=cells({2: 0.05}), degc=65.0), 5, plugged=True)[-1].balancing.any()
