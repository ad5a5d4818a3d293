"""The fleet: what buses say over MQTT, checked; against a real Mosquitto."""

import json
import math
import random
import time
from collections.abc import Iterator
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from rich.cells import cell_len

from edge.cli import run_command
from edge.errors import BrokerError
from edge.monitor import fleet
from edge.monitor.command import FleetDesk
from edge.monitor.fleet import Fleet, FleetFeed, FleetPicture
from edge.monitor.fleet_view import FleetState, fleet_page
from edge.pack import PACK, PACK_SOC, PACK_SOC_SD
from tests.conftest import eventually, free_port

STATE = {
    "v": 1, "t_ms": 1_764_000_000_000, "boot": "b1", "clock": "ntp", PACK_SOC: 81.25, PACK_SOC_SD: 2.5,
    f"{PACK}.CurrentVoltage": 600.0, f"{PACK}.CurrentCurrent": 50.0, "Vehicle.Exterior.AirTemperature": -31.5,
}  # fmt: skip


def taken(*messages: tuple[str, Any], retained: bool = False) -> Fleet:
    model = Fleet()
    for leaf, value in messages:
        payload = value if isinstance(value, bytes) else json.dumps(value).encode()
        model.take(leaf if "/" in leaf else f"ebus/v1/o/b/{leaf}", payload, retained, 100.0)
    return model


def picture_of(model: Fleet, wall_ms: int = 1_764_000_004_000) -> FleetPicture:
    buses = [bus for _, bus in sorted(model.buses.items())]
    return FleetPicture(110.0, wall_ms, "127.0.0.1:1883", "connected", buses, model.messages, model.refused)


def test_state_and_status_make_a_bus() -> None:
    model = taken(("status", {"v": 1, "online": True, "boot": "b1", "version": "0.1"}), ("state", STATE))
    (bus,) = model.buses.values()
    assert (bus.operator, bus.name, bus.online, bus.boot, bus.version) == ("o", "b", True, "b1", "0.1")
    assert bus.value(PACK_SOC) == 81.25
    assert math.isnan(bus.value("Vehicle.Nothing"))
    text = "\n".join(fleet_page(picture_of(model), FleetState(), 120, 20, False).text())
    assert all(
        part in text
        for part in (" b ", "online", "81.2 ± 2.5 %", "30.0 kW", "-31.5 °C", "4.00 s", "1 online")
    )


def test_the_age_is_the_buss_own_only_where_its_clock_is_good() -> None:
    state = STATE | {"clock": "unsynced"}
    live, retained = taken(("state", state)), taken(("state", state), retained=True)
    assert next(iter(live.buses.values())).age_s(110.0, 1_764_000_004_000) == 10.0
    assert math.isnan(next(iter(retained.buses.values())).age_s(110.0, 1_764_000_004_000))
    good = taken(("state", STATE), retained=True)
    assert next(iter(good.buses.values())).age_s(110.0, 1_764_000_004_000) == 4.0


@pytest.mark.parametrize(
    ("leaf", "payload"),
    [
        ("state", b""), ("state", b"\xff"), ("state", b"[]"), ("state", b"[" * 100_000), ("state", b'{"v":2,"t_ms":1}'),
        ("state", b'{"v":1}'), ("state", b'{"v":1,"t_ms":true}'), ("state", b'{"v":1,"t_ms":1e400}'),
        ("state", b'{"v":1,"t_ms":-5}'), ("state", b'{"v":1,"t_ms":5,"x":"' + b"a" * fleet.MAX_BYTES + b'"}'),
        ("status", b'{"v":1,"online":"yes"}'), ("status", b"null"), ("batch", b"{}"),
        ("ebus/v1/o/b/state/more", b'{"v":1,"t_ms":1}'), ("ebus/v1/../b/../state", b'{"v":1,"t_ms":1}'),
        ("ebus/v1/o/\x1b[2J/state", b'{"v":1,"t_ms":1}'), ("$SYS/broker/version", b"x"),
        (f"ebus/v1/o/{'b' * 65}/state", b'{"v":1,"t_ms":1}'),
    ],
)  # fmt: skip
def test_garbage_is_counted_and_changes_nothing(leaf: str, payload: bytes) -> None:
    model = taken((leaf, payload))
    assert (model.buses, model.refused) == ({}, 1)
    model = taken(("state", STATE), (leaf, payload))
    assert (len(model.buses), model.refused) == (1, 1)
    assert next(iter(model.buses.values())).value(PACK_SOC) == 81.25


