"""Power, energy and range of a simulated bus, through the core."""

from pathlib import Path

import numpy as np

from edge.battery.energy import energy_left
from edge.battery.power import PowerPredictor
from edge.core import Core
from edge.pack_outlook import COLUMNS
from tests.edge.bus_of_cells import Bus, make_setup

DRIVE_W = 5_000.0


def test_it_leaves_the_core_and_lasts(tmp_path: Path) -> None:
    """Limits and energy are there, in order, and what was learnt of the load survives a boot."""
    setup = make_setup(tmp_path, ["pack_current", "temp", "cells"])
    bus = Bus(Core(setup, "boot", None), 4, soc=0.9)
    bus.clock()
    bus.run(120, DRIVE_W)
    pack = bus.core.battery
    raw = pack.outlook.raw()
    assert len(raw) == len(COLUMNS) == len(pack.outlook.columns)
    discharge, charge = raw[:3], raw[3:6]
    assert (discharge > 0).all()
    assert (np.diff(discharge) <= 0).all()
    assert (charge >= 0).all()
    shown = bus.core.snapshot()
    left = shown["Vehicle.Powertrain.TractionBattery.StateOfCharge.CurrentEnergy"]
    assert left > 0
    low, middle, high = (shown[f"Vehicle.Powertrain.TractionBattery.Range{k}"] for k in ("Low", "", "High"))
    assert low <= middle <= high
    assert shown["Vehicle.Powertrain.TractionBattery.DischargePowerLimitCause"] != "unknown"
    assert pack.outlook.load.driving
    again = Bus(Core(setup, "boot-2", bus.core.dump()), 4, soc=0.9)
    assert again.core.battery.outlook.dump() == pack.outlook.dump()


def test_cells_that_nobody_sees_have_less(tmp_path: Path) -> None:
    """Where only the mean is shown, energy and power are less than those of cells that are all like the mean."""
    setup = make_setup(tmp_path, ["pack_current", "temp", "mean"], series=24)
    bus = Bus(Core(setup, "boot", None), 4, soc=0.05)
    bus.clock()
    bus.run(30, DRIVE_W)
    estimator, outlook = bus.core.battery.estimator, bus.core.battery.outlook
    assert estimator is not None
    outlook.begin(np.zeros(1, np.int64), 1)
    outlook.look(estimator, np.ones(1, np.bool_))
    assert outlook.energy is not None
    assert outlook.power is not None
    states = estimator.states()
    alike = energy_left(setup.cell, states, [0], outlook.load.load, series=24)
    power = PowerPredictor(setup.cell, [0], series=24).limits(states)
    print(states.soc, outlook.energy, alike, outlook.power, power)
    assert outlook.energy.energy_wh < alike.energy_wh
    assert outlook.energy.energy_sd_wh > alike.energy_sd_wh
    assert outlook.energy.unknown_cells == 0
    assert (outlook.power.discharge.power_w < power.discharge.power_w).all()
    assert (outlook.power.charge.power_w <= power.charge.power_w).all()
