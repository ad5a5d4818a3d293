"""Power, energy and range of a simulated bus, through the core."""

from pathlib import Path

import numpy as np

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
    """Where only the mean is shown, the emptiest and fullest cells, which lie on either side, set energy and power."""
    shown = {}
    for roles in ("cells", "mean"):
        folder = tmp_path / roles
        folder.mkdir()
        bus = Bus(
            Core(make_setup(folder, ["pack_current", "temp", roles], series=24), "boot", None), 4, soc=0.1
        )
        bus.clock()
        bus.run(30, DRIVE_W)
        outlook = bus.core.battery.outlook
        assert outlook.energy is not None
        assert outlook.power is not None
        shown[roles] = (outlook.energy.energy_wh, outlook.power.discharge.power_w[2])
    print(shown)
    assert shown["mean"][0] < 0.95 * shown["cells"][0]
    assert shown["mean"][1] < shown["cells"][1]