def test_values_of_any_kind_are_shown_or_left_out() -> None:
    odd = {
        PACK_SOC: "\x1b[2Jfull",
        PACK_SOC_SD: None,
        "A": [1],
        "B": {"x": 1},
        "C": True,
        "D": 1e308,
        "\x07E": "x" * 5000,
    }
    model = taken(("state", STATE | odd))
    for view in (0, 1):
        state = FleetState(view=view)
        state.chosen = ("o", "b")
        page = fleet_page(picture_of(model), state, 80, 24, False)
        assert [cell_len(line) for line in page.text()] == [80] * 24
        assert "\x1b" not in "".join(page.text())


def test_buses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MAX_BUSES", 3)
    model = taken(*((f"ebus/v1/o/bus-{n}/state", STATE) for n in range(10)), ("ebus/v1/o/bus-0/state", STATE))
    assert (len(model.buses), model.refused) == (3, 7)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (40, 10), (20, 6)])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_views_fit(size: tuple[int, int], ascii_only: bool) -> None:
    rng = random.Random(5)
    model = taken(
        *((f"ebus/v1/op/bus-{n:03}/state", STATE | {PACK_SOC: rng.uniform(0, 100)}) for n in range(100)),
        ("ebus/v1/op/bus-007/status", {"v": 1, "online": False}),
    )
    for state in (FleetState(), FleetState(view=1), FleetState(help=True)):
        page = fleet_page(picture_of(model), state, *size, ascii_only)
        assert [cell_len(line) for line in page.text()] == [size[0]] * size[1]
        assert "q quit" in page.text()[-1]
        assert not ascii_only or all(line.isascii() for line in page.text())


def test_sorting_by_charge_puts_the_emptiest_first() -> None:
    model = taken(
        *((f"ebus/v1/o/bus-{n}/state", STATE | {PACK_SOC: soc}) for n, soc in enumerate((50, 7, 90)))
    )
    state = FleetState()
    state.fleet.sort = state.fleet.sorts.index("charge")
    lines = fleet_page(picture_of(model), state, 80, 24, False).text()
    assert [line.split()[0] for line in lines[4:7]] == ["bus-1", "bus-0", "bus-2"]
    assert state.chosen == ("o", "bus-1")


class Bus:
    """A plain MQTT client that plays buses."""

    def __init__(self, port: int) -> None:
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def say(self, topic: str, payload: bytes, retain: bool = True) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def bus(mosquitto: Any) -> Iterator[Bus]:
    one = Bus(mosquitto.port)
    yield one
    one.close()


def now_state(**values: float) -> bytes:
    return json.dumps(STATE | {"t_ms": time.time_ns() // 1_000_000} | values).encode()


def test_a_fleet_at_a_real_broker(mosquitto: Any, bus: Bus) -> None:
    bus.say("ebus/v1/o/early/state", now_state())
    feed = FleetFeed(mosquitto.url)
    desk = FleetDesk(feed)
    try:
        eventually(lambda: feed.connected, 10)
        bus.say("ebus/v1/o/late/status", b'{"v":1,"online":true,"boot":"x","version":"9"}')
        bus.say("ebus/v1/o/late/state", b"garbage")
        bus.say("ebus/v1/o/late/state", now_state())

        def both() -> bool:
            desk.advance()
            picture = feed.picture()
            return [b.name for b in picture.buses if b.state] == ["early", "late"] and picture.refused == 1

        eventually(both, 10)
        text = "\n".join(desk.page(80, 24, False).text())
        assert " early " in text
        assert "refused messages: 1" in text
        assert desk.key("down", 10)
        desk.page(80, 24, False)
        assert desk.key("enter", 10)
        text = "\n".join(desk.page(80, 24, False).text())
        assert "o/late" in text
        assert "Powertrain.TractionBattery.StateOfCharge.Current" in text
        assert desk.key("esc", 10)
        mosquitto.stop()
        eventually(lambda: not feed.connected, 10)
        mosquitto.start()
        eventually(lambda: feed.connected, 20)
    finally:
        feed.close()


def test_once_at_a_real_broker(mosquitto: Any, bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    bus.say("ebus/v1/o/b/state", now_state())
    assert run_command(["monitor", "--depot", mosquitto.url, "--json", "--after", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["buses"][0]["bus"] == "b"
    assert result["buses"][0]["state"][PACK_SOC] == 81.25
    assert run_command(["monitor", "--depot", mosquitto.url, "--once", "--after", "1"]) == 0
    assert "81.2 ± 2.5 %" in capsys.readouterr().out


def test_a_broker_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    assert run_command(["monitor", "--depot", url, "--once", "--after", "1"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot be reached" in error
    with pytest.raises(BrokerError):
        FleetFeed("http://x")
