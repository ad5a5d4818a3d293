"""The fleet over MQTT: what each bus says of itself in the retained `state` and `status` (docs/protocol.md).

MQTT 3.1.1: a listener needs nothing of version 5, and every broker speaks it. Messages are checked as at the
depot (topic, size, JSON); what is none of ours is counted and changes nothing. At most MAX_BUSES are kept.
"""

from __future__ import annotations

import contextlib
import math
import queue
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from edge.telemetry.broker_url import parse_broker

TOPIC = re.compile(r"ebus/v1/([\w.-]{1,64})/([\w.-]{1,64})/(state|status)")
MAX_BYTES = 256 * 1024
MAX_BUSES = 10_000
MAX_PATHS = 4_000
MAX_QUEUE = 10_000
MAX_T_MS = 1 << 53
ABOUT = ("v", "t_ms", "boot", "clock")


@dataclass(frozen=True)
class FleetBus:
    """One bus: `online` None until it was said; `heard_s` is our monotonic time of the newest state that was
    not a retained one, `state` its VSS values."""

    operator: str
    name: str
    online: bool | None = None
    version: str = ""
    boot: str = ""
    t_ms: int | None = None
    clock: str = ""
    heard_s: float | None = None
    state: Mapping[str, Any] = field(default_factory=dict)

    def age_s(self, now_s: float, wall_ms: int) -> float:
        """How old the state is: by the bus's own clock where that is good, else since it came; NaN where it
        was a retained one of a bus whose clock can't be trusted."""
        if self.t_ms is not None and self.clock in ("ntp", "gps"):
            return max((wall_ms - self.t_ms) / 1000, 0.0)
        return math.nan if self.heard_s is None else now_s - self.heard_s

    def value(self, path: str) -> float:
        """A number of the state; NaN where there is none."""
        value = self.state.get(path)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


class Fleet:
    """The buses that were heard."""

    def __init__(self) -> None:
        self.buses: dict[tuple[str, str], FleetBus] = {}
        self.messages = 0
        self.refused = 0

    def take(self, topic: str, payload: bytes, retained: bool, now_s: float) -> None:
        """One message; what is none of ours is counted."""
        self.messages += 1
        match = TOPIC.fullmatch(topic)
        try:
            if match is None:
                raise ValueError("another topic")
            value = _checked(payload)
            key = match.group(1), match.group(2)
            if key not in self.buses and len(self.buses) >= MAX_BUSES:
                raise ValueError("too many buses")
            bus = self.buses.get(key) or FleetBus(*key)
            take = _with_state if match.group(3) == "state" else _with_status
            self.buses[key] = take(bus, value, None if retained else now_s)
        except (ValueError, RecursionError):
            self.refused += 1


def _checked(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_BYTES:
        raise ValueError("too large")
    value = msgspec.json.decode(payload)
    if not isinstance(value, dict) or value.get("v") != 1:
        raise ValueError("not ours")
    return value


def _with_state(bus: FleetBus, value: dict[str, Any], heard_s: float | None) -> FleetBus:
    t_ms = value.get("t_ms")
    if type(t_ms) is not int or not 0 <= t_ms < MAX_T_MS or len(value) > MAX_PATHS:
        raise ValueError("no time, or too many paths")
    state = {
        path: known
        for path, known in value.items()
        if path not in ABOUT and isinstance(known, int | float | str)
    }
    return replace(
        bus, t_ms=t_ms, clock=str(value.get("clock", "")), heard_s=heard_s, state=state,
        boot=str(value.get("boot", "")),
    )  # fmt: skip


def _with_status(bus: FleetBus, value: dict[str, Any], _heard_s: float | None) -> FleetBus:
    online = value.get("online")
    if not isinstance(online, bool):
        raise ValueError("neither online nor offline")
    return replace(bus, online=online, version=str(value.get("version", "")), boot=str(value.get("boot", "")))


@dataclass(frozen=True)
class FleetPicture:
    """The fleet at one moment: monotonic s, wall ms."""

    now_s: float
    wall_ms: int
    broker: str
    link: str  # "connected", or why not
    buses: Sequence[FleetBus]
    messages: int
    refused: int


class FleetFeed:
    """Listens at a broker until `close`; reconnects by itself.

    Raises
    ------
    BrokerError
        The URL is no broker's.
    """

    def __init__(self, url: str) -> None:
        self._broker = parse_broker(url)
        self._queue: queue.Queue[tuple[str, bytes, bool]] = queue.Queue(MAX_QUEUE)
        self._fleet = Fleet()
        self._link = "connecting"
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"ayaz-monitor-{secrets.token_hex(4)}",
            protocol=MQTTProtocolVersion.MQTTv311,
            clean_session=True,
        )
        if self._broker.user:
            self._client.username_pw_set(self._broker.user, self._broker.password)
        if self._broker.tls:
            self._client.tls_set()
        self._client.reconnect_delay_set(1, 10)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.connect_async(self._broker.host, self._broker.port, 30)
        self._client.loop_start()

    @property
    def connected(self) -> bool:
        """Whether the broker has taken us."""
        return self._link == "connected"

    def advance(self) -> None:
        """Take what has arrived."""
        for _ in range(MAX_QUEUE):
            try:
                topic, payload, retained = self._queue.get_nowait()
            except queue.Empty:
                return
            self._fleet.take(topic, payload, retained, time.monotonic())

    def picture(self) -> FleetPicture:
        """The fleet now, by operator and bus."""
        buses = [bus for _, bus in sorted(self._fleet.buses.items())]
        return FleetPicture(
            time.monotonic(), time.time_ns() // 1_000_000, str(self._broker), self._link, buses,
            self._fleet.messages, self._fleet.refused,
        )  # fmt: skip

    def close(self) -> None:
        """Say goodbye to the broker."""
        self._client.on_message = None
        self._client.disconnect()
        self._client.loop_stop()

    # paho's thread calls these.

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _more: Any
    ) -> None:
        if reason.is_failure:
            self._link = f"refused: {reason}"
            return
        client.subscribe([("ebus/v1/+/+/state", 1), ("ebus/v1/+/+/status", 1)])
        self._link = "connected"

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        self._link = "cannot be reached; trying again"

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, reason: ReasonCode, _more: Any
    ) -> None:
        if not self._link.startswith("refused"):
            self._link = f"lost: {reason}; trying again"

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        # Where we are slower than the fleet, the broker waits for us, but never so long that we couldn't end.
        with contextlib.suppress(queue.Full):
            self._queue.put(
                (message.topic, bytes(message.payload[: MAX_BYTES + 1]), bool(message.retain)), timeout=1
            )
