"""Power limits: against a plain simulation, and what must always hold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.battery import power
from edge.battery.model import CellModel
from edge.battery.power import CAUSES, CURRENT, HORIZONS_S, SOC, TEMPERATURE, UNKNOWN, VOLTAGE, PowerPredictor
from tests.edge.battery.power_cell import Twin, make_cell, make_states

SEED = 11


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CellModel:
    return make_cell(tmp_path_factory.mktemp("cell"))


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> CellModel:
    """The same without limits but the voltage's."""
    folder: Path = tmp_path_factory.mktemp("cell")
    wide = {"temp_min_degc": -60.0, "temp_max_degc": 100.0, "charge_temp_min_degc": -60.0}
    amps = dict.fromkeys(("discharge_max_a", "discharge_pulse_a", "charge_max_a", "charge_pulse_a"), 1000.0)
    return make_cell(folder, **wide, **amps)


@pytest.fixture
def exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """No margin: the model is the cell."""
    monkeypatch.setattr(power, "MARGIN_SD", 0.0)


@pytest.mark.usefixtures("exactly")
@pytest.mark.parametrize("temp", [-25.0, 0.0, 25.0])
@pytest.mark.parametrize("soc", [0.15, 0.8])
@pytest.mark.parametrize("before_a", [-4.0, 0.0, 6.0])
def test_equals_the_twin(free: CellModel, soc: float, temp: float, before_a: float) -> None:
    """The voltage limit, by bisection on a simulation in 40 steps: within 1 %."""
    states = make_states(
        1,
        soc=soc,
        temp_degc=temp,
        relaxation_a=before_a,
        resistance_ratio=1.2,
        hysteresis=0.3,
        model_error_v=0.01,
    )
    found = PowerPredictor(free, [0]).limits(states)
    for row, seconds in enumerate(HORIZONS_S):
        for sign, limit, bound in (
            (1.0, found.discharge, free.voltage_min_v),
            (-1.0, found.charge, free.voltage_max_v),
        ):
            if limit.cause[row, 0] == SOC:
                continue
            low, high = 0.0, 150.0
            for _ in range(12):
                middle = (low + high) / 2
                twin = Twin(free, states, dt_s=seconds / 40)
                volts = [twin.voltage(sign * middle), *twin.during(sign * middle, seconds)]
                fits = all(sign * (v - bound) >= 0 for v in volts)
                low, high = (middle, high) if fits else (low, middle)
            assert limit.string_current_a[row, 0] == pytest.approx(low, rel=0.01, abs=0.05)
            assert limit.cause[row, 0] == VOLTAGE


@pytest.mark.usefixtures("exactly")
def test_a_pulse_of_that_power_passes_no_limit(free: CellModel) -> None:
    """Of constant power, in either direction, for the whole time."""
    rng = np.random.default_rng(SEED)
    for _ in range(8):
        states = make_states(
            1,
            soc=rng.uniform(0.1, 0.9),
            temp_degc=rng.uniform(-25, 30),
            relaxation_a=rng.uniform(-2, 5, 2),
            resistance_ratio=rng.uniform(0.8, 2),
        )
        found = PowerPredictor(free, [0]).limits(states)
        for sign, limit in ((1.0, found.discharge), (-1.0, found.charge)):
            for row, seconds in enumerate(HORIZONS_S):
                twin = Twin(free, states, dt_s=seconds / 40)
                for _ in range(40):
                    i = twin.current_for(sign * float(limit.power_w[row]))
                    twin.step(i)
                    volts = twin.voltage(i)
                    assert free.voltage_min_v - 2e-3 < volts < free.voltage_max_v + 2e-3


states_of_a_cell = st.fixed_dictionaries(
    {
        "soc": st.floats(0, 1),
        "temp_degc": st.floats(-35, 70),
        "relaxation_a": st.floats(0, 10),
        "resistance_ratio": st.floats(0.5, 4),
        "hysteresis": st.floats(-1, 1),
        "soc_sd": st.floats(0, 0.1),
    }
)


