"""Chargers, by kind; plug-in, handshake, ramp, and charging by the BMS's current.

Constant current, then constant voltage: both are the BMS's `charge_a`, which it lowers as the cells fill; the charger
obeys (IEC 61851-23, mode 4; ISO 15118), up to its power. What the bus consumes meanwhile comes from the plug first; a
battery that is too cold to charge is heated from it (pre-conditioning).
"""

from __future__ import annotations

from dataclasses import dataclass

from sim_bus.doors import Orders

UNPLUGGED, PLUGGED, CHARGING, DONE, FAULT = range(5)
FULL_A = 1.0  # asked by the BMS: less means full
AGAIN_A = 10.0  # asked after full: charge again
FULL_S = 30.0  # so long
BMS_FAULT = 5  # Orders.state


@dataclass(frozen=True)
class Kind:
    """What stands beside the road."""

    kw: float
    plug_s: float  # from standstill to connected, handshake and insulation test included
    ramp_kw_s: float


KINDS = {
    "depot_ac": Kind(22.0, 60.0, 2.0),
    "depot_dc": Kind(80.0, 45.0, 5.0),
    "pantograph": Kind(300.0, 12.0, 40.0),
}


class Charger:
    """The one that the bus stands at, if any."""

    def __init__(self) -> None:
        self.state = UNPLUGGED
        self.power_w = 0.0  # out of the plug
        self._kind: Kind | None = None
        self._most_w = 0.0
        self._plug_s = 0.0
        self._idle_s = 0.0

    @property
    def connected(self) -> bool:
        """To a charger, or about to be."""
        return self._kind is not None

    def plug(self, kind: str, kw: float | None = None, connected: bool = False) -> None:
        """Begin to connect to a charger of a kind, of its own power or another; or be connected already."""
        self.unplug()
        self._kind = KINDS[kind]
        self._most_w = (self._kind.kw if kw is None else kw) * 1000
        self._plug_s = 0.0 if connected else self._kind.plug_s
        if connected:
            self.state = PLUGGED

    def unplug(self) -> None:
        """Away from it."""
        self._kind, self.state, self.power_w = None, UNPLUGGED, 0.0
        self._idle_s = 0.0

    def step(self, dt_s: float, orders: Orders, closed: bool, voltage_v: float, consumers_w: float) -> float:
        """The power out of the plug in W; closed: a contactor is, so that the bus can take it."""
        kind = self._kind
        if kind is None:
            return 0.0
        if self._plug_s > 0.0:
            self._plug_s -= dt_s
            return 0.0
        asked_w = min(orders.charge_a * voltage_v, orders.charge_w) if orders.charge_a > FULL_A else 0.0
        self._decide(dt_s, orders, asked_w)
        if self.state == FAULT or self.state == DONE or not closed:
            self.power_w = 0.0
            return 0.0
        aim = min(asked_w + consumers_w, self._most_w)
        self.power_w = min(aim, self.power_w + kind.ramp_kw_s * 1000 * dt_s)
        return self.power_w

    def _decide(self, dt_s: float, orders: Orders, asked_w: float) -> None:
        """The state: done where nothing more is asked for a while, and neither is heat."""
        if orders.state == BMS_FAULT:
            self.state = FAULT
        elif self.state == DONE and orders.charge_a < AGAIN_A and not orders.heat:
            return
        elif asked_w > 0.0:
            self.state, self._idle_s = CHARGING, 0.0
        else:
            self._idle_s = 0.0 if orders.heat else self._idle_s + dt_s
            self.state = DONE if self._idle_s > FULL_S else PLUGGED
