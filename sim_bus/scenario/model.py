"""What a scenario says, checked. The TOML has the same tables and keys; `loading.py` reads it.

Times inside are seconds from the scenario's beginning; temperatures degC; states of charge 0 to 1. Every field with a
default may be left out of the TOML. The `Key` of a field is all that there is to know about it: reading, messages and
docs/simulator/scenarios.md come from it. A field without one is no key of the TOML: reading works it out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

Table = tuple[
    tuple[float, float], ...
]  # (x, y), x rising; y runs straight between them and stays beyond the ends

CHARGERS = ("depot_ac", "depot_dc", "pantograph")


@dataclass(frozen=True)
class Key:
    """A key of the TOML: what it means, in which unit, from where to where (both ends are allowed)."""

    about: str
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()  # of a text; none: any
    x: Key | None = None  # of a Table: its first column
    toml: str | None = None  # its name in the TOML, where the field has another
    path: bool = False  # may be a path, from the file that says it


_HOURS = Key("hours since the beginning", "h", 0, 100_000)
_DEGC = (-60.0, 65.0)


@dataclass(frozen=True)
class Weather:
    """`ambient_degc` over hours since the beginning; one number in the TOML is a table of one row."""

    ambient_degc: Annotated[Table, Key("air temperature, over hours", "degC", *_DEGC, x=_HOURS)]
    wind_ms: Annotated[float, Key("wind: cools the cabin and brakes the bus", "m/s", 0, 40)] = 2.0
    wet: Annotated[float, Key("0 a dry road, 1 standing water: rolls heavier", "", 0, 1)] = 0.0
    sun_w_m2: Annotated[
        float, Key("on roof and windows at noon of the timetable's clock", "W/m²", 0, 1400)
    ] = 0.0
    pressure_kpa: Annotated[float, Key("air pressure; Almaty lies 800 m high", "kPa", 50, 110)] = 93.0


@dataclass(frozen=True)
class BusPlan:
    """The vehicle."""

    empty_kg: Annotated[float, Key("mass without passengers", "kg", 3_000, 30_000)] = 13_500.0
    length_m: Annotated[float, Key("length: sizes the cabin and its windows", "m", 6, 25)] = 12.0
    heating: Annotated[
        str,
        Key(
            "electric: a heat pump while it is mild, resistance below; heat_pump: one for far below zero; fuel: a diesel burner in the cold",
            choices=("electric", "heat_pump", "fuel"),
        ),
    ] = "electric"
    cabin_degc: Annotated[float, Key("heated to", "degC", 0, 30)] = 18.0
    cooled_degc: Annotated[float, Key("cooled to; not below cabin_degc", "degC", 10, 40)] = 24.0
    first_cabin_degc: Annotated[
        float | None, Key("cabin at the beginning; left out: as outside", "degC", *_DEGC)
    ] = None
    aux_kw: Annotated[float, Key("lights, compressor, steering, electronics", "kW", 0, 50)] = 3.0
    odometer_km: Annotated[float, Key("at the beginning", "km", 0, 5_000_000)] = 84_211.0


@dataclass(frozen=True)
class RoutePlan:
    """One round; driven again and again while the timetable says drive."""

    length_km: Annotated[float, Key("of a round", "km", 0.2, 500)] = 14.0
    stop_distance_m: Annotated[float, Key("between stops, on average", "m", 50, 20_000)] = 380.0
    top_speed_kmh: Annotated[float, Key("that the driver goes", "km/h", 5, 100)] = 45.0
    dwell_s: Annotated[float, Key("at a stop, on average", "s", 0, 3600)] = 18.0
    passengers: Annotated[float, Key("mean over the round; they come and go at the stops", "", 0, 200)] = 30.0
    traffic: Annotated[
        float, Key("0 an empty road, 1 a rush hour: stops and slow stretches between the bus stops", "", 0, 1)
    ] = 0.3
    profile: Annotated[
        Table,
        Key(
            "height over the round's km; ends as high as it begins", "m", -500, 6000, x=Key("", "km", 0, 500)
        ),
    ] = ((0.0, 0.0),)
    layover_s: Annotated[float, Key("pause at the end of a round", "s", 0, 36_000)] = 300.0
    layover_charger: Annotated[
        str | None, Key("charges in the layover; left out: none does", choices=CHARGERS)
    ] = None


@dataclass(frozen=True)
class BatteryPlan:
    """The battery at the beginning."""

    soc: Annotated[float, Key("mean state of charge at the beginning", "", 0, 1)]
    temp_degc: Annotated[float, Key("of all of it at the beginning: what the night left", "degC", *_DEGC)]
    cell: Annotated[str, Key("of `sim_bus/battery/cells`, or a path to a .toml", path=True)] = "lfp_280"
    strings: Annotated[int, Key("in parallel", "", 1, 16)] = 2
    cells: Annotated[int, Key("in series, of each string", "", 1, 1000)] = 176
    capacity_sd: Annotated[float, Key("spread between cells, of their capacity: 1 sigma", "", 0, 0.1)] = 0.006
    resistance_sd: Annotated[float, Key("of their resistance", "", 0, 0.3)] = 0.03
    soc_sd: Annotated[float, Key("of their state of charge at the beginning", "", 0, 0.1)] = 0.004
    leakage_a: Annotated[float, Key("self-discharge, mean over the cells; each has its own", "A", 0, 1)] = (
        0.002
    )
    age_years: Annotated[
        float, Key("aged at 25 degC and 300 cycles a year before the beginning", "years", 0, 30)
    ] = 0.5
    ageing_factor: Annotated[float, Key("each second ages it by so many", "", 0, 100_000)] = 1.0
    heater_kw: Annotated[float, Key("of the battery's coolant heater", "kW", 0, 50)] = 7.0
    balancing_a: Annotated[float, Key("through a cell's balancing resistor", "A", 0, 5)] = 0.2


@dataclass(frozen=True)
class BmsPlan:
    """What the BMS believes and how well it measures."""

    soc_error: Annotated[float, Key("its error at the beginning, of the pack", "", -0.5, 0.5)] = 0.04
    current_bias_a: Annotated[float, Key("of the pack's current sensors together", "A", -50, 50)] = 0.8
    current_gain: Annotated[float, Key("of the current sensors: 1 is right", "", 0.5, 1.5)] = 1.0
    current_noise_a: Annotated[float, Key("a string's current sensor, 1 sigma of a sample", "A", 0, 50)] = (
        0.15
    )
    voltage_noise_v: Annotated[float, Key("a cell's, 1 sigma", "V", 0, 0.1)] = 0.0015
    temp_noise_degc: Annotated[float, Key("a temperature sensor's, 1 sigma", "K", 0, 10)] = 0.2


@dataclass(frozen=True)
class CanPlan:
    """The wires."""

    folder: Annotated[str | None, Key("of bms.dbc, inverter.dbc, vehicle.dbc; left out: ours", path=True)] = (
        None
    )
    jitter_ms: Annotated[float, Key("1 sigma of a frame's time", "ms", 0, 50)] = 0.3


@dataclass(frozen=True)
class Entry:
    """One line of the timetable, in force until the next: off, stand, drive or charge."""

    at_s: Annotated[float, Key('clock time "HH:MM" or "HH:MM:SS"; the first is the beginning', toml="at")]
    do: Annotated[
        str,
        Key(
            "ignition off; on and standing; in service; plugged in",
            choices=("off", "stand", "drive", "charge"),
        ),
    ]
    charger: Annotated[str, Key("where do is charge: its kind", choices=CHARGERS)] = "depot_dc"
    charger_kw: Annotated[
        float | None, Key("where do is charge: its power; left out: the kind's own", "kW", 0, 600)
    ] = None


@dataclass(frozen=True)
class FaultPlan:
    """One fault, when and how: a row of the catalogue in sim_bus/faults/catalogue.py.

    It begins at `at_s`; where `every_s` is given it comes again, on average that often (a Poisson process); each time
    with `probability`. It lasts `for_s`, or to the end. In the TOML its parameters stand beside these keys.
    """

    kind: Annotated[str, Key("of the catalogue")]
    at_s: Annotated[float, Key("begins so long after the beginning", "s", 0, 1e9)] = 0.0
    for_s: Annotated[float | None, Key("lasts so long; left out: to the end", "s", 0, 1e9)] = None
    every_s: Annotated[
        float | None, Key("comes again, on average so often; left out: comes once", "s", 0.1, 1e9)
    ] = None
    probability: Annotated[float, Key("with which it comes, each time", "", 0, 1)] = 1.0
    parameters: dict[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """A day of one bus."""

    about: Annotated[str, Key("what this scenario is for, in a line")]
    weather: Weather
    battery: BatteryPlan
    timetable: tuple[Entry, ...] = (Entry(0.0, "drive"),)
    bus: BusPlan = BusPlan()
    route: RoutePlan = RoutePlan()
    bms: BmsPlan = BmsPlan()
    can: CanPlan = CanPlan()
    faults: tuple[FaultPlan, ...] = ()
    clock_s: float = 0.0  # of the day at the beginning: 05:40 is 20 400
    duration_s: Annotated[float, Key("of the whole scenario, where nobody says otherwise", "s", 1, 1e9)] = (
        28_800.0
    )
