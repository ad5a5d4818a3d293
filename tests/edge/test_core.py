"""What a signal is worth travels with it: into the batch, past the estimator, out of `state`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from edge.battery.model import load_cell
from edge.can.frames import ERROR as ERROR_FRAME
from edge.can.frames import EXTENDED, FRAME, REMOTE, Frames
from edge.core import Core, Setup
from edge.pack import BMS_SOC, PACK_SOC
from edge.signals.catalogue import load_catalogue
from edge.signals.validity import ERROR, GOOD, NEVER, NOT_AVAILABLE, STALE, SUSPECT
from edge.telemetry.batch import Item, decode_batch

DBC = """VERSION ""
NS_ :
BS_:
BU_: Bms Agent
BO_ 256 Pack: 6 Bms
 SG_ Current : 0|16@1- (0.1,0) [0|0] "A" Agent
 SG_ SoC : 16|8@1+ (0.5,0) [0|100] "%" Agent
 SG_ Temp : 24|8@1+ (1,-40) [0|0] "degC" Agent
 SG_ Counter : 32|4@1+ (1,0) [0|15] "" Agent
 SG_ Check : 40|8@1+ (1,0) [0|255] "" Agent
BO_ 257 Cells: 4 Bms
 SG_ Cell1 : 0|16@1+ (0.001,0) [0|5] "V" Agent
 SG_ Cell2 : 16|16@1+ (1,0) [0|5000] "mV" Agent
BO_ 258 Mux: 2 Bms
 SG_ Page M : 0|8@1+ (1,0) [0|0] "" Agent
 SG_ On m1 : 8|8@1+ (1,0) [0|0] "" Agent
BO_ 259 Heater: 4 Bms
 SG_ Power : 0|32@1- (1,0) [0|0] "kW" Agent
SIG_VALTYPE_ 259 Power : 1;
"""
BATTERY = "Vehicle.Powertrain.TractionBattery"
MAP = f"""version = 1
[messages.Pack]
period_ms = 100
timeout_ms = 1000
counter = "Counter"
checksum = {{ signal = "Check", kind = "xor" }}
[messages.Cells]
period_ms = 100
timeout_ms = 2000
[messages.Mux]
period_ms = 100
timeout_ms = 2000
[messages.Heater]
period_ms = 100
timeout_ms = 2000
[[signals]]
source = "Pack.Current"
path = "{BATTERY}.CurrentCurrent"
role = "pack_current"
rate_s = 0.1
[[signals]]
source = "Pack.SoC"
path = "{BATTERY}.StateOfCharge.Displayed"
role = "bms_soc"
rate_s = 0.1
[[signals]]
source = "Pack.Temp"
path = "{BATTERY}.String1.Temperature1"
role = "cell_temp"
string = "1"
index = "1"
rate_s = 0.1
[[signals]]
source = "Cells.Cell{{n}}"
path = "{BATTERY}.String1.Cell{{n:03d}}.Voltage"
role = "cell_voltage"
string = "1"
index = "{{n}}"
n = "1..2"
rate_s = 0.1
frozen_s = 3
[[signals]]
source = "Heater.Power"
path = "{BATTERY}.HeaterPower"
rate_s = 0.1
"""
CURRENT, SOC, TEMP, CELL1, CELL2, HEATER = range(6)  # columns
VALIDITY = 6  # and this far behind each its validity
TICK_US = 100_000
SEED = 20


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.dbc").write_text(DBC)
    (folder / "small.toml").write_text(MAP)
    catalogue = load_catalogue([("bms", folder / "small.dbc")])
    return Setup("o", "b", catalogue, load_cell("lfp_bus"), batch_interval_s=1e6)


@pytest.fixture
def core(setup: Setup) -> Core:
    return Core(setup, "boot")


class Bus:
    """Sends to a core what a small BMS would, and ticks it."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.now_us = 0
        self.count = 0

    def pack(self, current: int = 100, soc: int = 160, check: int = 0, step: int = 1) -> None:
        self.count += step
        body = [*current.to_bytes(2, "little", signed=True), soc, 65, self.count % 16]
        self.send(256, bytes([*body, np.bitwise_xor.reduce(body) ^ check]))

    def cells(self, first_mv: int, second_mv: int = 3300) -> None:
        self.send(257, first_mv.to_bytes(2, "little") + second_mv.to_bytes(2, "little"))

    def send(self, frame_id: int, data: bytes, flags: int = 0) -> None:
        frame = np.zeros(1, FRAME)
        frame["time_us"], frame["id"], frame["flags"], frame["length"] = (
            self.now_us,
            frame_id,
            flags,
            len(data),
        )
        frame["data"][0, : len(data)] = np.frombuffer(data, np.uint8)
        self.core.feed(frame)

    def tick(self) -> list[Item]:
        self.now_us += TICK_US
        return self.core.tick(self.now_us)

    def run(self, seconds: float, *, cells_mv: int | None = None, pack: bool = True) -> None:
        """Time goes on; cell 1 wobbles around `cells_mv`, cell 2 does not move."""
        for n in range(round(seconds * 10)):
            if pack:
                self.pack()
            if cells_mv is not None:
                self.cells(cells_mv + n % 2)
            self.tick()

    def sealed(self, column: int) -> list[int]:
        """Every raw value of a column, to now."""
        return [v for i in self.core.seal() for v in decode_batch(i.payload).samples(column)[1].tolist()]


