"""The currents of parallel strings: one voltage over all closed ones, and the power that is asked.

Newton's method on the strings' own voltages over their currents. Each iteration takes every string as a line, solves
the lines exactly for the common voltage v that gives the power (v I = P, the upper of the two roots: the other one is a
short circuit), and moves every string's current to that voltage. Beyond the most power that the lines can give, v is
where they give the most (half the voltage without current: Jacobi's law); iterated, that is the most of the cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sim_bus.doors import FloatArray

ITERATIONS = 60  # two are the rule
SOLVED_RATE = (
    0.02  # capacities per hour: after a smaller change nothing is left (its error is of second order)
)
STRIDE_RATE = 20.0  # the most that a current changes at once


def solve(
    terminal: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    current_a: FloatArray,
    closed: list[int],
    power_w: float,
    limits_v: tuple[float, float],
    capacity_ah: float,
) -> bool:
    """Bring current_a (strings,) of the closed strings (their indices) to where they share a voltage and give power_w.

    terminal: (voltage, -dV/dI) of every string at trial currents. Where the power needs a voltage beyond limits_v (lowest,
    highest), less power is given or taken instead. False if it was not found (current_a is then the last trial).
    """
    small_a, stride_a = SOLVED_RATE * capacity_ah, STRIDE_RATE * capacity_ah
    for _ in range(ITERATIONS):
        volts, slopes = terminal(current_a)
        lines = [(s, float(volts[s]), float(slopes[s]), float(current_a[s])) for s in closed]
        bus_v = _bus_v(lines, power_w, limits_v)
        solved = True
        for s, string_v, ohm, amps in lines:
            change = (string_v - bus_v) / ohm
            if abs(change) < small_a:
                current_a[s] = amps + change
            else:
                solved = False
                current_a[s] = _moved(amps, max(-stride_a, min(stride_a, change)))
        if solved:
            return True
    return False


def _bus_v(
    lines: list[tuple[int, float, float, float]], power_w: float, limits_v: tuple[float, float]
) -> float:
    """The common voltage of strings that are lines (string, voltage and slope at a current)."""
    siemens = short_a = 0.0  # together: current = short_a - siemens * v
    for _, string_v, ohm, amps in lines:
        siemens += 1 / ohm
        short_a += string_v / ohm + amps
    rest_v = short_a / siemens
    if power_w > 0 and rest_v <= 0:
        return rest_v  # reversed cells have nothing to give
    under = short_a * short_a - 4 * siemens * power_w
    bus_v = (short_a + math.sqrt(max(under, 0.0))) / (2 * siemens)
    if power_w > 0:
        return max(bus_v, min(limits_v[0], rest_v))
    if power_w < 0:
        return min(bus_v, max(limits_v[1], rest_v))
    return rest_v


def _moved(amps: float, change: float) -> float:
    """Where Newton's step ends. Not beyond zero at once: there the kinetics are steepest, and from the flat part
    beyond them a step would overshoot to and fro."""
    return 0.0 if amps * (amps + change) < 0 else amps + change
