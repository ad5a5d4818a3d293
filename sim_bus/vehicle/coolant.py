"""Heat for the battery's coolant: an electric or fuel-fired heater, a chiller, a pump.

When to heat and when to cool is the BMS's order; the pack's own room has the coolant's temperature.
"""

from __future__ import annotations

from sim_bus.doors import FaultEffects
from sim_bus.vehicle.cabin import cooling_cop

PUMP_W = 180.0  # at full flow
CIRCULATION = 0.4  # share of the flow while the bus is awake, to even the cells out
PIPES = 0.92  # of the heater's heat comes to the battery
CHILLER_W = 7_000.0
LEAST_FLOW = 0.2  # below, the heater's own thermostat cuts it back
FUEL_FAN_W = 60.0


class Coolant:
    """`decide` once a second; `want_w` is what it wants of electricity, for `heat_w` into the coolant."""

    def __init__(self, heater_kw: float, fuel: bool) -> None:
        self.want_w = 0.0
        self.heat_w = 0.0  # negative cools
        self.fuel_heat_w = 0.0
        self.flow = 0.0
        self._heater_w = heater_kw * 1000
        self._fuel = fuel

    def decide(self, awake: bool, heat: bool, cool: bool, ambient_degc: float, effects: FaultEffects) -> None:
        """The next second; asleep, nothing runs."""
        self.want_w = self.heat_w = self.fuel_heat_w = self.flow = 0.0
        if not awake:
            return
        pump = 1.0 if heat or cool else CIRCULATION
        self.flow = pump * effects.coolant_flow
        self.want_w = PUMP_W * pump**3  # a pump's power goes with the cube of its speed
        through = min(self.flow / LEAST_FLOW, 1.0)
        if heat and not effects.heater_failed:
            given = self._heater_w * through
            self.heat_w = given * PIPES
            if self._fuel:
                self.fuel_heat_w = given
                self.want_w += FUEL_FAN_W
            else:
                self.want_w += given
        elif cool:
            self.heat_w = -CHILLER_W * through
            self.want_w += CHILLER_W * through / cooling_cop(ambient_degc)
