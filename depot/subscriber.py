"""The depot's subscriber: MQTT in, the store, acknowledgements out, always in this order.

paho's thread only puts messages into a queue; one worker stores them and, after the commit, publishes the
bus's retained `ack`. A message whose topic and content disagree goes into quarantine and blocks nothing.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import threading
import time
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from depot.store import Store
from edge.errors import StoreError
from edge.telemetry.batch import encode_ack
from edge.telemetry.broker_url import parse_broker

log = logging.getLogger("ayaz.depot")

TOPIC = re.compile(r"ebus/v1/([\w.-]+)/([\w.-]+)/(batch|schema/[0-9a-f]{16}|event/\w+|state|status)")
MAX_STATE = 256 * 1024
MAX_QUEUE = 10_000
ACK_EVERY_S = 0.2
PARKED = 1_000


@dataclass
class SubscriberCounts:
    """What became of every message."""

    stored: int = 0
    duplicate: int = 0
    parked: int = 0
    quarantined: int = 0
    refused: int = 0


class Subscriber:
    """Feeds a store from a broker until `stop`.

    Raises
    ------
    BrokerError
        The URL is no broker's.
    """

    def __init__(self, broker: str, store: Store, version: int = 5) -> None:
        self._broker = parse_broker(broker)
        self._store = store
        self._queue: queue.Queue[tuple[str, bytes]] = queue.Queue(MAX_QUEUE)
        self._stop = threading.Event()
        self._parked: dict[bytes, tuple[str, str, str]] = {}
        self.connected = threading.Event()
        self.counts = SubscriberCounts()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id="ayaz-depot",
            protocol=MQTTProtocolVersion.MQTTv5 if version == 5 else MQTTProtocolVersion.MQTTv311,
            clean_session=None if version == 5 else False,
        )
        if self._broker.user:
            self._client.username_pw_set(self._broker.user, self._broker.password)
        if self._broker.tls:
            self._client.tls_set()
        self._client.reconnect_delay_set(1, 30)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = lambda _c, _d, m: self._queue.put((m.topic, bytes(m.payload)))
        self._worker = threading.Thread(target=self._work, name="depot-store", daemon=True)

    def start(self) -> None:
        """Begin; the broker need not be there yet."""
        self._worker.start()
        self._client.connect_async(self._broker.host, self._broker.port, 30)
        self._client.loop_start()

    def stop(self) -> None:
        """Store what has arrived, then end."""
        self._stop.set()
        self._worker.join(10)
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            log.error("broker %s refuses: %s", self._broker, reason)
            return
        log.info("connected to %s", self._broker)
        leaves = ("batch", "schema/+", "event/+", "state", "status")
        client.subscribe([(f"ebus/v1/+/+/{leaf}", 1) for leaf in leaves])

    def _on_subscribe(self, *_: Any) -> None:
        self.connected.set()  # only now does the broker keep anything for us

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _data: Any,
        _flags: Any,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.connected.clear()
        if not self._stop.is_set():
            log.warning("broker %s: %s; trying again", self._broker, reason)

    def _work(self) -> None:
        owed: set[tuple[str, str]] = set()
        next_ack = 0.0
        while not (self._stop.is_set() and self._queue.empty()):
            try:
                topic, payload = self._queue.get(timeout=0.05)
                self._take(topic, payload, owed)
            except queue.Empty:
                pass
            now = time.monotonic()
            if owed and (now >= next_ack or self._queue.empty()):
                next_ack = now + ACK_EVERY_S
                owed = {bus for bus in owed if not self._acknowledge(*bus)}
        for bus in owed:
            self._acknowledge(*bus)

    def _take(self, topic: str, payload: bytes, owed: set[tuple[str, str]]) -> None:
        match = TOPIC.fullmatch(topic)
        if match is None:
            self.counts.refused += 1
            return
        operator, bus, leaf = match.groups()
        try:
            if leaf in ("state", "status"):
                self._live(operator, bus, leaf, payload)
                return
            self._store_item(operator, bus, leaf, payload, owed)
        except StoreError as error:
            log.error("%s; it is not acknowledged, the bus will send it again", error)

    def _store_item(
        self, operator: str, bus: str, leaf: str, payload: bytes, owed: set[tuple[str, str]]
    ) -> None:
        outcome = self._store.insert(operator, bus, leaf, payload)
        setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
        if outcome in ("stored", "duplicate"):
            owed.add((operator, bus))
        elif outcome == "parked" and len(self._parked) < PARKED:
            self._parked[payload] = (operator, bus, leaf)
        elif outcome == "quarantined":
            log.error("an item of %s/%s went into quarantine", operator, bus)
        if leaf.startswith("schema/") and self._parked:
            waiting, self._parked = self._parked, {}
            for other, (o, b, where) in waiting.items():
                self._store_item(o, b, where, other, owed)

    def _live(self, operator: str, bus: str, leaf: str, payload: bytes) -> None:
        try:
            if len(payload) > MAX_STATE:
                raise ValueError("too large")
            value = json.loads(payload)
            if not isinstance(value, dict) or value.get("v") != 1:
                raise ValueError("not ours")
            if not isinstance(value.get("t_ms", 0), int) or abs(value.get("t_ms", 0)) >= 1 << 62:
                raise ValueError("no time")
        except (ValueError, RecursionError):
            self.counts.refused += 1
            return
        if leaf == "state":
            self._store.put_live(operator, bus, state=value)
        else:
            self._store.put_live(operator, bus, status=value)

    def _acknowledge(self, operator: str, bus: str) -> bool:
        """Publish the bus's ack; whether it could be handed over."""
        if not self.connected.is_set():
            return False
        held = self._store.acknowledged(operator, bus)
        self._client.publish(f"ebus/v1/{operator}/{bus}/ack", encode_ack(held), qos=1, retain=True)
        return True
