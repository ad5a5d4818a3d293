"""Seconds of frames and readings that faults can act on."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from edge.can.frames import Frames
from sim_bus.doors import STEPS, Readings
from sim_bus.faults.schedule import Faults
from sim_bus.scenario import load_scenario
from sim_bus.scenario.model import FaultPlan
from sim_bus.simulation import Simulation
from sim_bus.streams import Streams

STRINGS, CELLS = 2, 176
SEED = 31


@pytest.fixture(scope="session")
def seconds() -> list[Frames]:
    """Eight seconds of a bus that drives."""
    print("seed", SEED)
    simulation = Simulation(load_scenario("spring_day"), SEED)
    return [second.frames for second in itertools.islice(simulation.seconds(), 20)][12:]


@pytest.fixture
def readings() -> Callable[[int], Readings]:
    """Of a second: every sensor shows another number, and none the same twice."""

    def made(second: int) -> Readings:
        steps = (second * STEPS + np.arange(STEPS))[:, None] / 1000
        cells = np.linspace(3.0, 3.4, STRINGS * CELLS)
        temps = np.linspace(-10.0, 20.0, STRINGS * CELLS // 4)
        shape = (STEPS, STRINGS, -1)
        return Readings(
            begin_us=second * 1_000_000,
            values={"DcVoltage": 600 + steps[:, 0], "MotorTemp": np.full(STEPS, 40.0)},
            string_a=np.array([80.0, 90.0]) + steps,
            cell_v=(cells + steps).reshape(shape),
            cell_degc=(temps + steps).reshape(shape),
            balancing=np.zeros((STRINGS, CELLS), np.bool_),
            awake={},
        )

    return made


@pytest.fixture
def faults_of() -> Callable[..., Faults]:
    def made(*plans: FaultPlan, seed: int = SEED) -> Faults:
        return Faults(plans, Streams(seed), STRINGS, CELLS)

    return made
