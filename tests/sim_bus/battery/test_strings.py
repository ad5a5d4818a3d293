"""The strings' solver against a bisection, on strings whose voltage over current is known: ohmic and asinh."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_bus.battery.strings import solve

CAPACITY_AH = 100.0
FREE = (0.0, 1e9)  # limits that never hold


class Strings:
    """V = open - ohm I - kinetic asinh(I / knee), each (strings,)."""

    def __init__(self, open_v, ohm, kinetic_v, knee_a):
        self.open_v, self.ohm, self.kinetic_v, self.knee_a = (
            np.array(a) for a in (open_v, ohm, kinetic_v, knee_a)
        )
        self.calls = 0

    def volts(self, current_a):
        return self.open_v - self.ohm * current_a - self.kinetic_v * np.arcsinh(current_a / self.knee_a)

    def terminal(self, current_a):
        self.calls += 1
        return self.volts(current_a), self.ohm + self.kinetic_v / np.hypot(current_a, self.knee_a)

    def currents_at(self, bus_v):
        """By bisection."""
        low, high = np.full(self.open_v.shape, -1e6), np.full(self.open_v.shape, 1e6)
        for _ in range(60):
            middle = (low + high) / 2
            above = self.volts(middle) > bus_v
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return (low + high) / 2

    def most_w(self):
        grid = np.linspace(0, self.open_v.max(), 61)
        return max(v * self.currents_at(v).sum() for v in grid)


def some(seed: int, strings: int) -> Strings:
    """From warm (nearly ohmic) to frozen (nearly all kinetics)."""
    rng = np.random.default_rng(seed)
    return Strings(
        rng.uniform(560, 600, strings),
        rng.uniform(0.03, 0.3, strings),
        rng.uniform(1, 10, strings),
        10 ** rng.uniform(-1, 2.5, strings),
    )


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    strings=st.integers(1, 4),
    share=st.floats(-2.0, 0.9),
    first=st.floats(-300, 300),
)
def test_one_voltage_and_the_power(seed, strings, share, first):
    these = some(seed, strings)
    power_w = share * these.most_w()
    current_a = np.full(strings, first)
    assert solve(these.terminal, current_a, list(range(strings)), power_w, FREE, CAPACITY_AH)
    volts = these.volts(current_a)
    assert np.ptp(volts) < 0.5
    assert volts @ current_a == pytest.approx(power_w, rel=2e-3, abs=100)
    np.testing.assert_allclose(current_a, these.currents_at(volts.mean()), rtol=5e-3, atol=2.0)


def test_solved_again_it_stands_still_to_the_last_digits():
    these, current_a = some(3, 2), np.zeros(2)
    for _ in range(4):
        assert solve(these.terminal, current_a, [0, 1], 90e3, FREE, CAPACITY_AH)
    assert np.ptp(these.volts(current_a)) < 1e-9
    assert these.volts(current_a) @ current_a == pytest.approx(90e3, rel=1e-12)
    these.calls = 0
    assert solve(these.terminal, current_a, [0, 1], 90e3, FREE, CAPACITY_AH)
    assert these.calls == 1, "where nothing changed one look is enough"


@pytest.mark.parametrize("seed", range(8))
def test_more_than_the_most_gives_the_most(seed):
    these, current_a = some(seed, 2), np.zeros(2)
    for _ in range(3):
        solve(these.terminal, current_a, [0, 1], 1e9, FREE, CAPACITY_AH)
    assert these.volts(current_a) @ current_a == pytest.approx(these.most_w(), rel=1e-3)


def test_the_limits_hold_and_are_never_a_reason_to_turn_the_current():
    these = some(1, 2)
    for power_w, limits, expected in ((1e9, (500.0, 700.0), 500.0), (-1e9, (500.0, 700.0), 700.0)):
        current_a = np.zeros(2)
        assert solve(these.terminal, current_a, [0, 1], power_w, limits, CAPACITY_AH)
        assert these.volts(current_a) == pytest.approx(expected, abs=0.1)
    for power_w, limits in ((5e3, (650.0, 700.0)), (-5e3, (400.0, 500.0))):
        current_a = np.zeros(2)  # already beyond the limits at rest: nothing is given, nothing is taken
        assert solve(these.terminal, current_a, [0, 1], power_w, limits, CAPACITY_AH)
        assert these.volts(current_a) @ current_a == pytest.approx(0, abs=50)


def test_an_open_string_is_left_alone():
    these, current_a = some(2, 3), np.zeros(3)
    assert solve(these.terminal, current_a, [0, 2], 50e3, FREE, CAPACITY_AH)
    assert current_a[1] == 0
    assert (these.volts(current_a) * current_a).sum() == pytest.approx(50e3, rel=1e-3)


def test_reversed_strings_give_nothing():
    these = Strings([-3.0, -3.0], [0.1, 0.1], [1.0, 1.0], [10.0, 10.0])
    current_a = np.zeros(2)
    assert solve(these.terminal, current_a, [0, 1], 5e3, FREE, CAPACITY_AH)
    assert current_a == pytest.approx(0, abs=1e-9)
