"""Health in the agent: capacity and resistance of simulated cells, through the core, over restarts and a swap."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.battery.model import load_cell
from edge.core import Core, Setup
from edge.pack import PACK_SOC
from edge.pack_health import OHMIC_SOH, SOH, SOH_CELL, SOH_SD, Ageing, _Second
from edge.pack_inputs import Sample
from edge.pack_memory import pack_memory, unpack_memory
from edge.signals.vss import unit_of
from edge.telemetry.batch import decode_batch
from tests.edge.bus_of_cells import WALL_MS, Bus, make_setup

SEED = 11
CELLS, PARALLEL = 4, 50
PARTS = ["pack_current", "temp", "cells", "serial", "bms_soc"]
AGED = np.array([0.93, 0.82, 0.94, 0.93])
DRIVE_W = CELLS * 3.6 * 150  # the capacity of new cells in an hour
REST_S, SWING_S, NIGHT_S = 1200, 2000, 4200


class Nmc:
    """Four NMC cells in series, 50 behind each voltage, that have lost capacity: the OCV of the cell's file, an ohmic
    resistance, and one relaxation of their own."""

    def __init__(self, soc: float) -> None:
        self.model = load_cell("lg_hg2")
        self.capacity_ah = self.model.capacity_ah * PARALLEL * AGED
        self.soc, self.lag_v = np.full(CELLS, soc), np.zeros(CELLS)
        self.string_a = np.zeros(1)
        self.step(0.0, 0.0, 20.0)

    def step(self, dt_s: float, power_w: float, *_: object) -> None:
        current_a = power_w / (CELLS * 3.6)
        self.soc = self.soc - current_a * dt_s / 3600 / self.capacity_ah
        self.lag_v += (current_a * 2e-4 - self.lag_v) * dt_s / 120
        ocv = self.model.at(self.model.ocv_v, self.soc, np.full(CELLS, 20.0))
        self.cell_v = (ocv - 4e-4 * current_a - self.lag_v)[None]
        self.string_a = np.array([current_a])

    def pack_soc(self) -> float:
        return float(self.soc.min())


def setup_of(folder: Path, parts: list[str] = PARTS) -> Setup:
    setup = make_setup(folder, parts, cells=CELLS, cell="lg_hg2", parallel=PARALLEL)
    return replace(setup, capacity_ah=None)


def bus_of(core: Core, soc: float) -> Bus:
    bus = Bus(core, SEED, cells=CELLS)
    bus.battery = Nmc(soc)  # type: ignore[assignment]
    bus.bms_soc = soc
    bus.clock()
    return bus


def ageing_of(bus: Bus) -> Ageing:
    return bus.core.battery.ageing


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Setup, Bus, bytes, dict[str, list[float]]]:
    """A rest, a swing of more than half of the capacity, a rest: the bus, its memory, and what its batches say by path."""
    setup = setup_of(tmp_path_factory.mktemp("day"))
    bus = bus_of(Core(setup, "boot"), 0.95)
    bus.run(REST_S)
    before = bus.core.snapshot()
    bus.run(SWING_S, DRIVE_W)
    bus.run(NIGHT_S)
    said: dict[str, list[float]] = {}
    columns = bus.core.schema.columns
    (item,) = bus.core.seal()
    for number, samples in decode_batch(item.payload).s.items():
        said[columns[int(number)].path] = samples
    assert SOH not in before
    return setup, bus, bus.core.dump(), said


Day = tuple[Setup, Bus, bytes, dict[str, list[float]]]


def test_a_swing_between_two_rests_measures_every_cell(day: Day) -> None:
    _, bus, _, said = day
    health = ageing_of(bus).health
    assert health is not None
    assert health.measured.all()
    error = health.soh_capacity / AGED - 1
    rel_sd = health.capacity_sd_ah / health.capacity_ah
    print(error, rel_sd)
    assert (abs(error) < 3 * rel_sd).all()
    assert (rel_sd < 0.05).all()
    shown = bus.core.snapshot()
    assert shown[SOH] == pytest.approx(100 * AGED.min(), abs=3 * shown[SOH_SD])
    assert 0 < shown[SOH_SD] < 5
    assert shown[SOH_CELL] == 2
    assert OHMIC_SOH in shown
    first_cell = "Vehicle.Powertrain.TractionBattery.String1.Cell001"
    for path in (SOH, SOH_SD, OHMIC_SOH, f"{first_cell}.StateOfHealth", f"{first_cell}.Resistance"):
        assert path in said


def test_the_estimator_counts_with_what_was_measured(day: Day) -> None:
    _, bus, _, _ = day
    ageing, estimator = ageing_of(bus), bus.core.battery.estimator
    assert ageing.health is not None
    assert estimator is not None
    assert estimator.capacity_ah == pytest.approx(ageing.health.capacity_ah, rel=0.02)
    assert (estimator.capacity_ah < 0.97 * bus.core.setup.cell.capacity_ah).all()


def restart(day: Day, memory: bytes, off_s: float = 3600.0) -> Bus:
    setup, before, _, _ = day
    bus = bus_of(Core(setup, "next", memory), 0.4)
    bus.battery, bus.bms_soc = before.battery, before.bms_soc
    bus.clock(WALL_MS + before.now_us // 1000 + round(off_s * 1000))
    bus.run(3)
    return bus


def test_a_restart_keeps_it(day: Day) -> None:
    _, before, memory, _ = day
    bus = restart(day, memory)
    assert bus.core.battery.memory_refused == 0
    was, now = before.core.snapshot(), bus.core.snapshot()
    assert now[SOH] == pytest.approx(was[SOH], abs=0.05)
    assert now[SOH_CELL] == was[SOH_CELL]


def test_another_pack_is_not_as_old(day: Day) -> None:
    _, before, memory, _ = day
    bus = restart(day, memory)
    assert SOH in bus.core.snapshot()
    bus.serial = before.serial + 1
    bus.run(3)
    assert bus.core.battery.swapped
    assert SOH not in bus.core.snapshot()
    health = ageing_of(bus).health
    assert health is not None
    assert not health.measured.any()


@pytest.mark.parametrize("what", ["nothing", "short", "flipped", "other cells"])
def test_a_damaged_part_is_refused_and_the_rest_goes_on(day: Day, what: str) -> None:
    _, before, memory, _ = day
    kept = unpack_memory(memory)
    good = kept.parts["health"]
    flipped = good[:200] + bytes([good[200] ^ 1]) + good[201:]
    damage = {"nothing": b"", "short": good[:-8], "flipped": flipped, "other cells": good[:40]}[what]
    bus = restart(day, pack_memory(_with(kept, damage)))
    assert bus.core.battery.memory_refused == 1
    assert bus.core.battery.swapped == ""
    shown, was = bus.core.snapshot(), before.core.snapshot()
    assert SOH not in shown
    assert shown[PACK_SOC] == pytest.approx(was[PACK_SOC], abs=2), "the estimator's part was whole"


def _with(kept, part: bytes):  # type: ignore[no-untyped-def]
    import msgspec

    return msgspec.structs.replace(kept, parts=kept.parts | {"health": part})


def test_charged_unseen_is_no_measurement(tmp_path: Path) -> None:
    """Rest, then half of the charge while the agent was off, then rest: nobody counted it."""
    setup = setup_of(tmp_path)
    bus = bus_of(Core(setup, "boot"), 0.4)
    bus.run(REST_S)
    memory = bus.core.dump()
    after = bus_of(Core(setup, "next", memory), 0.95)
    after.clock(WALL_MS + bus.now_us // 1000 + 8 * 3_600_000)
    after.run(REST_S)
    health = ageing_of(after).health
    assert health is not None
    assert after.core.battery.memory_refused == 0
    assert not health.measured.any()
    assert not health.refused.any(), "nor is it taken for a pair that no cell can make"


def test_cells_that_stand_for_others_have_no_health(tmp_path: Path) -> None:
    bus = bus_of(Core(setup_of(tmp_path, ["pack_current", "temp", "min", "max"]), "boot"), 0.9)
    bus.run(120)
    assert PACK_SOC in bus.core.snapshot()
    ageing = ageing_of(bus)
    assert (ageing.health, ageing.columns, ageing.dump()) == (None, (), {})


def test_its_paths_are_words_of_vss_or_the_overlay(tmp_path: Path) -> None:
    columns = Core(setup_of(tmp_path), "boot").battery.ageing.columns
    assert len(columns) == 4 + 2 * CELLS
    for column in columns:
        assert unit_of(column.path) == column.unit
    for path in (SOH_CELL, f"{OHMIC_SOH}Cell"):
        assert unit_of(path) == ""


def test_a_second_of_ticks_keeps_the_charge_and_the_zero() -> None:
    """Two strings: one drives and loses a few samples, the other is open and shows its zero."""
    given: dict[str, np.ndarray | float] = {}

    class Spy:
        def step(self, dt_s: float, current, voltage, temp, *, balancing_a, open) -> None:  # type: ignore[no-untyped-def]
            given.update(s=dt_s, current=current, voltage=voltage, balancing=balancing_a, open=open)

    second = _Second(2, 2)
    for n in range(10):
        sample = Sample(
            current_a=np.array([10.0 * n if n != 4 else np.nan, 0.5]),
            voltage_v=np.array([3.3 if n == 2 else np.nan, np.nan]),
            temp_degc=np.array([20.0, 21.0]),
            open=np.array([False, True]),
            balancing_a=np.array([0.2 if n < 5 else np.nan, 0.0]),
        )
        assert second.add(0.1, sample, np.arange(2)) == (n == 9)
    second.give(Spy())  # type: ignore[arg-type]
    assert given["s"] == pytest.approx(1.0)
    assert given["current"] == pytest.approx([(450 - 40) / 9, 0.5])
    assert given["voltage"] == pytest.approx([3.3, np.nan], nan_ok=True)
    assert given["balancing"] == pytest.approx([0.1, 0.0])
    assert list(given["open"]) == [False, True]  # type: ignore[arg-type]
    assert not second.add(0.1, sample, np.arange(2)), "the next one begins from nothing"
