"""Trouble: after how long, and until when."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sim_bus.ecus import trouble
from sim_bus.ecus.guard import AFTER_S, Guard
from sim_bus.ecus.j1939 import dm1
from sim_bus.ecus.sensed import Sensed, sense
from tests.sim_bus.ecus.conftest import LFP, STRINGS, readings

HEALTHY = sense(readings())


def told(guard: Guard, sensed: Sensed, seconds: int) -> tuple[trouble.Code, ...]:
    for _ in range(seconds):
        guard.second(sensed, apart=False, precharging=False)
    return guard.active


@pytest.mark.parametrize(
    ("kohm", "code"), [(2000.0, None), (61.0, None), (55.0, "low"), (41.0, "low"), (39.0, "broken")]
)
def test_insulation(kohm: float, code: str | None) -> None:
    """100 ohm/V of 580 V are 58 kohm."""
    sensed = dataclasses.replace(HEALTHY, insulation_kohm=kohm, string_v=np.full(STRINGS, 580.0))
    want = {
        None: (),
        "low": (trouble.INSULATION_LOW,),
        "broken": (trouble.INSULATION_BROKEN, trouble.INSULATION_LOW),
    }[code]
    guard = Guard(LFP)
    assert told(guard, sensed, AFTER_S[trouble.INSULATION_LOW] - 1) == ()
    assert told(guard, sensed, 1) == want
    assert guard.fault == (code == "broken")


def test_what_comes_and_goes_is_no_trouble() -> None:
    guard = Guard(LFP)
    hot = dataclasses.replace(HEALTHY, hottest_degc=70.0)
    for _ in range(5):
        assert told(guard, hot, AFTER_S[trouble.CELL_TEMP_HIGH] - 1) == ()
        assert told(guard, HEALTHY, 1) == ()


def test_severe_stays_until_it_is_forgotten() -> None:
    guard = Guard(LFP)
    both = (trouble.CELL_TEMP_HIGH, trouble.CELL_TEMP_WARM)
    assert told(guard, dataclasses.replace(HEALTHY, hottest_degc=70.0), 3) == both
    assert told(guard, HEALTHY, 1) == both[:1]
    guard.forget()
    assert told(guard, HEALTHY, 1) == ()


def test_each_code_is_different_and_watched() -> None:
    codes = [c for name, c in vars(trouble).items() if isinstance(c, tuple) and name.isupper()]
    assert len(set(codes)) == len(codes)
    assert set(codes) == set(AFTER_S)
    assert set(codes) >= trouble.SEVERE
    assert all(516_096 <= spn <= 524_287 and 0 <= fmi <= 31 for spn, fmi in codes)


@pytest.mark.parametrize(("code", "red"), [(trouble.PRECHARGE_FAILED, True), (trouble.INSULATION_LOW, False)])
def test_what_stops_the_bus_lights_the_red_lamp(code: trouble.Code, red: bool) -> None:
    lamps = dm1([(*code, 1)])[0]
    assert bool(lamps >> 4 & 3) == red
    assert bool(lamps >> 2 & 3) == (not red)
