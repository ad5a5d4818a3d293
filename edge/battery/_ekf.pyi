import numpy as np
import numpy.typing as npt

from edge.battery.model import CellModel, FloatArray

class Kernel:
    def __init__(self, model: CellModel) -> None: ...
    def step(
        self,
        dt_s: float,
        x: FloatArray,
        p: FloatArray,
        cell: npt.NDArray[np.int64],
        capacity_ah: FloatArray,
        current_a: FloatArray,
        last_current_a: FloatArray,
        voltage_v: FloatArray,
        temp_degc: FloatArray,
        waited_s: FloatArray,
        surprise_s: FloatArray,
        score: FloatArray,
    ) -> None: ...
