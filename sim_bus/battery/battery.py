"""The simulated battery: strings of cells behind contactors, their faults, heat and age.

What one cell does is in cells.py, what joins the strings in strings.py, heat in thermal.py, age in ageing.py. Here they
meet: in each step the strings' currents, in each second heat, faults and what the resistors drain, in every tenth age.
"""

from __future__ import annotations

import math

import numpy as np

from edge.errors import ScenarioError
from sim_bus.battery import _pack
from sim_bus.battery.ageing import Ageing
from sim_bus.battery.cell import load_cell
from sim_bus.battery.cells import Cells
from sim_bus.battery.strings import solve
from sim_bus.battery.thermal import Thermal
from sim_bus.doors import STEP_S, BoolArray, FaultEffects, FloatArray, Orders
from sim_bus.scenario.model import BatteryPlan
from sim_bus.streams import Streams

SECOND_S = 1.0 - 1e-6  # of added steps
AGEING_S = 10.0 - 1e-6
FACTOR_MIN = 0.01  # of capacity and resistance, by a fault
TEMP_SD_K = 0.2  # between cells, at the beginning
LEAKAGE_SHAPE = 4.0  # of a gamma distribution: a cell's leakage is half its mean or double it, never negative

LINK_F = 3e-3  # the inverters' DC link
PRECHARGE_OHM = 50.0  # 0.15 s, so 99 % in 0.7 s
BLEEDER_OHM = 15e3  # of the link alone: 45 s, so below 60 V after 100 s
# Inverter and charger let go where the mean cell would leave these, as shares of the cell's own limits.
LETS_GO = (0.8, 1.15)

INSULATION_OHM = 2e6
INSULATION_SD = 0.15  # of its logarithm: with the weather's humidity
INSULATION_TAU_S = 1800.0

ROW = (
    "voltage_v",
    "link_v",
    "power_w",
    "heat_w",
    "coolant_in_degc",
    "coolant_out_degc",
    "insulation_ohm",
)


