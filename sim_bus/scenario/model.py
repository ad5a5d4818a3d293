"""What a scenario says, checked. The TOML has the same tables and keys; `loading.py` reads it.

Times inside are seconds from the scenario's beginning; temperatures degC; states of charge 0 to 1. Every field with a
default may be left out of the TOML.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Table = tuple[tuple[float, float], ...]  # (x, y), x rising; y runs straight between them and stays beyond the ends


@dataclass(frozen=True)
class Weather:
    """`ambient_degc` over hours since the beginning; one number in the TOML is a table of one row."""

    ambient_degc: Table
    wind_ms: float = 2.0
    wet: float = 0.0  # 0 a dry road, 1 standing water: rolls heavier
    sun_w_m2: float = 0.0  # on the roof and windows, at noon of the timetable's clock
    pressure_kpa: float = 93.0


@dataclass(frozen=True)
class BusPlan:
    """The vehicle."""

    empty_kg: float = 13_500.0
    length_m: float = 12.0
    heating: str = "electric"  # electric, heat_pump or fuel: what warms the cabin below the heat pump's range
    cabin_degc: float = 18.0  # heated to
    cooled_degc: float = 24.0  # cooled to
    first_cabin_degc: float | None = None  # None: as outside
    aux_kw: float = 3.0
    odometer_km: float = 84_211.0


@dataclass(frozen=True)
class RoutePlan:
    """One round; driven again and again while the timetable says drive."""

    length_km: float = 14.0
    stop_distance_m: float = 380.0
    top_speed_kmh: float = 45.0
    dwell_s: float = 18.0
    passengers: float = 30.0  # the mean over the round; they come and go at the stops
    traffic: float = 0.3  # 0 an empty road to 1 a rush hour: stops and slow stretches between the bus stops
    profile: Table = ((0.0, 0.0),)  # km, m of height
    layover_s: float = 300.0  # at the end of a round
    layover_charger: str | None = None  # a charger's kind, used in the layover


@dataclass(frozen=True)
class BatteryPlan:
    """The battery at the beginning."""

    soc: float
    temp_degc: float
    cell: str = "lfp_280"  # of sim_bus/battery/cells, or a path to a .toml
    strings: int = 2
    cells: int = 176  # in series, of each string
    capacity_sd: float = 0.006  # between cells, of their capacity
    resistance_sd: float = 0.03
    soc_sd: float = 0.004
    leakage_a: float = 0.002  # mean over the cells; each has its own
    age_years: float = 0.5  # aged at 25 degC and 300 cycles a year before the beginning
    ageing_factor: float = 1.0  # each second ages it by so many
    heater_kw: float = 7.0
    balancing_a: float = 0.2


@dataclass(frozen=True)
class BmsPlan:
    """What the BMS believes and how well it measures."""

    soc_error: float = 0.04  # at the beginning, of the pack
    current_bias_a: float = 0.8  # of the pack's sensors together
    current_gain: float = 1.0
    current_noise_a: float = 0.15  # a string's sensor, 1 sigma of a sample
    voltage_noise_v: float = 0.0015  # a cell's
    temp_noise_degc: float = 0.2


@dataclass(frozen=True)
class CanPlan:
    """The wires."""

    folder: str | None = None  # of bms.dbc, inverter.dbc, vehicle.dbc; None: ours
    jitter_ms: float = 0.3  # 1 sigma of a frame's time


@dataclass(frozen=True)
class Entry:
    """One line of the timetable, in force until the next: off, stand, drive or charge."""

    at_s: float
    do: str
    charger: str = "depot_dc"  # where do is charge: a kind of sim_bus/vehicle/charger.py
    charger_kw: float | None = None  # None: the kind's own


@dataclass(frozen=True)
class FaultPlan:
    """One fault, when and how: a row of the catalogue in sim_bus/faults/catalogue.py.

    It begins at `at_s`; where `every_s` is given it comes again, on average that often (a Poisson process); each time
    with `probability`. It lasts `for_s`, or to the end.
    """

    kind: str
    at_s: float = 0.0
    for_s: float | None = None
    every_s: float | None = None
    probability: float = 1.0
    parameters: dict[str, float | str | list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """A day of one bus."""

    about: str
    weather: Weather
    battery: BatteryPlan
    timetable: tuple[Entry, ...] = (Entry(0.0, "drive"),)
    bus: BusPlan = BusPlan()
    route: RoutePlan = RoutePlan()
    bms: BmsPlan = BmsPlan()
    can: CanPlan = CanPlan()
    faults: tuple[FaultPlan, ...] = ()
    clock_s: float = 0.0  # of the day at the beginning: 05:40 is 20 400
    duration_s: float = 28_800.0  # of the whole scenario, where nobody says otherwise
