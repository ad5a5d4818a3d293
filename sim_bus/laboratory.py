"""A laboratory: slow, pulse and drive tests of one simulated cell, as files of measured data for `ayaz fit-cell`.

    slow_+25.csv.gz      C/20 from full to empty, an hour of rest, C/20 to full: a row each 10 s
    pulses_+25.csv.gz    full (out only) and after every tenth of the charge: 1 C out and 3/4 C in for 10 s each, rests; C/3 between: a row a second, with soc
    drive_+25.csv.gz     stop after stop, from full until it is empty: a row a second, with soc

One cell in a chamber: its temperature is the chamber's. The instruments: voltage to 0.1 mV with 0.2 mV of noise (1 sigma),
current to a 100,000th of the capacity. The same seed gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.command import whole_file
from edge.errors import ScenarioError
from sim_bus.battery.cell import Cell, load_cell
from sim_bus.battery.cells import run_cell
from sim_bus.doors import FloatArray
from sim_bus.streams import Streams

TEMPS = (-20.0, -10.0, 0.0, 10.0, 25.0, 40.0)
TEMP_RANGE = (-40.0, 60.0)
NOISE_V = 0.0002
SLOW_S, SLOW_C, SLOW_REST_S = 10.0, 1 / 20, 3600
PULSES = ((1.0, 10), (0.0, 40), (-0.75, 10), (0.0, 600))  # rate, seconds
BETWEEN_C, BETWEEN_REST_S, BETWEEN_SOC = 1 / 3, 1800, 0.1
NO_CHARGE_DEGC = 0.0  # colder, neither pulses nor brakes charge
Test = tuple[FloatArray, FloatArray, FloatArray]  # time_s, current_a, voltage_v


@dataclass(frozen=True)
class _Bench:
    """One cell at one temperature."""

    cell: Cell
    degc: float

    def run(self, current_a: FloatArray, step_s: float) -> Test:
        """From full and rested after a charge."""
        time: FloatArray = np.arange(1, len(current_a) + 1).astype(np.float64) * step_s
        volts = run_cell(self.cell, time, current_a, self.degc, 1.0, step_s, hysteresis=1.0)
        return time, current_a, volts

    def until(self, current_a: FloatArray, step_s: float, begin: int = 0) -> int:
        """The row from `begin` at which a limit of the voltage is passed, or the end."""
        volts = self.run(current_a, step_s)[2]
        beyond = (volts < self.cell.voltage_min_v) | (volts > self.cell.voltage_max_v)
        beyond[:begin] = False
        return int(beyond.argmax()) if beyond.any() else len(volts)


def slow(bench: _Bench, streams: Streams) -> Test:
    """See the module's head."""
    amps = SLOW_C * bench.cell.capacity_ah
    rows = round(1.1 * 3600 / SLOW_C / SLOW_S)
    out = np.full(rows, amps)
    out = out[: bench.until(out, SLOW_S, begin=1)]
    rest = np.zeros(round(SLOW_REST_S / SLOW_S))
    whole = np.concatenate([out, rest, np.full(rows, -amps)])
    return bench.run(whole[: bench.until(whole, SLOW_S, begin=len(out) + len(rest))], SLOW_S)


def pulses(bench: _Bench, streams: Streams) -> Test:
    """See the module's head."""
    capacity, back = bench.cell.capacity_ah, bench.degc > NO_CHARGE_DEGC
    out = np.concatenate([np.full(s, max(rate, 0.0)) for rate, s in PULSES])
    pulse = np.concatenate([np.full(s, rate) for rate, s in PULSES]) if back else out
    between = np.full(round(3600 * BETWEEN_SOC / BETWEEN_C), BETWEEN_C)
    once = np.concatenate([between, np.zeros(BETWEEN_REST_S), pulse])
    current = capacity * np.concatenate([out, np.tile(once, round(1 / BETWEEN_SOC) - 1)])
    return bench.run(current[: bench.until(current, 1.0, begin=60)], 1.0)


def drive(bench: _Bench, streams: Streams) -> Test:
    """See the module's head; the stops are drawn."""
    rng = streams(f"laboratory.drive {bench.degc:g}")
    capacity, parts, drawn = bench.cell.capacity_ah, [], 0.0
    regen = 0.35 if bench.degc > NO_CHARGE_DEGC else 0.0
    while drawn < 1.05:
        pull, roll, stop = rng.uniform(0.4, 1.1), rng.uniform(0.08, 0.3), rng.uniform(0.03, 0.08)
        part = np.concatenate(
            [
                np.linspace(0.1, pull, int(rng.integers(8, 20))),
                np.full(int(rng.integers(10, 60)), roll),
                np.full(int(rng.integers(5, 12)), -regen * pull),
                np.full(int(rng.integers(5, 40)), stop),
            ]
        )
        if rng.random() < 0.02:
            part = np.concatenate([part, np.zeros(600)])
        parts.append(part)
        drawn += float(part.sum()) / 3600
    current = capacity * np.concatenate(parts)
    return bench.run(current[: bench.until(current, 1.0, begin=60)], 1.0)


TESTS: dict[str, Callable[[_Bench, Streams], Test]] = {"slow": slow, "pulses": pulses, "drive": drive}


def parse_temps(text: str) -> tuple[float, ...]:
    """Temperatures from "-20,0,25".

    Raises
    ------
    ScenarioError
    """
    try:
        temps = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ScenarioError(f"--temps {text}: give numbers with commas, as in --temps=-20,0,25") from None
    low, high = TEMP_RANGE
    if not all(low <= t <= high for t in temps) or len(set(temps)) < len(temps):
        raise ScenarioError(f"--temps {text}: must lie between {low:g} and {high:g} degC, each once")
    return temps


def run_laboratory(
    name: str,
    folder: Path,
    temps: tuple[float, ...] = TEMPS,
    seed: int = 1,
    on_file: Callable[[Path], None] = lambda path: None,
) -> list[Path]:
    """Every test at every temperature into a folder, which is made; each file whole or not at all.

    Raises
    ------
    ScenarioError
        There is no such cell, or a file can't be written.
    """
    cell, streams = load_cell(name), Streams(seed)
    made = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for degc in temps:
            for test, run in TESTS.items():
                path = folder / f"{test}_{degc:+03.0f}.csv.gz"
                noise = streams(f"laboratory.noise {test} {degc:g}")
                content = _content(cell, degc, run(_Bench(cell, degc), streams), noise, test != "slow")
                with whole_file(path) as part:
                    part.write_bytes(content)
                made.append(path)
                on_file(path)
    except OSError as error:
        raise ScenarioError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return made


def _content(cell: Cell, degc: float, test: Test, noise: np.random.Generator, with_soc: bool) -> bytes:
    """As a file of measured data; of pulses and drive with the state of charge."""
    time, current, volts = test
    step_a = cell.capacity_ah / 1e5
    current = np.round(current / step_a) * step_a
    volts = np.round(volts + noise.normal(0, NOISE_V, len(volts)), 4)
    soc = 1 - np.cumsum(current * np.diff(time, prepend=0.0)) / 3600 / cell.capacity_ah
    text = io.StringIO()
    text.write("time_s,current_A,voltage_V,temperature_C,soc\n")
    for t, i, v, z in zip(time.tolist(), current.tolist(), volts.tolist(), soc.tolist(), strict=True):
        text.write(f"{t:g},{i:.6g},{v:.4f},{degc:.2f},{f'{z:.6f}' if with_soc else ''}\n")
    return gzip.compress(text.getvalue().encode(), 6, mtime=0)
