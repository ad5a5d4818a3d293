"""When faults act, and what is no fault at all."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from edge.errors import ScenarioError
from sim_bus.doors import FaultEffects
from sim_bus.faults.schedule import Faults
from sim_bus.scenario.model import FaultPlan

Make = Callable[..., Faults]


def acting(faults: Faults, seconds: int) -> list[int]:
    """The seconds in which anything acts; began and ended agree with them."""
    found, on = [], 0
    for t in range(seconds):
        faults.second(float(t))
        on += len(faults.began) - len(faults.ended)
        assert on == len(faults.acting)
        found += [t] * bool(faults.acting)
    return found


@pytest.mark.parametrize(
    ("plan", "seconds"),
    [
        (FaultPlan("heater_failed", at_s=3, for_s=2), [3, 4]),
        (FaultPlan("heater_failed", at_s=2.2, for_s=1.5), [3, 4]),
        (FaultPlan("heater_failed", at_s=7), [7, 8, 9]),
        (FaultPlan("heater_failed", for_s=0), [0]),
        (FaultPlan("clock_step", at_s=4), [4]),  # momentary
        (FaultPlan("ecu_reset", at_s=4, for_s=3), [4, 5, 6]),
        (FaultPlan("heater_failed", probability=0), []),
        (FaultPlan("heater_failed", at_s=1e9), []),
    ],
)
def test_time_and_duration(faults_of: Make, plan: FaultPlan, seconds: list[int]) -> None:
    assert acting(faults_of(plan), 10) == seconds


def test_it_comes_again_as_often_as_said(faults_of: Make) -> None:
    """A Poisson process, thinned: of n begins the standard deviation is sqrt(n)."""
    faults, begins = faults_of(FaultPlan("clock_step", every_s=40, probability=0.5)), []
    for t in range(40_000):
        faults.second(float(t))
        begins += [t] * len(faults.began)
    expected = 40_000 / 40 / 2
    print(len(begins), "begins")
    assert abs(len(begins) - expected) < 5 * math.sqrt(expected)
    gaps = np.diff(begins)
    assert 0.8 < gaps.std() / gaps.mean() < 1.2, "exponential, as no memory makes it"


def test_again_while_it_lasts_is_anew(faults_of: Make) -> None:
    faults = faults_of(FaultPlan("internal_short", every_s=5, parameters={"cell": 1, "string": 1}))
    first = None
    for t in range(60):
        effects = faults.second(float(t))
        assert effects.short_ohm is not None
        if faults.began and t:
            assert faults.ended == [first]
            assert effects.short_ohm[0, 0] == pytest.approx(100), "as at the beginning"
        first = faults.acting[0]


def test_the_same_seed_the_same_faults_and_one_more_shifts_none(faults_of: Make) -> None:
    plans = [
        FaultPlan("loose_busbar", every_s=20, for_s=9, parameters={"flicker": 0.5}),
        FaultPlan("weak_cell", every_s=30, for_s=9, probability=0.7),
    ]

    def lived(faults: Faults) -> list[tuple[list[str], float]]:
        rows = []
        for t in range(300):
            effects = faults.second(float(t))
            busbar = 0.0 if effects.busbar_ohm is None else float(effects.busbar_ohm.sum())
            rows.append(([a.label for a in faults.acting if a.index < 2], busbar))
        return rows

    first = lived(faults_of(*plans))
    assert lived(faults_of(*plans)) == first
    assert lived(faults_of(*plans, FaultPlan("internal_short", every_s=11, for_s=3))) == first
    assert lived(faults_of(*plans, seed=32)) != first


def test_labels_say_what_and_where(faults_of: Make) -> None:
    faults = faults_of(
        FaultPlan("weak_cell", parameters={"string": 2, "cell": 9}),
        FaultPlan("sensor_stuck", parameters={"sensor": "cell_temp:1:4"}),
        FaultPlan("lost_frames"),
        FaultPlan("outage"),
    )
    assert faults.second(0.0).labels == faults.labels
    assert faults.labels == ("lost_frames:bms:all", "outage", "sensor_stuck:cell_temp:1:4", "weak_cell:2:9")


def test_a_drawn_cell_stays_the_same(faults_of: Make) -> None:
    plan = FaultPlan("weak_cell", every_s=3, for_s=1, parameters={"string": 2})
    labels = {
        act.label
        for faults in [faults_of(plan)]
        for t in range(50)
        if [faults.second(t)]
        for act in faults.acting
    }
    assert len(labels) == 1
    drawn = {faults_of(plan, seed=s).plans_of("battery")[0].cell for s in range(40)}
    assert {string for string, _ in drawn} == {1}
    assert len(drawn) > 20


def test_nothing_planned_does_nothing(faults_of: Make) -> None:
    faults = faults_of()
    for t in range(5):
        assert vars(faults.second(float(t))) == vars(FaultEffects())


def test_resets_are_told_with_their_time(faults_of: Make) -> None:
    faults = faults_of(FaultPlan("ecu_reset", at_s=3, parameters={"node": "INV"}))
    told = {t: list(faults.restarts) for t in range(6) if faults.second(float(t))}
    [(node, t_us)] = told.pop(3)
    assert node == "INV"
    assert 3_000_000 <= t_us < 4_000_000
    assert not any(told.values())


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (FaultPlan("shorts"), "unknown fault kind: 'shorts'; there are internal_short"),
        (FaultPlan("weak_cell", parameters={"cel": 1}), "unknown parameter of weak_cell: 'cel'"),
        (FaultPlan("weak_cell", parameters={"string": 3}), "faults.string must lie between 1 and 2 (there are no more), not 3"),
        (FaultPlan("weak_cell", parameters={"cell": 177}), "faults.cell must lie between 1 and 176 (there are no more), not 177"),
        (FaultPlan("weak_cell", parameters={"cell": 1.5}), "faults.cell must be a whole number, not '1.5'"),
        (FaultPlan("weak_cell", parameters={"cell": math.inf}), "faults.cell must lie between 0 and 1000, not 'inf'"),
        (FaultPlan("weak_cell", parameters={"capacity": math.nan}), "faults.capacity must lie between 0.05 and 1, not 'nan'"),
        (FaultPlan("weak_cell", parameters={"capacity": "x"}), "faults.capacity must be a number, not 'x'"),
        (FaultPlan("weak_cell", parameters={"capacity": True}), "faults.capacity must be a number, not 'True'"),
        (FaultPlan("internal_short", parameters={"ohm": 0.0}), "faults.ohm must lie between 0.001 and 1e+06 ohm, not '0.0'"),
        (FaultPlan("flood", parameters={"bus": "can"}), "faults.bus must be one of all, bms, inverter, vehicle, not 'can'"),
        (FaultPlan("flood", parameters={"bus": 3}), "faults.bus must be a text, not '3'"),
        (FaultPlan("clock_step", every_s=0.0), "faults.every_s must not lie below 0.1 s, not 0.0"),
        (FaultPlan("clock_step", every_s=math.nan), "faults.every_s must not lie below 0.1 s, not nan"),
        (FaultPlan("ignition_games", parameters={"shortest_s": 9}), "faults.longest_s must not lie below faults.shortest_s"),
        (FaultPlan("sensor_gain", parameters={"sensor": "cell_voltage:3:1"}), "faults.sensor 'cell_voltage:3:1' must lie between 1 and 2"),
        (FaultPlan("sensor_gain", parameters={"sensor": "cell_temp:1:45"}), "faults.sensor 'cell_temp:1:45' must lie between 1 and 44"),
        (FaultPlan("sensor_gain", parameters={"sensor": "cell_temp:1:2:3"}), "faults.sensor must be cell_temp:string:number, from 1"),
        (FaultPlan("sensor_gain", parameters={"sensor": "pack_current:1"}), "faults.sensor must be pack_current, from 1"),
        (FaultPlan("sensor_gain", parameters={"sensor": "cell_temp:-1"}), "faults.sensor must be cell_temp:string:number, from 1"),
        (FaultPlan("sensor_gain", parameters={"sensor": "String3_Current"}), "faults.sensor 'String3_Current' must lie between 1 and 2"),
        (FaultPlan("sensor_gain", parameters={"sensor": "no such thing"}), "faults.sensor must be a signal, or one of pack_current"),
        (FaultPlan("swapped_harness", parameters={"other": "cell_temp:1:2"}), "faults.other must be a sensor of the kind of cell_voltage:1:1"),
        (FaultPlan("swapped_harness", parameters={"other": "cell_voltage:1:1"}), "faults.other must be another sensor than cell_voltage:1:1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told_at_once(faults_of: Make, plan: FaultPlan, text: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        faults_of(FaultPlan("outage"), plan)
    assert str(caught.value).startswith(f"[[faults]] 2 ({plan.kind}): {text}")


def test_all_mistakes_come_together(faults_of: Make) -> None:
    with pytest.raises(ScenarioError) as caught:
        faults_of(FaultPlan("weak_cell", parameters={"cell": 177}), FaultPlan("none"))
    assert [p[:12] for p in caught.value.problems] == ["[[faults]] 1", "[[faults]] 2"]
