"""The bus: one step of everything outside the battery, and where the energy went.

Where the battery allows less than is wanted, they go without in this order: the cabin first, then the battery's heating or
cooling, then traction, the auxiliaries (steering, brakes, doors, light) last.
"""

from __future__ import annotations

from operator import attrgetter

from edge.errors import ScenarioError
from sim_bus.doors import EnergyJ, FaultEffects, Orders
from sim_bus.scenario.model import Entry, Scenario
from sim_bus.streams import Streams
from sim_bus.vehicle.cabin import FUEL_EFFICIENCY, FUEL_J_PER_L, HEATINGS, Cabin, sun_share
from sim_bus.vehicle.charger import CHARGING, KINDS, PLUGGED, UNPLUGGED, Charger
from sim_bus.vehicle.coolant import Coolant
from sim_bus.vehicle.driver import BRAKING, CLOSED, Driver
from sim_bus.vehicle.drivetrain import GEAR, IDLE_W, REDUCER, WHEEL_RADIUS_M, Drivetrain
from sim_bus.vehicle.road import GRAVITY, Road
from sim_bus.vehicle.route import Route
from sim_bus.vehicle.tables import lookup

DOING = ("off", "stand", "drive", "charge")
PASSENGER_KG = 68.0
ROTATING = 1.05  # turning parts' share of the inertia
CHARGING_AUX = 0.15  # of the auxiliaries run at the plug: control, fans, 24 V
STRANDED_S = 60.0  # a bus that cannot reach the next stop takes up the timetable where it stands
UNPLUG_S = 8.0  # before the layover ends

ROW = (
    "speed_ms", "acceleration", "odometer_m", "distance_m", "torque_nm", "torque_demand_nm", "motor_rad_s", "motor_w",
    "motor_degc", "inverter_degc", "drive_coolant_degc", "derated", "cabin_degc", "doors", "aux_w", "hvac_w", "heater_w",
    "charger_w", "charger_state", "passengers", "ambient_degc", "regen_w", "friction_w", "coolant_heat_w", "coolant_flow",
    "ignition", "plugged", "doing_number", "stop", "fuel_l",
)  # fmt: skip


