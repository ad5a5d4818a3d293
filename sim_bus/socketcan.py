"""Frames into SocketCAN interfaces: a whole array is laid out at once, and each frame is one `send`.

`struct can_frame` and `canfd_frame` (linux/can.h) have the size and the order of a FRAME from its id on.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable, Sequence

import numpy as np

from edge.can.frames import BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, REMOTE, Frames
from edge.errors import SourceError
from sim_bus.transmit import PATIENCE_S, patiently

LAID_OUT = np.dtype([("id", "=u4"), ("length", "u1"), ("flags", "u1"), ("pad", "u1", 2), ("data", "u1", 64)])
CLASSIC_BYTES, FD_BYTES = 16, 72
ID_FLAGS = ((EXTENDED, 0x80000000), (REMOTE, 0x40000000), (ERROR, 0x20000000))
FD_FLAGS = ((BITRATE_SWITCH, 1), (ERROR_STATE, 2), (FD, 4))
SOL_CAN_RAW, CAN_RAW_FILTER, CAN_RAW_FD_FRAMES = 101, 1, 5
WHY = {
    errno.ENETDOWN: "it is down; set it up with: sudo ip link set {0} up",
    errno.ENODEV: "it has gone",
    errno.ENXIO: "it has gone",
}


def open_raw(interface: str) -> socket.socket:
    """A raw CAN socket that receives nothing.

    Raises
    ------
    OSError
        There is no such interface, no permission, or no SocketCAN.
    """
    if not hasattr(socket, "AF_CAN"):
        raise OSError("this system has no SocketCAN")
    opened = socket.socket(socket.AF_CAN, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.CAN_RAW)
    try:
        opened.setsockopt(SOL_CAN_RAW, CAN_RAW_FILTER, b"")
        with contextlib.suppress(OSError):
            opened.setsockopt(SOL_CAN_RAW, CAN_RAW_FD_FRAMES, 1)
        seconds, micros = int(PATIENCE_S), int(PATIENCE_S % 1 * 1e6)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", seconds, micros))
        opened.bind((interface,))
    except BaseException:
        opened.close()
        raise
    return opened


class SocketCanSender(contextlib.AbstractContextManager["SocketCanSender"]):
    """Three SocketCAN interfaces. `open_one` is for tests.

    Raises
    ------
    SourceError
    """

    left_out = 0

    def __init__(
        self, interfaces: Sequence[str], open_one: Callable[[str], socket.socket] = open_raw
    ) -> None:
        self._interfaces = interfaces
        self._sockets: list[socket.socket] = []
        for name in interfaces:
            try:
                self._sockets.append(open_one(name))
            except OSError as error:
                self.__exit__()
                raise SourceError(
                    f"socketcan:{name}: cannot be opened: {error.strerror or error}; make one with: "
                    f"sudo ip link add dev {name} type vcan && sudo ip link set {name} up"
                ) from None

    def write(self, frames: Frames) -> None:
        """Send frames, in order.

        Raises
        ------
        SourceError
            An interface has gone or is down, or its queue stays full.
        """
        text = memoryview(lay_out(frames).tobytes())
        ends = np.where(frames["flags"] & FD, FD_BYTES, CLASSIC_BYTES) + np.arange(len(frames)) * FD_BYTES
        for n, (channel, end) in enumerate(zip(frames["channel"].tolist(), ends.tolist(), strict=True)):
            part = text[n * FD_BYTES : end]
            try:
                self._sockets[channel].send(part)
            except OSError as error:
                self._again(channel, part, error)

    def _again(self, channel: int, part: memoryview, error: OSError) -> None:
        name = self._interfaces[channel]
        try:
            patiently(lambda: self._sockets[channel].send(part), f"socketcan:{name}")
        except OSError:
            why = WHY.get(error.errno or 0, error.strerror or str(error)).format(name)
            raise SourceError(f"socketcan:{name}: cannot send: {why}") from None

    def __exit__(self, *_: object) -> None:
        for opened in self._sockets:
            opened.close()


def lay_out(frames: Frames) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Frames as the kernel takes them, 72 bytes apart."""
    flags = frames["flags"]
    found = np.zeros(len(frames), LAID_OUT)
    found["id"] = frames["id"]
    for flag, bit in ID_FLAGS:
        found["id"] |= np.where(flags & flag, np.uint32(bit), np.uint32(0))
    for flag, bit in FD_FLAGS:
        found["flags"] |= np.where(flags & flag, np.uint8(bit), np.uint8(0))
    found["length"], found["data"] = frames["length"], frames["data"]
    return found
