"""Energy left and range: against a plain simulation, and what must always hold."""

import math
from dataclasses import replace

import numpy as np
import pytest

from edge.battery.energy import (
    PRIOR_KWH_KM,
    Consumption,
    Load,
    LoadTracker,
    energy_left,
    range_left,
)
from edge.battery.model import CellModel
from edge.errors import CellModelError
from tests.edge.battery.power_cell import Twin, make_cell, make_states

SEED = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CellModel:
    return make_cell(tmp_path_factory.mktemp("cell"))


def demand_w(second: int) -> float:
    """A route: of every minute 6 s hard, some braking, the rest easy."""
    place = second % 60
    return 22.0 if place < 6 else -6.0 if place > 55 else 5.0


def drive(model: CellModel, temp: float, soc: float) -> tuple[float, LoadTracker]:
    """(Wh that the twin gives on that route until a third of its last minute was held back at the limit, what was learnt of
    the load on the way)."""
    twin = Twin(model, make_states(1, soc=soc, temp_degc=temp), dt_s=2.0)
    tracker, energy, held = LoadTracker(model), 0.0, [False] * 30
    for second in range(0, 30_000, 2):
        current = twin.current_for(demand_w(second))
        twin.step(current)
        volts = twin.voltage(current)
        held = [*held[1:], volts <= model.voltage_min_v]
        if held[-1]:  # as much as the limit leaves
            current, volts = current_at(twin, model.voltage_min_v), model.voltage_min_v
        if sum(held) >= 10 or twin.soc <= 0:
            break
        energy += 2 * current * volts / 3600
        tracker.update(2.0, current, volts, twin.y, temp)
    return energy, tracker


def current_at(twin: Twin, volts: float) -> float:
    low, high = 0.0, 100.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if twin.voltage(middle) > volts else (low, middle)
    return low


@pytest.mark.parametrize("temp", [-20.0, -5.0, 25.0])
def test_equals_the_twin(model: CellModel, temp: float) -> None:
    """On the route that was learnt, from 80 % on: within 5 %."""
    energy, tracker = drive(model, temp, 0.8)
    found = energy_left(model, make_states(1, soc=0.8, temp_degc=temp, hysteresis=-1.0), [0], tracker.load)
    print(temp, energy, found.energy_wh, found.soc_end)
    assert found.energy_wh == pytest.approx(energy, rel=0.05)
    assert found.unknown_cells == 0


@pytest.fixture(scope="module")
def load(model: CellModel) -> Load:
    return drive(model, -10.0, 0.6)[1].load


def test_worse_never_leaves_more(model: CellModel, load: Load) -> None:
    rng = np.random.default_rng(SEED)
    print("seed", SEED)
    for _ in range(30):
        state = {
            "soc": rng.uniform(0, 1),
            "temp_degc": rng.uniform(-30, 40),
            "resistance_ratio": rng.uniform(0.7, 3),
        }
        before = energy_left(model, make_states(1, **state), [0], load)
        for worse in (
            {"temp_degc": state["temp_degc"] - 5},
            {"resistance_ratio": state["resistance_ratio"] * 1.2},
            {"soc": 0.95 * state["soc"]},
        ):
            after = energy_left(model, make_states(1, **state | worse), [0], load)
            assert after.energy_wh <= before.energy_wh * 1.002 + 1e-9
        assert before.energy_wh >= 0
        assert math.isfinite(before.energy_sd_wh)


def test_the_band_grows_with_what_is_not_known(model: CellModel, load: Load) -> None:
    known = energy_left(model, make_states(1, temp_degc=-10.0), [0], load, capacity_rel_sd=0.001)
    for doubt in ({"soc_sd": 0.05}, {"resistance_ratio_sd": 0.3}, {"model_error_sd_v": 0.05}):
        found = energy_left(model, make_states(1, temp_degc=-10.0, **doubt), [0], load, capacity_rel_sd=0.001)
        assert found.energy_sd_wh > known.energy_sd_wh
        assert found.energy_wh == known.energy_wh
    capacity = energy_left(model, make_states(1, temp_degc=-10.0), [0], load, capacity_rel_sd=0.1)
    assert capacity.energy_sd_wh > known.energy_sd_wh


def test_the_first_cell_ends_its_string(model: CellModel, load: Load) -> None:
    soc = np.full(12, 0.6)
    soc[7] = 0.4
    found = energy_left(model, make_states(12, soc=soc), [0] * 6 + [1] * 6, load, parallel=2)
    assert found.cell[1] == 7
    assert found.string_wh[1] < 0.7 * found.string_wh[0]
    assert found.energy_wh == pytest.approx(found.string_wh.sum())
    alone = energy_left(model, make_states(1, soc=0.6), [0], load)
    assert found.string_wh[0] == pytest.approx(12 * alone.energy_wh, rel=1e-6)
    three = energy_left(model, make_states(1, soc=0.6), [0], load, series=3)
    assert three.energy_wh == pytest.approx(3 * alone.energy_wh)


