import numpy as np
import numpy.typing as npt

from edge.battery.model import CellModel, FloatArray

IntArray = npt.NDArray[np.int64]

COLUMNS: int
PROCESSES: int
TURN: int

class Kernel:
    def __init__(self, model: CellModel, nodes: FloatArray) -> None: ...
    def advance(
        self,
        dt_s: FloatArray,
        current_a: FloatArray,
        voltage_v: FloatArray,
        temp_degc: FloatArray,
        balancing_a: FloatArray,
        opened: npt.NDArray[np.uint8],
        out_soc: FloatArray,
        out_sd: FloatArray,
        pause_s: float,
        clock: FloatArray,
        string: IntArray,
        capacity_ah: FloatArray,
        temp: FloatArray,
        relaxation_a: FloatArray,
        window: FloatArray,
        soc: FloatArray,
        soc_sd: FloatArray,
        x: FloatArray,
        p: FloatArray,
        cell: IntArray,
        waited_s: FloatArray,
        surprise_s: FloatArray,
        misfit: FloatArray,
        score: FloatArray,
    ) -> int: ...
    def mix(
        self,
        soc: FloatArray,
        soc_sd: FloatArray,
        x: FloatArray,
        p: FloatArray,
        cell: IntArray,
        score: FloatArray,
    ) -> None: ...
