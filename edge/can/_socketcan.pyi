import numpy as np
import numpy.typing as npt

from edge.can.frames import Frames

MAX_READ: int
COUNTERS: tuple[str, ...]

class StampClock:
    def __init__(self) -> None: ...
    def times(
        self,
        wall: npt.NDArray[np.int64],
        device: npt.NDArray[np.int64],
        now: int,
        offset: int,
        out: npt.NDArray[np.int64],
    ) -> None: ...

class Receiver:
    lost_socket: int
    tx_errors: int
    rx_errors: int
    def __init__(self, channel: int) -> None: ...
    def new_socket(self) -> None: ...
    def dropped(self, drops: int) -> None: ...
    def counters(self) -> dict[str, int]: ...
    def read(self, fd: int, frames: Frames, timeout_ms: int) -> tuple[int, int]: ...