def say(core: Core, column: int, state: int) -> None:
    """As the decoder does where a frame says that it has no value, or that its sensor failed."""
    core.latest.state[core.uplink.slots[column]] = state


def test_never_good_stale_good(core: Core) -> None:
    bus = Bus(core)
    bus.tick()
    assert core.watch.validity.tolist() == [NEVER] * 6
    bus.run(1)
    assert core.watch.validity.tolist() == [GOOD] * 3 + [NEVER] * 3
    bus.run(1.2, pack=False)
    assert core.watch.validity[CURRENT] == STALE
    bus.run(0.1)
    assert core.watch.validity[CURRENT] == GOOD
    assert bus.sealed(VALIDITY + CURRENT) == [GOOD, STALE, GOOD]


def test_stale_begins_just_after_the_time_out(core: Core) -> None:
    bus = Bus(core)
    bus.pack()
    for n in range(1, 12):
        bus.tick()
        assert core.watch.validity[CURRENT] == (GOOD if n <= 10 else STALE), n


@pytest.mark.parametrize("state", [NOT_AVAILABLE, ERROR])
def test_no_value_and_error_until_a_good_frame_or_the_time_out(core: Core, state: int) -> None:
    bus = Bus(core)
    bus.run(0.5)
    say(core, SOC, state)
    bus.tick()
    assert core.watch.validity[SOC] == state
    assert BMS_SOC not in core.snapshot()
    bus.run(0.1)
    assert core.snapshot()[BMS_SOC] == 80
    say(core, SOC, state)
    bus.run(1.5, pack=False)
    assert core.watch.validity[SOC] == STALE
    assert bus.sealed(VALIDITY + SOC) == [GOOD, state, GOOD, state, STALE]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_float_that_is_no_number_is_an_error(core: Core, bad: float) -> None:
    bus = Bus(core)
    path = f"{BATTERY}.HeaterPower"
    for value, validity in ((1.5, GOOD), (bad, ERROR), (2.5, GOOD)):
        bus.send(259, np.float32(value).tobytes())
        bus.tick()
        assert core.watch.validity[HEATER] == validity
        assert core.snapshot().get(path) == (value if validity == GOOD else None)
    assert bus.sealed(VALIDITY + HEATER) == [GOOD, ERROR, GOOD]


def test_what_a_j1939_sender_has_no_number_for() -> None:
    """SAE J1939-71: of two bytes, 0xFF00 and up is "not available", 0xFE00 and up "error"."""
    core = Core(Setup("o", "b", load_catalogue([("vehicle", "vehicle")]), load_cell("lfp_bus")), "boot")
    bus = Bus(core)
    row = next(n for n, s in enumerate(core.watch.signals) if s.path == "Vehicle.Speed")
    for raw, validity in ((0x1E00, GOOD), (0xFFFF, NOT_AVAILABLE), (0xFE12, ERROR), (0x2800, GOOD)):
        bus.send(0x18FEF10B, bytes([0xFF, *raw.to_bytes(2, "little"), *[0xFF] * 5]), EXTENDED)
        bus.tick()
        assert core.watch.validity[row] == validity, hex(raw)
        assert core.snapshot().get("Vehicle.Speed") == (raw / 256 if validity == GOOD else None)


