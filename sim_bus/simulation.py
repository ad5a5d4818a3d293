"""A bus that lives a scenario, second by second: faults, BMS, physics, sensors, ECUs, wires, and the truth beside them.

    faults → effects        bms(last second's readings) → orders
    10 steps:  vehicle(orders) → power → battery
    the second's truth → sensors → readings → ecus → frames → faults of the wires

Everything is computed a whole second at a time, so the same seed gives the same bytes at any speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from sim_bus.battery.battery import Battery
from sim_bus.doors import STEP_S, STEPS, FaultEffects, FloatArray, Orders, Readings
from sim_bus.ecus.bms import Bms
from sim_bus.ecus.ecus import Ecus
from sim_bus.faults.schedule import Act, Faults
from sim_bus.faults.sensors import SensorFaults
from sim_bus.faults.wire import WireFaults
from sim_bus.run import Second, truth_columns
from sim_bus.scenario.model import Scenario
from sim_bus.sensors import BatterySensors, Block
from sim_bus.streams import Streams
from sim_bus.vehicle.vehicle import ROW, Vehicle