class Vehicle:
    """One bus on one scenario's day. `step`, then read the fields (ROW names those that are recorded, `row` gives them).

    Raises
    ------
    ScenarioError
        An unknown heating, charger or doing, or a route that does not close.
    """

    def __init__(self, scenario: Scenario, streams: Streams) -> None:
        _check(scenario)
        self._plan = scenario
        self._ambient = tuple((hours * 3600, float(degc)) for hours, degc in scenario.weather.ambient_degc)
        ambient = lookup(self._ambient, 0.0)
        self._driver = Driver(Route(scenario.route, streams))
        self._road = Road(ambient, scenario.weather.wet)
        self._drive = Drivetrain(ambient)
        self._cabin = Cabin(scenario.bus, ambient)
        self._coolant = Coolant(scenario.battery.heater_kw, scenario.bus.heating == "fuel")
        self._charger = Charger()
        self.energy = EnergyJ()
        self.doing = scenario.timetable[0].do
        self._entry = -1
        self._second_at = 0.0  # when the slow things are due again
        self._last_second = 0.0
        self._open_steps = self._steps = 0
        self._hvac_given = self._hvac_wanted = 0.0
        self._stranded_s = 0.0
        self._mass_kg = scenario.bus.empty_kg
        self._aux_want_w = 0.0
        self.speed_ms = self.acceleration = self.distance_m = 0.0
        self.odometer_m = scenario.bus.odometer_km * 1000
        self.torque_nm = self.torque_demand_nm = self.motor_rad_s = self.motor_w = 0.0
        self.motor_degc = self.inverter_degc = self.drive_coolant_degc = ambient
        self.derated = 0
        self.cabin_degc = self._cabin.air_degc
        self.doors = CLOSED
        self.aux_w = self.hvac_w = self.heater_w = self.charger_w = 0.0
        self.charger_state = UNPLUGGED
        self.passengers = 0
        self.ambient_degc = ambient
        self.friction_w = self.regen_w = 0.0
        self.coolant_heat_w = self.coolant_flow = 0.0
        self.ignition = self.doing in ("drive", "stand")
        self.plugged = False
        self.doing_number = DOING.index(self.doing)
        self.stop = 0
        self.fuel_l = 0.0

    def step(self, dt_s: float, t_s: float, orders: Orders, voltage_v: float, effects: FaultEffects) -> float:
        """Advance by dt_s; the power in W asked at the battery's terminals, negative charges; 0 with open contactors."""
        if t_s >= self._second_at - 1e-6:
            self._second(t_s, orders, effects)
        closed = True in orders.contactors.tolist()
        aux = self._aux_want_w if closed else 0.0
        heater = self._coolant.want_w if closed else 0.0
        hvac = self._cabin.want_w if closed else 0.0
        charger = self._charger.step(dt_s, orders, closed, voltage_v, aux + heater + hvac)
        most = orders.discharge_w + charger if closed else 0.0
        aux = aux if aux < most else most
        back = orders.charge_w + aux + heater + hvac if closed else 0.0
        motor = self._move(dt_s, most - aux, back)
        left = most - aux - motor
        left = left if left > 0.0 else 0.0
        heater = heater if heater < left else left
        left -= heater
        self._hvac_wanted += hvac
        hvac = hvac if hvac < left else left
        self._hvac_given += hvac
        self._account(dt_s, aux, heater, hvac, charger)
        return aux + motor + heater + hvac - charger

    def row(self) -> tuple[float, ...]:
        """The fields of ROW now, as numbers."""
        return _ROW(self)

    @property
    def stop_name(self) -> str:
        """Of the last stop, or where the bus stands."""
        return f"Stop {self.stop}" if self.stop else "Terminus"

    @property
    def rounds(self) -> int:
        """Driven to their end."""
        return self._driver.rounds

    def _move(self, dt_s: float, most_w: float, back_w: float) -> float:
        """The road: how far and how fast by the driver's wish and the power that there is; the motors' power in W."""
        before, driver, road, drive = self.speed_ms, self._driver, self._road, self._drive
        wanted = self._wish(dt_s, before)
        self.derated = 0
        self.friction_w = self.torque_nm = self.torque_demand_nm = 0.0
        if before == 0.0 and wanted == 0.0:
            motor = self._still(most_w)
            self.energy.drivetrain += motor * dt_s
            return motor
        inertia, weight = self._mass_kg * ROTATING, self._mass_kg * GRAVITY
        middle = (before + wanted) / 2
        rolling, climb, air = weight * road.rolling, weight * driver.slope, road.air_n(middle)
        against = rolling + climb + air
        force = inertia * (wanted - before) / dt_s + against
        after, distance = wanted, middle * dt_s
        if force > 0.0:
            self.torque_demand_nm = force * (WHEEL_RADIUS_M / (GEAR * REDUCER))
            most = drive.most_n(middle, most_w)
            if force > most:
                force, self.derated = most, 1
                after, distance = _carried(before, force - against, inertia, dt_s)
            motor = drive.drive(force, distance / dt_s, dt_s) if force > 0.0 else drive.off()
        else:
            self.torque_demand_nm = force * (WHEEL_RADIUS_M * REDUCER / GEAR)
            motor = drive.brake(-force, middle, back_w, dt_s) if back_w > 0.0 else drive.off()
            if motor > most_w:
                motor = drive.off()
        self.torque_nm, self.motor_w = drive.torque_nm, motor
        self.regen_w = -motor if motor < 0.0 else 0.0
        energy = self.energy
        energy.kinetic += inertia * (after * after - before * before) / 2
        energy.height += climb * distance
        energy.rolling += rolling * distance
        energy.air += air * distance
        energy.drivetrain += motor * dt_s - drive.force_n * distance
        friction = (drive.force_n - force) * distance
        energy.friction_brakes += friction
        self.friction_w = friction / dt_s
        road.rolled(rolling * distance)
        self._arrive(dt_s, after, distance)
        return motor

    def _wish(self, dt_s: float, before: float) -> float:
        """The driver's, m/s; with the ignition gone there is only one: to stop."""
        if self.ignition and self.doing == "drive":
            return self._driver.wanted(dt_s, before)
        return max(before - BRAKING * dt_s, 0.0)

    def _still(self, most_w: float) -> float:
        """Standing: the inverters alone, where they wait for the driver."""
        self.acceleration = self.motor_rad_s = self.regen_w = 0.0
        self._drive.off()
        ready = self.ignition and self.doing == "drive" and not self._driver.layover and most_w >= IDLE_W
        self.motor_w = IDLE_W if ready else 0.0
        return self.motor_w

    def _arrive(self, dt_s: float, speed_ms: float, distance_m: float) -> None:
        """At the end of a step of the road."""
        self.acceleration = (speed_ms - self.speed_ms) / dt_s
        self.speed_ms = speed_ms
        self.motor_rad_s = speed_ms * (GEAR / WHEEL_RADIUS_M)
        self.distance_m += distance_m
        self.odometer_m += distance_m
        self._driver.moved(distance_m, self.acceleration)

    def _account(self, dt_s: float, aux: float, heater: float, hvac: float, charger: float) -> None:
        """What the consumers got, and where it went."""
        energy, coolant, driver = self.energy, self._coolant, self._driver
        energy.auxiliaries += aux * dt_s
        energy.battery_heat += heater * dt_s
        energy.cabin += hvac * dt_s
        energy.charger -= charger * dt_s
        self.aux_w, self.heater_w, self.hvac_w, self.charger_w = aux, heater, hvac, charger
        share = heater / coolant.want_w if coolant.want_w > 0.0 else 0.0
        self.coolant_heat_w = coolant.heat_w * share
        self.coolant_flow = coolant.flow if heater > 0.0 else 0.0
        self.doors = doors = driver.doors
        self.passengers, self.stop = driver.passengers, driver.stop
        self.charger_state = self._charger.state
        self.plugged = self.charger_state != UNPLUGGED
        self._steps += 1
        if doors != CLOSED:
            self._open_steps += 1

    def _second(self, t_s: float, orders: Orders, effects: FaultEffects) -> None:
        """What need not be done each step: timetable, weather, heat, tyres."""
        dt_s = t_s - self._last_second if self._steps else 0.0  # the first call only decides
        self._last_second, self._second_at = t_s, t_s + 1.0
        weather, driver = self._plan.weather, self._driver
        self.ambient_degc = ambient = lookup(self._ambient, t_s)
        self._follow(dt_s, t_s)
        own = self.doing in ("drive", "stand")
        self.ignition = own if effects.ignition is None else effects.ignition
        self._connect()
        heading = driver.place_m / driver.route.length_m
        self._road.second(dt_s, ambient, weather.pressure_kpa, weather.wind_ms, heading)
        self._drive.second(dt_s, ambient)
        self.motor_degc, self.inverter_degc = self._drive.motor_degc, self._drive.inverter_degc
        self.drive_coolant_degc = self._drive.coolant_degc
        closed = bool(orders.contactors.any())
        self._climate(dt_s, t_s, ambient, closed)
        charger = self._charger.state
        at_plug = charger in (PLUGGED, CHARGING)
        aux = 1.0 if self.ignition else CHARGING_AUX if at_plug else 0.0
        self._aux_want_w = aux * self._plan.bus.aux_kw * 1000
        awake = closed and (self.ignition or at_plug)
        self._coolant.decide(awake, orders.heat, orders.cool, ambient, effects)
        if self.speed_ms == 0.0:  # nobody boards a moving bus
            self._mass_kg = self._plan.bus.empty_kg + PASSENGER_KG * driver.passengers

    def _climate(self, dt_s: float, t_s: float, ambient: float, closed: bool) -> None:
        """The cabin's second, and the burner's fuel."""
        cabin, weather = self._cabin, self._plan.weather
        burnt = (cabin.fuel_heat_w + self._coolant.fuel_heat_w) * dt_s
        self.fuel_l += burnt / (FUEL_EFFICIENCY * FUEL_J_PER_L)
        sun = weather.sun_w_m2 * sun_share(self._plan.clock_s + t_s)
        open_share = self._open_steps / self._steps if self._steps else 0.0
        given = self._hvac_given / self._hvac_wanted if self._hvac_wanted > 0 else 0.0
        people = self._driver.passengers + (1 if self.ignition else 0)
        cabin.second(dt_s, ambient, sun, people, self.speed_ms, open_share, given, self.ignition and closed)
        self._open_steps = self._steps = 0
        self._hvac_given = self._hvac_wanted = 0.0
        self.cabin_degc = cabin.air_degc

    def _follow(self, dt_s: float, t_s: float) -> None:
        """The timetable: its next line begins when its time has come and the bus stands at a stop, or is stranded."""
        table, entry = self._plan.timetable, max(self._entry, 0)
        while entry + 1 < len(table) and table[entry + 1].at_s <= t_s:
            entry += 1
        if entry == self._entry:
            self._stranded_s = 0.0
            return
        self._stranded_s = self._stranded_s + dt_s if self.speed_ms == 0 else 0.0
        ready = self.doing != "drive" or (self._driver.waiting and self._driver.at_stop) or self._entry < 0
        if ready or self._stranded_s > STRANDED_S:
            self._begin(entry, table[entry])

    def _begin(self, number: int, entry: Entry) -> None:
        """A line of the timetable."""
        goes_on = self.doing == entry.do == "drive" and self._entry >= 0
        self._entry, self._stranded_s = number, 0.0
        self.doing, self.doing_number = entry.do, DOING.index(entry.do)
        if goes_on:
            return
        self._charger.unplug()
        if entry.do == "drive":
            self._driver.resume()
        else:
            self._driver.park()
        if entry.do == "charge":
            first = self._steps == 0  # the scenario finds the bus connected
            self._charger.plug(entry.charger, entry.charger_kw, connected=first)

    def _connect(self) -> None:
        """The charger of the layover."""
        kind = self._plan.route.layover_charger
        if kind is None or self.doing != "drive":
            return
        driver = self._driver
        here = driver.layover and driver.layover_left_s > UNPLUG_S
        if here and not self._charger.connected:
            self._charger.plug(kind)
        elif not here and self._charger.connected:
            self._charger.unplug()