def test_frozen_is_suspect_until_it_moves(core: Core) -> None:
    bus = Bus(core)
    bus.run(2.9, cells_mv=3300)
    assert core.watch.validity[CELL2] == GOOD
    bus.run(0.5, cells_mv=3300)
    assert core.watch.validity[[CELL1, CELL2]].tolist() == [GOOD, SUSPECT]
    bus.cells(3300, 3301)
    bus.tick()
    assert core.watch.validity[CELL2] == GOOD
    assert bus.sealed(VALIDITY + CELL2) == [GOOD, SUSPECT, GOOD]


def test_frozen_counts_anew_after_a_silence(core: Core) -> None:
    bus = Bus(core)
    bus.run(2, cells_mv=3300)
    bus.run(3, cells_mv=None)
    assert core.watch.validity[CELL2] == STALE
    bus.run(2, cells_mv=3300)
    assert core.watch.validity[CELL2] == GOOD


def test_what_may_stand_still_is_never_suspect(core: Core) -> None:
    bus = Bus(core)
    bus.run(30)
    assert core.watch.validity[SOC] == GOOD


def test_what_has_become_good_is_sent_at_once(core: Core) -> None:
    """The same value as before: a reader has dropped it in between."""
    bus = Bus(core)
    bus.run(1)
    assert bus.sealed(SOC) == [160]
    bus.run(1.5, pack=False)
    bus.run(0.5)
    assert bus.sealed(SOC) == [160]


def estimate_of(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, ...]]:
    """What the estimator is given: current, both voltages, both temperatures of each step."""
    given: list[tuple[float, ...]] = []
    estimator = bus.core.battery.estimator
    assert estimator is not None
    step = estimator.step

    def spy(dt_s: float, *inputs: np.ndarray, **more: np.ndarray | None) -> None:
        given.append(tuple(float(v) for part in inputs for v in part))
        step(dt_s, *inputs, **more)

    monkeypatch.setattr(estimator, "step", spy)
    return given


@pytest.mark.parametrize("state", [NOT_AVAILABLE, ERROR])
@pytest.mark.parametrize(("column", "place"), [(CURRENT, [0]), (CELL1, [1]), (CELL2, [2]), (TEMP, [3, 4])])
def test_the_estimator_sees_only_what_is_good(
    core: Core, monkeypatch: pytest.MonkeyPatch, column: int, place: list[int], state: int
) -> None:
    bus = Bus(core)
    bus.run(1, cells_mv=3300)
    given = estimate_of(bus, monkeypatch)
    bus.run(0.1, cells_mv=3300)
    assert given[-1] == pytest.approx((10.0, 3.3, 3.3, 25.0, 25.0))  # cell 2 speaks in mV
    bus.pack()
    bus.cells(3310)
    say(core, column, state)
    core.latest.value[core.uplink.slots[column]] = math.inf
    bus.tick()
    assert [n for n, v in enumerate(given[-1]) if math.isnan(v)] == place
    assert np.isfinite(core.battery.estimator.soc).all()  # type: ignore[union-attr]


