"""The joined simulation: the same bytes for the same seed, energy that adds up, and frames that say what is true."""

from __future__ import annotations

import dataclasses
import itertools
from importlib import resources
from typing import Any

import cantools
import numpy as np
import pytest

from edge.errors import ScenarioError
from sim_bus.doors import STEPS, FloatArray
from sim_bus.ecus import CHANNELS
from sim_bus.run import Second
from sim_bus.scenario import load_scenario
from sim_bus.scenario.model import BmsPlan, Scenario
from sim_bus.simulation import ENERGIES, Simulation

SEED = 20_265
EXACT = BmsPlan(
    soc_error=0.0, current_bias_a=0.0, current_noise_a=0.0, voltage_noise_v=0.0, temp_noise_degc=0.0
)


def live(scenario: Scenario, seconds: int, seed: int = SEED) -> tuple[Simulation, list[Second]]:
    print("seed", seed)
    simulation = Simulation(scenario, seed)
    return simulation, list(itertools.islice(simulation.seconds(), seconds))


def truth_of(simulation: Simulation, seconds: list[Second]) -> dict[str, FloatArray]:
    """Each column, a row a step."""
    rows = np.concatenate([second.truth for second in seconds])
    return dict(zip(simulation.columns, rows.T, strict=True))


@pytest.mark.parametrize("name", ["winter_day", "night_charge", "everything_at_once"])
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(name: str) -> None:
    scenario = load_scenario(name)
    first, again, other = (live(scenario, 90, seed)[1] for seed in (SEED, SEED, SEED + 1))
    for one, two in zip(first, again, strict=True):
        assert one.frames.tobytes() == two.frames.tobytes()
        assert one.truth.tobytes() == two.truth.tobytes()
        assert (one.labels, one.doing) == (two.labels, two.doing)
    assert any(a.frames.tobytes() != b.frames.tobytes() for a, b in zip(first, other, strict=True))


def test_a_fault_in_the_sensors_shifts_nobody_elses_numbers() -> None:
    """Streams are apart: with a sensor that is noisy, the other cells show what they would have shown."""
    plain = load_scenario("spring_day")
    noisy = load_scenario("fault_sensor_noise")
    noisy = dataclasses.replace(plain, faults=tuple(dataclasses.replace(f, at_s=0.0) for f in noisy.faults))
    assert noisy.faults
    both = [live(scenario, 20)[1] for scenario in (plain, noisy)]
    same = [np.isin(a.frames["id"], b.frames["id"]).all() for a, b in zip(*both, strict=True)]
    assert all(same)
    equal = np.array(
        [
            a.frames["data"].tobytes() == b.frames["data"].tobytes()
            if len(a.frames) == len(b.frames)
            else False
            for a, b in zip(*both, strict=True)
        ]
    )
    assert not equal.all(), "the fault shows"
    for a, b in zip(*both, strict=True):
        inverter = [s.frames[s.frames["channel"] == 1] for s in (a, b)]
        assert inverter[0].tobytes() == inverter[1].tobytes()


@pytest.mark.parametrize("name", ["winter_day", "spring_day", "opportunity_line", "winter_fuel"])
def test_what_leaves_the_battery_is_motion_losses_heat_and_auxiliaries(name: str) -> None:
    simulation, seconds = live(load_scenario(name), 1500)
    truth = truth_of(simulation, seconds)
    out_kwh = float(truth["power_w"].sum()) * 0.1 / 3.6e6
    parts = {energy: float(truth[f"{energy}_kwh"][-1]) for energy in ENERGIES}
    print(name, f"{out_kwh:.3f} kWh", {k: round(v, 3) for k, v in parts.items()})
    assert truth["odometer_km"][-1] - truth["odometer_km"][0] > 1
    scale = sum(abs(part) for part in parts.values())
    assert abs(out_kwh - sum(parts.values())) < 0.01 * scale
    assert all(parts[k] > 0 for k in ("rolling", "air", "drivetrain", "auxiliaries"))
    charge = -np.diff(truth["soc"][[0, -1]])[0]
    assert np.sign(charge) == np.sign(out_kwh), "what is given is missing"


