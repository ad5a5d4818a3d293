"""The BMS's own state of charge: as wrong as real ones are.

It counts its sensors' current over the rated capacity, from a wrong start. After half an hour without current it moves
towards what its table of rest voltages says: wholly where that is steep, little where it is flat. At the end of a
charge it jumps to 1; near empty the voltage under load pulls it down.
"""

from __future__ import annotations

import math

from sim_bus.ecus.tables import CellLimits, at, rest_table, slope

DISPLAY = (0.05, 0.95)  # the cells' range behind the driver's 0 to 100 %
REST_S = 1800.0
REST_C = 1 / 150  # less current is none
STEEP_V = 0.6  # per unit of state of charge: there the table is trusted wholly
LEAST_TRUST = 0.05
MOST_JUMP = 0.10
EMPTY = 0.12  # below, by its table, the voltage pulls
EMPTY_MOST_C = 0.3  # while not more than this is drawn
PULL_PER_S = 0.002
HOLD = 0.02  # not below, while the voltage says that there is more
OHM_AH = 0.07  # a cell's resistance times its capacity, at 25 degC; it doubles with each 15 K colder
DOUBLES_K = 15.0


class OwnSoc:
    """`soc` 0 to 1 of the cells' range. Where start or capacity are NaN it knows nothing, and stays NaN."""

    def __init__(self, soc: float, capacity_ah: float, cell: CellLimits) -> None:
        self.soc = soc if math.isnan(soc) else min(max(soc, 0.0), 1.0)
        self._capacity_ah, self._cell_ah = capacity_ah, cell.capacity_ah
        self._rest = rest_table(cell)
        self._still_since_s: float | None = None

    @property
    def displayed_pct(self) -> float:
        """What the driver sees."""
        low, high = DISPLAY
        return 100 * min(max((self.soc - low) / (high - low), 0.0), 1.0) if self.soc == self.soc else math.nan

    def count(self, t_s: float, dt_s: float, pack_a: float) -> None:
        """Current of the second, positive on discharge; NaN counts as none."""
        if pack_a == pack_a and not math.isnan(self._capacity_ah):
            self._move(self.soc - pack_a * dt_s / 3600 / self._capacity_ah)
        if self._still_since_s is None or not abs(pack_a) < REST_C * self._capacity_ah:
            self._still_since_s = t_s

    def rest(self, t_s: float, mean_v: float) -> None:
        """Look at the voltage, where the cells have rested."""
        since = self._still_since_s
        if since is None or t_s - since < REST_S or mean_v != mean_v:
            return
        trust = min(max(slope(self._rest, mean_v) / STEEP_V, LEAST_TRUST), 1.0)
        jump = trust * (at(self._rest, mean_v) - self.soc)
        self._move(self.soc + min(max(jump, -MOST_JUMP), MOST_JUMP))
        self._still_since_s = t_s

    def full(self) -> None:
        """A charge has come to its end."""
        self._move(1.0)

    def under_load(self, dt_s: float, lowest_v: float, string_a: float, coldest_degc: float) -> None:
        """Near empty: the lowest cell's voltage, made up for the drop over its resistance."""
        if not (
            abs(string_a) < EMPTY_MOST_C * self._cell_ah
            and lowest_v == lowest_v
            and coldest_degc == coldest_degc
        ):
            return
        ohm = OHM_AH / self._cell_ah * 2 ** ((25.0 - coldest_degc) / DOUBLES_K)
        says = at(self._rest, lowest_v + string_a * ohm)
        if says < EMPTY and self.soc > says:
            self._move(max(says, self.soc - PULL_PER_S * dt_s))
        elif says > EMPTY and self.soc < HOLD:
            self._move(HOLD)

    def _move(self, soc: float) -> None:
        if self.soc == self.soc:
            self.soc = min(max(soc, 0.0), 1.0)
