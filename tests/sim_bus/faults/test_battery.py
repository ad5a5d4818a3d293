"""What each fault writes into the effects."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sim_bus.faults.schedule import Faults
from sim_bus.scenario.model import FaultPlan

Make = Callable[..., Faults]
CELL = {"string": 2, "cell": 5}
AT = (1, 4)  # that cell, from 0


def test_a_short_grows(faults_of: Make) -> None:
    faults = faults_of(
        FaultPlan("internal_short", parameters={**CELL, "ohm": 100.0, "end_ohm": 1.0, "grow_s": 100.0})
    )
    ohm = np.array([faults.second(float(t)).short_ohm for t in range(151)])
    assert ohm[[0, 50, 100, 150], 1, 4] == pytest.approx([100, 10, 1, 1])
    ohm[:, 1, 4] = np.inf
    assert np.isinf(ohm).all(), "no other cell"


def test_faults_of_one_cell_add_up(faults_of: Make) -> None:
    short = FaultPlan("internal_short", parameters={**CELL, "ohm": 6.0, "end_ohm": 6.0})
    weak = FaultPlan("weak_cell", parameters={**CELL, "capacity": 0.5, "resistance": 3.0})
    loose = FaultPlan("loose_busbar", parameters={**CELL, "ohm": 0.01})
    drop = FaultPlan("insulation_drop", parameters={"ohm": 6000.0, "end_ohm": 6000.0})
    half = FaultPlan("blocked_coolant", parameters={"share": 0.5})
    effects = faults_of(short, short, weak, weak, loose, loose, drop, drop, half, half).second(0.0)
    grids = (effects.short_ohm, effects.capacity_factor, effects.resistance_factor, effects.busbar_ohm)
    healthy = (np.inf, 1.0, 1.0, 0.0)
    for grid, value, rest in zip(grids, (3.0, 0.25, 9.0, 0.02), healthy, strict=True):
        assert grid is not None
        assert grid[AT] == pytest.approx(value)
        assert np.count_nonzero(grid != rest) == 1
    assert effects.insulation_ohm == pytest.approx(3000)
    assert effects.coolant_flow == pytest.approx(0.25)


def test_a_busbar_flickers(faults_of: Make) -> None:
    faults = faults_of(FaultPlan("loose_busbar", parameters={**CELL, "ohm": 0.01, "flicker": 0.3}))
    good = 0
    for t in range(2000):
        ohm = faults.second(float(t)).busbar_ohm
        assert ohm is not None
        assert ohm[AT] in (0.0, 0.01)
        good += ohm[AT] == 0
    assert abs(good / 2000 - 0.3) < 0.05


def test_a_precursor_heats_leaks_and_dips(faults_of: Make) -> None:
    faults = faults_of(
        FaultPlan(
            "thermal_runaway_precursor",
            parameters={**CELL, "heat_w": 1.0, "end_heat_w": 100.0, "grow_s": 1000.0, "dip_every_s": 50.0},
        )
    )
    heat, ohm = [], []
    for t in range(3000):
        effects = faults.second(float(t))
        assert effects.extra_heat_w is not None
        assert effects.short_ohm is not None
        heat.append(float(effects.extra_heat_w[AT]))
        ohm.append(float(effects.short_ohm[AT]))
    assert [heat[t] for t in (0, 500, 1000, 2999)] == pytest.approx([1, 10, 100, 100])
    assert set(ohm) == {20.0, 0.05}
    assert 30 <= ohm.count(0.05) <= 95, "60 expected"


def test_heater_and_insulation(faults_of: Make) -> None:
    assert faults_of(FaultPlan("heater_failed")).second(0.0).heater_failed
    drop = FaultPlan("insulation_drop", parameters={"ohm": 1e6, "end_ohm": 1e4, "grow_s": 10.0})
    faults = faults_of(drop)
    assert [faults.second(float(t)).insulation_ohm for t in range(11)][::5] == pytest.approx([1e6, 1e5, 1e4])


def test_the_ignition_goes_off_and_on_and_then_is_left_alone(faults_of: Make) -> None:
    faults = faults_of(
        FaultPlan("ignition_games", at_s=5, for_s=200, parameters={"shortest_s": 2, "longest_s": 4})
    )
    seen = [faults.second(float(t)).ignition for t in range(210)]
    assert seen[:5] == seen[205:] == [None] * 5
    assert seen[5] is False
    turns = np.flatnonzero(np.diff(np.array(seen[5:205], np.int8)))
    assert set(np.diff(turns).tolist()) == {2, 3, 4}
