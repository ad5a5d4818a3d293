"""The bus as a vehicle: its road, driver, drivetrain, cabin, chargers and timetable.

| to change | edit |
|---|---|
| stops, hills, lights, passengers | `route.py` |
| how the bus is driven, doors, layover | `driver.py` |
| losses and limits of motor, inverter, reducer | `drivetrain.py` |
| resistance of road and air | `road.py` |
| heat of the cabin, heat pump, resistance, fuel heater | `cabin.py` |
| heat of the battery's coolant | `coolant.py` |
| kinds of chargers | `charger.py` |
| who goes without when power is short, energy sums | `vehicle.py` |
"""

from sim_bus.vehicle.vehicle import DOING, ROW, Vehicle

__all__ = ["DOING", "ROW", "Vehicle"]
