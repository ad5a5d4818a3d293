"""The frame: one numpy record array per read, the same for every source.

    time_us   int64    monotonic time, whole microseconds (in a log: the log's own time)
    id        uint32   11 or 29 bit identifier, without flag bits
    channel   uint8    number of the CAN channel: its place in the configuration
    flags     uint8    EXTENDED | REMOTE | ERROR | FD | BITRATE_SWITCH | OWN | ERROR_STATE
    length    uint8    number of data bytes, 0 to 64 (a length, not a DLC code); REMOTE: how many it asks for
    pad       uint8    always 0
    data      uint8[64], zero beyond `length`

80 bytes, little-endian, no hidden padding: the same bytes on every machine.
"""

import numpy as np
import numpy.typing as npt

EXTENDED = 1
REMOTE = 2
ERROR = 4
FD = 8
BITRATE_SWITCH = 16
OWN = 32  # sent by this machine (loopback)
ERROR_STATE = 64  # CAN FD: the sender is error passive (ESI)

FRAME = np.dtype(
    [
        ("time_us", "<i8"),
        ("id", "<u4"),
        ("channel", "u1"),
        ("flags", "u1"),
        ("length", "u1"),
        ("pad", "u1"),
        ("data", "u1", (64,)),
    ]
)

Frames = npt.NDArray[np.void]  # a 1-D array of FRAME
