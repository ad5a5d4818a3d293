"""Heat of the cabin: two nodes, the air and what stands in it; and what warms or cools the air.

    C_air dT/dt  = q_hvac + people + sun/2 + UA_in (T_inside - T) - (vent + doors + UA_glass) (T - ambient)
    C_in dT_in/dt = sun/2 + UA_in (T - T_in) - UA_wall (T_in - ambient)

Doors exchange air by buoyancy (Brown and Solvason, Int. J. Heat Mass Transfer 5, 1962): V = C_d/3 A sqrt(g H dT / T).
Fresh air 15 m3/h a head (VDV 236). The walls' k of 2 to 3 W/m2K and the heat pump's share of Carnot are of the order that
Goehlich et al. (WEVJ 7, 2016) and Widmer et al. (arXiv 2403.00517) use for 12 m buses. A heat pump's COP is CARNOT of the
ideal one's between a condenser at 45 degC and an evaporator 8 K below the air outside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sim_bus.scenario.model import BusPlan
from sim_bus.vehicle.tables import lookup

AIR_J_PER_K = 180_000.0  # 75 m3 of air and what is as light: linings, clothes
INSIDE_J_PER_K = 2_500_000.0  # seats, floor, shell
INSIDE_W_PER_K = 900.0
WALL_W_PER_K = 170.0  # 85 m2, k = 2
GLASS_W_PER_K = 160.0  # 32 m2, k = 5 standing still
GLASS_W_PER_K_MS = 6.0  # more by each m/s of speed
AIR_J_PER_M3_K = 1_230.0
FRESH_M3_S = 15 / 3600  # a head
LEAST_FRESH_M3_S = 0.03
DOOR_M2 = 2 * 2.4  # two of three double doors, as passengers press the button
DOOR_M = 2.0
DOOR_FLOW = 0.4  # coefficient, with people in the way
PERSON_W = 100.0
SUN_M2 = 8.0  # glass and roof, times what comes in of it
NIGHT_HOURS = 6.0  # before and after noon, when the sun sets

BAND_K = 2.0  # full power so far beside the wanted temperature
CARNOT = 0.40
CONDENSER_K = 273.15 + 45
EVAPORATOR_K = 8.0
PUMP_W = ((-20.0, 9_000.0), (-5.0, 13_500.0), (7.0, 18_000.0))  # heat given over ambient degC
RESISTANCE_W = 20_000.0
FUEL_W = 23_000.0  # of a 30 kW burner, the rest is for the battery
COOLING_W = 24_000.0
BLOWER_W = 300.0  # ventilation, always
BLOWER_FULL_W = 300.0  # more at full heat or cold
FUEL_FAN_W = 180.0  # burner's fan and water pump at full heat
FUEL_EFFICIENCY = 0.85
FUEL_J_PER_L = 35.8e6  # diesel, lower heating value


@dataclass(frozen=True)
class Heating:
    """A kind of heating: the heat pump as far down as it goes, below it resistance or a burner."""

    pump_degc: float
    resistance_w: float
    fuel_w: float = 0.0


HEATINGS = {
    "electric": Heating(-5.0, RESISTANCE_W),
    "heat_pump": Heating(-20.0, RESISTANCE_W),  # R744
    "fuel": Heating(5.0, 0.0, FUEL_W),
}


def heating_cop(ambient_degc: float) -> float:
    """Of the heat pump, heat per electricity."""
    return CARNOT * CONDENSER_K / max(CONDENSER_K - (ambient_degc + 273.15 - EVAPORATOR_K), 20.0)


def cooling_cop(ambient_degc: float) -> float:
    """Of the same machine, cold per electricity: evaporator at 5 degC, condenser 15 K above the air outside."""
    return CARNOT * 278.15 / max(ambient_degc + 15 - 5, 20.0)


class Cabin:
    """Call `second` once a second; then `want_w` is what it wants of electricity and `fuel_heat_w` of the burner."""

    def __init__(self, plan: BusPlan, ambient_degc: float) -> None:
        first = ambient_degc if plan.first_cabin_degc is None else plan.first_cabin_degc
        self.air_degc = self.inside_degc = first
        self.want_w = 0.0
        self.fuel_heat_w = 0.0
        self._plan = plan
        self._kind = HEATINGS[plan.heating]
        self._electric_heat_w = 0.0  # of want_w, cold negative

    def second(
        self,
        dt_s: float,
        ambient_degc: float,
        sun_w_m2: float,
        people: int,
        speed_ms: float,
        doors_open: float,
        share: float,
        on: bool,
    ) -> None:
        """Move on by dt_s: doors open and electricity given by shares of it; then decide what is wanted next."""
        heat_w = self._electric_heat_w * share + self.fuel_heat_w
        self._warm(dt_s, heat_w, ambient_degc, SUN_M2 * sun_w_m2, people, speed_ms, doors_open)
        self.want_w = self.fuel_heat_w = self._electric_heat_w = 0.0
        if not on:
            return
        cold = (self._plan.cabin_degc - self.air_degc) / BAND_K
        warm = (self.air_degc - self._plan.cooled_degc) / BAND_K
        if cold > 0:
            self._heat(min(cold, 1.0), ambient_degc)
        elif warm > 0:
            cooling = COOLING_W * min(warm, 1.0)
            self._electric_heat_w = -cooling
            self.want_w = cooling / cooling_cop(ambient_degc) + BLOWER_FULL_W * min(warm, 1.0)
        self.want_w += BLOWER_W

    def _heat(self, share: float, ambient_degc: float) -> None:
        """Heat pump first, then resistance; a burner alone."""
        kind = self._kind
        pump_w = lookup(PUMP_W, ambient_degc) if ambient_degc >= kind.pump_degc else 0.0
        fuel_w = 0.0 if pump_w else kind.fuel_w
        need = share * (pump_w + kind.resistance_w + fuel_w)
        pumped = min(need, pump_w)
        resistance = min(need - pumped, kind.resistance_w)
        self._electric_heat_w = pumped + resistance
        self.want_w = pumped / heating_cop(ambient_degc) + resistance + BLOWER_FULL_W * share
        if fuel_w:
            self.fuel_heat_w = need
            self.want_w += FUEL_FAN_W * need / fuel_w

    def _warm(
        self,
        dt_s: float,
        heat_w: float,
        ambient: float,
        sun_w: float,
        people: int,
        speed: float,
        open_share: float,
    ) -> None:
        """Both nodes, explicit: the air's time constant is a minute and more, and a quarter of it with open doors."""
        over = self.air_degc - ambient
        fresh = max(FRESH_M3_S * people, LEAST_FRESH_M3_S if people else 0.0)
        buoyancy = math.sqrt(9.81 * DOOR_M * abs(over) / (ambient + 273.15))
        doors = open_share * DOOR_FLOW / 3 * DOOR_M2 * buoyancy
        lost = (GLASS_W_PER_K + GLASS_W_PER_K_MS * speed + AIR_J_PER_M3_K * (fresh + doors)) * over
        across = INSIDE_W_PER_K * (self.inside_degc - self.air_degc)
        self.air_degc += (heat_w + PERSON_W * people + sun_w / 2 + across - lost) * dt_s / AIR_J_PER_K
        wall = WALL_W_PER_K * (self.inside_degc - ambient)
        self.inside_degc += (sun_w / 2 - across - wall) * dt_s / INSIDE_J_PER_K


def sun_share(clock_s: float) -> float:
    """Of noon's sun at this time of the day."""
    hours = (clock_s / 3600) % 24 - 12
    return max(math.cos(math.pi * hours / (2 * NIGHT_HOURS)), 0.0)
