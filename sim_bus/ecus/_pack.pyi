from typing import Any

import numpy as np
import numpy.typing as npt

def crc8_sae_j1850(data: bytes) -> int: ...

class Encoder:
    def __init__(
        self,
        messages: npt.NDArray[np.void],
        layouts: npt.NDArray[np.void],
        fields: npt.NDArray[np.void],
        jitter_us: npt.NDArray[np.float64],
    ) -> None: ...
    def encode(
        self,
        begin_us: int,
        step_us: int,
        state: npt.NDArray[np.float64],
        out: npt.NDArray[Any],
        ends: npt.NDArray[np.int64],
    ) -> int: ...
