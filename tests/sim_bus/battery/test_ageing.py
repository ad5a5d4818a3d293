"""The laws of ageing: their shape, and that their figures are a bus's."""

from __future__ import annotations

import numpy as np
import pytest

from sim_bus.battery.ageing import YEAR_S, Ageing

RATED_AH = 280.0
ONE = np.ones((1, 1))


def stored(years: float, degc: float, soc: float, parts: int = 1) -> Ageing:
    ageing = Ageing(ONE * soc, RATED_AH)
    for _ in range(parts):
        ageing.step(years * YEAR_S / parts, ONE * soc, ONE * degc, ONE * 0, ONE * 0, ONE * 0)
    return ageing


def cycled(
    cycles: int, degc: float, depth: float = 0.8, rate: float = 0.5, factor: float = 1.0, steps: int = 8
) -> Ageing:
    """Cycles around half full, without the time that they take."""
    ageing = Ageing(ONE * (0.5 + depth / 2), RATED_AH)
    moved = depth * RATED_AH / steps
    for _ in range(cycles):
        for sign in (-1, 1):
            for k in range(1, steps + 1):
                soc = 0.5 + sign * depth * (k / steps - 0.5)
                out_ah, in_ah = (moved, 0.0) if sign < 0 else (0.0, moved)
                ageing.step(0.0, ONE * soc, ONE * degc, ONE * out_ah, ONE * in_ah, ONE * rate, factor)
    return ageing


def test_time_counts_by_its_root():
    assert stored(4, 25, 0.5).loss == pytest.approx(2 * stored(1, 25, 0.5).loss)
    assert stored(4, 25, 0.5).gain == pytest.approx(4 * stored(1, 25, 0.5).gain)


def test_in_how_many_parts_time_passes_changes_nothing():
    assert stored(1, 25, 0.7, parts=500).loss == pytest.approx(stored(1, 25, 0.7).loss, rel=1e-9)


def test_in_which_order_conditions_come_changes_nothing():
    losses = []
    for order in ((10.0, 40.0), (40.0, 10.0)):
        ageing = Ageing(ONE * 0.5, RATED_AH)
        for degc in order:
            ageing.step(YEAR_S / 2, ONE * 0.5, ONE * degc, ONE * 0, ONE * 0, ONE * 0)
        losses.append(ageing.loss)
    assert losses[0] == pytest.approx(losses[1])


def test_heat_and_fullness_age_the_calendar():
    assert stored(1, 40, 0.5).loss > 1.2 * stored(1, 25, 0.5).loss
    assert stored(1, 25, 1.0).loss > 1.3 * stored(1, 25, 0.5).loss > 1.3 * stored(1, 25, 0.0).loss
    assert stored(1, 40, 0.5).gain > 2 * stored(1, 25, 0.5).gain


def test_depth_and_rate_age_by_use():
    def per_cycle(ageing: Ageing) -> float:
        return float(ageing.loss[0, 0])

    assert per_cycle(cycled(50, 25, depth=1.0)) > 1.1 * per_cycle(cycled(50, 25, depth=0.8))
    assert per_cycle(cycled(50, 25, rate=1.0)) > 1.1 * per_cycle(cycled(50, 25, rate=0.5))
    deep, shallow = cycled(50, 25, depth=0.8), cycled(200, 25, depth=0.2)  # the same throughput
    assert per_cycle(deep) > per_cycle(shallow)


def test_charging_in_the_cold_costs_most():
    warm, cold, frozen = (cycled(50, degc).loss[0, 0] for degc in (25, 0, -20))
    assert cold > 1.2 * warm
    assert frozen > 2 * cold


def test_braking_between_stops_is_no_cycle():
    """A discharge with small charges in it counts as one of its depth."""
    ageing = Ageing(ONE * 0.9, RATED_AH)
    soc, turns = 0.9, []
    for k in range(800):
        soc += 0.001 if k % 5 == 4 else -0.0015
        ageing.step(0.0, ONE * soc, ONE * 25, ONE * 0, ONE * 0, ONE * 0)
        turns.append(float(ageing._turned_at[0, 0]))
    assert set(turns) == {0.9}


@pytest.mark.parametrize("factor", [7.0, 1000.0])
def test_the_factor_is_so_many_times_the_time_and_the_use(factor):
    ageing, plain = Ageing(ONE * 0.6, RATED_AH), Ageing(ONE * 0.6, RATED_AH)
    ageing.step(3600.0, ONE * 0.6, ONE * 25, ONE * 40, ONE * 30, ONE * 0.3, factor)
    plain.step(3600.0 * factor, ONE * 0.6, ONE * 25, ONE * 40 * factor, ONE * 30 * factor, ONE * 0.3)
    assert ageing.loss == pytest.approx(plain.loss)
    assert ageing.gain == pytest.approx(plain.gain)


def test_figures_of_a_bus():
    """80 % of the rated capacity is reached after 7 to 15 years; a new one has all of it."""
    loss = {years: float(Ageing(ONE * 0.6, RATED_AH, years).loss[0, 0]) for years in (0.0, 1.0, 7.0, 15.0)}
    assert loss[0.0] == 0.0
    assert 0.03 < loss[1.0] < 0.09
    assert loss[7.0] < 0.2 < loss[15.0]
    gain = float(Ageing(ONE * 0.6, RATED_AH, 10.0).gain[0, 0])
    assert 0.1 < gain < 0.5


def test_never_beyond_bounds():
    ageing = Ageing(ONE * 1.0, RATED_AH, 100.0)
    ageing.step(1e9, ONE * 1.2, ONE * 60, ONE * 1e9, ONE * 1e9, ONE * 20, 1000.0)
    assert np.isfinite(ageing.loss).all()
    assert 0 < ageing.loss[0, 0] <= 0.95
    assert np.isfinite(ageing.gain).all()
