"""python-can's Message as a frame: for the adapters and log formats that python-can reads."""

from __future__ import annotations

from typing import Any

import can
import numpy as np

from edge.can.frames import BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, OWN, REMOTE

_FLAG_OF = (
    ("is_extended_id", EXTENDED),
    ("is_remote_frame", REMOTE),
    ("is_error_frame", ERROR),
    ("is_fd", FD),
    ("bitrate_switch", BITRATE_SWITCH),
    ("error_state_indicator", ERROR_STATE),
)


def fill_frame(frame: Any, message: can.Message, time_us: int, channel: int) -> None:
    """Write a message into one record of a FRAME array; a remote frame's length is what it asks for.

    Raises
    ------
    ValueError
        It holds more than 64 bytes.
    """
    data = bytes(message.data or b"")
    if len(data) > 64:
        raise ValueError(f"a frame of {len(data)} bytes")
    frame["time_us"], frame["channel"] = time_us, channel
    frame["id"] = message.arbitration_id
    flags = sum(flag for name, flag in _FLAG_OF if getattr(message, name))
    frame["flags"] = flags | (0 if message.is_rx else OWN)
    frame["length"] = min(message.dlc, 8) if message.is_remote_frame else len(data)
    frame["data"][: len(data)] = np.frombuffer(data, np.uint8)
