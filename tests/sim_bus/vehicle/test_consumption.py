"""The table of docs/simulator/vehicle.md, over several seeds: `pytest -m whole -s tests/sim_bus/vehicle`."""

import pytest

WARM_SHORT = {
    "heat_degc": (22.0, 24.0),
    "case_w_per_k": 100.0,
}  # a battery kept at 24 degC, in plain metal cases
ROWS = [
    # ambient, heating, hours, battery, kWh/km at least and at most
    (20.0, "electric", 8, {}, 0.9, 1.4),
    (17.0, "electric", 8, {}, 0.9, 1.4),
    (15.0, "electric", 8, {}, 0.9, 1.4),
    (-2.0, "electric", 8, {}, 1.25, 1.6),
    (-2.0, "electric", 4, WARM_SHORT, 1.4, 1.9),
    (-2.0, "fuel", 8, {}, 0.9, 1.2),
    (-10.0, "electric", 8, {}, 1.5, 2.4),
    (-10.0, "heat_pump", 8, {}, 1.4, 2.2),
    (-20.0, "electric", 8, {}, 1.8, 2.8),
    (-20.0, "fuel", 8, {}, 0.9, 1.5),
    (-30.0, "electric", 8, {}, 1.8, 3.0),
    (-30.0, "fuel", 8, {}, 0.9, 1.6),
    (35.0, "electric", 8, {}, 0.9, 1.6),
]


@pytest.mark.whole
@pytest.mark.parametrize(("ambient_degc", "heating", "hours", "battery", "low", "high"), ROWS)
def test_the_table_of_the_page(drive_day, ambient_degc, heating, hours, battery, low, high):
    for seed in (1, 2, 3):
        ride, reached = drive_day(ambient_degc, heating, hours, seed, **battery)
        end, energy = reached[-1], ride.vehicle.energy
        terms = {name: joule / 3.6e6 / end.km for name, joule in vars(energy).items()}
        print(
            f"\n{ambient_degc:5.0f} {heating:9} {hours} h seed {seed}: {end.km:5.1f} km {end.kwh / end.km:.2f} kWh/km"
            f" cabin {terms['cabin']:.2f} battery {terms['battery_heat']:.2f} brakes {terms['friction_brakes']:.2f}"
            f" rolling {terms['rolling']:.2f} air {terms['air']:.2f} drivetrain {terms['drivetrain']:.2f}"
            f" regen {end.regen_kwh / end.km:.2f} fuel {100 * end.fuel_l / end.km:.1f} l/100 km"
            f" in the cabin {ride.vehicle.cabin_degc:.0f} degC",
            end="",
        )
        assert low <= end.kwh / end.km <= high
