"""The model over a log: what the views see is what the core and the decoder say."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.agent import make_setup
from edge.can.frames import EXTENDED, FRAME, Frames
from edge.can.logs import open_log
from edge.cli import run_command
from edge.config import load
from edge.errors import LogError
from edge.monitor.bus import Bus, ChannelInfo
from edge.monitor.feeds import LiveFeed, LogFeed
from edge.signals.catalogue import find_database, load_database
from edge.signals.validity import GOOD, NEVER, STALE
from tests.conftest import CHANNELS
from tests.edge.bus_of_cells import Bus as CellBus
from tests.edge.bus_of_cells import make_setup as make_setup_of_parts


def bus_of(config: Path) -> Bus:
    return Bus.of_setup(make_setup(load(config)), [ChannelInfo(c, 500_000, 500_000) for c in CHANNELS])


def feed_of(log: Path) -> LogFeed:
    opened = open_log(log)
    return LogFeed(opened, iter(opened), CHANNELS)


def test_the_battery_is_the_agents(day: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["replay", str(day), "-c", str(config), "--json"]) == 0
    final = json.loads(capsys.readouterr().out)["final"]
    bus, feed = bus_of(config), feed_of(day)
    feed.run_to(bus, None)
    pack = bus.picture().battery
    assert pack is not None
    assert round(pack.soc, 4) == final["soc"]
    assert round(pack.soc_sd, 4) == final["soc_sd"]
    assert pack.bms_soc_pct == pytest.approx(final["bms_soc"] * 100)
    assert len(pack.cell_v) == len(pack.cell_soc) == len(pack.string) == 352
    assert np.isfinite(pack.cell_v).all()
    assert 2.0 < pack.cell_v.min() <= pack.cell_v.max() < 3.7
    assert pack.voltage_v == pytest.approx(pack.cell_v[:176].sum(), rel=0.01)
    assert pack.weakest is not None
    assert pack.cell_soc[pack.weakest] == pack.cell_soc[pack.string == pack.string[pack.weakest]].min()


def test_a_battery_that_shows_few_voltages(tmp_path: Path) -> None:
    parts = ["string_current", "string_voltage", "pack_voltage"]
    setup = make_setup_of_parts(tmp_path, parts, strings=2, series=24)
    bus = Bus.of_setup(setup, [ChannelInfo("bms", 500_000, 500_000)])
    CellBus(bus, seed=3, strings=2).run(5)  # type: ignore[arg-type]
    pack = bus.picture().battery
    assert pack is not None
    assert 0 < pack.soc < 1
    assert (len(pack.string_soc), len(pack.cell_v), len(pack.cell_soc), pack.weakest) == (2, 0, 0, None)


def test_messages_are_named_and_have_the_maps_periods(day: Path, config: Path) -> None:
    bus, feed = bus_of(config), feed_of(day)
    feed.run_to(bus, None)
    picture = bus.picture()
    of = {
        picture.messages.labels[int(r["label"])].name: (r, picture.messages.labels[int(r["label"])])
        for r in picture.messages.rows
    }
    row, label = of["BMS_PackStatus"]
    assert (label.period_ms, label.source) == (100, None)
    assert row["period_us"] == pytest.approx(100_000, rel=0.05)
    assert of["HVESSD1"][1].source == 0xF3  # a J1939 message, by its PGN
    assert sum(int(r["count"]) for r in picture.messages.rows) == sum(c["received"] for c in picture.counts)


def test_a_silent_bus_turns_stale(day: Path, config: Path) -> None:
    bus, feed = bus_of(config), feed_of(day)
    assert set(bus.picture().signals.validity.tolist()) == {NEVER}
    feed.run_to(bus, None)
    at = next(n for n, s in enumerate(bus.picture().signals.slots) if s.signal == "PackVoltage")
    assert bus.picture().signals.validity[at] == GOOD
    bus.tick(bus.now_us + 2_000_000)
    assert bus.picture().signals.validity[at] == STALE
    pack = bus.picture().battery
    assert pack is not None
    assert np.isnan(pack.voltage_v)


def test_a_picture_stays_as_it_was(day: Path, config: Path) -> None:
    bus, feed = bus_of(config), feed_of(day)
    feed.run_to(bus, 5.0)
    kept = bus.picture()
    before = (kept.now_us, kept.signals.raw.tolist(), kept.traffic.rows["count"].tolist())
    feed.run_to(bus, None)
    assert (kept.now_us, kept.signals.raw.tolist(), kept.traffic.rows["count"].tolist()) == before
    assert bus.picture().traffic.rows["count"].sum() > kept.traffic.rows["count"].sum()


def test_databases_alone_give_signals_but_no_battery(day: Path) -> None:
    database = load_database(find_database("bms"))
    bus = Bus.of_databases([ChannelInfo(c, 500_000, 500_000) for c in CHANNELS], database)
    feed_of(day).run_to(bus, None)
    picture = bus.picture()
    assert picture.battery is None
    at = next(n for n, s in enumerate(picture.signals.slots) if s.signal == "PackVoltage")
    assert picture.signals.validity[at] == GOOD
    assert 400 < picture.signals.value[at] < 700
    assert picture.counts[1]["unknown"] > 0


def test_garbage_is_counted(config: Path) -> None:
    rng = np.random.default_rng(11)
    bus = bus_of(config)
    for n in range(50):
        frames = np.zeros(200, FRAME)
        frames["time_us"] = n * 100_000 + np.arange(200)
        frames["channel"] = rng.integers(0, 3, 200)
        frames["flags"] = rng.integers(0, 128, 200)
        frames["length"] = rng.integers(0, 65, 200)
        frames["data"] = rng.integers(0, 256, (200, 64))
        extended = frames["flags"] & EXTENDED != 0
        frames["id"] = np.where(extended, rng.integers(0, 1 << 29, 200), rng.integers(0, 1 << 11, 200))
        bus.feed(frames)
        bus.tick((n + 1) * 100_000)
    picture = bus.picture()
    assert sum(c["received"] for c in picture.counts) == 10_000
    assert picture.counts[0]["unknown"] > 0
    assert len(picture.messages.rows) <= len(picture.messages.labels)


def test_a_damaged_log_gives_all_before_and_says_so(config: Path) -> None:
    def chunks() -> Iterator[Frames]:
        frames = np.zeros(10, FRAME)
        frames["time_us"] = np.arange(10) * 50_000
        yield frames
        raise LogError("x.log: breaks off")

    class Named:
        path = Path("x.log")
        channels = ("bms",)

    bus = bus_of(config)
    feed = LogFeed(Named(), chunks(), CHANNELS)  # type: ignore[arg-type]
    feed.run_to(bus, None)
    assert bus.picture().counts[0]["received"] == 10
    assert feed.picture().trouble == "x.log: breaks off"
    assert feed.picture().finished


def test_a_log_has_a_pace(day: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bus, feed = bus_of(config), feed_of(day)
    feed.advance(bus)
    now[0] += 1.0
    feed.advance(bus)
    assert feed.picture().elapsed_s == pytest.approx(1.0, abs=0.11)
    assert feed.key("+")
    assert feed.picture().speed == 2
    now[0] += 1.0
    feed.advance(bus)
    assert feed.picture().elapsed_s == pytest.approx(3.0, abs=0.11)
    feed.key("p")
    now[0] += 5.0
    feed.advance(bus)
    assert feed.picture().elapsed_s == pytest.approx(3.0, abs=0.11)
    feed.key("p")
    feed.key(">")
    feed.advance(bus)
    assert feed.picture().elapsed_s == pytest.approx(13.0, abs=0.11)
    feed.key("e")
    feed.advance(bus)
    assert feed.picture().finished
    assert not feed.key("x")


def test_an_interface_that_is_away_is_said_and_looked_for(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = config.read_text("utf-8").replace("virtual:monitor-bms", "socketcan:ayaz-no-such")
    config.write_text(text, "utf-8")
    monkeypatch.setattr("edge.monitor.feeds.REOPEN_S", 0.0)
    loaded = load(config)
    bus, feed = bus_of(config), LiveFeed(loaded.can, "o/b")
    for _ in range(3):
        feed.advance(bus)
    away, up = feed.picture().sources[:2]
    assert away.state == "away"
    assert "ayaz-no-such" in away.complaints[0]
    assert up.state == "up"
    feed.close()
