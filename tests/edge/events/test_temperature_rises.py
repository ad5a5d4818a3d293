"""Temperature that rises faster than its neighbours'."""

import numpy as np
import pytest

from edge.events.book import MAX_OPEN, Change
from edge.events.limits import Limits
from edge.events.temperature_rises import TemperatureRises

K = 20
S = 1_000_000
SEED = 7


def run(temps: np.ndarray, dt_s: float = 1.0) -> list[tuple[float, Change]]:
    """[t, k] degC, a look each dt_s."""
    detector = TemperatureRises([f"s{n}" for n in range(temps.shape[1])], Limits())
    return [(k * dt_s, c) for k, row in enumerate(temps) for c in detector.look(round(k * dt_s * S), row)]


def pack(seconds: int, noise_degc: float = 0.0, step_degc: float = 1.0) -> np.ndarray:
    """[t, k]: all warm up together by 0.7 degC/min, in the sensors' steps."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    t = np.arange(seconds)[:, None] / 60
    base = -10 + 0.7 * t + rng.normal(0, 1.5, K) + rng.normal(0, noise_degc, (seconds, K))
    return np.round(base / step_degc) * step_degc


def heated(temps: np.ndarray, sensor: int, begin_s: int, per_min: float, end_s: int = 1 << 30) -> np.ndarray:
    more = np.clip(np.arange(len(temps)), begin_s, end_s) - begin_s
    out = temps.copy()
    out[:, sensor] = np.round(out[:, sensor] + per_min / 60 * more)
    return out


def test_a_pack_that_warms_evenly_says_nothing() -> None:
    assert run(pack(7200)) == []
    assert run(pack(7200, noise_degc=0.4)) == []


def test_one_sensor_that_heats_up_is_told_once_and_is_over_once() -> None:
    told = run(heated(pack(3600), 3, 600, 3.0, 1500))
    assert [(c.thing, c.severity, c.opened, c.why) for _, c in told] == [
        ("s3", "warning", True, ""),
        ("s3", "warning", False, "over"),
    ]
    (opened_s, opened), (closed_s, closed) = told
    assert 600 < opened_s < 600 + 240
    assert opened.evidence["above_others_degc_per_min"] >= 1  # type: ignore[operator]
    assert 600 <= opened.since_us / S <= opened_s
    assert 1500 < closed_s < 1500 + 120 + 300 + 60
    assert closed.since_us == opened.since_us
    assert "heats up" in opened.text


def test_thermal_runaway_is_critical_within_seconds() -> None:
    told = run(heated(pack(900), 5, 600, 90.0, 700))
    first_s, first = told[0]
    assert (first.severity, first.thing, first.opened) == ("critical", "s5", True)
    assert first_s < 610


def test_a_sensor_that_jumps_is_broken_not_hot() -> None:
    temps = pack(1800)
    temps[600:, 2] += 60
    temps[900:905, 4] = 125
    assert run(temps) == []


def test_unknown_values_and_gaps_are_survived() -> None:
    temps = heated(pack(3600), 3, 600, 3.0)
    temps[650:700] = np.nan
    temps[:, 7] = np.nan
    told = run(temps)
    assert [c.thing for _, c in told] == ["s3"]
    assert run(np.full((300, K), np.nan)) == []
    assert run(pack(400), dt_s=30.0) == [], "so seldom a look says nothing of rates"


def test_many_at_once_are_bounded() -> None:
    temps = pack(1800)
    for n in range(9):  # fewer than half: the median is that of the healthy ones
        temps = heated(temps, n, 300, 4.0)
    told = run(temps)
    assert len(told) == MAX_OPEN


@pytest.mark.parametrize("k", [1, 2, 3])
def test_few_sensors(k: int) -> None:
    told = run(heated(pack(1800)[:, :k], 0, 600, 3.0))
    assert [c.thing for _, c in told] == ([] if k == 1 else ["s0"]), (
        "alone it has nothing to be compared with"
    )
