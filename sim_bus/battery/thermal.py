"""The battery's heat: core and surface of each cell, the coolant that flows along the string, the case, the ambient.

    core ── surface ── coolant under the cell ── next cell's coolant ── ... ── tank (pump, heater, cooler)
               │  └─── next cell's surface
             case of the string ── ambient

Two nodes for each cell (Forgez et al., J. Power Sources 195 (2010) 2961), because the sensor sits on the surface and the
electrochemistry feels the core. A cell's conductances are given over its heat capacity, so that any size of cell keeps
its times; the figures are those of a 280 Ah prismatic cell on a cooled plate, of our own estimate from its dimensions:

    core to surface       1.5e-3 /s     8 W/K of a cell of 5.3 kJ/K: in two minutes they are level
    surface to coolant    0.6e-3 /s     3 W/K through pad and plate
    between neighbours    0.2e-3 /s     1 W/K through the foam
    surface to case       0.06e-3 /s    0.3 W/K; each end cell 1.5 W/K more through its end plate
    case to ambient       0.03e-3 /s    0.16 W/K a cell: a pack left alone cools with a time constant of about 16 h
    coolant, full flow    0.6e-3 /s     3.2 W/K a cell: 10 l/min in each string of 176

Strings lie side by side in the loop: each gets the tank's coolant.
"""

from __future__ import annotations

import math

import numpy as np

from sim_bus.battery import _pack
from sim_bus.doors import FloatArray

STEP_MAX_S = 1.0  # the explicit part is good to 50 s; so short because the flow's inlet is that of the step's beginning

CORE_SHARE = 0.85  # of a cell's heat capacity; the rest is the can's and the terminals'
COOLANT_SHARE = 0.06  # the plate and the coolant under a cell, of the cell's heat capacity
CASE_SHARE = 0.08
TANK_SHARE = 0.02  # 11 litres for 352 cells
PER_S = {  # conductances over the cell's heat capacity
    _pack.CORE_SURFACE: 1.5e-3,
    _pack.SURFACE_COOLANT: 0.6e-3,
    _pack.NEIGHBOUR: 0.2e-3,
    _pack.SURFACE_CASE: 0.06e-3,
    _pack.END_CASE: 0.3e-3,
}
CASE_AMBIENT_PER_S = 0.03e-3  # each of these three for each cell of the string, or of the pack
TANK_AMBIENT_PER_S = 0.003e-3
FLOW_PER_S = 0.6e-3


def parameters(strings: int, cells: int, heat_j_per_k: float) -> FloatArray:
    """What `_pack.warm` needs, (PARAMETERS,), of a pack whose cells have this heat capacity each."""
    p = np.zeros(_pack.PARAMETERS)
    p[_pack.CORE_J] = CORE_SHARE
    p[_pack.SURFACE_J] = 1 - CORE_SHARE
    p[_pack.COOLANT_J] = COOLANT_SHARE
    p[_pack.CASE_J] = CASE_SHARE * cells
    p[_pack.TANK_J] = TANK_SHARE * cells * strings
    p[_pack.CASE_AMBIENT] = CASE_AMBIENT_PER_S * cells
    p[_pack.TANK_AMBIENT] = TANK_AMBIENT_PER_S * cells * strings
    p[_pack.FLOW] = FLOW_PER_S * cells
    for key, per_s in PER_S.items():
        p[key] = per_s
    return p * heat_j_per_k


class Thermal:
    """Temperatures in degC: core_degc, surface_degc, coolant_degc (strings, cells), case_degc (strings,), tank_degc.

    Heat that comes up is added to core_j, surface_j (strings, cells) and case_j (strings,), in J, until `step`.
    """

    def __init__(
        self, core_degc: FloatArray, ambient_degc: float, coolant_degc: float, heat_j_per_k: float
    ) -> None:
        shape = strings, cells = core_degc.shape
        self.p = parameters(strings, cells, heat_j_per_k)
        self.core_degc, self.surface_degc = core_degc.copy(), core_degc.copy()
        self.coolant_degc = np.full(shape, float(coolant_degc))
        self._tank_degc = np.full(1, float(coolant_degc))
        inside = self.p[_pack.SURFACE_CASE] * cells + 2 * self.p[_pack.END_CASE]
        outside = self.p[_pack.CASE_AMBIENT]  # the case begins where it would come to rest between the two
        self.case_degc = (inside * core_degc.mean(axis=1) + outside * ambient_degc) / (inside + outside)
        self.core_j, self.surface_j, self.case_j = np.zeros(shape), np.zeros(shape), np.zeros(strings)
        self.ambient_j = 0.0  # what the ambient has got since the beginning

    @property
    def tank_degc(self) -> float:
        """Of the coolant before the strings."""
        return float(self._tank_degc[0])

    @property
    def outlet_degc(self) -> float:
        """Of the coolant behind the strings, mixed."""
        return float(self.coolant_degc[:, -1].mean())

    def step(self, dt_s: float, ambient_degc: float, tank_w: float, flow: float) -> None:
        """Let the heat that came up, and tank_w (into the coolant), spread for dt_s; flow 0 (stagnant) to 1."""
        parts = max(1, math.ceil(dt_s / STEP_MAX_S - 1e-9))
        if parts > 1:
            for heat in (self.core_j, self.surface_j, self.case_j):
                heat /= parts
        for _ in range(parts):
            self.ambient_j += _pack.warm(
                dt_s / parts,
                self.p,
                ambient_degc,
                flow,
                self.core_j,
                self.surface_j,
                self.case_j,
                tank_w * dt_s / parts,
                self.core_degc,
                self.surface_degc,
                self.coolant_degc,
                self.case_degc,
                self._tank_degc,
            )
        for heat in (self.core_j, self.surface_j, self.case_j):
            heat.fill(0.0)

    def stored_j(self) -> float:
        """Heat in all nodes, above 0 degC."""
        p = self.p
        return float(
            p[_pack.CORE_J] * self.core_degc.sum()
            + p[_pack.SURFACE_J] * self.surface_degc.sum()
            + p[_pack.COOLANT_J] * self.coolant_degc.sum()
            + p[_pack.CASE_J] * self.case_degc.sum()
            + p[_pack.TANK_J] * self.tank_degc
        )
