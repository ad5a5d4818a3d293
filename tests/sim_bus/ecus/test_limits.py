"""What the BMS allows, and that a charge by it ends full and within the cells' voltage."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from sim_bus.ecus.limits import (
    AGAIN_SOC,
    BLIND_DEGC,
    CV_BELOW_MAX_V,
    EASES_PER_S,
    FULL_C,
    FULL_S,
    Charging,
    Climate,
    PowerLimits,
)
from sim_bus.ecus.tables import CellLimits
from tests.sim_bus.ecus.conftest import LFP, OXIDE, STRINGS, Live, readings

WH = 100_000.0
NAN = math.nan


def allowed(
    coldest: float = 20.0, hottest: float = 20.0, soc: float = 0.5, low: float = 3.2, high: float = 3.3,
    charging: bool = False,
) -> tuple[float, float]:  # fmt: skip
    return PowerLimits(LFP, WH).second(coldest, hottest, soc, low, high, charging)


@pytest.mark.parametrize(
    ("which", "values", "rises"),
    [
        ("coldest", (-40, -30, -20, -10, 0, 10, 20), True),
        ("hottest", (20, 40, 45, 50, 55, 60), False),
        ("low", (2.4, 2.5, 2.6, 2.7, 2.8, 3.2), True),
        ("high", (3.3, 3.5, 3.6, 3.65, 3.7), False),
    ],
)
def test_limits_move_one_way(which: str, values: tuple[float, ...], rises: bool) -> None:
    for side in (0, 1):
        found = [allowed(**{which: v})[side] for v in values]  # type: ignore[arg-type]
        assert found == sorted(found, reverse=not rises)
        assert min(found) >= 0


def test_cold_cells_are_not_charged() -> None:
    assert [allowed(coldest=t)[1] for t in (-30.0, -10.0)] == [0, 0]
    assert 0 < allowed(coldest=5.0)[1] < 0.3 * allowed(coldest=20.0)[1]
    assert allowed(coldest=-30.0)[0] > 0, "but give"


def test_empty_gives_nothing_and_full_takes_nothing_back() -> None:
    assert allowed(soc=0.02)[0] == 0 < allowed(soc=0.02)[1]
    assert allowed(soc=0.985)[1] == 0 < allowed(soc=0.985)[0]
    assert allowed(soc=0.985, charging=True)[1] > 0, "at the charger its own figure may be wrong"
    assert allowed(low=2.5)[0] == 0
    assert allowed(high=3.65)[1] == 0


def test_a_limit_is_cut_at_once_and_comes_back_slowly() -> None:
    limits = PowerLimits(LFP, WH)
    whole = limits.second(20, 20, 0.5, 3.2, 3.3, False)[0]
    assert limits.second(20, 20, 0.5, 2.5, 3.3, False)[0] == 0
    back = [limits.second(20, 20, 0.5, 3.2, 3.3, False)[0] / whole for _ in range(5)]
    assert back == pytest.approx([EASES_PER_S * n for n in range(1, 6)])


def test_what_no_sensor_says() -> None:
    assert allowed(coldest=NAN, hottest=NAN) == allowed(coldest=BLIND_DEGC)
    assert allowed(soc=NAN, low=NAN, high=NAN) == allowed()


def test_heating_and_cooling_have_hysteresis() -> None:
    climate = Climate()

    def heats(degc: float) -> bool:
        climate.second(degc, degc)
        return climate.heat

    up = [heats(t) for t in np.arange(0.0, 25.0)]
    down = [heats(t) for t in np.arange(25.0, 0.0, -1)]
    assert up[0]
    assert not up[-1]
    assert 1 <= sum(up) - sum(down) <= 4
    climate.second(31, 31)
    assert climate.cool
    climate.second(28, 28)
    assert climate.cool
    climate.second(26, 26)
    assert not climate.cool
    climate.second(NAN, NAN)
    assert not climate.heat
    assert not climate.cool


def charge(
    live: Live, cell_v: Callable[[float, float], float], soc: float, most_a: float, hours: float
) -> tuple[list[float], list[float], float]:
    """A charger that gives what is asked, up to `most_a`, until nothing is asked; the cells' voltage by their
    state of charge and current."""
    asked, volts, amps = [], [], 0.0
    for _ in range(int(hours * 3600)):
        v = cell_v(soc, amps / STRINGS)
        (orders,) = live.run(readings(cell_v=v, string_a=-amps / STRINGS), ignition=False, plugged=True)
        amps = min(orders.charge_a, most_a)
        soc += amps / 3600 / (STRINGS * 100.0)
        asked.append(orders.charge_a)
        volts.append(v)
        if amps == 0 < max(asked):
            break
    return asked, volts, soc


@pytest.mark.parametrize("most_a", [40.0, 500.0])
@pytest.mark.parametrize("cell", [LFP, OXIDE])
def test_a_charge_ends_full(cell: CellLimits, most_a: float) -> None:
    """It began 10 % too low; the end of the charge sets it right. The charger is smaller or larger than asked for."""

    def volts(soc: float, string_a: float) -> float:
        knee = math.exp((soc - 1) * 60) * 0.2
        return cell.voltage_max_v - 0.25 + knee + 0.5e-3 * string_a

    live = Live(0.8, -0.1, cell)
    asked, seen, soc = charge(live, volts, 0.8, most_a, 2.5)
    assert max(seen) <= cell.voltage_max_v
    assert asked[-1] == 0
    assert soc == pytest.approx(1.0, abs=0.02)
    assert live.bms.soc == 1.0
    assert max(asked) > 50


def test_a_cold_battery_asks_for_nothing() -> None:
    live = Live(0.3)
    orders = live.run(readings(degc=-15.0), 60, ignition=False, plugged=True)
    assert orders[-1].charge_a == 0
    assert orders[-1].heat
    assert live.bms.soc < 0.5, "nothing flows, but it is not full"
    warm = live.run(readings(degc=15.0), 60, ignition=False, plugged=True)
    assert warm[-1].charge_a > 0


END_V = LFP.voltage_max_v - CV_BELOW_MAX_V


def test_full_is_said_after_a_while_of_little_current_at_the_end_voltage() -> None:
    charging, little_a = Charging(LFP, 200.0), 0.9 * FULL_C * 200.0
    for _ in range(FULL_S - 1):
        assert charging.second(20, 20, END_V, little_a, 0.99) > 0
    charging.second(20, 20, END_V, 1.2 * FULL_C * 200.0, 0.99)  # more flows again: from the beginning
    for _ in range(FULL_S - 1):
        assert charging.second(20, 20, END_V, little_a, 0.99) > 0
        assert not charging.just_full
    assert charging.second(20, 20, END_V, little_a, 0.99) == 0
    assert charging.just_full
    for _ in range(50):
        assert charging.second(20, 20, 3.35, 0.0, AGAIN_SOC + 0.01) == 0
        assert not charging.just_full
    assert charging.second(20, 20, 3.35, 0.0, AGAIN_SOC - 0.01) > 0, "it has been used: charge again"


def test_little_current_below_the_end_voltage_is_a_small_charger_not_a_full_battery() -> None:
    charging = Charging(LFP, 200.0)
    assert all(charging.second(20, 20, END_V - 0.1, 1.0, 0.5) > 0 for _ in range(60))


def test_hot_cells_are_charged_with_less() -> None:
    asked = [Charging(LFP, 200.0).second(20, hot, 3.2, 0.0, 0.5) for hot in (20, 45, 50, 55)]
    assert asked[0] > asked[1] > asked[2] > asked[3] == 0
