"""Rests of a cycler: what stands still near zero, and nothing else."""

import numpy as np

from edge.battery.rests import REST_S, rests
from tests.edge.battery.test_health import cell

OFFSET_A = 0.8  # of a cell of 100 Ah whose file expects an sd of 0.5 A


def test_a_rest_with_an_offset_is_seen_when_it_has_lasted() -> None:
    time = np.arange(600.0)
    current = np.where((time >= 200) & (time < 400), 0.0, 50 * np.sin(time)) + OFFSET_A
    found = rests(time, current, cell())
    assert not found[: 200 + int(REST_S)].any()
    assert found[200 + int(REST_S) + 1 : 400].all()
    assert not found[400:].any()


def test_a_slow_discharge_is_no_rest() -> None:
    time = np.arange(0.0, 7200.0, 10)
    assert not rests(time, np.full(len(time), 100 / 30), cell()).any()


def test_nan_ends_a_rest_and_a_drive_has_none() -> None:
    time = np.arange(200.0)
    current = np.zeros(200)
    current[100] = np.nan
    found = rests(time, current, cell())
    assert found[99]
    assert not found[100 : 100 + int(REST_S)].any()
    assert found[199]
    assert not rests(time, np.sin(time), cell()).any()
