"""From frames to sealed events: what the core raises, how it is numbered, and what it says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cantools
import numpy as np
import pytest

from edge.battery.model import load_cell
from edge.can.frames import FRAME
from edge.core import Core, Setup
from edge.events.limits import Limits
from edge.oversight import BMS_DIFFERENCE, BMS_IS_OFF, IMBALANCE
from edge.pack import PACK, PACK_SOC
from edge.signals.catalogue import load_catalogue
from edge.telemetry.batch import EventPayload, Item, decode_batch, decode_event

CELLS, SENSORS = 8, 4
DBC = """VERSION ""
NS_ :
BS_:
BU_: Bms Agent
BO_ 256 Pack: 8 Bms
 SG_ Current : 0|16@1- (0.1,0) [0|0] "A" Agent
 SG_ Volt : 16|16@1+ (0.1,0) [0|0] "V" Agent
 SG_ SoC : 32|8@1+ (0.5,0) [0|100] "%" Agent
 SG_ Insulation : 40|16@1+ (1,0) [0|65535] "kOhm" Agent
""" + "".join(
    f'BO_ {300 + n} Cell{n}: 4 Bms\n SG_ V{n} : 0|16@1+ (0.001,0) [0|5] "V" Agent\n'
    f' SG_ T{n} : 16|8@1+ (1,-40) [0|0] "degC" Agent\n'
    for n in range(1, CELLS + 1)
)
MAP = (
    "version = 1\n[messages.Pack]\nperiod_ms = 100\ntimeout_ms = 5000\n"
    + "".join(f"[messages.Cell{n}]\nperiod_ms = 100\ntimeout_ms = 5000\n" for n in range(1, CELLS + 1))
    + f"""
[[signals]]
source = "Pack.Current"
path = "{PACK}.CurrentCurrent"
role = "pack_current"
[[signals]]
source = "Pack.Volt"
path = "{PACK}.CurrentVoltage"
role = "pack_voltage"
[[signals]]
source = "Pack.SoC"
path = "{PACK}.StateOfCharge.Displayed"
role = "bms_soc"
window = [0.05, 0.95]
rate_s = 1
[[signals]]
source = "Pack.Insulation"
path = "{PACK}.Bms.InsulationResistance"
role = "insulation"
[[signals]]
source = "Cell{{n}}.V{{n}}"
path = "{PACK}.String1.Cell{{n:03d}}.Voltage"
n = "1..{CELLS}"
role = "cell_voltage"
string = "1"
index = "{{n}}"
[[signals]]
source = "Cell{{n}}.T{{n}}"
path = "{PACK}.String1.Temperature{{n}}"
n = "1..{SENSORS}"
role = "cell_temp"
string = "1"
index = "{{n}}"
"""
)
WALL_MS = 1_764_000_000_000


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.dbc").write_text(DBC)
    (folder / "small.toml").write_text(MAP)
    catalogue = load_catalogue([("bms", folder / "small.dbc")])
    return Setup("o", "b", catalogue, load_cell("lg_hg2"), batch_interval_s=1e6, initial_soc=0.6)


class Bus:
    """Sends to a core what a small BMS would, ten times a second."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.database: Any = cantools.database.load_string(DBC)
        self.pack = {"Current": 0.0, "Volt": 600.0, "SoC": 62.0, "Insulation": 2000}
        self.volts = np.full(CELLS, 3.72)
        self.degc = np.full(CELLS, 20.0)
        self.now_us = 0
        self.items: list[Item] = []

    def run(self, seconds: float) -> list[EventPayload]:
        """The events of that time."""
        before = len(self.items)
        for _ in range(round(seconds * 10)):
            said = [("Pack", self.pack)]
            said += [
                (f"Cell{n + 1}", {f"V{n + 1}": self.volts[n], f"T{n + 1}": self.degc[n]})
                for n in range(CELLS)
            ]
            frames = np.zeros(len(said), FRAME)
            for frame, (name, values) in zip(frames, said, strict=True):
                data = self.database.encode_message(name, values, strict=False)
                frame["time_us"], frame["id"], frame["length"] = (
                    self.now_us,
                    self.database.get_message_by_name(name).frame_id,
                    len(data),
                )
                frame["data"][: len(data)] = np.frombuffer(data, np.uint8)
            self.core.feed(frames)
            self.now_us += 100_000
            self.items += self.core.tick(self.now_us)
        return [decode_event(i.payload) for i in self.items[before:] if i.kind == "event"]


def settled(core: Core) -> Bus:
    """A bus whose BMS shows what we take for true."""
    bus = Bus(core)
    bus.run(20)
    bus.pack["SoC"] = (core.snapshot()[PACK_SOC] - 5) / 0.9
    assert bus.run(10) == []
    return bus


