"""The two clocks: monotonic time for everything inside, wall time as a label with a quality."""

from __future__ import annotations

import ctypes
import time

TIME_ERROR = 5  # adjtimex(2): the kernel's clock is not synchronised


def monotonic_us() -> int:
    """Monotonic time in whole microseconds: the core's time."""
    return time.monotonic_ns() // 1000


def wall_offset_ms() -> int:
    """What to add to monotonic milliseconds to get wall time (UNIX, ms)."""
    return time.time_ns() // 1_000_000 - time.monotonic_ns() // 1_000_000


def wall_quality() -> str:
    """`ntp` where the kernel says that its clock is synchronised, else `unsynced` (adjtimex(2))."""
    try:
        buffer = ctypes.create_string_buffer(512)  # struct timex, modes = 0: only asks
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return "unsynced"
    return "unsynced" if state in (-1, TIME_ERROR) else "ntp"
