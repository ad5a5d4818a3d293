"""Every scenario through the whole of the agent's core, and what it must notice of each fault."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from edge.battery.model import load_cell
from edge.core import Core, Setup
from edge.pack import PACK_SOC, PACK_SOC_SD
from edge.signals.catalogue import load_catalogue
from edge.telemetry.batch import decode_event
from sim_bus.ecus import CHANNELS
from sim_bus.faults.catalogue import CATALOGUE
from sim_bus.scenario import load_scenario, names
from sim_bus.simulation import Simulation

pytestmark = pytest.mark.system
SEED = 3
SECONDS = 75
TICKS = 2  # a second
CELL = "lfp_280"
SETTLED_S = 20  # until then the contactors close
PHYSICAL = ("battery", "sensor", "can")
DAYS = [name for name in names() if not name.startswith("fault_")]
FAULTS = [name for name in names() if name.startswith("fault_")]


@dataclass
class Story:
    """What came of a scenario: (rows) of true and estimated soc, sd; the ledger's counts of all channels; events."""

    soc: np.ndarray
    estimate: np.ndarray
    sd: np.ndarray
    ledger: dict[str, Any]
    events: set[tuple[str, str]]  # what, severity
    labels: set[str]
    acts: list[tuple[str, bool]]
    frames: int

    def count(self, what: str, channel: str | None = None) -> int:
        """Of the ledger, of one channel or all."""
        return sum(
            int(counts[what]) for name, counts in self.ledger["can"].items() if channel in (None, name)
        )


@functools.cache
def catalogue() -> Any:
    return load_catalogue([(name, name) for name in CHANNELS])


def lived(name: str, seconds: int) -> Story:
    print("seed", SEED)
    acts: list[tuple[str, bool]] = []
    simulation = Simulation(
        load_scenario(name), SEED, lambda act, begins: acts.append((act.kind.name, begins))
    )
    core = Core(Setup("o", "b", catalogue(), load_cell(CELL), batch_interval_s=30.0), "boot")
    soc = simulation.columns.index("soc")
    items, rows, labels, frames = core.tick(0), [], set(), 0
    for n, second in enumerate(itertools.islice(simulation.seconds(), seconds)):
        middle = int(np.searchsorted(second.frames["time_us"], n * 1_000_000 + 500_000))
        for part, at_us in ((slice(None, middle), 500_000), (slice(middle, None), 1_000_000)):
            core.feed(second.frames[part])
            items += core.tick(n * 1_000_000 + at_us)
        frames += len(second.frames)
        labels |= set(second.labels)
        if n >= SETTLED_S and n % 5 == 0 and PACK_SOC in (state := core.snapshot()):
            rows.append((100 * second.truth[-1, soc], state[PACK_SOC], state[PACK_SOC_SD]))
    items += core.seal()
    events = [decode_event(item.payload) for item in items if item.kind == "event"]
    assert any(item.kind == "batch" for item in items)
    true, estimate, sd = np.array(rows).T
    return Story(
        true, estimate, sd, core.ledger(), {(e.what, e.severity) for e in events}, labels, acts, frames
    )


def in_bounds(story: Story) -> None:
    assert np.isfinite(story.estimate).all()
    assert (story.sd > 0).all()
    error = np.abs(story.estimate - story.soc)
    assert (error <= 3 * story.sd + 1).mean() > 0.95, (error.max(), story.sd.min())


@pytest.mark.parametrize("name", DAYS)
def test_a_day(name: str) -> None:
    story = lived(name, SECONDS)
    in_bounds(story)
    if name == "everything_at_once":
        return
    assert story.count("unknown") == story.count("refused") == 0
    assert all(story.count(w) == 0 for w in ("bad_checksum", "repeated_counter", "too_short", "error_frames"))
    assert story.count("received") == story.frames
    assert not {what for what, _ in story.events} - {"bms_soc_off"}, "nothing that is not there"


Check = Callable[[Story], bool]
# kind: seconds to live, what of it must be noticed; None: nothing claims to see it, and the estimate must hold
NOTICED: dict[str, tuple[int, Check | None]] = {
    "internal_short": (300, None),
    "weak_cell": (900, lambda s: any(what == "cell_deviates" for what, _ in s.events)),
    "loose_busbar": (180, None),
    "blocked_coolant": (180, None),
    "heater_failed": (180, None),
    "insulation_drop": (420, lambda s: {("insulation_falls", "warning"), ("insulation_falls", "critical")} <= s.events),
    "thermal_runaway_precursor": (700, lambda s: any(what == "temperature_rises" for what, _ in s.events)),
    "sensor_offset": (240, None),
    "sensor_gain": (240, None),
    "sensor_noise": (200, None),
    "sensor_stuck": (240, None),
    "sensor_dropout": (180, None),
    "swapped_harness": (180, None),
    "lost_frames": (180, None),
    "repeated_frames": (180, lambda s: s.count("repeated_counter", "bms") > 100),
    "bad_checksum": (180, lambda s: s.count("bad_checksum", "bms") > 100),
    "stuck_counter": (180, lambda s: s.count("repeated_counter", "bms") > 100),
    "wrong_length": (180, lambda s: s.count("too_short", "bms") > 50),
    "flood": (150, lambda s: s.count("unknown", "bms") > 5_000),
    "error_frames": (150, lambda s: s.count("error_frames", "vehicle") > 500),
    "bus_off": (180, lambda s: s.count("error_frames", "bms") == 32),
    "ecu_reset": (200, None),
    "unknown_ids": (150, lambda s: all(s.count("unknown", c) > 100 for c in CHANNELS)),
}  # fmt: skip


def test_the_table_has_every_fault_of_battery_sensors_and_can() -> None:
    assert {k for k, kind in CATALOGUE.items() if kind.area in PHYSICAL} == set(NOTICED)
    assert {f"fault_{kind}" for kind in CATALOGUE} == set(FAULTS)


@pytest.mark.parametrize("kind", NOTICED)
def test_a_fault(kind: str) -> None:
    seconds, noticed = NOTICED[kind]
    story = lived(f"fault_{kind}", seconds)
    assert any(label.startswith(kind) for label in story.labels), "it acts in that time"
    assert (kind, True) in story.acts
    in_bounds(story)
    if noticed is not None:
        print(story.ledger, story.events)
        assert noticed(story)


@pytest.mark.parametrize("kind", [k for k, kind in CATALOGUE.items() if kind.area not in PHYSICAL])
def test_a_fault_of_platform_or_network_is_told(kind: str) -> None:
    scenario = load_scenario(f"fault_{kind}")
    acts: list[tuple[str, bool]] = []
    simulation = Simulation(scenario, SEED, lambda act, begins: acts.append((act.kind.name, begins)))
    for _ in itertools.islice(simulation.seconds(), round(scenario.faults[0].at_s) + 3):
        pass
    assert (kind, True) in acts