def test_an_event_is_sealed_at_once_with_a_number_of_its_own(setup: Setup) -> None:
    core = Core(setup, "boot")
    core.set_clock(WALL_MS, "ntp")
    bus = settled(core)
    bus.pack["Insulation"] = 200
    (opened,) = bus.run(70)
    item = bus.items[-1]
    assert (item.kind, item.topic_leaf, item.seq) == ("event", "event/warning", 2), "after the schema"
    assert (opened.seq, opened.event, opened.what) == (2, 2, "insulation_falls")
    assert opened.thing == f"{PACK}.Bms.InsulationResistance"
    assert opened.evidence["ohm_per_v"] == pytest.approx(333.3)
    assert opened.t_ms - opened.since_ms == 60_000
    assert opened.wall_ms == WALL_MS + opened.t_ms
    assert bus.core.open_events() == [
        {
            "what": "insulation_falls",
            "thing": opened.thing,
            "severity": "warning",
            "since_ms": WALL_MS + opened.since_ms,
            "text": opened.text,
        }
    ]
    bus.items += bus.core.seal()
    assert bus.items[-1].seq == 3
    bus.pack["Insulation"] = 2000
    (closed,) = bus.run(310)
    assert (closed.seq, closed.event, closed.change, closed.why) == (4, 2, "closed", "over")
    assert bus.core.open_events() == []
    assert [i.seq for i in bus.items] == [1, 2, 3, 4]


def test_heat_and_runaway_come_from_the_sensor_that_has_them(setup: Setup) -> None:
    bus = settled(Core(setup, "boot"))
    bus.run(170)
    told = []
    for _ in range(15):
        bus.degc[2] += 2
        told += bus.run(1)
    assert [(e.what, e.severity, e.thing) for e in told] == [
        ("temperature_rises", "critical", f"{PACK}.String1.Temperature3")
    ]


def test_the_bms_is_judged_in_its_window_and_is_told_where_it_is_off(setup: Setup) -> None:
    bus = settled(Core(setup, "boot"))
    bus.run(90)
    state = bus.core.snapshot()
    ours = state[PACK_SOC]
    assert state[BMS_DIFFERENCE] == pytest.approx(5 + 0.9 * bus.pack["SoC"] - ours, abs=0.3)
    assert state[IMBALANCE] < 0.5
    bus.pack["SoC"] = (ours - 5) / 0.9 + 30  # a lie of 27 % of the cells' range
    (event,) = bus.run(100)
    assert (event.what, event.severity) == ("bms_soc_off", "warning")
    state = bus.core.snapshot()
    assert state[BMS_IS_OFF] is True
    assert event.evidence["difference_pct"] == pytest.approx(state[BMS_DIFFERENCE], abs=1)
    (batch,) = [decode_batch(i.payload) for i in bus.core.seal()]
    columns = bus.core.schema.columns
    place = next(n for n, c in enumerate(columns) if c.path == BMS_DIFFERENCE)
    times, raw = batch.samples(place)
    assert times.tolist() == [100, *range(10_000, 230_000, 10_000)]
    assert raw[-1] * columns[place].scale == pytest.approx(state[BMS_DIFFERENCE], abs=0.01)


def test_a_cell_that_deviates_is_named(setup: Setup) -> None:
    limits = replace(Limits(), cell_soc=0.02)
    bus = settled(Core(replace(setup, limits=limits), "boot"))
    bus.volts[4] -= 0.25
    told = [e for e in bus.run(900) if e.what == "cell_deviates"]
    assert [e.thing for e in told] == [f"{PACK}.String1.Cell005"]
    assert told[0].evidence["soc_deviation_pct"] < -2  # type: ignore[operator]


def test_a_memory_of_another_battery_is_an_event(setup: Setup) -> None:
    bus = Bus(Core(setup, "boot", b"of something else"))
    (event,) = bus.run(3)
    assert (event.what, event.seq) == ("battery_changed", 2)
    assert bus.run(60) == []


def test_the_same_frames_give_the_same_bytes(setup: Setup) -> None:
    def once() -> list[bytes]:
        bus = Bus(Core(setup, "boot"))
        bus.run(20)
        bus.pack["Insulation"] = 10
        bus.degc[1] += 1
        bus.run(60)
        return [i.payload for i in [*bus.items, *bus.core.seal()]]

    first = once()
    assert len(first) > 2
    assert first == once()


def test_the_documented_paths_are_words_of_the_overlay(setup: Setup) -> None:
    from edge.signals.vss import unit_of

    core = Core(setup, "boot")
    for column in core.oversight.columns:
        assert unit_of(column.path) == column.unit
    for path in (BMS_IS_OFF, f"{PACK}.StateOfCharge.DisplayedDrift"):
        assert unit_of(path) is not None


def test_every_event_and_threshold_is_in_the_documentation() -> None:
    text = (Path(__file__).parent.parent.parent / "docs/events.md").read_text("utf-8")
    rules = ("cell_deviates", "insulation_falls", "temperature_rises", "bms_soc_off", "battery_changed")
    for name in (*rules, *Limits.__dataclass_fields__):
        assert name in text
