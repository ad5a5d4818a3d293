"""The uplink: spooled items to the broker, and the depot's acknowledgements back.

Rules: nothing leaves the spool before the depot acknowledged it. At most `WINDOW` items are on their way
(published, not yet acknowledged by the depot); what the depot has not acknowledged after `RESEND_S` is
published again. Schemas go first on every connection; events go ahead of all batches, however many of those wait
and are on their way: they have a window of their own. MQTT 5; a new 3.1.1 client where the broker
answers 132 or twice closes before its CONNACK.

One thread owns the MQTT client and its own connection to the spool; it sleeps until something comes in or is due.
The other methods may be called from any other thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import queue
import random
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.errors import BatchError, BrokerError, SpoolError
from edge.telemetry.batch import Item, decode_ack
from edge.telemetry.broker_url import parse_broker
from edge.telemetry.spool import Spool

log = logging.getLogger("ayaz.uplink")

TOPIC = "ebus/v1"
WINDOW = 16
EVENT_WINDOW = 8
RESEND_S = 30.0
WAKE_S = 0.5  # at least so often: what was sent may have become due again
KEEPALIVE_S = 30
BACKOFF_S = (0.5, 60.0)
UNSUPPORTED_VERSION = 132
CONNECT_S = 10.0


class Broker(Protocol):
    """Where the broker is and who we are to it (the `[mqtt]` section of the configuration)."""

    @property
    def broker(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def user(self) -> str | None: ...
    @property
    def password_file(self) -> Path | None: ...
    @property
    def ca(self) -> Path | None: ...
    @property
    def cert(self) -> Path | None: ...
    @property
    def key(self) -> Path | None: ...


class Uplink:
    """The thread between the spool and the broker.

    Raises
    ------
    BrokerError
        A certificate, key or password file can't be used.
    """

    def __init__(
        self, config: Broker, operator: str, bus: str, boot: str, version: str, spool_path: Path
    ) -> None:
        self._config = config
        self._base = f"{TOPIC}/{operator}/{bus}"
        self._about = {"v": 1, "boot": boot, "version": version}
        self._spool_path = spool_path
        self._broker = parse_broker(config.broker)
        self._tls = _tls_context(config) if self._broker.tls else None
        self._password = _password(config)
        self._mqtt_version = config.version
        self._silent_closes = 0
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._deadline = math.inf  # of the draining
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._client: mqtt.Client | None = None
        self._sent: dict[tuple[str, int], float] = {}  # on their way: when last published
        self._sent_events: dict[tuple[str, int], float] = {}
        self._ever: set[tuple[str, int]] = set()  # published at least once and still spooled
        self._cursor = 0
        self.connected = False
        self.published = 0
        self.redelivered = 0
        self.settled = 0
        self.refused_acks = 0

    def start(self) -> None:
        """Begin; the broker need not be there yet."""
        self._thread.start()

    def publish_state(self, state: dict[str, Any]) -> None:
        """Publish the retained `state`, if connected; an old one is of no use later."""
        self._inbox.put(("state", state))

    def look(self) -> None:
        """Something has been spooled."""
        self._inbox.put(("look", None))

    def drain(self, timeout: float) -> None:
        """Publish what waits while time allows, then say offline and end. Returns at once."""
        self._deadline = time.monotonic() + timeout
        self._inbox.put(("drain", None))

    def join(self) -> None:
        """Wait until the thread that drains has ended, if it ever began."""
        if self._thread.ident is not None:
            self._thread.join(max(self._deadline - time.monotonic(), 0) + 2)

    def stop(self, timeout: float) -> None:
        """`drain`, then `join`."""
        self.drain(timeout)
        self.join()

    # Everything below runs in the uplink's own thread, but for the three paho callbacks.

    def _run(self) -> None:
        spool = Spool(self._spool_path, owner=False)
        try:
            self._serve(spool)
        except SpoolError as error:
            log.error("%s; the uplink rests until the agent starts again", error)
        finally:
            self._disconnect(say_offline=True)
            spool.close()

    def _serve(self, spool: Spool) -> None:
        backoff = BACKOFF_S[0]
        retry_at = 0.0
        draining = False
        while True:
            now = time.monotonic()
            if self._client is None and now >= retry_at:
                self._connect()
            kind, value = self._next(retry_at if self._client is None else self._deadline)
            if kind == "drain":
                draining = True
            elif kind == "state" and self.connected:
                self._publish("state", json.dumps(value).encode(), retain=True)
            elif kind == "up":
                backoff = BACKOFF_S[0]
                self._greet(spool)
            elif kind == "down":
                self._lost(value)
                backoff = min(backoff * 2, BACKOFF_S[1])
                retry_at = now + random.uniform(0, backoff)  # full jitter
            elif kind == "ack":
                self._settle(spool, value)
            if self.connected:
                self._send_events(spool)
                self._send(spool)
            if draining and (now >= self._deadline or not spool.count() or not self.connected):
                return

    def _next(self, until: float) -> tuple[str, Any]:
        """What comes in, or nothing at that time at the latest."""
        try:
            return self._inbox.get(timeout=min(max(until - time.monotonic(), 0), WAKE_S))
        except queue.Empty:
            return "", None

    def _connect(self) -> None:
        client = self._new_client()
        self._client = client
        broker = self._broker
        try:
            client.connect_timeout = CONNECT_S
            client.connect(
                broker.host, broker.port, KEEPALIVE_S, clean_start=mqtt.MQTT_CLEAN_START_FIRST_ONLY
            )
        except (OSError, ValueError) as error:
            self._inbox.put(("down", f"cannot be reached: {error}"))
            return
        client.loop_start()

    def _new_client(self) -> mqtt.Client:
        five = self._mqtt_version == 5
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._base.replace("/", "-"),
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            clean_session=None if five else True,
            reconnect_on_failure=False,
        )
        user = self._config.user or self._broker.user
        if user:
            client.username_pw_set(user, self._password or self._broker.password)
        if self._tls:
            client.tls_set_context(self._tls)
        client.max_inflight_messages_set(WINDOW + EVENT_WINDOW + 4)
        client.will_set(f"{self._base}/status", self._status(online=False), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            if reason.value == UNSUPPORTED_VERSION:
                self._inbox.put(("down", "version"))
            return
        client.subscribe(f"{self._base}/ack", qos=1)
        self._inbox.put(("up", None))

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _data: Any,
        _flags: Any,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._inbox.put(("down", str(reason)))

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if message.topic == f"{self._base}/ack":
            self._inbox.put(("ack", message.payload))

    def _greet(self, spool: Spool) -> None:
        """On each connection: who we are, and the schemas, before any batch."""
        log.info("connected to %s (MQTT %s)", self._broker, "5" if self._mqtt_version == 5 else "3.1.1")
        self.connected = True
        self._silent_closes = 0
        self._publish("status", self._status(online=True), retain=True)
        self._sent_events.clear()
        self._sent.clear()  # what was on its way may be lost: begin again from the spool
        self._cursor = 0
        for _, item in spool.schemas():
            self._publish_item(item)

    def _lost(self, why: str) -> None:
        if self._client is None:
            return
        log.warning("broker %s: %s; trying again", self._broker, why)
        if not self.connected and self._mqtt_version == 5 and "reached" not in why:
            self._silent_closes += 1
            if why == "version" or self._silent_closes >= 2:
                log.info("the broker does not speak MQTT 5; going on with 3.1.1")
                self._mqtt_version = 3
        self._disconnect(say_offline=False)

    def _disconnect(self, *, say_offline: bool) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        if say_offline and self.connected:
            self._client = client
            info = self._publish("status", self._status(online=False), retain=True)
            with contextlib.suppress(RuntimeError, ValueError):
                info.wait_for_publish(1.0)
            self._client = None
        self.connected = False
        client.on_disconnect = None
        client.disconnect()
        client.loop_stop()

    def _send_events(self, spool: Spool) -> None:
        """Those at the head of their queue that are not on their way, or for too long."""
        now = time.monotonic()
        for item in spool.events(EVENT_WINDOW):
            last = self._sent_events.get((item.boot, item.seq))
            if last is None or now - last > RESEND_S:
                self._publish_item(item)

    def _send(self, spool: Spool) -> None:
        """Fill the window with what is no event: first what has waited too long for the depot, then what is new."""
        now = time.monotonic()
        if self._sent and now - min(self._sent.values()) > RESEND_S:
            self._cursor = 0
        room = WINDOW - len(self._sent)
        while room > 0 or self._cursor == 0:
            waiting = spool.pending(WINDOW, self._cursor)
            if not waiting:
                return
            for number, item in waiting:
                if item.kind == "event":
                    self._cursor = number
                    continue
                last = self._sent.get((item.boot, item.seq))
                if last is None and room <= 0:
                    return
                self._cursor = number
                if last is None or now - last > RESEND_S:
                    self._publish_item(item)
                    room -= last is None

    def _publish_item(self, item: Item) -> None:
        name = (item.boot, item.seq)
        self._publish(item.topic_leaf, item.payload, retain=item.kind == "schema")
        sent = self._sent_events if item.kind == "event" else self._sent
        sent[name] = time.monotonic()
        if name in self._ever:
            self.redelivered += 1
        else:
            self._ever.add(name)
            self.published += 1

    def _settle(self, spool: Spool, payload: bytes) -> None:
        try:
            ack = decode_ack(payload)
        except BatchError as error:
            self.refused_acks += 1
            log.warning("an acknowledgement was refused: %s", error)
            return
        for boot, held in ack.boots.items():
            self.settled += spool.settle(boot, held.upto, held.ranges)
            spans = [(1, held.upto), *held.ranges]
            gone = {n for n in self._ever if n[0] == boot and any(a <= n[1] <= b for a, b in spans)}
            self._ever -= gone
            for name in gone:
                self._sent.pop(name, None)
                self._sent_events.pop(name, None)

    def _publish(self, leaf: str, payload: bytes, *, retain: bool) -> mqtt.MQTTMessageInfo:
        assert self._client is not None
        return self._client.publish(f"{self._base}/{leaf}", payload, qos=1, retain=retain)

    def _status(self, *, online: bool) -> bytes:
        return json.dumps(self._about | {"online": online}).encode()


def _tls_context(config: Broker) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(config.ca) if config.ca else None)
        if config.cert and config.key:
            context.load_cert_chain(config.cert, config.key)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(str(p) for p in (config.ca, config.cert, config.key) if p)
        raise BrokerError(f"{names}: certificate or key cannot be used: {error}") from None
    return context


def _password(config: Broker) -> str | None:
    if config.password_file is None:
        return None
    try:
        return config.password_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerError(f"{config.password_file}: cannot be read: {error}") from None
