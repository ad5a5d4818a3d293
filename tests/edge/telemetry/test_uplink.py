"""The uplink against a real Mosquitto, and against brokers that misbehave."""

import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.errors import BrokerError
from edge.telemetry import uplink as uplink_module
from edge.telemetry.batch import Acknowledged, Column, Item, Schema, encode_ack
from edge.telemetry.spool import Spool
from edge.telemetry.uplink import Uplink
from tests.conftest import eventually

BASE = "ebus/v1/o/b"
SCHEMA = Schema((Column("Vehicle.Speed", "km/h", "raw"),))


@dataclass
class Broker:
    broker: str
    version: int = 5
    user: str | None = None
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


class Listener:
    """A plain MQTT client that keeps what it hears below the bus's topic."""

    def __init__(self, port: int) -> None:
        self.heard: queue.SimpleQueue[tuple[str, bytes, bool]] = queue.SimpleQueue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda _c, _d, m: self.heard.put(
            (m.topic.removeprefix(BASE + "/"), m.payload, m.retain)
        )
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe(BASE + "/#", qos=1)
        assert subscribed.wait(10)

    def take(self, leaf: str) -> bytes:
        """The next payload on a leaf."""
        while True:
            topic, payload, _ = self.heard.get(timeout=15)
            if topic == leaf:
                return bytes(payload)

    def acknowledge(self, payload: bytes) -> None:
        self.client.publish(f"{BASE}/ack", payload, qos=1, retain=True).wait_for_publish(5)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def batch(seq: int) -> Item:
    return Item("batch", "o", "b", "boot", seq, b"payload %d" % seq, "batch")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool.db")
    opened.append([SCHEMA.to_item("o", "b", "boot", 1), *(batch(n) for n in range(2, 41))])
    yield opened
    opened.close()


@pytest.fixture
def start(spool: Spool) -> Iterator[Callable[..., Uplink]]:
    started: list[Uplink] = []

    def go(url: str, **more: Any) -> Uplink:
        started.append(Uplink(Broker(url, **more), "o", "b", "boot", "1.0", spool.path))
        started[-1].start()
        return started[-1]

    yield go
    for one in started:
        one.stop(0.1)


@pytest.mark.parametrize("version", [5, 3])
def test_only_an_acknowledgement_of_the_depot_empties_the_spool(
    mosquitto: Any, spool: Spool, start: Callable[..., Uplink], version: int
) -> None:
    depot = Listener(mosquitto.port)
    uplink = start(mosquitto.url, version=version)
    assert json.loads(depot.take("status")) == {"v": 1, "online": True, "boot": "boot", "version": "1.0"}
    depot.take(f"schema/{SCHEMA.hash}")
    first = [depot.take("batch") for _ in range(uplink_module.WINDOW - 1)]
    assert first == [b"payload %d" % n for n in range(2, 2 + len(first))]
    assert spool.count() == 40  # PUBACK alone releases nothing
    for refused in (b"", b"{}", b"\xff", encode_ack({"boot": Acknowledged(5, [(9, 7)])})):
        depot.acknowledge(refused)
    eventually(lambda: uplink.refused_acks >= 3, 10)
    assert spool.count() == 40
    depot.acknowledge(encode_ack({"boot": Acknowledged(uplink_module.WINDOW), "other": Acknowledged(99)}))
    assert depot.take("batch") == b"payload %d" % (uplink_module.WINDOW + 1)
    depot.acknowledge(encode_ack({"boot": Acknowledged(40)}))
    eventually(lambda: spool.count() == 0, 10)
    uplink.stop(2)
    assert json.loads(depot.take("status"))["online"] is False
    depot.close()


