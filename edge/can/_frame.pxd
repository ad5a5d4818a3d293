"""FRAME of edge/can/frames.py, for kernels."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef packed struct Frame:
    int64_t time_us
    uint32_t id
    uint8_t channel
    uint8_t flags
    uint8_t length
    uint8_t pad
    uint8_t data[64]

cdef enum:
    EXTENDED = 1
    REMOTE = 2
    ERROR = 4
    FD = 8
    BITRATE_SWITCH = 16
    OWN = 32
    ERROR_STATE = 64
