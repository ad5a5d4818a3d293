"""The laws of ageing: their shape, and that their figures are a bus's."""

from __future__ import annotations

import math

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


def arrhenius(energy: float, degc: float) -> float:
    return math.exp(-energy / 8.314462618 * (1 / (degc + 273.15) - 1 / 298.15))


@pytest.mark.parametrize("degc", [-10.0, 25.0, 45.0])
@pytest.mark.parametrize("soc", [0.0, 0.5, 0.875, 1.0])
@pytest.mark.parametrize("days", [30.0, 885.0])
def test_the_calendar_is_naumann_2018(degc: float, soc: float, days: float):
    """The study's constants once more, plainly: its longest test took 885 days."""
    seconds = days * 86_400
    loss = 1.2571e-5 * arrhenius(17_126, degc) * (2.8575 * (soc - 0.5) ** 3 + 0.60225) * math.sqrt(seconds)
    gain = 3.4194e-10 * arrhenius(71_827, degc) * (-3.3903 * (soc - 0.5) ** 2 + 1.5604) * seconds
    aged = stored(seconds / YEAR_S, degc, soc)
    assert aged.loss == pytest.approx(loss, rel=1e-9)
    assert aged.gain == pytest.approx(gain, rel=1e-9)


@pytest.mark.parametrize("rate", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("depth", [0.6, 0.8, 1.0])
def test_cycles_are_naumann_2020(rate: float, depth: float):
    """Half a cycle of that depth, and the rest of 500 at its end: discharge only, so that the cold has no part."""
    aged = Ageing(ONE, RATED_AH)
    aged.step(0.0, ONE * (1 - depth), ONE * 25, ONE * 500 * 2 * RATED_AH, ONE * 0, ONE * rate)
    loss = (0.0630 * rate + 0.0971) * (4.0253 * (depth - 0.6) ** 3 + 1.0923) * math.sqrt(500) / 100
    gain = (-0.0020 * rate + 0.0021) * (6.8477 * (depth - 0.5) ** 3 + 0.9182) * 500 / 100
    assert aged.loss == pytest.approx(loss, rel=1e-9)
    assert aged.gain == pytest.approx(gain, rel=1e-9)


@pytest.mark.parametrize("rate", [0.25, 1.0])
@pytest.mark.parametrize("degc", [-10.0, 10.0])
def test_cold_charging_is_schimpe_2018(rate: float, degc: float):
    """What charge adds to the loss of as much discharge, in Ah of the study's cell of 3 Ah."""
    put_in, taken_out = Ageing(ONE * 0.5, RATED_AH), Ageing(ONE * 0.5, RATED_AH)
    cycles = 20
    put_in.step(0.0, ONE * 0.5, ONE * degc, ONE * 0, ONE * cycles * RATED_AH, ONE * rate)
    taken_out.step(0.0, ONE * 0.5, ONE * degc, ONE * cycles * RATED_AH, ONE * 0, ONE * rate)
    loss = 4.01e-4 * arrhenius(-55_546, degc) * math.exp(2.64 * (rate - 1)) * math.sqrt(3.0 * cycles)
    assert put_in.loss - taken_out.loss == pytest.approx(loss, rel=1e-9)
