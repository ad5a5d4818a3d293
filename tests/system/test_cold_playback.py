"""A measured cell in the cold, through the whole core: our soc beside that of the simulated BMS, which drifts."""

from pathlib import Path

import numpy as np
import pytest

from edge.battery.model import load_cell
from edge.core import Core, Setup
from edge.demo import DAYS, PARALLEL
from edge.oversight import BMS_DIFFERENCE, BMS_DIFFERENCE_SD
from edge.pack import PACK_SOC, PACK_SOC_SD
from edge.signals.catalogue import load_catalogue
from edge.telemetry.batch import decode_event
from sim_bus.ecus import CHANNELS
from sim_bus.playback import Playback

pytestmark = pytest.mark.system
SECONDS = 900
SEED = 2


def test_we_are_nearer_than_the_bms_and_say_how_far_it_is_off() -> None:
    print("seed", SEED)
    (cold,) = [day for day in DAYS if day.measured]
    catalogue = load_catalogue([(name, name) for name in CHANNELS])
    core = Core(Setup("o", "b", catalogue, load_cell("lg_hg2"), parallel=PARALLEL), "boot")
    run = Playback(Path(cold.source), SEED, PARALLEL)
    items = core.tick(0)
    rows = []
    for n, frames in zip(range(1, SECONDS * 10 + 1), run.steps(), strict=False):
        core.feed(frames)
        items += core.tick(n * 100_000)
        state = core.snapshot() if n % 100 == 0 else {}
        if BMS_DIFFERENCE in state:
            names = (PACK_SOC, PACK_SOC_SD, BMS_DIFFERENCE, BMS_DIFFERENCE_SD)
            rows.append((100 * run.truth.soc, 100 * run.truth.bms_soc, *(state[name] for name in names)))
    truth, bms, ours, sd, difference, difference_sd = np.array(rows).T
    assert len(rows) > 0.9 * SECONDS / 10
    errors = ours - truth, bms - truth
    rmse = [float(np.sqrt(np.mean(e**2))) for e in errors]
    assert rmse[0] < rmse[1]
    assert errors[1][-1] < errors[1][0], "the BMS drifts away"
    assert np.mean(np.abs(errors[0]) < 1.96 * sd) > 0.9
    assert np.mean(np.abs(difference - (bms - truth)) < 1.96 * difference_sd + 0.5) > 0.9, (
        "half a percent is its display's step"
    )
    events = [decode_event(i.payload) for i in items if i.kind == "event"]
    assert {e.what for e in events} <= {"bms_soc_off"}, "nothing that is not there"
