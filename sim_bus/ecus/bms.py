"""The battery management system: what it believes, allows and switches.

Everything comes from `Readings`, so a broken sensor fools it as it fools a real one. Once a second, by what was read in
the second before:

    off -> Init (2 s) -> Standby (1 s) -> Precharge (until the link follows) -> Drive or Charge
    any -> Fault on severe trouble: limits 0 at once, contactors open when little flows, after 3 s in any case;
           it stays until ignition and plug are gone
"""

from __future__ import annotations

import numpy as np

from sim_bus.doors import STEPS, BoolArray, FloatArray, Orders, Readings
from sim_bus.ecus.balancing import Balancing
from sim_bus.ecus.guard import Guard
from sim_bus.ecus.limits import Charging, Climate, PowerLimits
from sim_bus.ecus.sensed import Sensed, sense
from sim_bus.ecus.soc import OwnSoc
from sim_bus.ecus.tables import CellLimits, nominal_v
from sim_bus.scenario.model import BatteryPlan, BmsPlan
from sim_bus.streams import Streams

INIT, STANDBY, PRECHARGE, DRIVE, CHARGE, FAULT = range(6)
LASTS_S = {INIT: 2, STANDBY: 1}
FOLLOWED = 0.95  # of the battery's voltage: then the main contactors close
APART_V = 0.03  # a cell: strings further apart are not joined
OPENS_S = 3  # after a fault
SMALL_C = 1 / 50
CYCLES_A_YEAR, HOURS_A_YEAR = 300.0, 4_500.0
CYCLE_DEPTH, EFFICIENCY = 0.8, 0.96
SOFTWARE = 412  # 4.12
SUPPLY_V = 26.4