def test_sent_again_where_the_acknowledgement_stays_away(
    mosquitto: Any, start: Callable[..., Uplink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_module, "RESEND_S", 0.5)
    depot = Listener(mosquitto.port)
    uplink = start(mosquitto.url)
    assert depot.take("batch") == b"payload 2"
    while depot.take("batch") != b"payload 2":
        pass
    assert uplink.redelivered > 0
    depot.close()


def test_events_overtake_the_batches_that_wait(
    mosquitto: Any, spool: Spool, start: Callable[..., Uplink], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window is full of batches that no depot acknowledges; the event goes out at once, and again, and leaves."""
    depot = Listener(mosquitto.port)
    uplink = start(mosquitto.url)
    for n in range(2, uplink_module.WINDOW + 1):
        assert depot.take("batch") == b"payload %d" % n
    spool.append([Item("event", "o", "b", "boot", 41, b"hot", "event/critical"), batch(42)])
    uplink.look()
    assert depot.heard.get(timeout=10)[:2] == ("event/critical", b"hot")
    monkeypatch.setattr(uplink_module, "RESEND_S", 0.5)
    assert depot.take("event/critical") == b"hot"
    depot.acknowledge(encode_ack({"boot": Acknowledged(0, [(41, 41)])}))
    eventually(lambda: not spool.events(1), 10)
    depot.acknowledge(encode_ack({"boot": Acknowledged(42)}))
    eventually(lambda: spool.count() == 0, 10)
    depot.close()


def test_more_events_than_their_window(mosquitto: Any, spool: Spool, start: Callable[..., Uplink]) -> None:
    """They go in order, and batches still go beside them."""
    events = [Item("event", "o", "b", "boot", n, b"event %d" % n, "event/info") for n in range(41, 61)]
    spool.append(events)
    depot = Listener(mosquitto.port)
    start(mosquitto.url)
    for n in range(41, 41 + uplink_module.EVENT_WINDOW):
        assert depot.take("event/info") == b"event %d" % n
    depot.take("batch")
    depot.acknowledge(encode_ack({"boot": Acknowledged(0, [(41, 48)])}))
    for n in range(49, 49 + uplink_module.EVENT_WINDOW):
        assert depot.take("event/info") == b"event %d" % n
    depot.close()


def connect_level(connection: socket.socket) -> int:
    """The protocol level of the CONNECT that comes in: 5, or 4 for MQTT 3.1.1."""
    packet = connection.recv(4096)
    return packet[packet.index(b"\x00\x04MQTT") + 6]


@pytest.mark.parametrize("answer", [bytes([0x20, 3, 0, 132, 0]), b""], ids=["refuses 5", "closes silently"])
def test_falls_back_to_mqtt_3_1_1(start: Callable[..., Uplink], answer: bytes) -> None:
    """A broker that knows only 3.1.1 either says so in MQTT 5's words or just closes."""
    levels = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        uplink = start(f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        while 4 not in levels:
            connection, _ = server.accept()
            with connection:
                levels.append(connect_level(connection))
                if levels[-1] == 5:
                    connection.sendall(answer)
                    continue
                connection.sendall(bytes([0x20, 2, 0, 0]))
                eventually(lambda: uplink.connected, 10)
    assert levels[:-1] == [5] * (1 if answer else 2)


@pytest.mark.parametrize("rubbish", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64, b"\x20\x02\x00\x05"])
def test_what_is_no_broker_is_tried_again(start: Callable[..., Uplink], spool: Spool, rubbish: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        uplink = start(f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        for _ in range(2):
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(rubbish)
    assert not uplink.connected
    assert spool.count() == 40


@pytest.mark.parametrize("name", ["ca", "cert", "password_file"])
@pytest.mark.parametrize("content", [None, b"\xff\xfe not what it should be"])
def test_wrong_certificate_or_password_file(tmp_path: Path, name: str, content: bytes | None) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    more = {name: path} | ({"key": path} if name == "cert" else {})
    with pytest.raises(BrokerError, match="file"):
        Uplink(Broker("mqtts://localhost", **more), "o", "b", "boot", "1", tmp_path / "spool.db")
