"""The BMS's own state of charge: it drifts, jumps and is pulled as it is meant to."""

from __future__ import annotations

import math

import pytest

from sim_bus.ecus.soc import DISPLAY, EMPTY, LEAST_TRUST, MOST_JUMP, REST_S, OwnSoc
from sim_bus.ecus.tables import LFP_REST, OXIDE_REST, at, slope
from tests.sim_bus.ecus.conftest import LFP, OXIDE, Limits

AH = 200.0


def test_it_counts_what_is_measured_over_the_rated_capacity() -> None:
    own = OwnSoc(0.5, AH, LFP)
    for t in range(3600):
        own.count(t, 1.0, 20.0)
    assert own.soc == pytest.approx(0.5 - 20.0 / AH)
    for t in range(3600, 7200):
        own.count(t, 1.0, -30.0)
    assert own.soc == pytest.approx(0.5 + 10.0 / AH)


def test_the_display_is_a_window() -> None:
    low, high = DISPLAY
    shown = {soc: OwnSoc(soc, AH, LFP).displayed_pct for soc in (-1.0, 0.0, low, 0.5, high, 1.0, 2.0)}
    assert list(shown.values()) == pytest.approx([0, 0, 0, 50, 100, 100, 100])


@pytest.mark.parametrize(("volts", "trusted"), [(3.29, False), (3.10, True)])
def test_at_rest_it_moves_towards_its_table_by_how_steep_that_is(volts: float, trusted: bool) -> None:
    says = at(LFP_REST, volts)
    own = OwnSoc(says + 0.08, AH, LFP)
    own.count(0, 1.0, 50.0)
    begin = own.soc
    for t in range(1, int(REST_S)):
        own.count(t, 1.0, 0.1)
        own.rest(t, volts)
    assert own.soc == pytest.approx(begin, abs=1e-3), "not before half an hour"
    own.count(REST_S, 1.0, 0.0)
    own.rest(REST_S, volts)
    moved = begin - own.soc
    assert moved == pytest.approx(begin - says, rel=0.02) if trusted else 0 < moved < 0.3 * (begin - says)


def test_on_the_plateau_it_learns_little_and_never_jumps_far() -> None:
    assert slope(LFP_REST, 3.28) < 0.2 < slope(LFP_REST, 3.0)
    for start in (0.0, 0.3, 0.6, 1.0):
        own = OwnSoc(start, AH, LFP)
        own.count(0, 1.0, 0.0)
        own.rest(REST_S, 3.30)
        far = at(LFP_REST, 3.30) - start
        assert LEAST_TRUST * abs(far) <= abs(own.soc - start) + 1e-12
        assert abs(own.soc - start) <= min(0.3 * abs(far), MOST_JUMP) + 1e-12
    own = OwnSoc(0.9, AH, LFP)
    own.count(0, 1.0, 0.0)
    own.rest(REST_S, 2.6)
    assert own.soc == pytest.approx(0.9 - MOST_JUMP), "steep, but too far to believe at once"


def test_a_little_current_is_no_rest() -> None:
    own = OwnSoc(0.5, AH, LFP)
    for t in range(int(2 * REST_S)):
        own.count(t, 1.0, 5.0 if t % 600 == 0 else 0.0)
        own.rest(t, 3.0)
    assert own.soc == pytest.approx(0.5, abs=0.001)


def test_full_is_full() -> None:
    own = OwnSoc(0.9, AH, LFP)
    own.full()
    assert own.soc == 1.0


def test_a_low_voltage_pulls_it_down_and_a_good_one_holds_it() -> None:
    own = OwnSoc(0.4, AH, LFP)
    for _ in range(600):
        own.under_load(1.0, 2.9, 5.0, 20.0)
    assert own.soc < EMPTY
    low = OwnSoc(0.0, AH, LFP)
    low.under_load(1.0, 3.3, 5.0, 20.0)
    assert low.soc > 0
    cold = OwnSoc(0.4, AH, LFP)
    cold.under_load(1.0, 2.9, 25.0, -25.0)  # 25 A make most of that drop at -25 degC
    assert cold.soc == 0.4
    loaded = OwnSoc(0.4, AH, LFP)
    loaded.under_load(1.0, 2.5, 90.0, 20.0)  # too much current to judge
    assert loaded.soc == 0.4


def test_who_knows_nothing_says_so() -> None:
    for own in (OwnSoc(math.nan, AH, LFP), OwnSoc(math.nan, math.nan, Limits(capacity_ah=math.nan))):
        own.count(0, 1.0, 10.0)
        own.rest(9999, 3.0)
        own.under_load(1.0, 2.9, 5.0, 20.0)
        assert math.isnan(own.soc)
        assert math.isnan(own.displayed_pct)
    own = OwnSoc(0.5, AH, LFP)
    own.count(0, 1.0, math.nan)
    own.rest(9999, math.nan)
    own.under_load(1.0, math.nan, math.nan, math.nan)
    assert own.soc == 0.5


@pytest.mark.parametrize("table", [LFP_REST, OXIDE_REST])
def test_its_tables_rise(table: tuple[tuple[float, float], ...]) -> None:
    volts, socs = zip(*table, strict=True)
    assert list(volts) == sorted(set(volts))
    assert list(socs) == sorted(set(socs))
    assert [at(table, v) for v in volts] == pytest.approx(list(socs))
    assert at(table, 0.0) == 0 == at(table, volts[0])
    assert at(table, 9.0) == 1


def test_an_oxide_has_its_own_table() -> None:
    own = OwnSoc(0.5, AH, OXIDE)
    own.count(0, 1.0, 0.0)
    own.rest(REST_S, 3.85)
    assert own.soc == pytest.approx(0.5 + MOST_JUMP)