def test_a_cell_that_nobody_sees_ends_it(model: CellModel, load: Load) -> None:
    """The same as if it were shown, but for the voltage of the others; and less surely."""
    states = make_states(2, soc=0.6)
    shown = energy_left(model, states, [0, 0], load)
    unseen = energy_left(model, states, [0, 0], load, unseen_soc=0.03, unseen_soc_sd=0.01)
    emptier = energy_left(model, make_states(2, soc=[0.57, 0.6]), [0, 0], load)
    assert unseen.energy_wh == pytest.approx(emptier.energy_wh, rel=0.01)
    assert emptier.energy_wh < unseen.energy_wh < shown.energy_wh
    assert unseen.energy_sd_wh > shown.energy_sd_wh
    assert energy_left(model, states, [0, 0], load, unseen_soc=0.7).energy_wh == 0


@pytest.mark.parametrize("field", ["soc", "temp_degc", "capacity_ah"])
def test_what_is_not_known_leaves_nothing_and_is_counted(model: CellModel, load: Load, field: str) -> None:
    states = make_states(4)
    getattr(states, field)[3] = np.nan
    found = energy_left(model, states, [0, 0, 1, 1], load)
    assert found.unknown_cells == 1
    assert found.string_wh[1] == 0
    assert found.string_wh[0] > 0


def test_only_driving_is_learnt(model: CellModel) -> None:
    tracker = LoadTracker(model)
    before = tracker.load
    for _ in range(600):
        tracker.update(1.0, -5.0, 3.9, np.zeros(2), 20.0)
        tracker.update(1.0, math.nan, 3.9, np.zeros(2), 20.0)
        tracker.update(1.0, 3.0, math.nan, np.zeros(2), 20.0)
        tracker.update(0.0, 3.0, 3.7, np.zeros(2), 20.0)
    assert not tracker.driving
    assert tracker.load.power_w == before.power_w
    assert (tracker.load.loss_a == before.loss_a).all()


def test_the_load_lasts_over_a_boot(model: CellModel) -> None:
    _, tracker = drive(model, 0.0, 0.7)
    other = LoadTracker(model)
    other.restore(tracker.dump())
    for learner in (tracker, other):
        learner.update(1.0, 4.0, 3.6, np.ones(2), 0.0)
    assert other.dump() == tracker.dump()
    for damaged in (tracker.dump()[:-3], tracker.dump()[:-8], b"", tracker.dump()[:-8] + b"\xff" * 8):
        with pytest.raises(CellModelError, match="load"):
            other.restore(damaged)
    assert other.dump() == tracker.dump()


def test_consumption_learns_its_bus() -> None:
    """A bus that is not the prior's: within 3 % after 600 km of every weather, its band no wider than it must."""
    rng = np.random.default_rng(SEED)
    print("seed", SEED)

    def truth(ambient: float) -> float:
        return 1.4 + 0.03 * max(15 - ambient, 0) + 0.02 * max(ambient - 20, 0)

    learner = Consumption()
    for _ in range(600):
        ambient = rng.uniform(-20, 35)
        learner.learn(1.0, truth(ambient) + rng.normal(0, 0.25), ambient)
    for ambient in (-20.0, 0.0, 17.0, 30.0):
        mean, sd = learner.at(ambient)
        assert mean == pytest.approx(truth(ambient), rel=0.05)
        assert sd < 0.1
    assert learner.refused == 0


def test_consumption_is_the_prior_before_and_forgets_what_is_long_ago() -> None:
    learner = Consumption()
    assert learner.at(18.0)[0] == pytest.approx(PRIOR_KWH_KM[0])
    for _ in range(300):
        learner.learn(1.0, 2.0, 18.0)
    for _ in range(6000):
        learner.learn(1.0, 1.2, 18.0)
    assert learner.at(18.0)[0] == pytest.approx(1.2, abs=0.05)
    assert learner.at(math.nan)[0] > 0


@pytest.mark.parametrize(
    "segment",
    [
        (math.nan, 1.0, 0.0),
        (1.0, math.nan, 0.0),
        (1.0, 1.0, math.nan),
        (0.0, 1.0, 0.0),
        (-1.0, 1.0, 0.0),
        (1.0, 50.0, 0.0),
    ],
)
def test_consumption_counts_what_cannot_be(segment: tuple[float, float, float]) -> None:
    learner = Consumption()
    before = learner.dump()
    learner.learn(*segment)
    assert learner.refused == 1
    assert learner.dump() == before


def test_consumption_lasts_over_a_boot() -> None:
    learner, other = Consumption(), Consumption()
    learner.learn(1.0, 1.7, -12.0)
    other.restore(learner.dump())
    assert other.at(-12.0) == learner.at(-12.0)
    for damaged in (b"", learner.dump()[:-1], learner.dump()[:-8], b"\0" * 96):
        with pytest.raises(CellModelError, match="consumption"):
            other.restore(damaged)
    assert other.dump() == learner.dump()


def test_the_range_has_both_bands(model: CellModel, load: Load) -> None:
    energy = energy_left(model, make_states(1, temp_degc=-10.0), [0], load)
    learner = Consumption()
    narrow = range_left(replace(energy, energy_sd_wh=0.0), learner, -10.0)
    wide = range_left(energy, learner, -10.0)
    assert 0 <= wide.low_km < narrow.low_km < narrow.range_km == wide.range_km < narrow.high_km < wide.high_km
