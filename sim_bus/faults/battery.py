"""What faults do to the battery and the vehicle: each kind a function that writes into the second's FaultEffects.

Faults of one cell add up as they do in nature: shorts and leaks in parallel, busbars in series, heat to heat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from sim_bus.doors import FaultEffects, FloatArray

if TYPE_CHECKING:
    from sim_bus.faults.schedule import Act

Shape = tuple[int, int]  # strings, cells


def internal_short(effects: FaultEffects, act: Act, age_s: float, shape: Shape) -> None:
    """`ohm` falls to `end_ohm` within `grow_s`."""
    _short(effects, act, shape, _grown(act, "ohm", age_s))


def weak_cell(effects: FaultEffects, act: Act, age_s: float, shape: Shape) -> None:
    """Factors of the cell's own."""
    effects.capacity_factor = _grid(effects.capacity_factor, shape, 1.0)
    effects.capacity_factor[act.cell] *= act.number("capacity")
    effects.resistance_factor = _grid(effects.resistance_factor, shape, 1.0)
    effects.resistance_factor[act.cell] *= act.number("resistance")


def loose_busbar(effects: FaultEffects, act: Act, age_s: float, shape: Shape) -> None:
    """`ohm`, but in a `flicker` of the seconds none."""
    effects.busbar_ohm = _grid(effects.busbar_ohm, shape, 0.0)
    if act.random.random() >= act.number("flicker"):
        effects.busbar_ohm[act.cell] += act.number("ohm")


def blocked_coolant(effects: FaultEffects, act: Act, age_s: float, shape: Shape) -> None:
    """A share of the flow is lost."""
    effects.coolant_flow *= 1 - act.number("share")


def heater_failed(effects: FaultEffects, act: Act, age_s: float, shape: Shape) -> None:
    """No more."""
    effects.heater_failed = True


def insulation_drop(effects: FaultEffects, act: Act, age_s: float, shape: Shape) -> None:
    """`ohm` falls to `end_ohm` within `grow_s`."""
    ohm = _grown(act, "ohm", age_s)
    other = effects.insulation_ohm
    effects.insulation_ohm = ohm if other is None else _parallel(ohm, other)


def thermal_runaway_precursor(effects: FaultEffects, act: Act, age_s: float, shape: Shape) -> None:
    """Heat from `heat_w` to `end_heat_w`; a leak, and in the seconds of a dip a short instead."""
    effects.extra_heat_w = _grid(effects.extra_heat_w, shape, 0.0)
    effects.extra_heat_w[act.cell] += _grown(act, "heat_w", age_s)
    dips = act.random.random() * act.number("dip_every_s") < 1
    _short(effects, act, shape, act.number("dip_ohm" if dips else "leak_ohm"))


def ignition_games(effects: FaultEffects, act: Act, age_s: float, shape: Shape) -> None:
    """Off first; each phase as long as drawn."""
    phase = act.state.setdefault("phase", {"on": True, "until_s": 0.0})
    while age_s >= phase["until_s"]:
        phase["on"] = not phase["on"]
        phase["until_s"] += float(
            act.random.integers(int(act.number("shortest_s")), int(act.number("longest_s")) + 1)
        )
    effects.ignition = bool(phase["on"])


ACTIONS: dict[str, Callable[[FaultEffects, Act, float, Shape], None]] = {
    action.__name__: action
    for action in (
        internal_short,
        weak_cell,
        loose_busbar,
        blocked_coolant,
        heater_failed,
        insulation_drop,
        thermal_runaway_precursor,
        ignition_games,
    )
}


def _grown(act: Act, name: str, age_s: float) -> float:
    """From `name` to `end_name` within `grow_s`, evenly on a logarithmic scale."""
    first, last = act.number(name), act.number(f"end_{name}")
    return float(first * (last / first) ** min(age_s / act.number("grow_s"), 1.0))


def _grid(there: FloatArray | None, shape: Shape, healthy: float) -> FloatArray:
    return np.full(shape, healthy) if there is None else there


def _short(effects: FaultEffects, act: Act, shape: Shape, ohm: float) -> None:
    effects.short_ohm = _grid(effects.short_ohm, shape, np.inf)
    effects.short_ohm[act.cell] = _parallel(ohm, float(effects.short_ohm[act.cell]))


def _parallel(a: float, b: float) -> float:
    return 1 / (1 / a + 1 / b)
