"""What the simulator knows a value for, by the names of the DBCs, and how long a node measures before it has one.

`SCALARS`: bus -> name -> seconds after the node's start in which it says "not available". Patterns stand for the
cells, sensors and strings, whose number is the scenario's.
"""

from __future__ import annotations

import re

NODES = ("BMS", "INV", "VCU", "Body")  # senders, as `Readings.awake` names them
PROTECTION = ("AliveCounter", "Checksum")

# What the BMS alone knows: `Bms.values()`
BMS_VALUES = {
    "SoC": 0.8, "State": 0.0, "ContactorsClosed": 0.0, "DischargePowerLimit": 1.0, "ChargePowerLimit": 1.0,
    "DischargeCurrentLimit": 1.0, "ChargeCurrentLimit": 1.0, "InsulationMeasured": 8.0, "PackSerial": 0.0,
    "SoftwareVersion": 0.0, "HvessDischargePower": 1.0, "HvessChargePower": 1.0, "HvessFastUpdateSoC": 0.8,
    "HvessIgnitionVoltage": 0.2, "HvessDischargedEnergy": 0.0, "HvessChargedEnergy": 0.0,
    "HvessDischargedCharge": 0.0, "HvessChargedCharge": 0.0, "HvessHoursInService": 0.0,
}  # fmt: skip
BMS_STRING_VALUES = {"Contactor": 0.0, "CellCount": 0.0}
# What the BMS works out of its cells and currents: `derived()`
DERIVED = {
    "PackVoltage": 0.3, "PackCurrent": 0.3, "MinCellVoltage": 0.5, "MinCellNumber": 0.5, "MaxCellVoltage": 0.5,
    "MaxCellNumber": 0.5, "MinCellTemp": 1.0, "MaxCellTemp": 1.0, "HvessVoltageLevel": 0.3,
    "HvessCurrentLevel": 0.3, "HvessHighestCellVoltage": 0.5, "HvessLowestCellVoltage": 0.5,
    "HvessHighestCellTemp": 1.0, "HvessLowestCellTemp": 1.0, "HvessAverageCellTemp": 1.0, "HvessBusVoltage": 0.3,
}  # fmt: skip
DERIVED_OF_STRINGS = {"Voltage": 0.3, "Current": 0.3}
# What the sensors say
BMS_SENSORS = {"InsulationResistance": 8.0, "HvessCoolantInletTemp": 0.5, "HvessCoolantOutletTemp": 0.5}
INVERTER = {
    "MotorTorque": 0.1, "TorqueDemand": 0.1, "MotorSpeed": 0.1, "DcVoltage": 0.2, "DcCurrent": 0.2,
    "MotorTemp": 0.5, "InverterTemp": 0.5, "CoolantTemp": 0.5, "FaultCode": 0.0, "DeratingActive": 0.0,
    "InverterState": 0.0,
}  # fmt: skip
VEHICLE = {
    "WheelBasedVehicleSpeed": 0.3, "TotalVehicleDistance": 0.3, "TripDistance": 0.3, "BarometricPressure": 1.0,
    "CabInteriorTemp": 2.0, "AmbientAirTemp": 2.0, "PositionOfDoors": 0.3, "AuxPower": 0.5, "HvacPower": 0.5,
    "BatteryHeaterPower": 0.5, "ChargerState": 0.3, "ChargerVoltage": 0.3, "ChargerCurrent": 0.3,
}  # fmt: skip
SCALARS = BMS_VALUES | DERIVED | BMS_SENSORS | INVERTER | VEHICLE
OF_STRINGS = BMS_STRING_VALUES | DERIVED_OF_STRINGS

CELL = re.compile(r"String([1-9]\d*)_Cell(\d+)_(Voltage|Balancing)")
SENSOR = re.compile(r"String([1-9]\d*)_Temp(\d+)")
STRING = re.compile(r"String([1-9]\d*)_(\w+)")
CELL_DELAY_S = {"Voltage": 0.5, "Balancing": 0.0}
SENSOR_DELAY_S = 1.0


def needed(strings: int = 2) -> set[str]:
    """What `Readings.values` must hold: from the sensors and from `Bms.values()`, but not what `derived` gives."""
    whole = set(BMS_VALUES) | set(BMS_SENSORS) | set(INVERTER) | set(VEHICLE)
    return whole | {f"String{s + 1}_{name}" for s in range(strings) for name in BMS_STRING_VALUES}


def scalars(strings: int) -> dict[str, float]:
    """Every scalar of a bus of so many strings, with the seconds before it has a value."""
    own = {f"String{s + 1}_{n}": delay for s in range(strings) for n, delay in OF_STRINGS.items()}
    return SCALARS | own


def home(name: str) -> str:
    """The database that a name belongs to."""
    if name in INVERTER:
        return "inverter"
    return "vehicle" if name in VEHICLE or name.startswith("Hvess") else "bms"
