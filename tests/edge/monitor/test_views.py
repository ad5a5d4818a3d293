"""Every view at several sizes: nothing overflows, the footer is there, and what is shown is right."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from edge.agent import make_setup
from edge.can.decoder import Slot
from edge.can.j1939 import decode_dm
from edge.can.logs import open_log
from edge.config import load
from edge.monitor.battery_view import span
from edge.monitor.bus import Bus, BusPicture, ChannelInfo
from edge.monitor.command import BusDesk
from edge.monitor.faults import FaultsPicture, Heard
from edge.monitor.feeds import FeedPicture, LogFeed, SourcePicture
from edge.monitor.text import clock_text, decimals, number, seconds, value_text
from edge.monitor.views import VIEWS, BusState, bus_page
from tests.conftest import CHANNELS

FEED = FeedPicture("day.log", live=False, elapsed_s=83.4)
NUMBER_OF = {name: n for n, (name, _) in enumerate(VIEWS)}


@pytest.fixture(scope="module")
def desk(day: Path, tmp_path_factory: pytest.TempPathFactory) -> BusDesk:
    from tests.conftest import bus_config, virtual

    path = tmp_path_factory.mktemp("views") / "ayaz.toml"
    path.write_text(bus_config(virtual("views")), "utf-8")
    bus = Bus.of_setup(make_setup(load(path)), [ChannelInfo(c, 500_000, 500_000) for c in CHANNELS])
    log = open_log(day)
    feed = LogFeed(log, iter(log), CHANNELS)
    feed.run_to(bus, None)
    return BusDesk(bus, feed)


@pytest.fixture(scope="module")
def picture(desk: BusDesk) -> BusPicture:
    return desk._now()[0]


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60), (40, 12), (20, 6)])
@pytest.mark.parametrize("view", range(len(VIEWS)))
def test_every_view_fits(picture: BusPicture, view: int, size: tuple[int, int], ascii_only: bool) -> None:
    for state in (BusState(view=view), BusState(view=view, help=True), BusState(view=view, by_soc=True)):
        page = bus_page(picture, FEED, state, *size, ascii_only)
        lines = page.text()
        assert len(lines) == size[1]
        assert {cell_len(line) for line in lines} == {size[0]}
        assert "q quit" in lines[-1]
        assert VIEWS[0][0] in lines[1]
        if ascii_only:
            assert all(line.isascii() for line in lines)


def shown(picture: BusPicture, name: str, size: tuple[int, int] = (120, 40), **keys: object) -> str:
    state = BusState(view=NUMBER_OF[name], **keys)  # type: ignore[arg-type]
    return "\n".join(bus_page(picture, FEED, state, *size, False).text())


def test_overview_tells_rates_load_and_what_is_wrong(picture: BusPicture) -> None:
    text = shown(picture, "Overview")
    assert all(name in text for name in CHANNELS)
    assert f"received {picture.counts[0]['received']:,}" in text
    source = SourcePicture("away", {"lost_socket": 7}, ("can0 is down; ip link set can0 up",))
    feed = dataclasses.replace(FEED, live=True, sources=[source] * 3, strangers=12)
    text = "\n".join(bus_page(picture, feed, BusState(), 120, 40, False).text())
    assert "lost socket 7" in text
    assert "! can0 is down; ip link set can0 up" in text
    assert "12 frames of channels that nobody named" in text
    assert "live" in text


def test_messages_have_names_and_the_maps_period(picture: BusPicture) -> None:
    line = next(line for line in shown(picture, "Messages").splitlines() if "BMS_PackStatus " in line)
    cells = line.split()
    assert cells[:3] == ["bms", "100", "BMS_PackStatus"]
    assert "100" in cells[5:]
    state = BusState(view=NUMBER_OF["Messages"])
    state.messages.query = "hvessd1"
    text = "\n".join(bus_page(picture, FEED, state, 120, 40, False).text())
    assert "1 of " in text
    assert "from source address 243 (0xF3)" in text


def test_signals_have_value_unit_validity_and_path(picture: BusPicture) -> None:
    state = BusState(view=NUMBER_OF["Signals"])
    state.signals.query = "packvoltage"
    lines = bus_page(picture, FEED, state, 80, 24, False).text()
    row = next(line for line in lines if line.startswith(" PackVoltage"))
    n = next(n for n, s in enumerate(picture.signals.slots) if s.signal == "PackVoltage")
    assert row.split()[1:3] == [f"{picture.signals.value[n]:.1f}", "V"]
    assert row.split()[-1] == "good"
    assert any("Vehicle.Powertrain.TractionBattery.CurrentVoltage" in line for line in lines)


def test_never_heard_signals_are_hidden_until_asked_for(picture: BusPicture) -> None:
    signals = picture.signals
    silent = dataclasses.replace(
        signals, validity=np.where(np.arange(len(signals.raw)) < 10, signals.validity, 0)
    )
    some = dataclasses.replace(picture, signals=silent)
    assert f"{len(signals.raw) - 10:,} never heard (a)" in shown(some, "Signals")
    assert "never heard" in shown(some, "Signals", heard_only=False)
    assert f"{len(signals.raw):,} signals" in shown(some, "Signals", heard_only=False)


def test_battery_shows_every_cell(picture: BusPicture) -> None:
    pack = picture.battery
    assert pack is not None
    for by_soc in (False, True):
        text = shown(picture, "Battery", by_soc=by_soc)
        cells = [
            line[15:]
            for line in text.splitlines()
            if line[:7] in (" string", "       ") and line[10:14].strip().isdigit()
        ]
        assert sum(c in "▁▂▃▄▅▆▇█" for line in cells for c in line) == 352
    assert f"{pack.soc * 100:5.1f} ± {pack.soc_sd * 100:.1f} %" in text
    low = int(np.argmin(pack.cell_v))
    assert f"{pack.cell_v[low]:.3f} V  string {pack.string[low]} cell {pack.index[low]}" in text


def test_a_battery_that_shows_few_voltages(picture: BusPicture) -> None:
    assert picture.battery is not None
    no, whole = np.zeros(0), np.zeros(0, np.int64)
    few = dataclasses.replace(
        picture.battery, weakest=None, string=whole, index=whole, cell_v=no, cell_soc=no, temp_degc=no,
        temp_string=whole, temp_index=whole, string_soc=np.array([0.5, 0.625]),
    )  # fmt: skip
    text = shown(dataclasses.replace(picture, battery=few), "Battery")
    assert "1: 50.0 %   2: 62.5 %" in text
    assert "cells by" not in text


def test_a_battery_of_which_nothing_is_known(picture: BusPicture) -> None:
    assert picture.battery is not None
    n = len(picture.battery.cell_v)
    nothing = dataclasses.replace(
        picture.battery, soc=math.nan, soc_sd=math.nan, weakest=None, string_soc=np.zeros(0), bms_soc_pct=math.nan,
        voltage_v=math.nan, current_a=math.nan, cell_v=np.full(n, math.nan), cell_soc=np.full(n, math.nan),
        temp_degc=np.full(len(picture.battery.temp_degc), math.nan),
    )  # fmt: skip
    text = shown(dataclasses.replace(picture, battery=nothing), "Battery")
    assert "nan" not in text
    assert "—" in text
    assert "-c" in shown(dataclasses.replace(picture, battery=None), "Battery")


def test_faults_are_counted_in_the_tab_and_explained(picture: BusPicture) -> None:
    text = shown(picture, "Faults")
    assert "1 J1939 sources send their trouble codes (DM1); active: 0" in text
    dm = decode_dm(bytes([0b00010100, 0xFF, 0x9E, 0x02, 0x03, 0x05, 0x01, 0x02, 0x44, 0xFF]))
    assert dm is not None
    dark = decode_dm(bytes([0b01000000, 0xFF, 0, 0, 0, 0]))
    assert dark is not None
    dms = (Heard(2, 0x17, picture.now_us - 500_000, dm), Heard(2, 0x21, picture.now_us, dark))
    faulty = dataclasses.replace(picture, faults=FaultsPicture(dms, {}))
    lines = shown(faulty, "Faults", size=(80, 24)).splitlines()
    assert "5 Faults: 2" in lines[1]
    assert lines[4].split() == [
        "vehicle", "17", "670", "3", "voltage", "high", "5", "RSL", "AWL"
    ]  # fmt: skip
    assert "131585" in lines[5]
    assert "lamps without a code" in lines[6]
    assert "MIL" in lines[6]


def test_evil_names_are_only_text(picture: BusPicture) -> None:
    channels = [dataclasses.replace(c, name="\x1b[2Jevil") for c in picture.channels]
    feed = dataclasses.replace(FEED, label="\x1b]0;x\x07", trouble="\x1b[31m")
    for view in range(len(VIEWS)):
        page = bus_page(
            dataclasses.replace(picture, channels=channels), feed, BusState(view=view), 80, 24, False
        )
        assert "\x1b" not in "".join(page.text())


def test_keys(desk: BusDesk) -> None:
    for key, view in (("3", 2), ("tab", 3), ("5", 4), ("tab", 0), ("shift-tab", 4), ("2", 1)):
        assert desk.key(key, 10)
        assert desk.state.view == view
    desk.key("3", 10)
    for key in "/q1":
        desk.key(key, 10)
    assert (desk.state.view, desk.state.signals.query) == (2, "q1")
    desk.key("esc", 10)
    desk.key("?", 10)
    assert desk.state.help
    desk.key("1", 10)
    assert not desk.state.help
    assert desk.key("down", 10)
    assert not desk.key("q", 10)
    assert not desk.key("é", 10)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.094, "0.09 s"),
        (12.34, "12.3 s"),
        (300, "5 min"),
        (10_000, "3 h"),
        (1e6, "12 d"),
        (math.nan, "—"),
        (math.inf, "—"),
    ],
)
def test_time_spans(value: float, text: str) -> None:
    assert seconds(value) == text


def test_numbers() -> None:
    assert clock_text(83.44) == "01:23.4"
    assert clock_text(3723) == "1:02:03"
    assert [decimals(s) for s in (1, 0.1, 0.005, 2.5, 1e-9, 0.0078125)] == [0, 1, 3, 1, 0, 4]
    assert number(math.nan, ".1f", "V") == "—"
    assert len(number(1e300, ".1f")) < 15
    slot = Slot(0, "M", "S", "", 0.5, 0.0, False, {3: "Drive"})
    assert value_text(slot, 3, 1.5) == "Drive"
    assert value_text(slot, 4, 2.0) == "2.0"
    low, high = span(np.array([3.3, 3.301, math.nan]), 0.02)
    assert (low, high) == (pytest.approx(3.2905), pytest.approx(3.3105))