@settings(max_examples=25, deadline=None)
@given(states_of_a_cell, st.floats(0, 40))
def test_colder_never_gives_more(free: CellModel, state: dict[str, float], colder: float) -> None:
    warm = PowerPredictor(free, [0]).limits(make_states(1, **state))
    cold = PowerPredictor(free, [0]).limits(
        make_states(1, **state | {"temp_degc": state["temp_degc"] - colder})
    )
    assert (cold.discharge.power_w <= warm.discharge.power_w * 1.003 + 1e-6).all()


@settings(max_examples=25, deadline=None)
@given(
    states_of_a_cell,
    st.sampled_from(["resistance_ratio", "soc_sd", "resistance_ratio_sd", "model_error_sd_v"]),
)
def test_worse_or_less_known_never_gives_more(model: CellModel, state: dict[str, float], what: str) -> None:
    """The solver stops within 0.1 % of the limit."""
    worse = state | {what: state.get(what, 0.0) + 0.05}
    before = PowerPredictor(model, [0]).limits(make_states(1, **state))
    after = PowerPredictor(model, [0]).limits(make_states(1, **worse))
    assert (after.discharge.power_w <= before.discharge.power_w * 1.003 + 1e-6).all()
    if state["relaxation_a"] == 0:  # relaxation of a discharge helps charging, and more of it helps more
        assert (after.charge.string_current_a <= before.charge.string_current_a * 1.003 + 1e-6).all()


@settings(max_examples=25, deadline=None)
@given(states_of_a_cell)
def test_limits_are_respected(model: CellModel, state: dict[str, float]) -> None:
    found, limits = PowerPredictor(model, [0], parallel=3).limits(make_states(1, **state)), model.limits
    for limit, pulse_a, lasting_a in (
        (found.discharge, limits.discharge_pulse_a, limits.discharge_max_a),
        (found.charge, limits.charge_pulse_a, limits.charge_max_a),
    ):
        amps = limit.string_current_a[:, 0] / 3
        assert (amps >= 0).all()
        assert (amps <= [pulse_a, pulse_a, lasting_a]).all()
        assert (limit.power_w >= 0).all()
    moved = found.discharge.string_current_a[:, 0] / 3 * HORIZONS_S / 3600 / 5
    assert (state["soc"] - moved >= -1e-9).all()
    if state["temp_degc"] <= 0:
        assert not found.charge.power_w.any()
    if state["temp_degc"] >= limits.temp_max_degc or state["temp_degc"] <= limits.temp_min_degc:
        assert not found.discharge.power_w.any()


def test_no_charging_below_zero_unless_the_file_permits_it(model: CellModel) -> None:
    states = make_states(1, temp_degc=-1.0)
    forbidden = PowerPredictor(model, [0]).limits(states).charge
    assert not forbidden.power_w.any()
    assert (forbidden.cause == TEMPERATURE).all()
    permits = replace(model, limits=replace(model.limits, charge_temp_min_degc=-20.0))
    assert (PowerPredictor(permits, [0]).limits(states).charge.power_w > 0).all()


