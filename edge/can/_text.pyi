from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edge.can.frames import Frames

class TextRows:
    def __init__(
        self,
        flat: bool,
        before_time: bytes,
        after_id: bytes,
        text_of: Callable[[int, int, float, int], bytes],
    ) -> None: ...
    def add_channel(self, head: bytes) -> None: ...
    def add_slot(self, group: int, floats: bool, message_head: bytes, slot_head: bytes) -> None: ...
    def render(
        self,
        frames: Frames,
        frame: npt.NDArray[np.int32],
        slot: npt.NDArray[np.int32],
        raw: npt.NDArray[np.int64],
        value: npt.NDArray[np.float64],
        state: npt.NDArray[np.uint8],
    ) -> bytes: ...
