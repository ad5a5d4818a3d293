"""What the BMS allows: power for 10 s, the charger's current, heating and cooling."""

from __future__ import annotations

from sim_bus.ecus.tables import (
    CHARGE_C,
    DISCHARGE_C,
    EMPTYING,
    FILLING,
    HOT_CHARGE,
    HOT_DISCHARGE,
    RISING,
    SAGGING,
    CellLimits,
    Table,
    at,
)  # fmt: skip

EASES_PER_S = 0.05  # how fast a limit comes back that a voltage has cut
BLIND_DEGC = -5.0  # taken where no sensor says how cold it is
HEAT_DEGC, HEATED_DEGC = 15.0, 18.0  # of the coldest; colder, the cells take little of the braking back
COOL_DEGC, COOLED_DEGC = 30.0, 27.0  # of the hottest
CV_BELOW_MAX_V = 0.03
CV_GAIN = 3.0  # share of the current by which it changes in a second, for each V
CV_MOST_DOWN, CV_MOST_UP = 0.3, 0.05
CV_NEAR_V = 0.05  # so near the end the request follows what is really charged
FULL_C = 1 / 20  # less current, at the end voltage, says full ...
FULL_S = 10  # ... after so many seconds
FULL_WITHIN_V = 0.02
AGAIN_SOC = 0.97  # of its own: below, a full battery is charged again


class PowerLimits:
    """Over temperatures, own state of charge and the extreme voltages; cut at once, given back slowly."""

    def __init__(self, cell: CellLimits, rated_wh: float) -> None:
        self._cell, self._rated_wh = cell, rated_wh
        self._ease = [1.0, 1.0]

    def second(
        self, coldest: float, hottest: float, soc: float, lowest_v: float, highest_v: float, charging: bool
    ) -> tuple[float, float]:
        """(discharge_w, charge_w), both positive; while charging the voltage alone says how full it is.

        What no sensor says does not limit, but the cold: then BLIND_DEGC is taken.
        """
        cold = coldest if coldest == coldest else BLIND_DEGC
        discharge = at(DISCHARGE_C, cold) * _share(HOT_DISCHARGE, hottest) * _share(EMPTYING, soc)
        charge = (
            at(CHARGE_C, cold) * _share(HOT_CHARGE, hottest) * (1.0 if charging else _share(FILLING, soc))
        )
        discharge *= self._eased(0, _share(SAGGING, lowest_v - self._cell.voltage_min_v))
        charge *= self._eased(1, _share(RISING, self._cell.voltage_max_v - highest_v))
        return discharge * self._rated_wh, charge * self._rated_wh

    def _eased(self, which: int, target: float) -> float:
        self._ease[which] = min(target, self._ease[which] + EASES_PER_S)
        return self._ease[which]


def _share(table: Table, x: float) -> float:
    return at(table, x) if x == x else 1.0


class Charging:
    """Constant current by temperature, then constant voltage of the highest cell, until little flows: full."""

    def __init__(self, cell: CellLimits, capacity_ah: float) -> None:
        self._end_v, self._capacity_ah = cell.voltage_max_v - CV_BELOW_MAX_V, capacity_ah
        self.stop()

    def stop(self) -> None:
        """No charger there."""
        self._asked_a, self._small_s = 0.0, 0
        self.full = self.just_full = False

    def second(self, coldest: float, hottest: float, highest_v: float, charged_a: float, soc: float) -> float:
        """The current to ask for, in A; `charged_a` is what came in the second before."""
        self.just_full = False
        if (self.full and soc >= AGAIN_SOC) or highest_v != highest_v:
            return 0.0
        cold = coldest if coldest == coldest else BLIND_DEGC
        most = at(CHARGE_C, cold) * _share(HOT_CHARGE, hottest) * self._capacity_ah
        below_v = self._end_v - highest_v
        asked = self._asked_a or most
        if below_v < CV_NEAR_V and charged_a == charged_a:
            asked = min(asked, 1.1 * max(charged_a, 0.0) + 0.01 * self._capacity_ah)
        asked *= 1 + min(max(CV_GAIN * below_v, -CV_MOST_DOWN), CV_MOST_UP)
        self._asked_a = min(asked, most)
        small = below_v < FULL_WITHIN_V and charged_a < FULL_C * self._capacity_ah and most > 0
        self._small_s = self._small_s + 1 if small else 0
        self.full = self.just_full = self._small_s >= FULL_S
        return 0.0 if self.full else self._asked_a


class Climate:
    """Heating by the coldest and cooling by the hottest sensor, with hysteresis; not where they say nothing."""

    def __init__(self) -> None:
        self.heat = self.cool = False

    def second(self, coldest: float, hottest: float) -> None:
        """Judge."""
        self.heat = coldest < (HEATED_DEGC if self.heat else HEAT_DEGC)
        self.cool = hottest > (COOLED_DEGC if self.cool else COOL_DEGC)
