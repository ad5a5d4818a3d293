"""Every scenario through the whole of the agent's core, and what it must notice of each fault, and nothing else.

docs/simulator/agent.md says the same for people.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from edge.battery.model import load_cell
from edge.core import TICK_US, Core, Setup
from edge.pack import PACK_SOC, PACK_SOC_SD
from edge.signals.catalogue import Catalogue, load_catalogue
from edge.signals.validity import GOOD, NAMES
from edge.telemetry.batch import Item, decode_event
from sim_bus.ecus import CHANNELS
from sim_bus.faults.catalogue import CATALOGUE
from sim_bus.run import Second
from sim_bus.scenario import load_scenario, names
from sim_bus.simulation import Simulation

pytestmark = pytest.mark.system
SEED = 3
DAY_S = 120
SECOND_US = 1_000_000
SETTLED_S = 25  # until then ECUs boot and contactors close
LOOK_S = 5
CELL = "lfp_280"
MOST_SD_PCT = 12.0  # the estimate begins with the BMS's soc and a doubt of 10 %; the pack's, by its weakest, has a little more
PHYSICAL = ("battery", "sensor", "can")
HOOKS = [name for name, kind in CATALOGUE.items() if kind.area not in PHYSICAL]
DAYS = [name for name in names() if not name.startswith("fault_") and name != "everything_at_once"]
ADDENDS = ("decoded", "unknown", "refused", "error_frames", "remote_frames", "transport")
TROUBLE = (
    "unknown", "too_short", "bad_checksum", "repeated_counter", "bad_mux", "not_decodable", "too_many_sources",
    "error_frames", "remote_frames", "messages_unknown", "messages_refused", "sessions_broken", "skipped",
)  # fmt: skip

Ledger = Mapping[str, Mapping[str, tuple[int, int]]]
BATTERY = "Vehicle.Powertrain.TractionBattery."


@dataclass(frozen=True)
class Must:
    """What must be noticed in so many seconds, and no more.

    ledger      by channel and count, from and to; what is not named must be 0
    validity    by its name, a pattern of the signals that are worth that at some time; all others are good throughout
    good_again  whether all are good at the end
    out         the cells that stand out of their strings at some time
    events      what opens: what, thing, severity
    most_sd_pct how wide the band may become
    """

    seconds: int
    ledger: Ledger = field(default_factory=dict)
    validity: Mapping[str, str] = field(default_factory=dict)
    good_again: bool = True
    out: tuple[str, ...] = ()
    events: tuple[tuple[str, str, str], ...] = ()
    most_sd_pct: float = MOST_SD_PCT


NOT_SEEN = Must(300)  # nothing claims to see it
MUST = {
    "internal_short": Must(
        600,
        out=("String1.Cell040",),
        events=(("temperature_rises", "String1.Temperature10", "warning"),),
        most_sd_pct=25.0,  # the cell gives hundreds of ampere that nobody counts: it is lost, and looked for everywhere
    ),
    "weak_cell": Must(
        810, out=("String2.Cell017",), events=(("cell_deviates", "String2.Cell017", "warning"),)
    ),
    "loose_busbar": Must(
        800, out=("String1.Cell088",), events=(("cell_deviates", "String1.Cell088", "warning"),)
    ),
    "blocked_coolant": NOT_SEEN,
    "heater_failed": NOT_SEEN,
    "insulation_drop": Must(
        400,
        events=(
            ("insulation_falls", "Bms.InsulationResistance", "warning"),
            ("insulation_falls", "Bms.InsulationResistance", "critical"),
        ),
    ),
    "thermal_runaway_precursor": Must(
        540, events=(("temperature_rises", "String2.Temperature15", "warning"),)
    ),
    "sensor_offset": Must(380),
    "sensor_gain": Must(380),
    "sensor_noise": Must(300, out=("String1.Cell017",)),
    "sensor_stuck": Must(300, out=("String2.Cell005",)),
    "sensor_dropout": Must(375, validity={"not available": r"String1\.Temperature03$"}),
    "swapped_harness": Must(380),
    "lost_frames": Must(
        240,
        ledger={"bms": {"skipped": (450, 1000)}},
        validity={"stale": r"Cell\d+\.(Voltage|IsBalancing)$"},
        good_again=False,
    ),
    "repeated_frames": Must(180, ledger={"bms": {"repeated_counter": (270, 450)}}),
    "bad_checksum": Must(180, ledger={"bms": {"bad_checksum": (270, 450), "skipped": (270, 450)}}),
    "stuck_counter": Must(
        380,
        ledger={"bms": {"repeated_counter": (2390, 2400), "skipped": (0, 15)}},
        validity={"stale": r"CurrentVoltage$|CurrentCurrent$|Displayed$|Bms\.State$|IsContactorClosed$"},
    ),
    "wrong_length": Must(180, ledger={"bms": {"too_short": (700, 1100), "skipped": (90, 260)}}),
    "flood": Must(150, ledger={"bms": {"unknown": (59_990, 60_010)}}),
    "error_frames": Must(150, ledger={"vehicle": {"error_frames": (1_300, 1_700)}}),
    "bus_off": Must(180, ledger={"bms": {"error_frames": (32, 32)}}, validity={"stale": BATTERY}),
    "ecu_reset": Must(  # a counter that starts again before its time-out looks like one that jumped
        215, ledger={"bms": {"skipped": (0, 90)}}, validity={"not available": BATTERY, "stale": BATTERY}
    ),
    "unknown_ids": Must(150, ledger={name: {"unknown": (1_300, 1_700)} for name in CHANNELS}),
}
ASLEEP = {  # where the day begins at the charger, ignition off: the inverter, and what Body sends
    "never heard": r"ElectricMotor|Cabin\.(HVAC|DoorState)|AuxiliaryPower|HeaterPower|Exterior\.AirTemperature"
}


@functools.cache
def catalogue() -> Catalogue:
    return load_catalogue([(name, name) for name in CHANNELS])


class Story:
    """A scenario and the core that lives it."""

    def __init__(self, scenario: str, of: Catalogue | None = None) -> None:
        print("seed", SEED)
        self.acts: list[tuple[str, bool]] = []
        self.simulation = Simulation(
            load_scenario(scenario), SEED, lambda act, begins: self.acts.append((act.kind.name, begins))
        )
        self._soc = self.simulation.columns.index("soc")
        self.core = Core(Setup("o", "b", of or catalogue(), load_cell(CELL), batch_interval_s=30.0), "boot")
        self.items: list[Item] = self.core.tick(0)
        self.looks: list[tuple[float, float, float]] = []  # true soc, ours, sd; %
        self.not_good: dict[str, set[str]] = {}  # by validity, the paths that had it at a time
        self.out: set[str] = set()
        self.labels: set[str] = set()
        self.frames = np.zeros(len(CHANNELS), np.int64)

    def live(self, seconds: int) -> Story:
        for n, second in enumerate(itertools.islice(self.simulation.seconds(), seconds)):
            self._second(n, second)
        self.items += self.core.seal()
        return self

    def _second(self, n: int, second: Second) -> None:
        ends_us = np.arange(n * SECOND_US, (n + 1) * SECOND_US, TICK_US) + TICK_US
        parts = np.split(second.frames, np.searchsorted(second.frames["time_us"], ends_us[:-1]))
        for frames, end_us in zip(parts, ends_us.tolist(), strict=True):
            self.core.feed(frames)
            self.items += self.core.tick(end_us)
            if n >= SETTLED_S:
                self._look_at_validity()
        self.frames += np.bincount(second.frames["channel"], minlength=len(CHANNELS))
        self.labels |= set(second.labels)
        if n >= SETTLED_S and n % LOOK_S == 0:
            self._look(100 * float(second.truth[-1, self._soc]))

    def _look_at_validity(self) -> None:
        watch = self.core.watch
        for row in np.flatnonzero(watch.validity != GOOD).tolist():
            self.not_good.setdefault(NAMES[watch.validity[row]], set()).add(watch.signals[row].path)

    def _look(self, true_soc: float) -> None:
        state = self.core.snapshot()
        self.looks.append((true_soc, state[PACK_SOC], state[PACK_SOC_SD]))
        assert self.core.oversight.opinion is not None
        signals = self.core.battery.inputs.signals
        for cell in np.flatnonzero(self.core.oversight.opinion.stands_out).tolist():
            self.out.add(short(signals[cell].path).removesuffix(".Voltage"))

    @property
    def events(self) -> set[tuple[str, str, str]]:
        """What opened."""
        events = [decode_event(item.payload) for item in self.items if item.kind == "event"]
        return {(e.what, short(e.thing), e.severity) for e in events if e.change == "opened"}

    @property
    def can(self) -> Mapping[str, Any]:
        ledger: Mapping[str, Any] = self.core.ledger()["can"]
        return ledger


def short(path: str) -> str:
    return path.removeprefix(BATTERY)


def check_always(story: Story, most_sd_pct: float = MOST_SD_PCT) -> None:
    """Whatever happens: the items are in order, every frame is in the ledger once, the estimate is within its band."""
    assert [item.seq for item in story.items] == list(range(1, len(story.items) + 1))
    assert [item.kind for item in story.items].count("batch") >= len(story.looks) * LOOK_S // 30
    for number, name in enumerate(CHANNELS):
        counts = story.can[name]
        assert counts["received"] == story.frames[number] == sum(counts[part] for part in ADDENDS)
    cells = story.core.battery.cell_soc()
    assert ((cells >= 0) & (cells <= 1)).all()
    true, estimate, sd = np.array(story.looks).T
    error = np.abs(estimate - true)
    print(f"soc off by {error.max():.2f} %, {(error / sd).max():.2f} sd at most; sd {sd.max():.1f} % at most")
    assert (error <= 1.96 * sd).all()
    assert ((sd > 0) & (sd <= most_sd_pct)).all()


def check(story: Story, must: Must) -> None:
    """What must be noticed was, and nothing else."""
    check_always(story, must.most_sd_pct)
    can = story.can
    troubles = {(c, what): n for c in CHANNELS for what in TROUBLE if (n := can[c][what])}
    print(troubles, {k: sorted(v)[:5] for k, v in story.not_good.items()}, story.out, story.events)
    expected = {(c, what): span for c, counts in must.ledger.items() for what, span in counts.items()}
    for place in troubles.keys() | expected.keys():
        low, high = expected.get(place, (0, 0))
        assert low <= troubles.get(place, 0) <= high, place
    assert set(story.not_good) == set(must.validity)
    for name, pattern in must.validity.items():
        assert not [path for path in story.not_good[name] if not re.search(pattern, path)], name
    if must.good_again:
        assert (story.core.watch.validity == GOOD).all()
    assert story.out == set(must.out)
    assert story.events == set(must.events)


@pytest.mark.parametrize("name", DAYS)
def test_of_a_healthy_day_every_frame_is_taken_and_nothing_is_found(name: str) -> None:
    story = Story(name).live(DAY_S)
    asleep = story.can["inverter"]["received"] == 0
    assert asleep == (load_scenario(name).timetable[0].do == "charge")
    check(story, Must(DAY_S, validity=ASLEEP if asleep else {}, good_again=not asleep))


def test_the_table_has_every_fault_of_battery_sensors_and_can() -> None:
    assert set(MUST) == set(CATALOGUE) - set(HOOKS)
    assert {f"fault_{kind}" for kind in CATALOGUE} == {n for n in names() if n.startswith("fault_")}


@pytest.mark.parametrize("kind", MUST)
def test_a_fault_is_noticed_and_no_other(kind: str) -> None:
    story = Story(f"fault_{kind}").live(MUST[kind].seconds)
    assert any(label.startswith(kind) for label in story.labels), "it acts in that time"
    assert (kind, True) in story.acts
    check(story, MUST[kind])


def test_a_stuck_voltage_is_suspect_where_the_map_says_how_long_it_may_stand_still() -> None:
    ours = catalogue()
    signals = tuple(replace(s, frozen_s=60.0) if s.role == "cell_voltage" else s for s in ours.signals)
    story = Story("fault_sensor_stuck", replace(ours, signals=signals)).live(375)
    check(story, Must(375, validity={"suspect": r"String2\.Cell005\.Voltage$"}, out=("String2.Cell005",)))


def test_everything_at_once_breaks_nothing() -> None:
    story = Story("everything_at_once").live(1200)
    check_always(story)
    kinds = {act for act, begins in story.acts if begins}
    assert {k for k, kind in CATALOGUE.items() if kind.area in ("battery", "sensor")} < kinds
    assert all(
        story.can["bms"][what] for what in ("skipped", "repeated_counter", "bad_checksum", "too_short")
    )
    assert ("cell_deviates", "String2.Cell017", "warning") in story.events
    assert any(path.endswith("String1.Temperature03") for path in story.not_good["not available"])


def test_ignition_games_end_as_if_nothing_had_been() -> None:
    story = Story("fault_ignition_games").live(270)
    check_always(story)
    assert set(story.not_good) == {"stale", "not available"}
    assert (story.core.watch.validity == GOOD).all()
    assert not story.events
    assert story.core.counts.total()["refused"] == 0


@pytest.mark.parametrize("kind", HOOKS)
def test_a_fault_of_platform_or_network_is_told_at_its_begin_and_end(kind: str) -> None:
    scenario = load_scenario(f"fault_{kind}")
    (fault,) = scenario.faults
    end_s = round(fault.at_s + (fault.for_s or 1))
    acts: list[tuple[str, bool, int]] = []
    labels: list[tuple[str, ...]] = []  # of each second that is over
    simulation = Simulation(
        scenario, SEED, lambda act, begins: acts.append((act.kind.name, begins, len(labels)))
    )
    for second in itertools.islice(simulation.seconds(), end_s + 2):
        labels.append(second.labels)
    assert acts == [(kind, True, round(fault.at_s)), (kind, False, end_s)]
