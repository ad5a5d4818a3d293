"""A cell that deviates; the BMS's soc that is off; a battery that was changed."""

import math

import numpy as np

from edge.battery.second_opinion import SecondOpinion
from edge.events.battery_changed import BatteryChanged
from edge.events.bms_soc_off import BmsSocOff
from edge.events.book import MAX_OPEN, Change
from edge.events.cell_deviates import CellDeviates
from edge.events.limits import Limits

N = 96
S = 1_000_000
LOOK_S = 10
SEED = 5


def run(soc: np.ndarray) -> list[tuple[int, Change]]:
    """[t, n] soc, a look each 10 s, as the second opinion judges it."""
    second = SecondOpinion(np.zeros(N, np.int64))
    detector = CellDeviates([f"c{n + 1}" for n in range(N)])
    sd, none = np.full(N, 0.02), math.nan
    out = []
    for k, row in enumerate(soc):
        o = second.look(k * LOOK_S, row, sd, none, none, none)
        found = detector.look(
            k * LOOK_S * S,
            o.stands_out,
            o.soc_deviation,
            o.soc_score,
            o.resistance_deviation,
            o.resistance_score,
        )
        out += [(k * LOOK_S, c) for c in found]
    return out


def pack(looks: int, noise: float = 0.004) -> np.ndarray:
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    return 0.7 - np.arange(looks)[:, None] * 1e-4 + rng.normal(0, 0.004, N) + rng.normal(0, noise, (looks, N))


def test_noise_opens_nothing() -> None:
    assert run(pack(2000)) == []


def test_one_cell_is_told_once_with_its_evidence() -> None:
    soc = pack(1000)
    soc[100:500, 16] -= 0.08
    changes = run(soc)
    assert [(c.thing, c.opened, c.why) for _, c in changes] == [("c17", True, ""), ("c17", False, "over")]
    second, opened = changes[0]
    assert second == 100 * LOOK_S + 600
    assert opened.since_us == 100 * LOOK_S * S
    assert -11 < opened.evidence["soc_deviation_pct"] < -6  # type: ignore[operator]
    assert opened.evidence["soc_score"] >= 6  # type: ignore[operator]
    assert opened.evidence["cells_standing_out"] == 1


def test_cells_that_are_not_heard_change_nothing() -> None:
    soc = pack(600)
    soc[50:, 16] -= 0.08
    soc[300:500, 16] = np.nan
    soc[400:450] = np.nan
    assert [(c.thing, c.opened) for _, c in run(soc)] == [("c17", True)]


def test_many_cells_at_once_are_bounded() -> None:
    soc = pack(400)
    soc[50:, :40] -= 0.1
    changes = run(soc)
    assert len(changes) == MAX_OPEN
    assert changes[0][1].evidence["cells_standing_out"] == 40


def test_the_bms_is_off_only_where_that_is_certain() -> None:
    detector = BmsSocOff("bms", Limits())
    told = []
    for k in range(400):
        difference, sd = (-0.08, 0.05 if k < 100 else 0.02) if k < 200 else (-0.01, 0.02)
        if 120 <= k < 125:
            difference = math.nan
        told += [(k * LOOK_S, c) for c in detector.look(k * LOOK_S * S, difference, sd)]
    assert [(second, c.opened) for second, c in told] == [(1060, True), (2600, False)]
    assert told[0][1].evidence == {"difference_pct": -8.0, "difference_sd_pct": 2.0}
    assert "less" in told[0][1].text


def test_a_changed_battery_is_told_once() -> None:
    detector = BatteryChanged("pack")
    told = [
        c for k in range(100) for c in detector.look(k * S, "its serial number is another" if k > 3 else "")
    ]
    assert [(c.what, c.opened) for c in told] == [("battery_changed", True)]
    assert "serial number" in told[0].text
