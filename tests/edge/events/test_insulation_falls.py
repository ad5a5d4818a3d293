"""Insulation that is low, or falls."""

import math

import numpy as np
import pytest

from edge.events.book import Change
from edge.events.insulation_falls import InsulationFalls
from edge.events.limits import Limits

S = 1_000_000
VOLTS = 600.0
SEED = 3


def run(ohm: np.ndarray, volts: float | np.ndarray = VOLTS) -> list[tuple[int, Change]]:
    """A look a second."""
    detector = InsulationFalls("pack", Limits())
    both = np.broadcast_to(volts, ohm.shape)
    return [
        (k, c)
        for k, (r, v) in enumerate(zip(ohm.tolist(), both.tolist(), strict=True))
        for c in detector.look(k * S, r, v)
    ]


def told(changes: list[tuple[int, Change]]) -> list[tuple[str, bool, str]]:
    return [(c.severity, c.opened, c.why) for _, c in changes]


def test_a_healthy_pack_says_nothing() -> None:
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    assert run(2_150_000 * np.exp(rng.normal(0, 0.1, 8_000))) == []
    damp = 2_000_000 / (1 + np.arange(8_000) / 8_000)  # half of it in 2 h, and far from the limit
    assert run(damp) == []


def test_low_then_critical_then_well() -> None:
    ohm = np.concatenate([np.full(300, 2e6), np.full(300, 240e3), np.full(200, 30e3), np.full(900, 2e6)])
    changes = run(ohm)
    assert told(changes) == [
        ("warning", True, ""),
        ("warning", False, "worse"),
        ("critical", True, ""),
        ("critical", False, "over"),
    ]
    assert changes[0][0] == 300 + 60
    assert changes[0][1].evidence["ohm_per_v"] == 400
    assert changes[0][1].since_us == 300 * S
    assert changes[1][0] == 600 + 30
    assert changes[-1][0] == 800 + 300


def test_at_the_threshold_it_does_not_flicker() -> None:
    rng = np.random.default_rng(SEED)
    ohm = 500 * VOLTS * (1 + rng.normal(0, 0.05, 8_000))
    ohm[:100] = 400 * VOLTS  # so that it opens for sure
    assert told(run(ohm)) == [("warning", True, "")]


def test_falling_is_told_before_it_is_low() -> None:
    t = np.arange(10_000)
    fall_s = 3000
    conductance = 1 / 2e6 + np.clip(t - 4000, 0, fall_s) / fall_s * (1 / (450 * VOLTS) - 1 / 2e6)
    changes = run(1 / conductance)
    second, first = changes[0]
    assert first.severity == "warning"
    assert first.opened
    low_from = int(np.argmax(1 / conductance / VOLTS < 500))
    assert 4000 < second < low_from - 300
    assert 0 < first.evidence["hours_to_limit"] <= 1  # type: ignore[operator]
    assert "falls" in first.text
    assert told(changes) == [("warning", True, "")]


def test_a_short_before_the_first_look_is_found() -> None:
    assert told(run(np.zeros(100))) == [("critical", True, "")]


def test_the_working_voltage_is_the_highest_that_was_heard() -> None:
    """With the contactors open the voltage is gone; the limit is not."""
    volts = np.where(np.arange(400) < 200, VOLTS, 5.0)
    assert told(run(np.full(400, 450 * VOLTS), volts)) == [("warning", True, "")]


@pytest.mark.parametrize(
    ("ohm", "volts"),
    [
        (math.nan, VOLTS),
        (-5.0, VOLTS),
        (math.inf, VOLTS),
        (1e12, VOLTS),
        (1e3, math.nan),
        (1e3, 0.0),
        (1e3, 1e6),
    ],
)
def test_what_is_no_measurement_says_nothing(ohm: float, volts: float) -> None:
    assert run(np.full(500, ohm), volts) == []


def test_unknown_in_between_changes_nothing() -> None:
    ohm = np.concatenate([np.full(100, 240e3), np.full(500, math.nan), np.full(100, 240e3)])
    assert told(run(ohm)) == [("warning", True, "")]
