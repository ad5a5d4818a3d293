"""The BMS: its states, what it trusts, and that a broken sensor fools it but never breaks it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sim_bus.doors import STEPS
from sim_bus.ecus import trouble
from sim_bus.ecus.bms import CHARGE, DRIVE, FAULT, INIT, OPENS_S, PRECHARGE, STANDBY
from sim_bus.ecus.guard import AFTER_S
from sim_bus.ecus.names import BMS_STRING_VALUES, BMS_VALUES
from tests.sim_bus.ecus.conftest import CELLS, STRINGS, Live, readings

NAN = float("nan")


def one_cell(volts: float, others: float = 3.29) -> np.ndarray:
    cells = np.full((STRINGS, CELLS), others)
    cells[1, 3] = volts
    return cells


def test_it_comes_up_step_by_step() -> None:
    live = Live()
    far, near = readings(link_v=0.0), readings()
    orders = live.run(None) + live.run(far, 5) + live.run(near, 3)
    states = [state for state, _ in itertools.groupby(o.state for o in orders)]
    assert states == [INIT, STANDBY, PRECHARGE, DRIVE]
    for o in orders:
        assert o.precharge == (o.state == PRECHARGE)
        assert o.contactors.all() == o.contactors.any() == (o.state == DRIVE)
        assert (o.discharge_w > 0) == (o.state == DRIVE)


def test_the_contactors_wait_for_the_link() -> None:
    live = Live()
    orders = live.run(readings(link_v=0.9 * 3.29 * CELLS), 30)
    assert not any(o.contactors.any() for o in orders)
    assert orders[-1].state == FAULT
    assert orders[-1].trouble == (trouble.PRECHARGE_FAILED,)
    live.run(None, ignition=False)
    assert live.run(readings(), 10)[-1].state == DRIVE, "cut and given anew, supply lets it try again"


def test_plug_and_ignition_make_charge_drive_and_silence() -> None:
    live = Live().started()
    assert live.run(readings(), plugged=True)[0].state == CHARGE
    assert live.run(readings())[0].state == DRIVE
    (off,) = live.run(readings(), ignition=False)
    assert not off.contactors.any()
    assert (off.discharge_w, off.charge_w, off.charge_a, off.heat) == (0, 0, 0, False)
    assert live.run(readings())[0].state == INIT


def test_a_reset_opens_the_contactors_and_keeps_the_state_of_charge() -> None:
    live = Live(0.6).started(string_a=50.0)
    soc = live.bms.soc
    live.bms.restart()
    (first,) = live.run(readings())
    assert first.state == INIT
    assert not first.contactors.any()
    assert live.bms.soc == pytest.approx(soc, abs=1e-6)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (trouble.CELL_VOLTAGE_HIGH, {"cell_v": one_cell(3.80)}),
        (trouble.CELL_VOLTAGE_LOW, {"cell_v": one_cell(2.30)}),
        (trouble.CELL_TEMP_HIGH, {"degc": 61.0}),
        (trouble.INSULATION_BROKEN, {"kohm": 30.0}),
        (trouble.CURRENT_SENSOR_LOST, {"string_a": NAN}),
        (trouble.CELL_SENSORS_LOST, {"cell_v": NAN}),
    ],
)
def test_severe_trouble_stops_the_bus(code: trouble.Code, said: dict[str, float]) -> None:
    live = Live().started()
    after = AFTER_S[code]
    orders = live.run(readings(**said), after + OPENS_S + 1)
    assert orders[after - 2].state == DRIVE, "a short disturbance is none"
    assert orders[after - 1].state == FAULT
    assert code in orders[-1].trouble
    assert not orders[-1].contactors.any()
    assert orders[-1].discharge_w == orders[-1].charge_w == 0
    assert live.run(readings(), 5)[-1].state == FAULT, "it stays"


def test_in_a_fault_contactors_open_under_load_only_after_a_while() -> None:
    live = Live().started()
    after = AFTER_S[trouble.CELL_TEMP_HIGH]
    orders = live.run(readings(degc=61.0, string_a=80.0), after + OPENS_S)
    closed = [bool(o.contactors.any()) for o in orders[after - 1 :]]
    assert closed == [True] * OPENS_S + [False]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (trouble.CELL_TEMP_WARM, {"degc": 53.0}),
        (trouble.CELL_SENSOR_LOST, {"cell_v": one_cell(NAN)}),
        (trouble.CELL_SENSOR_LOST, {"cell_v": one_cell(0.0)}),
        (trouble.CELL_SENSOR_LOST, {"cell_v": one_cell(9.0)}),
        (trouble.TEMP_SENSOR_LOST, {"degc": np.array([20.0, NAN])}),
        (trouble.TEMP_SENSOR_LOST, {"degc": np.array([20.0, -60.0])}),
        (trouble.TEMP_SENSOR_LOST, {"degc": np.array([20.0, 200.0])}),
    ],
)
def test_lesser_trouble_warns_and_passes(code: trouble.Code, said: dict[str, float]) -> None:
    live = Live().started()
    orders = live.run(readings(**said), 10)
    assert orders[-1].trouble == (code,)
    assert orders[-1].state == DRIVE
    assert live.run(readings(), 2)[-1].trouble == ()


def test_nothing_read_ever_breaks_it() -> None:
    """Every sensor in turn and all together say NaN, zero, or the impossible, in every state."""
    for bad in (NAN, 0.0, 1e9, -1e9):
        for names in (
            ("string_a",),
            ("cell_v",),
            ("degc",),
            ("link_v",),
            ("kohm",),
            ("string_a", "cell_v", "degc"),
        ):
            for plugged in (False, True):
                live = Live().started(plugged=plugged)
                for o in live.run(readings(**dict.fromkeys(names, bad)), 12, plugged=plugged):
                    assert o.discharge_w >= 0
                    assert o.charge_w >= 0
                    assert o.charge_a >= 0
                assert 0 <= live.bms.soc <= 1
                live.bms.values()


def test_strings_far_apart_are_not_joined() -> None:
    apart = np.full((STRINGS, CELLS), 3.29)
    apart[1] -= 0.05
    driving = Live()
    assert driving.run(readings(cell_v=apart), 10)[-1].contactors.tolist() == [True, False], (
        "the higher drives"
    )
    charging = Live()
    orders = charging.run(readings(cell_v=apart, link_v=27.0), 10, ignition=False, plugged=True)
    assert orders[-1].contactors.tolist() == [False, True], "the lower is charged"
    half = driving.run(readings(cell_v=apart), 12)[-1]
    assert half.trouble == (trouble.STRINGS_APART,)
    assert driving.run(readings(), 2)[-1].contactors.all(), "it joins where they have met"
    assert driving.run(readings(), 1)[0].discharge_w == pytest.approx(2 * half.discharge_w)


def test_what_it_alone_knows() -> None:
    live = Live(0.5).started(string_a=10.0)
    values = live.bms.values()
    assert set(values) == set(BMS_VALUES) | {f"String{s}_{n}" for s in (1, 2) for n in BMS_STRING_VALUES}
    assert all(v.shape == (STEPS,) and np.isfinite(v).all() for v in values.values())
    assert values["String1_CellCount"][0] == CELLS
    assert values["DischargeCurrentLimit"][0] * 3.29 * CELLS == pytest.approx(
        1000 * values["DischargePowerLimit"][0]
    )
    other = Live(0.5).bms.values()
    assert other["PackSerial"][0] == values["PackSerial"][0], "of the seed"
    assert other["HvessDischargedCharge"][0] < values["HvessDischargedCharge"][0]


def test_before_anything_was_read_it_says_nothing_of_it() -> None:
    values = Live().bms.values()
    assert np.isnan(values["DischargeCurrentLimit"]).all()
    assert values["State"][0] == INIT
    assert values["ContactorsClosed"][0] == 0


def test_it_begins_as_wrong_as_the_plan_says() -> None:
    assert Live(0.5, 0.1).bms.soc == pytest.approx(0.6)
    assert Live(0.95, 0.1).bms.soc == 1.0


def test_in_a_fault_it_says_that_it_allows_nothing() -> None:
    live = Live().started()
    assert live.bms.values()["DischargePowerLimit"][0] > 0
    live.run(readings(kohm=10.0), 20)
    values = live.bms.values()
    assert values["State"][0] == FAULT
    for name in ("DischargePowerLimit", "ChargePowerLimit", "DischargeCurrentLimit", "ChargeCurrentLimit"):
        assert (values[name] == 0).all(), name


def test_nothing_is_heated_before_the_contactors_are_closed() -> None:
    orders = Live().run(readings(degc=-20.0, link_v=0.0), 6)
    assert [o.state for o in orders][-1] == PRECHARGE
    assert not any(o.heat for o in orders)
    assert Live().started(degc=-20.0).run(readings(degc=-20.0))[0].heat


@pytest.mark.parametrize("amps", [36.0, -18.0])
def test_life_counters_count(amps: float) -> None:
    live = Live().started()
    before = live.bms.values()
    live.run(readings(string_a=amps / STRINGS), 100)
    gained = {name: v[0] - before[name][0] for name, v in live.bms.values().items()}
    used, rests = ("Discharged", "Charged") if amps > 0 else ("Charged", "Discharged")
    assert gained[f"Hvess{used}Charge"] == pytest.approx(abs(amps) * 100 / 3600)
    assert gained[f"Hvess{used}Energy"] == pytest.approx(abs(amps) * 3.29 * CELLS * 100 / 3.6e6)
    assert gained[f"Hvess{rests}Charge"] == gained[f"Hvess{rests}Energy"] == 0
    assert gained["HvessHoursInService"] == pytest.approx(100 / 3600)