def test_the_estimator_takes_no_stale_current_and_no_suspect_voltage(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = Bus(core)
    bus.run(1, cells_mv=3300)
    given = estimate_of(bus, monkeypatch)
    bus.run(3, cells_mv=3300, pack=False)
    nan = [[math.isnan(v) for v in row] for row in given]
    assert nan[0] == [False] * 5
    assert nan[-1] == [True, False, True, True, True]


def test_a_sensor_that_failed_from_the_start_does_not_stop_the_others(core: Core) -> None:
    bus = Bus(core)
    bus.pack()
    bus.cells(3300)
    for column in (SOC, CELL2):
        say(core, column, ERROR)
        core.latest.value[core.uplink.slots[column]] = math.nan
    bus.tick()
    bus.run(0.2)
    state = core.snapshot()
    assert math.isfinite(state[PACK_SOC])
    json.dumps(state, allow_nan=False)


@pytest.mark.parametrize(
    ("send", "reason"),
    [
        (lambda bus: bus.pack(current=-999, soc=1, check=1), "bad_checksum"),
        (lambda bus: bus.pack(current=-999, soc=1, step=0), "repeated_counter"),
        (lambda bus: bus.send(256, bytes(3)), "too_short"),
        (lambda bus: bus.send(999, bytes(8)), "unknown"),
        (lambda bus: bus.send(256, bytes(8), REMOTE), "remote_frames"),
        (lambda bus: bus.send(256, bytes(8), ERROR_FRAME), "error_frames"),
    ],
)
def test_a_bad_frame_changes_nothing_but_a_count(core: Core, send, reason: str) -> None:  # type: ignore[no-untyped-def]
    bus = Bus(core)
    bus.run(1, cells_mv=3300)
    table = {k: np.array(getattr(core.latest, k)) for k in ("raw", "value", "time_us", "state")}
    before = core.counts.of_channel(0)
    send(bus)
    for name, kept in table.items():
        np.testing.assert_array_equal(getattr(core.latest, name), kept, err_msg=name)
    after = core.counts.of_channel(0)
    assert after[reason] == before[reason] + 1
    assert after["received"] == before["received"] + 1
    assert after["decoded"] == before["decoded"]


def test_what_a_counter_jumps_over_is_in_the_ledger(core: Core) -> None:
    bus = Bus(core)
    bus.run(1)
    for step, skipped in ((3, 2), (1, 2), (15, 16)):
        bus.pack(step=step)
        assert core.ledger()["can"]["bms"]["skipped"] == skipped
    bus.run(2, pack=False)
    bus.pack(step=5)
    assert core.ledger()["can"]["bms"]["skipped"] == 16, "after a silence nobody knows"
    assert core.ledger()["can"]["bms"]["refused"] == 0


def random_frames(n: int) -> Frames:
    """Known and unknown ids, every length, every flag that a source may set."""
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    frames = np.zeros(n, FRAME)
    frames["time_us"] = np.arange(n) * 250
    frames["id"] = rng.choice([256, 257, 258, 7, 0x18ECFF00, 0x18EBFF00, 0x18EEFF00, 0x18EAFFFE], n)
    frames["flags"] = rng.choice([0, 0, 0, EXTENDED, REMOTE, ERROR_FRAME], n)
    frames["flags"] |= np.where(frames["id"] > 0x7FF, EXTENDED, 0).astype(frames["flags"].dtype)
    frames["length"] = rng.integers(0, 9, n)
    frames["data"][:, :8] = rng.integers(0, 256, (n, 8))
    return frames


def test_every_frame_is_in_the_ledger_once(core: Core) -> None:
    frames = random_frames(20_000)
    for n, part in enumerate(np.array_split(frames, 200)):
        core.feed(part)
        core.tick((n + 1) * TICK_US)
    ledger = core.ledger()["can"]["bms"]
    assert ledger["received"] == 20_000
    parts = ("decoded", "unknown", "refused", "error_frames", "remote_frames", "transport")
    assert ledger["received"] == sum(ledger[part] for part in parts)
    assert min(ledger["decoded"], ledger["unknown"], ledger["refused"]) > 0
    assert min(ledger["error_frames"], ledger["remote_frames"]) > 0
    assert np.isfinite(core.latest.value[core.latest.state == GOOD]).all()


def test_every_name_of_the_ledger_is_explained(core: Core) -> None:
    text = (Path(__file__).parent.parent.parent / "docs/protocol.md").read_text("utf-8")
    ledger = core.ledger()
    for name in (*ledger, *ledger["can"]["bms"]):
        assert f"`{name}`" in text, name


def test_loss_stands_beside_its_channel(core: Core) -> None:
    bus = Bus(core)
    core.set_loss({"bms.lost_socket": 3, "bms.lost_controller": 1, "bms.bus_off": 2, "unspooled": 4})
    bus.run(0.2)
    ledger = decode_batch(core.seal()[0].payload).ledger
    assert ledger.lost == {"unspooled": 4}
    assert {k: ledger.can["bms"][k] for k in ("lost_socket", "lost_controller_at_least", "bus_off")} == {
        "lost_socket": 3,
        "lost_controller_at_least": 1,
        "bus_off": 2,
    }
    assert "lost_controller" not in ledger.can["bms"]
