"""What the rooms of the simulator say to each other.

Everything is computed in seconds of STEPS steps, live or not: so the same seed gives the same bytes at any speed.
Current is positive when the battery discharges; powers in W at the battery's terminals, positive out of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

STEP_S = 0.1
STEPS = 10  # in one second

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass
class Orders:
    """What the BMS allows and asks for, in force for its next second."""

    state: int  # BMS_PackStatus.State: 0 Init, 1 Standby, 2 Precharge, 3 Drive, 4 Charge, 5 Fault
    contactors: BoolArray  # (strings,) closed
    precharge: bool  # through the resistor, main contactors open
    discharge_w: float  # allowed at the terminals
    charge_w: float  # allowed at the terminals, braking included; positive
    charge_a: float  # asked of the charger; positive
    heat: bool  # of the battery's coolant
    cool: bool
    balancing: BoolArray  # (strings, cells) drained through their resistors
    trouble: tuple[tuple[int, int], ...] = ()  # (SPN, FMI) for DM1


@dataclass
class Readings:
    """What the sensors of the bus say during one second, step by step; NaN: not available.

    Scalars are arrays of STEPS, by the DBC's names, in the DBC's units and signs.
    """

    begin_us: int
    values: dict[str, FloatArray]
    string_a: FloatArray  # (STEPS, strings), positive on discharge
    cell_v: FloatArray  # (STEPS, strings, cells)
    cell_degc: FloatArray  # (STEPS, strings, sensors)
    balancing: BoolArray  # (strings, cells)
    awake: dict[str, bool]  # by DBC node: has supply
    trouble: tuple[tuple[int, int], ...] = ()  # (SPN, FMI) for DM1


@dataclass
class EnergyJ:
    """Where the vehicle's energy went since the beginning. Battery out = the sum of all."""

    kinetic: float = 0.0  # now in the motion
    height: float = 0.0
    rolling: float = 0.0
    air: float = 0.0
    friction_brakes: float = 0.0
    drivetrain: float = 0.0  # lost in motor, inverter, reducer
    cabin: float = 0.0  # heating and cooling of cabin and driver
    battery_heat: float = 0.0  # heating and cooling of the battery, pump included
    auxiliaries: float = 0.0
    charger: float = 0.0  # negative: it brings

    def total(self) -> float:
        """What the battery must have given."""
        return float(sum(vars(self).values()))


@dataclass
class FaultEffects:
    """What acts on the battery, the vehicle and the sensors now; the faults' room writes it, once a second."""

    short_ohm: FloatArray | None = None  # (strings, cells) across the cell; inf where there is none
    capacity_factor: FloatArray | None = None  # (strings, cells)
    resistance_factor: FloatArray | None = None  # (strings, cells)
    busbar_ohm: FloatArray | None = (
        None  # (strings, cells) in series, and inside that cell's measured voltage
    )
    extra_heat_w: FloatArray | None = None  # (strings, cells)
    coolant_flow: float = 1.0  # share of the pump's flow that comes through
    heater_failed: bool = False
    insulation_ohm: float | None = None  # None: healthy
    ignition: bool | None = None  # None: as the timetable says
    labels: tuple[str, ...] = field(default_factory=tuple)  # of the faults that act
