"""What the BMS works out of its cells, and what it says where sensors fail."""

from __future__ import annotations

import numpy as np

from sim_bus.ecus import derived
from sim_bus.ecus.names import DERIVED, DERIVED_OF_STRINGS
from tests.sim_bus.ecus.conftest import CELLS, STRINGS, readings


def test_sums_and_extremes() -> None:
    rng = np.random.default_rng(3)
    cells, amps = rng.uniform(3, 3.4, (STRINGS, CELLS)), np.array([10.0, -4.0])
    values = {n: v[0] for n, v in derived(readings(cell_v=cells, string_a=amps)).items()}
    assert set(values) == set(DERIVED) | {f"String{s}_{n}" for s in (1, 2) for n in DERIVED_OF_STRINGS}
    np.testing.assert_allclose(
        [values[f"String{s}_Voltage"] for s in (1, 2)], cells.sum(axis=1), rtol=0, atol=1e-9
    )
    assert values["PackCurrent"] == -6.0
    assert (values["String1_Current"], values["String2_Current"]) == (-10.0, 4.0)
    assert values["MinCellVoltage"] == values["HvessLowestCellVoltage"] == cells.min()
    assert values["MinCellNumber"] == cells.argmin() + 1
    assert values["MaxCellNumber"] == cells.argmax() + 1
    assert values["HvessBusVoltage"] != values["PackVoltage"], "the link has a voltage of its own"


def test_a_lost_cell_is_left_out_and_a_lost_string_is_not_available() -> None:
    cells = np.full((STRINGS, CELLS), 3.2)
    cells[0, 1], cells[0, 4], cells[1, 2] = np.nan, 3.1, 3.4
    values = {n: v[0] for n, v in derived(readings(cell_v=cells, degc=np.array([np.nan, 7.0]))).items()}
    assert values["String1_Voltage"] == np.float64(np.nanmean(cells[0])) * CELLS
    assert (values["MinCellNumber"], values["MaxCellNumber"]) == (5, CELLS + 3)
    assert values["MinCellTemp"] == values["MaxCellTemp"] == values["HvessAverageCellTemp"] == 7.0
    nothing = {
        n: v[0] for n, v in derived(readings(cell_v=np.nan, degc=np.nan, string_a=np.nan, link_v=1.0)).items()
    }
    assert {n for n, v in nothing.items() if v == v} == {"HvessBusVoltage"}