class Battery:
    """`plan.strings` x `plan.cells` cells. Current positive on discharge; power at the terminals, positive out of it.

    string_a, string_v (strings,) and closed (strings,): currents, sums of cell_v, contactors; all of the last step.
    cell_v (strings, cells): what a perfect sensor reads; a loose busbar shows in its cell.
    voltage_v: of the closed strings, or the highest string where none is; link_v: of the inverter's DC link.
    power_w: given in the last step: sum over strings of string_v * string_a. heat_w: made in cells and busbars.
    insulation_ohm: of the whole high voltage side against the chassis.
    unsolved: steps in which the strings' voltages were not brought together (see strings.solve).
    """

    def __init__(
        self,
        plan: BatteryPlan,
        streams: Streams,
        ambient_degc: float,
        coolant_degc: float | None = None,
    ) -> None:
        """A battery at rest with open contactors; the coolant as warm as the cells where it is not given.

        Raises ScenarioError where the plan is impossible or names no cell.
        """
        _check(plan)
        self.plan = plan
        self.shape = (plan.strings, plan.cells)
        self.cell = load_cell(plan.cell)
        soc = np.clip(plan.soc + self._normal(streams, "soc", plan.soc_sd), 0.001, 0.999)
        temp = plan.temp_degc + self._normal(streams, "temperature", TEMP_SD_K)
        self._capacity_ah = self.cell.capacity_ah * np.maximum(
            1 + self._normal(streams, "capacity", plan.capacity_sd), 0.5
        )
        self._resistance = np.maximum(1 + self._normal(streams, "resistance", plan.resistance_sd), 0.5)
        gamma = streams("pack.leakage").gamma(LEAKAGE_SHAPE, 1 / LEAKAGE_SHAPE, self.shape)
        self._leak_a = plan.leakage_a * gamma
        self.ageing = Ageing(soc, self.cell.capacity_ah, plan.age_years)
        self.thermal = Thermal(
            temp,
            ambient_degc,
            plan.temp_degc if coolant_degc is None else coolant_degc,
            self.cell.heat_j_per_k,
        )
        self.cells = Cells(
            self.cell, self._present_ah(), self._resistance * (1 + self.ageing.gain), soc, temp
        )
        self._electric()
        self._faults()
        self._humid = streams("pack.insulation")
        self._humidity = float(self._humid.normal(0, INSULATION_SD))
        self.insulation_ohm = INSULATION_OHM * math.exp(self._humidity)

    def _normal(self, streams: Streams, what: str, sd: float) -> FloatArray:
        return streams(f"pack.{what}").normal(0, sd, self.shape)

    def _electric(self) -> None:
        strings, cells = self.shape
        self.string_a = np.zeros(strings)
        self.closed: BoolArray = np.zeros(strings, dtype=np.bool_)
        self.cell_v = self.cells.cell_v.copy()
        self.string_v = self.cell_v.sum(axis=1)
        self.voltage_v = float(self.string_v.max())
        self.link_v = self.power_w = self.heat_w = 0.0
        self.unsolved = 0
        self._limits_v = (
            LETS_GO[0] * self.cell.voltage_min_v * cells,
            LETS_GO[1] * self.cell.voltage_max_v * cells,
        )
        self._drain_a, self._bled_a = self._leak_a.copy(), np.zeros(self.shape)
        self._passed = np.zeros((strings, 3))
        self._elapsed_s = self._tank_j = self._flow_s = self._aged_s = 0.0
        self._dt_s = STEP_S

    def _faults(self) -> None:
        self._none = np.zeros(self.shape)
        self._short_s, self._bleed_s, self._busbar_ohm = self._none, self._none, self._none
        self._factored = self._aged = False
        self._extra_w: FloatArray | None = None
        self._drains = self._loose = False

    @property
    def soc(self) -> FloatArray:
        """(strings, cells), over the present capacity."""
        return self.cells.soc

    @property
    def capacity_ah(self) -> FloatArray:
        """(strings, cells), at present."""
        return self.cells.capacity_ah

    @property
    def resistance(self) -> FloatArray:
        """(strings, cells), over the mean new cell's."""
        return self.cells.resistance

    @property
    def temp_degc(self) -> FloatArray:
        """(strings, cells), of the cells' cores."""
        return self.thermal.core_degc

    @property
    def surface_degc(self) -> FloatArray:
        """(strings, cells), where the sensors sit."""
        return self.thermal.surface_degc

    @property
    def coolant_in_degc(self) -> float:
        """Of the coolant before the strings: what heater and cooler see."""
        return self.thermal.tank_degc

    @property
    def coolant_out_degc(self) -> float:
        """Of the coolant behind the strings, mixed."""
        return self.thermal.outlet_degc

    def step(
        self,
        dt_s: float,
        power_w: float,
        ambient_degc: float,
        coolant_heat_w: float,
        coolant_flow: float,
        orders: Orders,
        effects: FaultEffects,
    ) -> None:
        """Give power_w (negative: take) for dt_s, or as much of it as the closed strings can.

        coolant_heat_w: into the coolant, negative where it is cooled; coolant_flow: 0 (stagnant) to 1, of the pump.
        Faults, balancing, heat and temperatures act by the second: what `effects` says in the first step of it.
        Raises ScenarioError where power_w is not finite, or an array of orders or effects has not the battery's shape.
        """
        if not math.isfinite(power_w):
            raise ScenarioError(f"battery: {power_w} W is no power")
        if self._elapsed_s == 0.0:
            self._begin_second(orders, effects)
        if dt_s != self._dt_s:
            self._dt_s = dt_s
            self.cells.kernel.step_s(dt_s)
        if self._drains:
            _pack.drains(
                self.cells.cell_v, self._leak_a, self._short_s, self._bleed_s, self._bled_a, self._drain_a
            )
        self._flow(dt_s, power_w, orders)
        self._tank_j += coolant_heat_w * dt_s
        self._flow_s += min(max(coolant_flow * effects.coolant_flow, 0.0), 1.0) * dt_s
        self._elapsed_s += dt_s
        if self._elapsed_s >= SECOND_S:
            self._end_second(ambient_degc)

    def row(self) -> tuple[float, ...]:
        """The battery's figures as ROW names them."""
        return (
            self.voltage_v,
            self.link_v,
            self.power_w,
            self.heat_w,
            self.coolant_in_degc,
            self.coolant_out_degc,
            self.insulation_ohm,
        )

    def string_soc(self) -> tuple[FloatArray, FloatArray]:
        """(strings,) each: charge that its weakest cell allows, and its usable capacity, in Ah."""
        left = (self.soc * self.capacity_ah).min(axis=1)
        room = ((1 - self.soc) * self.capacity_ah).min(axis=1)
        return left, left + room

    def pack_soc(self) -> float:
        """The pack's true state of charge, by its weakest cells."""
        left, capacity = self.string_soc()
        return float(left.sum() / capacity.sum())

    def soh(self) -> FloatArray:
        """(strings, cells): present over rated capacity."""
        return self.capacity_ah / self.cell.capacity_ah

    def _flow(self, dt_s: float, power_w: float, orders: Orders) -> None:
        """One step of currents, voltages and the link."""
        contactors = orders.contactors.tolist()
        closed = [s for s, is_closed in enumerate(contactors) if is_closed]
        if contactors != self.closed.tolist():
            self.closed = orders.contactors.copy()
            self.string_a[~self.closed] = 0.0
        if closed:
            self.unsolved += not solve(
                self._terminal, self.string_a, closed, power_w, self._limits_v, self.cell.capacity_ah
            )
        else:
            self._link(dt_s, orders.precharge)
        self.cells.advance(dt_s, self.string_a, self._drain_a)
        _pack.book(
            dt_s,
            self.string_a,
            self.cells.cell_v,
            self.cells.heat_w,
            self._drain_a,
            self._bled_a,
            self._busbar_ohm,
            self.cell_v,
            self.string_v,
            self.thermal.core_j,
            self.thermal.surface_j,
            self.thermal.case_j,
            self._passed,
        )
        volts = self.string_v.tolist()
        self.power_w = sum(v * i for v, i in zip(volts, self.string_a.tolist(), strict=True))
        if closed:
            self.voltage_v = sum(volts[s] for s in closed) / len(closed)
            self.link_v = self.voltage_v
        else:
            self.voltage_v = max(volts)

    def _terminal(self, current_a: FloatArray) -> tuple[FloatArray, FloatArray]:
        return self.cells.terminal(current_a, self._busbar_ohm if self._loose else None, self._drain_a)

    def _link(self, dt_s: float, precharge: bool) -> None:
        """With open contactors: the link charges through the resistor from the highest string, or bleeds."""
        self.string_a.fill(0.0)
        if not precharge:
            self.link_v *= math.exp(-dt_s / (BLEEDER_OHM * LINK_F))
            return
        string = int(self.string_v.argmax())
        gap_v = float(self.string_v[string]) - self.link_v
        gained_v = gap_v * -math.expm1(-dt_s / (PRECHARGE_OHM * LINK_F))
        self.link_v += gained_v
        self.string_a[string] = gained_v * LINK_F / dt_s

    def _begin_second(self, orders: Orders, effects: FaultEffects) -> None:
        """Take in faults and balancing; bring the cells' parameters to their temperature and age."""
        self._check_second(orders, effects)
        short, busbar, extra = effects.short_ohm, effects.busbar_ohm, effects.extra_heat_w
        self._short_s = self._none if short is None else 1 / np.ascontiguousarray(short, np.float64)
        self._loose = busbar is not None
        self._busbar_ohm = self._none if busbar is None else np.ascontiguousarray(busbar, np.float64)
        self._extra_w = extra
        balances = bool(orders.balancing.any()) and self.plan.balancing_a > 0
        bleed_ohm = self.cell.voltage_max_v / max(self.plan.balancing_a, 1e-9)
        self._bleed_s = orders.balancing / bleed_ohm if balances else self._none
        self._drains = balances or short is not None
        if not self._drains:
            self._bled_a, self._drain_a = self._none, self._leak_a
        elif self._bled_a is self._none:
            self._bled_a, self._drain_a = np.zeros(self.shape), self._leak_a.copy()
        self._season(effects.capacity_factor, effects.resistance_factor)
        self._breathe(effects.insulation_ohm)

    def _check_second(self, orders: Orders, effects: FaultEffects) -> None:
        arrays = {
            "short_ohm": effects.short_ohm,
            "busbar_ohm": effects.busbar_ohm,
            "extra_heat_w": effects.extra_heat_w,
            "capacity_factor": effects.capacity_factor,
            "resistance_factor": effects.resistance_factor,
            "balancing": orders.balancing,
        }
        for name, array in arrays.items():
            if array is not None and array.shape != self.shape:
                raise ScenarioError(f"battery: {name} must be {self.shape}, not {array.shape}")
        if orders.contactors.shape != self.shape[:1]:
            raise ScenarioError(
                f"battery: contactors must be {self.shape[:1]}, not {orders.contactors.shape}"
            )

    def _present_ah(self) -> FloatArray:
        return self._capacity_ah * (1 - self.ageing.loss)

    def _season(self, weaker: FloatArray | None, worse: FloatArray | None) -> None:
        """The cells' capacities, resistances and temperatures, as age and faults have them."""
        factored = weaker is not None or worse is not None
        if self._aged or factored or self._factored:
            capacity, resistance = self._present_ah(), self._resistance * (1 + self.ageing.gain)
            self.cells.capacity_ah[:] = (
                capacity if weaker is None else capacity * np.maximum(weaker, FACTOR_MIN)
            )
            self.cells.resistance[:] = (
                resistance if worse is None else resistance * np.maximum(worse, FACTOR_MIN)
            )
        self._aged, self._factored = False, factored
        self.cells.prepare(self.thermal.core_degc)

    def _breathe(self, fault_ohm: float | None) -> None:
        """The insulation, with the humidity: an Ornstein-Uhlenbeck process of its logarithm."""
        stays = math.exp(-1.0 / INSULATION_TAU_S)
        noise = float(self._humid.standard_normal())
        self._humidity = stays * self._humidity + INSULATION_SD * math.sqrt(1 - stays * stays) * noise
        self.insulation_ohm = (
            INSULATION_OHM * math.exp(self._humidity) if fault_ohm is None else float(fault_ohm)
        )

    def _end_second(self, ambient_degc: float) -> None:
        """Spread the second's heat; every AGEING_S let the cells grow older."""
        seconds = self._elapsed_s
        thermal = self.thermal
        if self._extra_w is not None:
            thermal.core_j += self._extra_w * seconds
        self.heat_w = float(thermal.core_j.sum() + thermal.surface_j.sum()) / seconds
        thermal.step(seconds, ambient_degc, self._tank_j / seconds, self._flow_s / seconds)
        self._elapsed_s = self._tank_j = self._flow_s = 0.0
        self._aged_s += seconds
        if self._aged_s >= AGEING_S:
            self._age()

    def _age(self) -> None:
        out_as, in_as, squares = self._passed.T[:, :, None]
        moved = np.maximum(out_as + in_as, 1e-9)
        self.ageing.step(
            self._aged_s,
            self.soc,
            self.temp_degc,
            out_as / 3600,
            in_as / 3600,
            squares / moved / self.cell.capacity_ah,
            self.plan.ageing_factor,
        )
        self._passed.fill(0.0)
        self._aged_s = 0.0
        self._aged = True


def _check(plan: BatteryPlan) -> None:
    numbers = (
        ("soc", 0.0, 1.0),
        ("temp_degc", -100.0, 150.0),
        ("capacity_sd", 0.0, 0.3),
        ("resistance_sd", 0.0, 1.0),
        ("soc_sd", 0.0, 1.0),
        ("leakage_a", 0.0, 100.0),
        ("age_years", 0.0, 100.0),
        ("ageing_factor", 0.0, 1e9),
        ("balancing_a", 0.0, 100.0),
    )
    wrong = [
        f"battery: {name} must be from {low:g} to {high:g}, not {getattr(plan, name)}"
        for name, low, high in numbers
        if not low <= getattr(plan, name) <= high
    ]
    wrong += [f"battery: {n} must be 1 or more" for n in ("strings", "cells") if getattr(plan, n) < 1]
    if wrong:
        raise ScenarioError(wrong)
