"""What flows into the estimator, through the core, from simulated frames: docs/battery/inputs.md."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.can.frames import Frames
from edge.core import Core, Setup
from edge.pack import PACK_SOC, Pack
from edge.pack_inputs import Layout, unseen_pack
from edge.recording import Recorder
from edge.replay import replay_logs
from edge.telemetry.batch import Item, decode_batch
from tests.edge.bus_of_cells import WALL_MS, Bus, make_setup

SEED = 4
WHOLE = ["pack_current", "temp", "cells"]
DRIVE_W = 24 * 3.3 * 100  # 100 A


def started(setup: Setup, seconds: int = 3, restored: bytes | None = None, **bus: float) -> Bus:
    """A bus that has been up for a few seconds."""
    made = Bus(Core(setup, "boot", restored), SEED, **bus)  # type: ignore[arg-type]
    made.clock()
    made.run(seconds)
    return made


def pack_of(bus: Bus) -> Pack:
    assert bus.core.battery.estimator is not None
    return bus.core.battery


@pytest.fixture
def inputs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """What the estimator is given, step by step."""
    given: list[dict[str, np.ndarray]] = []
    advance = Pack._advance

    def spy(self: Pack, dt_s: float, sample) -> None:  # type: ignore[no-untyped-def]
        given.append(sample._asdict())
        advance(self, dt_s, sample)

    monkeypatch.setattr(Pack, "_advance", spy)
    return given


# Contactors


def test_open_only_after_a_second(tmp_path: Path, inputs: list[dict[str, np.ndarray]]) -> None:
    bus = started(make_setup(tmp_path, [*WHOLE, "contactors"]))
    bus.run(3)
    assert not inputs[-1]["open"].any()
    bus.contactor = 0
    bus.run(3)
    assert [bool(given["open"][0]) for given in inputs[-3:]] == [False, True, True]
    bus.contactor = 1
    bus.run(1)
    assert not inputs[-1]["open"].any()


def test_a_biased_sensor_counts_nothing_while_the_contactors_are_open(tmp_path: Path) -> None:
    """4 A too much of 280 Ah make 0.5 % in 20 minutes."""
    changes = {}
    for parts in (WHOLE, [*WHOLE, "contactors"]):
        bus = started(make_setup(tmp_path, parts), soc=0.5)
        bus.contactor = 0
        bus.current_bias_a = 4.0
        bus.run(30)
        bus.silent.update(range(512, 518))  # the cells show nothing: only the current counts
        bus.run(10)
        before = bus.estimate()[0]
        bus.run(1200)
        changes["contactors" in parts] = bus.estimate()[0] - before
    assert changes[False] < -0.003
    assert abs(changes[True]) < 0.0005


def test_the_zero_of_every_sensor_is_learnt_while_its_contactors_are_open(tmp_path: Path) -> None:
    """And kept when they close."""
    parts = ["string_current", "cells", "temp", "contactors"]
    bus = started(make_setup(tmp_path, parts, strings=2), strings=2)
    estimator = pack_of(bus).estimator
    assert estimator is not None
    bus.current_bias_a = np.array([2.0, -1.0])
    bus.contactor = 0
    bus.run(600)
    assert estimator.current_offset_a == pytest.approx([2, -1], abs=0.3)
    learnt = estimator.current_offset_sd_a
    assert (learnt < 0.3).all()
    bus.contactor = 1
    bus.run(120, DRIVE_W)
    assert estimator.current_offset_a == pytest.approx([2, -1], abs=0.5)


def test_current_through_open_contactors_is_counted_and_believed(
    tmp_path: Path, inputs: list[dict[str, np.ndarray]]
) -> None:
    bus = started(make_setup(tmp_path, [*WHOLE, "contactors"]))
    bus.contactor = 0
    bus.current_bias_a = 60.0
    bus.run(5)
    bus.current_bias_a = 1.0
    bus.run(2)
    bus.current_bias_a = -60.0
    bus.run(2)
    assert [bool(given["open"][0]) for given in inputs[-9:]] == [False] * 5 + [True] * 2 + [False] * 2
    assert inputs[-1]["current_a"] == pytest.approx([-60])
    assert pack_of(bus).counts()["current_while_open"] == 2


def test_one_string_of_two_is_open(tmp_path: Path, inputs: list[dict[str, np.ndarray]]) -> None:
    """A sensor for both strings shows the current of the one that is closed."""
    parts = [*WHOLE, "contactors", "string_contactor"]
    bus = started(make_setup(tmp_path, parts, strings=2), strings=2)
    bus.string_contactor[1] = 0
    bus.current_bias_a = 10.0
    bus.run(4)
    assert inputs[-1]["open"].tolist() == [False, True]
    assert inputs[-1]["current_a"] == pytest.approx([20, math.nan], nan_ok=True)
    bus.string_contactor[0] = 0
    bus.current_bias_a = 2.0
    bus.run(4)
    assert inputs[-1]["open"].tolist() == [True, True]
    assert inputs[-1]["current_a"] == pytest.approx([2, 2])


def test_a_sensor_for_each_string(tmp_path: Path, inputs: list[dict[str, np.ndarray]]) -> None:
    parts = ["string_current", "pack_current", "cells", "string_contactor"]
    bus = started(make_setup(tmp_path, parts, strings=2), strings=2)
    bus.string_contactor[1] = 0
    bus.current_bias_a = 2.5
    bus.run(4)
    assert inputs[-1]["open"].tolist() == [False, True]
    assert inputs[-1]["current_a"] == pytest.approx(bus.battery.string_a + 2.5, abs=0.051)


# Balancing


def test_balancing_switches(tmp_path: Path, inputs: list[dict[str, np.ndarray]]) -> None:
    bus = started(make_setup(tmp_path, [*WHOLE, "switches"], cells=10), cells=10)
    bus.switches = 0b10000010
    bus.run(1)
    assert inputs[-1]["balancing_a"].tolist() == [0, 0.5, 0, 0, 0, 0, 0, 0.5, 0, 0]
    bus.silent.add(290)
    bus.run(70)
    assert not inputs[-1]["balancing_a"].any(), "stale: off"


def test_a_balancing_current(tmp_path: Path, inputs: list[dict[str, np.ndarray]]) -> None:
    started(make_setup(tmp_path, [*WHOLE, "drain"], cells=4), cells=4)
    assert inputs[-1]["balancing_a"] == pytest.approx([0.3, 0, 0, 0]), "300 mA"


# Few voltages


@pytest.mark.parametrize(
    ("parts", "series", "kind", "cells"),
    [
        (["pack_current", "min", "max"], None, "extremes", 2),
        (["pack_current", "min", "mean", "max"], None, "extremes", 3),
        (["pack_current", "min", "max", "pack_voltage"], 24, "extremes", 3),
        (["pack_current", "min"], None, "extremes", 1),
        (["pack_current", "pack_voltage"], 24, "mean", 1),
        (["pack_current", "mean"], None, "mean", 1),
        (["string_current", "string_voltage"], 24, "mean", 2),
        (["string_current", "string_voltage", "min", "max", "pack_voltage"], 24, "extremes", 3),
    ],
)
def test_few_voltages(tmp_path: Path, parts: list[str], series: int | None, kind: str, cells: int) -> None:
    """With the BMS's soc for a start, the truth stays in the band, through half an hour of driving."""
    parallel = (
        1 if "string_current" in parts else 2
    )  # no string is named: the configuration says how many there are
    setup = make_setup(tmp_path, [*parts, "temp", "bms_soc"], strings=2, series=series, parallel=parallel)
    bus = started(setup, strings=2, soc=0.9)
    pack = pack_of(bus)
    assert (pack.layout.kind, len(pack.cell_soc())) == (kind, cells)
    for _ in range(4):
        bus.run(450, 3 * DRIVE_W)
        soc, sd = bus.estimate()
        assert abs(soc - bus.truth()) < 3 * sd
    assert sd < 0.12


