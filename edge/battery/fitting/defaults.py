"""What is assumed of a chemistry before anything is measured: documented in docs/battery/fitting.md.

Everything here is a starting point with a wide standard deviation, or says what a measurement of one cell in
the laboratory cannot: how much cells of a type differ, and how wrong the sensors of a bus are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.battery.fitting.joint import OCV_SOC, TAU_S, Prior


@dataclass(frozen=True)
class Chemistry:
    voltage_min_v: float
    voltage_max_v: float
    ocv: tuple[tuple[float, ...], tuple[float, ...]]
    """(soc, V): a typical curve"""
    hysteresis_v: float
    """half the gap between the branches of the OCV; 0: none is fitted"""
    full_below_v: float
    """a rest this far below the highest voltage is still that of a full cell"""
    current_offset_c: float
    """sd of the sensor's offset over the capacity, per hour"""
    axis_sd: float
    hysteresis_sd: float


LAYERED = (
    (0, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1),
    (2.75, 2.95, 3.1, 3.2, 3.33, 3.47, 3.55, 3.61, 3.67, 3.76, 3.86, 3.96, 4.06, 4.18),
)
OLIVINE = (
    (0, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.9, 0.97, 0.99, 1),
    (2.2, 2.5, 2.8, 2.95, 3.17, 3.25, 3.28, 3.29, 3.30, 3.32, 3.33, 3.35, 3.4, 3.5),
)
# offsets: 50 mA on 3 Ah (layered oxides), 0.5 % of the capacity per hour (LFP): what a sensor is allowed, taken as its sd, for a
# band must hold for a bus whose sensor is at that limit all day
CHEMISTRIES = {
    "NMC": Chemistry(2.5, 4.2, LAYERED, 0.0, 0.04, 0.05 / 3, 0.007, 0.0),
    "NCA": Chemistry(2.5, 4.2, LAYERED, 0.0, 0.04, 0.05 / 3, 0.007, 0.0),
    "LMO": Chemistry(2.5, 4.2, LAYERED, 0.0, 0.04, 0.05 / 3, 0.007, 0.0),
    "LCO": Chemistry(2.5, 4.2, LAYERED, 0.0, 0.04, 0.05 / 3, 0.007, 0.0),
    "LFP": Chemistry(2.0, 3.65, OLIVINE, 0.010, 0.15, 0.005, 0.010, 0.3),
}
# R·Ah at 25 degC and the activation energy over the gas constant, of R0, Rct and one per time constant
OHM_AH = np.array([0.05, 0.02, *[0.025] * len(TAU_S)])
ACTIVATION_K = np.array([2000.0, 4500.0, *[3500.0] * len(TAU_S)])
KNEE_C = 9.0
CAPACITY_REL_SD = 0.017  # of one cell against its type: equally likely within ±3 %
CURRENT_GAIN_SD = 0.006  # equally likely within ±1 %
RESISTANCE_REL_SD = 0.08
GUESSED_RESISTANCE_REL_SD = 0.5  # nothing was measured under load
RESISTANCE_TAU_S = 1e6
MODEL_TAU_S, RELAXATION_TAU_S = 600.0, 150.0
HYSTERESIS_RATES = (15.0, 40.0, 100.0)


def prior(chemistry: Chemistry) -> Prior:
    return Prior(
        log_ohm_ah=np.log(OHM_AH),
        activation_k=ACTIVATION_K,
        ocv_v=np.asarray(np.interp(OCV_SOC, *chemistry.ocv), dtype=np.float64),
        hysteresis_v=chemistry.hysteresis_v,
        knee_c=KNEE_C,
    )
