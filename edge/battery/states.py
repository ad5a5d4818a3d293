"""What the estimator knows of every cell at one moment: what power, energy and health are worked out from."""

from __future__ import annotations

from dataclasses import dataclass

from edge.battery.model import FloatArray


@dataclass(frozen=True)
class CellStates:
    """n cells at one moment; the letters are those of `edge.battery.model`. NaN: not known.

    soc, soc_sd             [n] state of charge, 0 to 1, and its standard deviation
    resistance_ratio, ..sd  [n] this cell's resistance over the model's at the same soc and temperature
    hysteresis              [n] h, -1 to 1
    relaxation_a            [n, K] y_k
    temp_degc               [n]
    capacity_ah             [n]
    error_v, error_sd_v     [n] how far the voltage is off the model's at present, beyond all the above
    """

    soc: FloatArray
    soc_sd: FloatArray
    resistance_ratio: FloatArray
    resistance_ratio_sd: FloatArray
    hysteresis: FloatArray
    relaxation_a: FloatArray
    temp_degc: FloatArray
    capacity_ah: FloatArray
    error_v: FloatArray
    error_sd_v: FloatArray