_ROW = attrgetter(*ROW)


def _carried(before_ms: float, force_n: float, inertia_kg: float, dt_s: float) -> tuple[float, float]:
    """Speed after and distance of a step under a force; a bus that comes to a stand is held by its brakes."""
    after_ms = before_ms + force_n / inertia_kg * dt_s
    if after_ms < 0.0:
        return 0.0, before_ms * before_ms * inertia_kg / (-2 * force_n)
    return after_ms, (before_ms + after_ms) / 2 * dt_s


def _check(scenario: Scenario) -> None:
    """Words that the tables of this room do not know.

    Raises
    ------
    ScenarioError
        All of them.
    """
    route, bad = scenario.route, []
    if scenario.bus.heating not in HEATINGS:
        bad.append(f"bus: heating {scenario.bus.heating!r} is none of {', '.join(HEATINGS)}")
    if route.layover_charger is not None and route.layover_charger not in KINDS:
        bad.append(f"route: layover_charger {route.layover_charger!r} is none of {', '.join(KINDS)}")
    for entry in scenario.timetable:
        if entry.do not in DOING:
            bad.append(f"timetable at {entry.at_s:g} s: do {entry.do!r} is none of {', '.join(DOING)}")
        elif entry.do == "charge" and entry.charger not in KINDS:
            bad.append(
                f"timetable at {entry.at_s:g} s: charger {entry.charger!r} is none of {', '.join(KINDS)}"
            )
    times = [entry.at_s for entry in scenario.timetable]
    if not times or times != sorted(times):
        bad.append("timetable: wants at least one entry, in the order of time")
    if bad:
        raise ScenarioError(bad)
