"""What road and air take: rolling resistance by the tyres' temperature and the wet, air by its density.

Rolling: c_r = C_R25 / (1 + K (T - T25)), the temperature law of ISO 28580 / UN R117 (K = 0.006 1/K for truck and bus
tyres, load index over 121), T taken as the tyre's own temperature, T25 what it settles at in town at 25 degC. The tyre
warms by its own losses, so a bus that stood outside rolls heavily in its first half hour.
Air: 1/2 rho c_w A (v + wind)^2, rho = p / (R T) (Guzzella, Sciarretta, Vehicle Propulsion Systems, 2013, chapter 2).
"""

from __future__ import annotations

import math

GRAVITY = 9.81
C_R25 = 0.0085  # city bus on town asphalt: tyres of 6 to 7 kg/t on the drum, and texture, bearings, bends
K_TYRE = 0.006
TYRE_RISE_K = 14.0  # over the air at 25 degC, in town
SETTLED_W = 6_500.0  # rolling losses that keep it there
TYRES_J_PER_K = 6 * 60 * 1_500.0  # six tyres of 60 kg
TYRES_W_PER_K = SETTLED_W / TYRE_RISE_K
WET = 0.3  # more on standing water; our own estimate, measurements lie between 0.1 and 0.5
DRAG_AREA_M2 = 0.65 * 8.2
GAS_CONSTANT = 287.05  # J/(kg K), dry air


class Road:
    """Forces in N at the wheels, from numbers renewed once a second."""

    def __init__(self, ambient_degc: float, wet: float) -> None:
        self.tyre_degc = ambient_degc
        self.rolling = 0.0  # N per N of weight
        self.drag = 0.0  # N per (m/s)^2
        self.head_wind_ms = 0.0
        self._wet = 1 + WET * wet
        self._rolled_j = 0.0

    def second(
        self, dt_s: float, ambient_degc: float, pressure_kpa: float, wind_ms: float, heading: float
    ) -> None:
        """New air, and tyres warmed by what they lost; heading is the share of a turn since the wind was ahead."""
        cooling_w = TYRES_W_PER_K * (self.tyre_degc - ambient_degc)
        self.tyre_degc += (self._rolled_j - cooling_w * dt_s) / TYRES_J_PER_K
        self._rolled_j = 0.0
        warmth = 1 + K_TYRE * (self.tyre_degc - 25.0 - TYRE_RISE_K)
        self.rolling = C_R25 / max(warmth, 0.3) * self._wet
        self.drag = 0.5 * pressure_kpa * 1000 / (GAS_CONSTANT * (ambient_degc + 273.15)) * DRAG_AREA_M2
        self.head_wind_ms = wind_ms * math.cos(2 * math.pi * heading)

    def air_n(self, speed_ms: float) -> float:
        """Of the air against the motion."""
        relative = speed_ms + self.head_wind_ms
        return self.drag * relative * abs(relative)

    def rolled(self, joule: float) -> None:
        """So much went into the tyres."""
        self._rolled_j += joule
