"""Pulse resistance against the circuit's own equations, stepped."""

import math

import numpy as np
import pytest

from edge.battery.resistance import pulse_resistance_ohm
from tests.edge.battery.test_health import cell


@pytest.mark.parametrize("temp", [25.0, -20.0])
@pytest.mark.parametrize("current", [30.0, -30.0, 300.0])
def test_is_the_circuit_after_that_time(temp: float, current: float) -> None:
    m = cell()
    knee = float(np.interp(temp, m.temp_degc, m.knee_a))
    j, y, dt = knee * math.asinh(current / knee), np.zeros(len(m.tau_s)), 0.001
    for _ in range(10_000):
        y += dt * (j - y) / m.tau_s
    ohm = [float(m.at(r, 0.5, temp)) for r in (m.r0_ohm, m.rct_ohm, *m.relaxation_ohm)]
    drop = ohm[0] * current + ohm[1] * j + float(np.dot(ohm[2:], y))
    assert float(pulse_resistance_ohm(m, 0.5, temp, current, 10)) == pytest.approx(drop / current, rel=1e-3)


def test_cold_is_more_and_more_current_is_less() -> None:
    m = cell()
    temps = pulse_resistance_ohm(m, 0.5, np.array([25.0, 0.0, -20.0]), 100.0, 10)
    assert (np.diff(temps) > 0).all()
    currents = pulse_resistance_ohm(m, 0.5, -20.0, np.array([10.0, 100.0, 300.0]), 10)
    assert (np.diff(currents) < 0).all()
