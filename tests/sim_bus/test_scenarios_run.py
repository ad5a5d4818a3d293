"""Whatever a scenario may say, a bus lives it: ours, and the corners of all ranges."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim_bus.scenario import Scenario, load_scenario, names
from sim_bus.scenario.loading import KEYS, TABLES
from sim_bus.scenario.model import CHARGERS, Entry, Key, Table
from sim_bus.simulation import Simulation

SIZE = {"strings": 2, "cells": 176}  # what our databases have names for


@pytest.mark.parametrize("name", names())
def test_ours_begin(name: str) -> None:
    frames = 0
    for second, _ in zip(Simulation(load_scenario(name), 1).seconds(), range(90), strict=False):
        frames += len(second.frames)  # a bus that is being plugged in sleeps for a while
        if frames > 100:
            return
    pytest.fail(f"{frames} frames")


@pytest.mark.parametrize("seed", range(6))
def test_the_corners_of_all_ranges_break_nothing(seed: int) -> None:
    """Seed 0: all keys at their lowest; 1: at their highest; then here and there."""
    simulation = Simulation(corner(seed), seed)
    for _, second in zip(range(60), simulation.seconds(), strict=False):
        assert np.isfinite(second.truth).all()
    cell_v = simulation.battery.cell_v
    assert 0 < cell_v.min() <= cell_v.max() < 5


def corner(seed: int) -> Scenario:
    rng = random.Random(seed)

    def value(wanted: Any, key: Key) -> Any:
        if key.choices:
            return rng.choice(key.choices)
        end = (key.low, key.high)[seed] if seed < 2 else rng.choice((key.low, key.high))
        return ((0.0, end),) if wanted == Table else wanted(end)

    parts: dict[str, Any] = {}
    for name, kind in TABLES.items():
        keys = {k: of for k, of in KEYS[kind].items() if not of[2].path and k not in SIZE}
        parts[name] = kind(**{spec.name: value(wanted, key) for spec, wanted, key in keys.values()})
    bus = parts["bus"]
    parts["bus"] = replace(bus, cooled_degc=max(bus.cooled_degc, bus.cabin_degc))
    doing = (rng.choice(("off", "stand", "drive", "charge")), rng.choice(("drive", "charge")))
    entries = (Entry(0.0, doing[0], rng.choice(CHARGERS)), Entry(30.0, doing[1], rng.choice(CHARGERS), 600.0))
    return Scenario("a corner", timetable=entries, **parts)