class Bms:
    """Of `battery.strings` x `battery.cells` cells; `true_soc` is the pack's, from which its own errs by the plan."""

    def __init__(
        self, plan: BmsPlan, battery: BatteryPlan, cell: CellLimits, streams: Streams, true_soc: float
    ) -> None:
        self._strings, self._cells = battery.strings, battery.cells
        self._capacity_ah = battery.strings * cell.capacity_ah
        self._rated_wh = self._capacity_ah * battery.cells * nominal_v(cell)
        self._own = OwnSoc(true_soc + plan.soc_error, self._capacity_ah, cell)
        self._power, self._charging = PowerLimits(cell, self._rated_wh), Charging(cell, self._capacity_ah)
        self._guard, self._climate = Guard(cell), Climate()
        self._balancing = Balancing(cell, battery.strings, battery.cells)
        self._closed: BoolArray = np.zeros(battery.strings, np.bool_)
        self._serial = int(streams("ecus.pack serial").integers(1, (1 << 32) - 1))
        self._awake = False
        self.state, self._for_s = INIT, 0
        self._allowed = (0.0, 0.0)  # W, discharge and charge
        self._volts = float("nan")
        self._life = _life(battery, self._rated_wh, self._capacity_ah)

    @property
    def soc(self) -> float:
        """Its own, 0 to 1 of the cells' range."""
        return self._own.soc

    @property
    def displayed_pct(self) -> float:
        """What the driver sees."""
        return self._own.displayed_pct

    def restart(self) -> None:
        """A reset: it begins with Init, contactors open; state of charge and counters outlast it."""
        self._sleep()

    def second(self, t_s: float, readings: Readings | None, ignition: bool, plugged: bool) -> Orders:
        """What it orders for the second that begins at `t_s`, by the readings of the one before (None: none)."""
        if not (ignition or plugged):
            self._sleep()
            return self._orders(0.0, False)
        sensed = None if readings is None else sense(readings)
        if sensed is not None:
            self._believe(t_s, sensed)
        if sensed is None or not self._awake:
            self._awake = True
            return self._orders(0.0, False)
        apart = bool(self._closed.any()) and not self._closed.all()
        self._guard.second(sensed, apart=apart, precharging=self.state == PRECHARGE)
        self._step(sensed, plugged)
        return self._judge(sensed)

    def values(self) -> dict[str, FloatArray]:
        """What it alone knows, by the names of the databases, (STEPS,) each."""
        discharge, charge = (w / 1000 for w in self._allowed)
        amps = 1000 / self._volts
        closed = bool(self._closed.any())
        now: dict[str, float] = {
            "SoC": self.displayed_pct, "State": self.state, "ContactorsClosed": closed,
            "DischargePowerLimit": discharge, "ChargePowerLimit": charge,
            "DischargeCurrentLimit": discharge * amps, "ChargeCurrentLimit": charge * amps,
            "InsulationMeasured": self._awake, "PackSerial": self._serial, "SoftwareVersion": SOFTWARE,
            "HvessDischargePower": discharge, "HvessChargePower": charge,
            "HvessFastUpdateSoC": self.displayed_pct, "HvessIgnitionVoltage": SUPPLY_V, **self._life,
        }  # fmt: skip
        for s in range(self._strings):
            now[f"String{s + 1}_Contactor"] = float(self._closed[s])
            now[f"String{s + 1}_CellCount"] = self._cells
        rows = np.repeat(np.array(list(now.values()), np.float64)[:, None], STEPS, axis=1)
        return dict(zip(now, rows, strict=True))

    # What it believes

    def _believe(self, t_s: float, sensed: Sensed) -> None:
        amps, volts = sensed.pack_a, float(np.fmax.reduce(sensed.string_v))
        self._volts = volts
        self._own.count(t_s, 1.0, amps)
        self._own.rest(t_s, sensed.mean_v)
        self._own.under_load(1.0, sensed.lowest_v, float(sensed.string_a.max()), sensed.coldest_degc)
        if amps == amps and volts == volts:
            side = "Discharged" if amps > 0 else "Charged"
            self._life[f"Hvess{side}Energy"] += abs(amps) * volts / 3.6e6
            self._life[f"Hvess{side}Charge"] += abs(amps) / 3600
        self._life["HvessHoursInService"] += bool(self._closed.any()) / 3600

    # What it does

    def _go(self, state: int) -> None:
        self.state, self._for_s = state, 0

    def _sleep(self) -> None:
        if self._awake:
            self._awake = False
            self._go(INIT)
            self._guard.forget()
            self._charging.stop()
            self._balancing.stop()
            self._closed = np.zeros_like(self._closed)
            self._allowed = (0.0, 0.0)

    def _step(self, sensed: Sensed, plugged: bool) -> None:
        """The next state, and which contactors are closed."""
        self._for_s += 1
        if self._guard.fault:
            if self.state != FAULT:
                self._go(FAULT)
            if self._for_s >= OPENS_S or abs(sensed.pack_a) < SMALL_C * self._capacity_ah:
                self._closed = np.zeros_like(self._closed)
        elif self.state in LASTS_S:
            if self._for_s >= LASTS_S[self.state]:
                self._go(self.state + 1)
        elif self.state == PRECHARGE:
            if sensed.link_v >= FOLLOWED * float(np.fmax.reduce(sensed.string_v)):
                self._go(CHARGE if plugged else DRIVE)
                self._join(sensed, plugged)
        else:
            if self.state != (CHARGE if plugged else DRIVE):
                self._go(CHARGE if plugged else DRIVE)
                self._charging.stop()
            self._join(sensed, plugged)

    def _join(self, sensed: Sensed, plugged: bool) -> None:
        """Close the strings that are near the one that must work: the lowest for charging, else the highest."""
        volts = sensed.string_v
        if self._closed.any():
            reference = float(volts[self._closed].mean())
        else:
            reference = float((np.fmin if plugged else np.fmax).reduce(volts))
        self._closed = self._closed | (np.abs(volts - reference) <= APART_V * self._cells)

    def _judge(self, sensed: Sensed) -> Orders:
        """Limits, the charger's current, climate, balancing."""
        coldest, hottest = sensed.coldest_degc, sensed.hottest_degc
        charging = self.state == CHARGE
        self._climate.second(coldest, hottest)
        allowed = self._power.second(coldest, hottest, self.soc, sensed.lowest_v, sensed.highest_v, charging)
        share = float(self._closed.mean()) if self._closed.any() else 1.0
        self._allowed = (0.0, 0.0) if self.state == FAULT else (allowed[0] * share, allowed[1] * share)
        charge_a = 0.0
        if charging:
            charge_a = share * self._charging.second(
                coldest, hottest, sensed.highest_v, -sensed.pack_a, self.soc
            )
            if self._charging.just_full:
                self._own.full()
        if self.state == FAULT:
            self._balancing.stop()
        else:
            self._balancing.second(sensed)
        return self._orders(charge_a, self.state in (DRIVE, CHARGE))

    def _orders(self, charge_a: float, live: bool) -> Orders:
        discharge_w, charge_w = self._allowed if live else (0.0, 0.0)
        return Orders(
            state=self.state,
            contactors=self._closed.copy(),
            precharge=self.state == PRECHARGE,
            discharge_w=discharge_w,
            charge_w=charge_w,
            charge_a=charge_a,
            heat=live and self._climate.heat,
            cool=live and self._climate.cool,
            balancing=self._balancing.on.copy(),
            trouble=self._guard.active,
        )


def _life(battery: BatteryPlan, rated_wh: float, capacity_ah: float) -> dict[str, float]:
    """The life counters of a battery of that age."""
    cycles = CYCLES_A_YEAR * battery.age_years * CYCLE_DEPTH
    return {
        "HvessDischargedEnergy": cycles * rated_wh / 1000 * EFFICIENCY,
        "HvessChargedEnergy": cycles * rated_wh / 1000 / EFFICIENCY,
        "HvessDischargedCharge": cycles * capacity_ah,
        "HvessChargedCharge": cycles * capacity_ah,
        "HvessHoursInService": HOURS_A_YEAR * battery.age_years,
    }
