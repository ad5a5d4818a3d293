"""What a cell model says about resistance over some seconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge.battery.model import CellModel, FloatArray


def pulse_resistance_ohm(
    model: CellModel, soc: Any, temp_degc: Any, current_a: Any, seconds: float
) -> FloatArray:
    """Fall of the voltage over the current, `seconds` after a relaxed cell was loaded with `current_a`.

    The overpotential only: soc is held. `current_a` of one cell, either sign, not 0; arrays broadcast. It is the
    "direct current resistance" of the pulse tests (IEC 62660-1, 7.3; FreedomCAR manual, HPPC).
    """
    soc, temp, current = np.broadcast_arrays(
        *(np.asarray(a, dtype=float) for a in (soc, temp_degc, current_a))
    )
    knee = np.interp(temp, model.temp_degc, model.knee_a)
    bent = knee * np.arcsinh(current / knee) / current
    slow = model.at(model.rct_ohm, soc, temp)
    for tau, table in zip(model.tau_s, model.relaxation_ohm, strict=True):
        slow = slow + model.at(table, soc, temp) * -np.expm1(-seconds / tau)
    return np.asarray(model.at(model.r0_ohm, soc, temp) + slow * bent)
