import numpy as np
import numpy.typing as npt

from edge.battery.model import CellModel, FloatArray

IntArray = npt.NDArray[np.int64]

COLUMNS: int
PROCESSES: int
TURN: int
WINDOW_S: float

class Kernel:
    def __init__(self, model: CellModel, nodes: FloatArray) -> None: ...
    def bind(
        self,
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
    ) -> None: ...
    def advance(
        self,
        dt_s: FloatArray,
        current_a: FloatArray,
        voltage_v: FloatArray,
        temp_degc: FloatArray,
        balancing_a: FloatArray | None,
        opened: npt.NDArray[np.uint8] | None,
        out_soc: FloatArray | None,
        out_sd: FloatArray | None,
        pause_s: float,
    ) -> int: ...
    def mix(self) -> None: ...
