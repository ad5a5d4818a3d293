"""A measured cell in the cold, through the whole core: our soc beside that of the simulated BMS, which drifts."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from edge.battery.model import load_cell
from edge.core import Core, Setup
from edge.demo_buses import DAYS, PARALLEL
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
    at = {name: n for n, name in enumerate(run.columns)}
    for second in itertools.islice(run.seconds(), SECONDS):
        steps = np.searchsorted(
            second.frames["time_us"], np.rint(second.truth[:-1, 0] * 1e6).astype(np.int64)
        )
        for frames, row in zip(np.split(second.frames, steps), second.truth, strict=True):
            core.feed(frames)
            items += core.tick(round(row[0] * 1e6))
        n = round(row[0])
        state = core.snapshot() if n % 10 == 0 else {}
        if BMS_DIFFERENCE in state:
            names = (PACK_SOC, PACK_SOC_SD, BMS_DIFFERENCE, BMS_DIFFERENCE_SD)
            rows.append((100 * row[at["soc"]], 100 * row[at["bms_soc"]], *(state[name] for name in names)))
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