@pytest.mark.parametrize("field", ["soc", "temp_degc", "resistance_ratio", "relaxation_a", "capacity_ah"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_known_gives_nothing_and_is_counted(model: CellModel, field: str, bad: float) -> None:
    states = make_states(4)
    getattr(states, field)[1] = bad
    found = PowerPredictor(model, [0, 0, 1, 1]).limits(states)
    assert found.unknown_cells == 1
    for limit in (found.discharge, found.charge):
        assert not limit.string_power_w[:, 0].any()
        assert (limit.cause[:, 0] == UNKNOWN).all()
        assert (limit.cell[:, 0] == 1).all()
        assert (limit.string_power_w[:, 1] > 0).all()


def test_the_weakest_cell_decides_and_is_named(free: CellModel) -> None:
    """Whatever the order of the cells, and however few the solver looks at."""
    rng = np.random.default_rng(SEED)
    n = 60
    soc, ratio = rng.normal(0.5, 0.03, n), rng.normal(1, 0.1, n)
    ratio[17] = 3.0
    states = make_states(n, soc=soc, resistance_ratio=ratio, temp_degc=-10.0, relaxation_a=2.0)
    found = PowerPredictor(free, np.zeros(n, int)).limits(states).discharge
    assert (found.cell == 17).all()
    single = make_states(1, soc=soc[17], resistance_ratio=3.0, temp_degc=-10.0, relaxation_a=2.0)
    alone = PowerPredictor(free, [0]).limits(single).discharge
    assert found.string_current_a == pytest.approx(alone.string_current_a, rel=2e-3)
    assert found.cell_power_w == pytest.approx(alone.power_w[:, None], rel=2e-3)
    order = rng.permutation(n)
    turned = make_states(n, soc=soc[order], resistance_ratio=ratio[order], temp_degc=-10.0, relaxation_a=2.0)
    other = PowerPredictor(free, np.zeros(n, int)).limits(turned).discharge
    assert other.power_w == pytest.approx(found.power_w, rel=2e-3)
    assert (order[other.cell] == 17).all()


def test_few_candidates_do_as_well_as_all(free: CellModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the cell that is weakest at the highest current is not the weakest at the limit."""
    rng = np.random.default_rng(SEED)
    n, strings = 40, np.repeat([0, 1], 20)
    for _ in range(10):
        states = make_states(
            n,
            soc=rng.uniform(0.02, 0.98, n),
            resistance_ratio=rng.uniform(0.5, 3, n),
            temp_degc=rng.uniform(-30, 30, n),
            relaxation_a=rng.uniform(-3, 6, (n, 2)),
            model_error_v=rng.normal(0, 0.05, n),
        )
        monkeypatch.setattr(power, "CANDIDATES", n)
        every = PowerPredictor(free, strings).limits(states)
        monkeypatch.setattr(power, "CANDIDATES", 1)
        few = PowerPredictor(free, strings).limits(states)
        for a, b in ((every.discharge, few.discharge), (every.charge, few.charge)):
            assert b.string_current_a == pytest.approx(a.string_current_a, rel=4e-3, abs=1e-2)


def test_strings_in_parallel(model: CellModel) -> None:
    """Two that are the same give twice; one that is worse takes the others down; one that is off is left out."""
    one = PowerPredictor(model, [0, 0]).limits(make_states(2, temp_degc=-15.0)).discharge
    two = PowerPredictor(model, [0, 0, 1, 1]).limits(make_states(4, temp_degc=-15.0)).discharge
    assert two.power_w == pytest.approx(2 * one.power_w, rel=2e-3)
    bad = PowerPredictor(model, [0, 0, 1, 1])
    states = make_states(4, temp_degc=-15.0, soc=[0.5, 0.5, 0.4, 0.5])
    worse = bad.limits(states).discharge
    assert (worse.power_w < worse.string_power_w.sum(axis=1)).all()
    assert (worse.power_w > 0).all()
    off = bad.limits(states, np.array([True, False])).discharge
    assert off.power_w == pytest.approx(one.power_w, rel=2e-3)
    none = bad.limits(states, np.array([False, False]))
    assert not none.discharge.power_w.any()
    assert not none.charge.power_w.any()


def test_causes(model: CellModel) -> None:
    """By name, as a page shows them."""

    def cause(**state: float) -> str:
        return CAUSES[PowerPredictor(model, [0]).limits(make_states(1, **state)).discharge.cause[2, 0]]

    assert cause() == CAUSES[CURRENT]
    assert cause(temp_degc=-18.0) == CAUSES[VOLTAGE]
    assert cause(soc=0.01) == CAUSES[SOC]
    assert cause(temp_degc=58.0) == CAUSES[TEMPERATURE]


def test_refuses_what_makes_no_pack(model: CellModel) -> None:
    for strings in ([], [1], [0, 1, 0], [[0]], [0, 2]):
        with pytest.raises(ValueError, match="string_of_cell"):
            PowerPredictor(model, strings)
    with pytest.raises(ValueError, match="states must be of 2 cells"):
        PowerPredictor(model, [0, 0]).limits(make_states(3))