# signal, column of the truth, factor
SAID = (
    ("WheelBasedVehicleSpeed", "speed_kmh", 1.0),
    ("TotalVehicleDistance", "odometer_km", 1.0),
    ("CabInteriorTemp", "cabin_degc", 1.0),
    ("AmbientAirTemp", "ambient_degc", 1.0),
    ("PackCurrent", "current_a", -1.0),
    ("DcVoltage", "link_v", 1.0),
    ("HvacPower", "hvac_w", 1e-3),
    ("BatteryHeaterPower", "heater_w", 1e-3),
    ("AuxPower", "aux_w", 1e-3),
    ("MinCellVoltage", "cell_min_v", 1.0),
    ("MaxCellVoltage", "cell_max_v", 1.0),
    ("InsulationResistance", "insulation_ohm", 1e-3),
    ("HvessCoolantInletTemp", "coolant_in_degc", 1.0),
    ("DischargePowerLimit", "discharge_limit_w", 1e-3),
    ("ChargePowerLimit", "charge_limit_w", 1e-3),
)


def databases() -> list[Any]:
    folder = resources.files("dbc")
    return [cantools.database.load_string((folder / f"{n}.dbc").read_text("ascii")) for n in CHANNELS]


def test_each_frame_decodes_to_the_truth_within_its_resolution() -> None:
    """Sensors without noise: cantools, strict, finds in each frame the truth at its step's end, to half a quantum."""
    scenario = dataclasses.replace(load_scenario("spring_day"), bms=EXACT)
    simulation, seconds = live(scenario, 150)
    truth = truth_of(simulation, seconds)
    half = {s.name: s.scale / 2 for d in databases() for m in d.messages for s in m.signals}
    seen = dict.fromkeys((name for name, *_ in SAID), 0)
    known = databases()
    for second in seconds[60:]:
        for frame in second.frames:
            message = known[frame["channel"]].get_message_by_frame_id(int(frame["id"]))
            values = message.decode(
                frame["data"][: frame["length"]].tobytes(), decode_choices=False, allow_truncated=False
            )
            step = int(frame["time_us"]) // 100_000
            for name, column, factor in SAID:
                if name in values:
                    seen[name] += 1
                    true = factor * float(truth[column][step])
                    assert abs(float(values[name]) - true) <= half[name] * (1 + 1e-6) + 1e-9, (name, step)
    print(seen)
    assert min(seen.values()) >= 80
    assert np.ptp(truth["speed_kmh"]) > 20, "it must move, or this proves nothing"
    assert np.ptp(truth["current_a"]) > 50


def test_cells_on_the_bus_are_the_batterys() -> None:
    """Pages are read back: each cell's voltage as the battery had it, to half a millivolt, within the second."""
    scenario = dataclasses.replace(load_scenario("night_charge"), bms=EXACT)
    simulation = Simulation(scenario, SEED)
    bms = databases()[0]
    seen = np.zeros((2, 176))
    for n, second in enumerate(itertools.islice(simulation.seconds(), 20)):
        record = simulation._record
        if n < 10:
            continue
        for string in (0, 1):
            name = f"BMS_CellVoltages{string + 1}"
            frames = second.frames[second.frames["id"] == bms.get_message_by_name(name).frame_id]
            for frame in frames[frames["channel"] == 0]:
                step = int(frame["time_us"]) // 100_000 % STEPS
                values = bms.decode_message(name, frame["data"].tobytes()[:8])
                for k in range(4 * int(frame["data"][0]), 4 * int(frame["data"][0]) + 4):
                    said = values[f"String{string + 1}_Cell{k + 1:03d}_Voltage"]
                    assert abs(said - record.cell_v[step, string, k]) <= 0.0005 + 1e-9
                    seen[string, k] += 1
    assert seen.min() >= 7


def test_the_platform_is_told_of_its_faults() -> None:
    told: list[tuple[str, bool]] = []
    scenario = load_scenario("fault_clock_step")
    simulation = Simulation(scenario, SEED, lambda act, begins: told.append((act.kind.name, begins)))
    for _ in itertools.islice(simulation.seconds(), round(scenario.faults[0].at_s) + 5):
        pass
    assert ("clock_step", True) in told


def test_what_the_scenario_names_must_be_there() -> None:
    scenario = load_scenario("spring_day")
    three = dataclasses.replace(scenario, battery=dataclasses.replace(scenario.battery, strings=3))
    with pytest.raises(ScenarioError, match="String3"):
        Simulation(three, SEED)
    with pytest.raises(ScenarioError, match="no_such"):
        Simulation(
            dataclasses.replace(scenario, battery=dataclasses.replace(scenario.battery, cell="no_such")), SEED
        )