def test_fewer_voltages_are_a_wider_band(tmp_path: Path) -> None:
    bands, model_sd = {}, {}
    for part in ("cells", "min", "pack_voltage"):
        setup = make_setup(tmp_path, ["pack_current", "temp", part], series=24)
        bus = started(replace(setup, initial_soc=0.5), soc=0.5)
        bands[part] = bus.estimate()[1]
        model_sd[part] = pack_of(bus)._model().model_sd_v
    assert bands["pack_voltage"] > 1.03 * bands["cells"]
    assert (model_sd["cells"] == bus.core.setup.cell.model_sd_v).all()
    assert (model_sd["min"] > np.hypot(model_sd["cells"], 0.005 - 1e-9)).all()
    assert (model_sd["pack_voltage"] > np.hypot(model_sd["cells"], 0.002 * 2)).all(), "a voltmeter's 0.2 %"


@pytest.mark.parametrize("mean", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize(
    ("below", "above", "shown"),
    [(1, 1, ["mean"]), (0, 2, ["min"]), (2, 0, ["max"]), (0, 1, ["min", "mean"])],
)
def test_cells_that_nobody_sees(below: int, above: int, shown: list[str], mean: float) -> None:
    """Packs of 96 cells whose spread is anything from 0 to 2 %: what is shown is known exactly, the rest not at all."""
    n = len(shown)
    layout = Layout("mean", (0,) * n, (1.0,) * n, (0,) * n, (None,), (below,), (above,), series=96)
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    errors, bands = [], []
    for _ in range(1000):
        soc = np.clip(mean + rng.uniform(0, 0.02) * rng.normal(size=96), 0, 1)
        true = soc.min() / (soc.min() + 1 - soc.max())
        known = np.array([getattr(soc, name)() for name in shown])
        pack = unseen_pack(layout, known, np.full(n, 1e-6), np.ones(n))
        errors.append(pack.soc - true)
        bands.append(pack.soc_sd)
    error, sd = np.array(errors), np.array(bands)
    assert abs(error.mean()) < 0.005
    assert (np.abs(error) < 1.96 * sd).mean() > 0.88
    assert sd.mean() < 1.4 * np.sqrt((error**2).mean()), "and no wider than need be"


def test_no_pack_voltage_behind_open_contactors(tmp_path: Path, inputs: list[dict[str, np.ndarray]]) -> None:
    parts = ["pack_current", "temp", "pack_voltage", "contactors"]
    bus = started(make_setup(tmp_path, parts, series=24))
    bus.contactor = 0
    bus.run(1)
    assert np.isnan(inputs[-1]["voltage_v"]).all()
    bus.contactor = 1
    bus.run(1)
    assert inputs[-1]["voltage_v"] == pytest.approx(bus.battery.cell_v.mean(), abs=0.003)


# Cells that come at their own times, or never


def test_each_voltage_is_used_once(tmp_path: Path, inputs: list[dict[str, np.ndarray]]) -> None:
    bus = started(make_setup(tmp_path, WHOLE), seconds=6)
    bus.run(24, pages=2)  # 24 cells in 6 messages
    fresh = np.array([np.isfinite(given["voltage_v"]) for given in inputs[-24:]])
    assert (fresh.sum(axis=1) == 8).all()
    assert (fresh.sum(axis=0) == 8).all()


def test_a_cell_that_nobody_sends(tmp_path: Path) -> None:
    """The map names 24 cells; the battery has 20."""
    bus = Bus(Core(make_setup(tmp_path, [*WHOLE, "count"]), "boot"), SEED)
    bus.silent.add(512 + 5)
    bus.count = 20
    bus.run(59)
    assert bus.core.battery.estimator is None, "they may still come"
    bus.run(5)
    pack = pack_of(bus)
    assert np.flatnonzero(pack.missing).tolist() == [20, 21, 22, 23]
    assert np.isfinite(pack.cell_soc()[:20]).all()
    assert np.isnan(pack.cell_soc()[20:]).all()
    bus.run(20)
    ledger = decode_batch(bus.core.seal()[0].payload).ledger
    assert ledger.battery == {
        "cells_missing": 4, "cell_count_differs": 1, "current_while_open": 0, "swapped": 0
    }  # fmt: skip
    assert pack.inputs.other_count


def test_a_cell_that_comes_late(tmp_path: Path) -> None:
    bus = Bus(Core(make_setup(tmp_path, WHOLE), "boot"), SEED)
    bus.silent.add(512)
    bus.run(70)
    before = bus.estimate()
    assert pack_of(bus).missing.sum() == 4
    bus.silent.clear()
    bus.run(2)
    assert not pack_of(bus).missing.any()
    assert bus.core.battery.generation == 2
    assert bus.estimate()[0] == pytest.approx(before[0], abs=0.15)
    assert bus.core.battery.counts()["cells_missing"] == 0


# A restart


def dumped(setup: Setup, *, quality: str = "ntp", seconds: int = 600, **bus: float) -> tuple[Bus, bytes]:
    """A bus after ten minutes, and its memory."""
    made = started(setup, **bus)
    made.bms_soc = made.truth()
    made.run(seconds, DRIVE_W)
    made.clock(WALL_MS, quality)
    return made, made.core.dump()


def restart(
    setup: Setup, bus: Bus, memory: bytes, off_s: float, quality: str = "ntp", seconds: int = 3
) -> Bus:
    """The same battery, after so long, with another core."""
    bus.core = Core(setup, "next", memory)
    bus.now_us = 0
    bus.clock(WALL_MS + round(off_s * 1000), quality)
    bus.run(seconds)
    return bus


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called the estimator takes no steps: what was restored stays to be seen."""
    return lambda: monkeypatch.setattr(Pack, "_advance", lambda *_: None)


def test_the_state_survives_with_the_time_off(tmp_path: Path, still: Callable[[], None]) -> None:
    setup = make_setup(tmp_path, WHOLE)
    bus, memory = dumped(setup, soc=0.95)
    soc, sd = bus.estimate()
    print(soc, sd)
    still()
    bands = []
    for off_s in (10, 120, 1800, 90 * 86400):
        again = restart(setup, bus, memory, off_s)
        assert again.core.battery.memory_refused == 0
        assert again.estimate()[0] == pytest.approx(soc, abs=0.05)
        bands.append(again.estimate()[1])
    print(bands)
    assert bands[0] == pytest.approx(sd, rel=0.3)
    assert bands[0] < bands[1] < bands[2] < bands[3]


@pytest.mark.parametrize(
    ("written", "read", "off_s"), [("ntp", "unsynced", 10), ("unsynced", "ntp", 10), ("ntp", "ntp", -3600)]
)
def test_nobody_knows_for_how_long(
    tmp_path: Path, still: Callable[[], None], written: str, read: str, off_s: int
) -> None:
    """As wide as after hours: where one of the clocks could not be trusted, or went back."""
    setup = make_setup(tmp_path, WHOLE)
    bus, memory = dumped(setup, quality=written, soc=0.95)
    soc, sd = bus.estimate()
    still()
    again = restart(setup, bus, memory, off_s, read)
    assert again.core.battery.memory_refused == 0
    assert again.estimate()[0] == pytest.approx(0.9 * soc + 0.1 * 0.5, abs=0.01), "one in ten: anything"
    assert again.estimate()[1] > math.hypot(sd, 0.04)


def test_charged_unseen(tmp_path: Path, still: Callable[[], None]) -> None:
    """The BMS counted while the agent was off: the estimate goes with it, and is less sure."""
    setup = make_setup(tmp_path, [*WHOLE, "bms_soc"])
    bus, memory = dumped(setup, soc=0.5)
    soc, sd = bus.estimate()
    bus.bms_soc += 0.3
    still()
    again = restart(setup, bus, memory, 4 * 3600)
    assert again.estimate()[0] == pytest.approx(0.9 * (soc + 0.3) + 0.1 * 0.5, abs=0.02), (
        "one in ten: anything"
    )
    assert again.estimate()[1] > math.hypot(sd, 0.14)


def test_not_charged_as_the_bms_says(tmp_path: Path, still: Callable[[], None]) -> None:
    setup = make_setup(tmp_path, [*WHOLE, "bms_soc"])
    bus, memory = dumped(setup, soc=0.5)
    soc, sd = bus.estimate()
    still()
    again = restart(setup, bus, memory, 4 * 3600)
    assert again.estimate()[0] == pytest.approx(soc, abs=0.02)
    assert again.estimate()[1] < math.hypot(sd, 0.04)


class Recorded:
    """A core whose inputs are recorded beside it."""

    def __init__(self, core: Core, path: Path, restored: bytes) -> None:
        self.core = core
        self.battery = core.battery
        self.items: list[Item] = []
        self._recorder = Recorder(path, ["bms"])
        self._recorder.start(core.boot, restored)

    def set_clock(self, offset_ms: int, quality: str) -> None:
        self._recorder.clock(offset_ms, quality)
        self.core.set_clock(offset_ms, quality)

    def feed(self, frames: Frames) -> None:
        self._recorder.feed(frames)
        self.core.feed(frames)

    def tick(self, now_us: int) -> None:
        self._recorder.tick(now_us)
        self.items += self.core.tick(now_us)

    def close(self) -> None:
        self._recorder.seal()
        self._recorder.close()
        self.items += self.core.seal()


def test_a_recorded_restart_replays_to_the_same_bytes(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, [*WHOLE, "bms_soc", "contactors", "serial"])
    bus, memory = dumped(setup)
    live = Recorded(Core(setup, "next", memory), tmp_path / "day.log", memory)
    bus.core = live  # type: ignore[assignment]
    bus.now_us = 0
    bus.clock(WALL_MS + 7_200_000)
    bus.run(60, DRIVE_W)
    bus.clock(WALL_MS + 8_000_000, "unsynced")
    bus.run(30)
    live.close()
    items = []
    for core, sealed in replay_logs(setup, [tmp_path / "day.log"]):  # noqa: B007
        items += sealed
    assert [i.payload for i in items] == [i.payload for i in live.items]
    assert core.dump() == live.core.dump()
    assert core.battery.memory_refused == 0


def test_memory_before_the_first_cell_is_the_old_one(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, WHOLE)
    _, memory = dumped(setup, seconds=60)
    assert Core(setup, "next", memory).dump() == memory
    assert Core(setup, "next").dump() == b""


@pytest.mark.parametrize("damage", [b"", b"short", b"AyazEKF2" + bytes(200)])
def test_memory_that_is_none(tmp_path: Path, damage: bytes) -> None:
    bus = started(make_setup(tmp_path, WHOLE), restored=damage or None)
    assert bus.core.battery.memory_refused == int(bool(damage))
    assert PACK_SOC in bus.core.snapshot()


def test_any_byte_of_a_memory_that_changed(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, WHOLE, cells=4)
    bus, memory = dumped(setup, seconds=60, cells=4)
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    for place in rng.integers(0, len(memory), 30).tolist():
        broken = memory[:place] + bytes([memory[place] ^ 1 << int(rng.integers(8))]) + memory[place + 1 :]
        assert restart(setup, bus, broken, 10).core.battery.memory_refused == 1
    assert restart(setup, bus, memory[:-1], 10).core.battery.memory_refused == 1


# Another pack


def test_another_serial_number_is_another_pack(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, [*WHOLE, "serial", "bms_soc"])
    bus, memory = dumped(setup)
    assert restart(setup, bus, memory, 600).core.battery.counts()["swapped"] == 0
    bus.serial = 8
    again = restart(setup, bus, memory, 600)
    assert again.core.battery.swapped == "its serial number is another"
    assert again.core.battery.memory_refused == 1
    assert again.core.battery.generation == 2
    assert restart(setup, bus, again.core.dump(), 600).core.battery.swapped == ""


def test_a_serial_number_that_comes_late(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, [*WHOLE, "serial"])
    bus, memory = dumped(setup)
    bus.serial = 8
    bus.silent.add(289)
    again = restart(setup, bus, memory, 600, seconds=120)
    assert again.core.battery.swapped == ""
    assert again.core.battery.memory_refused == 0
    bus.silent.clear()
    bus.run(2)
    assert again.core.battery.swapped == "its serial number is another"


CELLS = 100


def rested(setup: Setup, seed: int, soc: float) -> tuple[Bus, bytes]:
    """A battery that has been seen at rest."""
    bus = Bus(Core(setup, "boot"), seed, cells=CELLS, soc=soc)
    bus.clock()
    bus.run(60, CELLS * 3.3 * 50)
    bus.run(60)
    return bus, bus.core.dump()


@pytest.mark.parametrize("moved", [0.0, -0.5, 0.25])
def test_the_pattern_of_its_cells_tells_a_pack(tmp_path: Path, moved: float) -> None:
    """The same pack, also charged or driven unseen, is gone on with; another one is not."""
    setup = make_setup(tmp_path, ["pack_current", "temp", "cells"], cells=CELLS)
    for seed in range(3):
        bus, memory = rested(setup, seed, 0.7)
        bus.battery.soc[:] += moved
        again = restart(setup, bus, memory, 3600, seconds=60)
        assert again.core.battery.swapped == ""
        assert again.core.battery.memory_refused == 0
        other = Bus(again.core, seed + 100, cells=CELLS, soc=0.7 + moved)
        swapped = restart(setup, other, memory, 3600, seconds=60)
        assert swapped.core.battery.swapped == "its cells rest in another pattern"
        assert swapped.core.battery.memory_refused == 1
        assert swapped.core.battery.generation == 2


def test_too_few_cells_make_no_pattern(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, WHOLE, cells=8)
    _, memory = dumped(setup, cells=8)
    other = Bus(Core(setup, "boot"), SEED + 1, cells=8)
    assert restart(setup, other, memory, 60, seconds=120).core.battery.swapped == ""


def test_another_number_of_cells_or_layout_is_refused(tmp_path: Path) -> None:
    bus, memory = dumped(make_setup(tmp_path, WHOLE, cells=24), seconds=60)
    for parts, cells in ((WHOLE, 20), (["pack_current", "min"], 24)):
        setup = make_setup(tmp_path, parts, cells=cells)
        again = started(setup, restored=memory, cells=cells)
        assert again.core.battery.memory_refused == 1
        assert PACK_SOC in again.core.snapshot()
    nmc = make_setup(tmp_path, WHOLE, cell="lg_hg2")
    bus.core = Core(nmc, "next", memory)
    bus.run(3)
    assert bus.core.battery.memory_refused == 1
