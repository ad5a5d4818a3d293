"""The second opinion: our soc beside the BMS's, each cell beside its neighbours."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.battery.second_opinion import LEARN_BMS_SD, PRIOR_SD, Opinion, SecondOpinion

STRINGS = np.repeat([0, 1], 30)
N = len(STRINGS)
SEED = 11
NOBODY = np.full(N, np.nan)


def rng() -> np.random.Generator:
    print("seed", SEED)
    return np.random.default_rng(SEED)


def asked(second: SecondOpinion, time_s: float, soc: float, shown: float, sd: float = 0.01) -> Opinion:
    return second.look(time_s, NOBODY, NOBODY, soc, sd, shown)


def test_a_declared_window_is_taken_at_its_word() -> None:
    second = SecondOpinion(STRINGS, (0.05, 0.95), quantum=0.005)
    o = asked(second, 0, 0.5, 0.5)
    assert o.difference == pytest.approx(0.0, abs=1e-12)
    assert o.difference_sd == pytest.approx(math.hypot(0.01, 0.005 / math.sqrt(12)))
    assert not o.significant
    assert (o.window, o.window_sd) == ((0.05, 0.95), (0.0, 0.0))
    o = asked(second, 10, 0.5, 0.6)
    assert o.difference == pytest.approx(0.09)
    assert o.significant
    assert not asked(second, 20, 0.5, 0.6, sd=0.06).significant, "our own band is as wide"


@pytest.mark.parametrize(
    ("shown", "soc", "difference"),
    [(1.0, 0.99, 0.0), (1.0, 0.90, 0.05), (0.0, 0.01, 0.0), (0.0, 0.10, -0.05), (0.999, 0.99, -0.0409)],
)
def test_at_its_end_a_display_says_only_beyond(shown: float, soc: float, difference: float) -> None:
    o = asked(SecondOpinion(STRINGS, (0.05, 0.95)), 0, soc, shown)
    assert o.difference == pytest.approx(difference)


@pytest.mark.parametrize("shown", [math.nan, -0.1, 1.02, math.inf])
def test_what_is_no_display_gives_no_difference(shown: float) -> None:
    o = asked(SecondOpinion(STRINGS, (0.05, 0.95)), 0, 0.5, shown)
    assert math.isnan(o.difference)
    assert not o.significant


def driven(second: SecondOpinion, window: tuple[float, float], days: int, bias: float = 0.0) -> Opinion:
    """Days of 90 to 20 % and back, a look a minute, our soc with a slow error of 1 %, the display in half percents."""
    low, high = window
    random = rng()
    o = None
    for day in range(days):
        ours = random.normal(0, 0.01)
        for k, true in enumerate(np.concatenate([np.linspace(0.9, 0.2, 300), np.linspace(0.2, 0.9, 300)])):
            shown = float(np.clip(round(((true - low) / (high - low) + bias) * 200) / 200, 0, 1))
            o = asked(second, 86_400.0 * day + 60.0 * k, true + ours, shown)
    assert o is not None
    return o


@pytest.mark.parametrize("window", [(0.08, 0.95), (0.0, 1.0), (0.15, 0.9)])
def test_a_window_is_learnt_with_honest_bars(window: tuple[float, float]) -> None:
    o = driven(SecondOpinion(STRINGS, None, quantum=0.005), window, 20)
    for found, sd, true in zip(o.window, o.window_sd, window, strict=True):
        assert abs(found - true) < 2 * sd
        assert LEARN_BMS_SD / 10 < sd < PRIOR_SD * 2 / 3, "narrower than the prior, and never nothing"
    assert not o.significant


def test_a_jump_of_the_display_is_significant_though_its_window_is_only_learnt() -> None:
    second = SecondOpinion(STRINGS, None, quantum=0.005)
    driven(second, (0.05, 0.95), 20)
    o = asked(second, 2e6, 0.5, 0.5 + 0.12)
    assert o.significant
    assert 0.08 < o.difference < 0.14


def test_drift() -> None:
    """A BMS that counts with an offset of 1 % an hour."""
    second = SecondOpinion(STRINGS, (0.0, 1.0))
    o = asked(second, 0, 0.9, 0.9)
    assert math.isnan(o.drift_per_h)
    for k in range(1, 1200):
        hours = k * 10 / 3600
        o = asked(second, k * 10.0, 0.9 - 0.1 * hours, 0.9 - 0.11 * hours, sd=0.002)
    assert o.drift_per_h == pytest.approx(-0.01, abs=1e-6)
    assert 0.0001 < o.drift_sd_per_h < 0.003
    o = asked(second, 1e7, 0.5, 0.5)
    assert math.isfinite(o.drift_sd_per_h) or math.isnan(o.drift_per_h)


def test_cells_that_stand_out_and_since_when() -> None:
    second = SecondOpinion(STRINGS)
    random = rng()
    soc = np.where(STRINGS == 0, 0.7, 0.6) + random.normal(
        0, 0.004, N
    )  # strings may differ: neighbours count
    ratio = random.normal(1.0, 0.03, N)
    seen = []
    for k in range(60):
        if k == 20:
            soc[3] -= 0.06
            ratio[40] *= 1.6
        if k == 50:
            soc[3] += 0.06
        o = second.look(
            10.0 * k,
            soc + random.normal(0, 0.002, N),
            np.full(N, 0.03),
            0.6,
            0.02,
            0.6,
            ratio,
            np.full(N, 0.05),
        )
        seen.append(np.flatnonzero(o.stands_out).tolist())
    assert seen == [[]] * 20 + [[3, 40]] * 30 + [[40]] * 10
    assert o.since_s[40] == 200
    assert np.isnan(o.since_s[3])
    assert o.resistance_deviation[40] == pytest.approx(0.6, abs=0.15)
    assert o.imbalance == pytest.approx([0.0045, 0.0045], abs=0.003)


def test_a_cell_of_which_little_is_known_does_not_stand_out() -> None:
    soc, sd = np.full(N, 0.5) + rng().normal(0, 0.004, N), np.full(N, 0.02)
    soc[5] += 0.1
    sd[5] = 0.1
    assert not SecondOpinion(STRINGS).look(0, soc, sd, 0.5, 0.02, 0.5).stands_out.any()
    sd[5] = 0.02
    assert SecondOpinion(STRINGS).look(0, soc, sd, 0.5, 0.02, 0.5).stands_out.tolist() == [
        k == 5 for k in range(N)
    ]


def test_too_few_cells_have_no_outliers() -> None:
    o = SecondOpinion([0, 0, 0]).look(0, np.array([0.5, 0.5, 0.1]), np.full(3, 0.01), 0.5, 0.02, 0.5)
    assert not o.stands_out.any()
    assert np.isnan(o.imbalance).all()


@settings(max_examples=100, deadline=None)
@given(
    arrays(np.float64, (6, N), elements=st.floats(allow_nan=True, allow_infinity=True, width=32)),
    arrays(np.float64, 6, elements=st.floats(allow_nan=True, allow_infinity=True)),
    st.booleans(),
)
def test_whatever_comes_it_stays_in_bounds(cells: np.ndarray, shown: np.ndarray, learns: bool) -> None:
    second = SecondOpinion(STRINGS, None if learns else (0.1, 0.9), 0.01)
    with np.errstate(all="ignore"):
        for k, row in enumerate(cells):
            soc = np.where(np.abs(row) <= 1, row, np.nan)
            ours = float(np.nan_to_num(soc[0]))
            o = second.look(10.0 * k, soc, np.abs(soc), ours, 0.02, float(shown[k]), row, np.abs(row))
            assert 0 <= o.window[0] <= 1
            assert 0 <= o.window[1] <= 1
            assert math.isnan(o.difference) or (abs(o.difference) <= 2 and o.difference_sd >= 0.02)
            assert (np.isfinite(o.since_s) == o.stands_out).all()


@pytest.mark.parametrize("window", [(0.5, 0.5), (0.9, 0.1), (-0.1, 0.9), (0.0, 1.1)])
def test_what_is_no_window(window: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="window"):
        SecondOpinion(STRINGS, window)
