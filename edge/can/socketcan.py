"""SocketCAN, received only: there is no send in here, and none in what it calls.

Every frame is taken: classic and FD, remote, error frames of every class, other programs' on this machine
(flag OWN). Times are the kernel's, on the monotonic scale (`_socketcan.StampClock`).

What is lost is counted where it is lost:

    controller      its driver says that it overran (an error frame, rx_over_errors), not how many: at least
    host's backlog  rx_dropped of the interface; exact, for all who listen
    socket          the kernel's counter of this socket (SO_RXQ_OVFL with each frame, SO_MEMINFO when asked); exact

Invariants: an interface that is down is waited for; one that is gone ends `read` with SourceError, after
every frame that came before. A source that is opened anew goes on counting.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import numpy as np

from edge.can._socketcan import COUNTERS, MAX_READ, Receiver
from edge.can.frames import FRAME, Frames
from edge.can.load import most_frames
from edge.can.netlink import Link, find_link
from edge.can.status import SourceStatus
from edge.errors import SourceError

# Linux's numbers (asm-generic/socket.h, linux/can/raw.h, linux/net_tstamp.h): Python names only some of them
SO_RCVBUFFORCE: Final = 33
SO_RXQ_OVFL: Final = 40
SO_MEMINFO, MEMINFO_DROPS, MEMINFO_WORDS = 55, 8, 9
SO_TIMESTAMPING_NEW: Final = 65
RX_HARDWARE, RX_SOFTWARE, SOFTWARE, RAW_HARDWARE = 1 << 2, 1 << 3, 1 << 4, 1 << 6
SOL_CAN_RAW: Final = 101
CAN_RAW_FILTER, CAN_RAW_ERR_FILTER, CAN_RAW_LOOPBACK, CAN_RAW_FD_FRAMES = 1, 2, 3, 5
EVERY_ERROR: Final = 0x1FFFFFFF
EFF_FLAG: Final = 0x80000000
MAX_FILTERS: Final = 512  # CAN_RAW_FILTER_MAX

QUEUED_BYTES: Final = (
    1024  # what the kernel books per waiting frame; docs/can/socketcan.md has what was measured
)
QUEUE_S: Final = 1.0
LINK_EVERY_S: Final = 1.0
GONE: Final = (errno.ENODEV, errno.ENXIO)
FD_MTU: Final = 72  # bytes of struct canfd_frame
ERROR_CLASSES: Final = COUNTERS[COUNTERS.index("tx_timeout") :]
NO_LINK: Final = Link(index=0, up=False, kind="", mtu=0)
LINK_COUNTS: Final = ("rx_over", "rx_dropped", "bus_off", "restarts")


def parse_filters(text: str) -> list[tuple[int, int]]:
    """Kernel filters as candump writes them, with commas between: `18FEF100:1FFFFF00,123:7FF`.

    Three digits are an 11 bit id, more a 29 bit one, which then matches only such.

    Raises
    ------
    SourceError
        One is no ID:MASK, or there are over 512.
    """
    filters = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        identifier, _, mask = part.partition(":")
        try:
            number, bits = int(identifier, 16), int(mask, 16)
        except ValueError:
            raise SourceError(f"filter {part!r}: must be ID:MASK in hexadecimal, as candump has it") from None
        if not (0 <= number <= EVERY_ERROR and 0 <= bits <= EVERY_ERROR):
            raise SourceError(f"filter {part!r}: over 29 bits")
        extended = EFF_FLAG if len(identifier) > 3 else 0
        filters.append((number | extended, bits | EFF_FLAG))
    if len(filters) > MAX_FILTERS:
        raise SourceError(f"{len(filters)} filters: the kernel takes at most {MAX_FILTERS}")
    return filters


class SocketCanSource:
    """One SocketCAN interface.

    Parameters
    ----------
    interface: its name, such as can0.
    number: the channel number that its frames get.
    bitrate, data_bitrate: bit/s of the bus. The interface is set by the system; where it is set otherwise,
        the status complains. They also size the receive buffer: one second of the shortest frames.
    filters: kernel filters (`parse_filters`); with none, every frame is taken.
    listen_only: complain where a controller is not in listen-only mode.
    """

    def __init__(
        self,
        interface: str,
        number: int,
        bitrate: int,
        *,
        data_bitrate: int | None = None,
        filters: str = "",
        listen_only: bool = True,
    ) -> None:
        self.name = f"socketcan:{interface}"
        self._interface, self._bitrate, self._data_bitrate = interface, bitrate, data_bitrate
        self._filters, self._listen_only = parse_filters(filters), listen_only
        self._receiver = Receiver(number)
        self._socket: socket.socket | None = None
        self._frames = np.zeros(MAX_READ, FRAME)
        self._buffer_complaint: str | None = None
        self._link: Link | None = None
        self._link_at = -math.inf
        self._gone = False
        self._index = -1
        self._counts = dict.fromkeys(LINK_COUNTS, 0)  # the interface's, while we had it open

    def open(self) -> None:
        """Begin to receive.

        Raises
        ------
        SourceError
            No such CAN interface, or no permission.
        """
        self.close()
        if not hasattr(socket, "AF_CAN"):
            raise SourceError(f"{self.name}: cannot be opened: this system has no SocketCAN")
        try:
            self._link = find_link(self._interface)
            self._link_at, self._index, self._gone = time.monotonic(), self._link.index, False
            opened = socket.socket(socket.AF_CAN, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.CAN_RAW)
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be opened: {error.strerror or error}") from None
        try:
            self._set_options(opened)
            opened.bind((self._interface,))
        except OSError as error:
            opened.close()
            raise SourceError(f"{self.name}: cannot be opened: {error.strerror or error}") from None
        self._receiver.new_socket()
        self._socket = opened

    def _set_options(self, opened: socket.socket) -> None:
        """All of them before bind, so that no frame comes without."""
        opened.setblocking(False)
        stamps = RX_HARDWARE | RX_SOFTWARE | SOFTWARE | RAW_HARDWARE
        opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING_NEW, stamps)
        opened.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        opened.setsockopt(SOL_CAN_RAW, CAN_RAW_FD_FRAMES, 1)
        opened.setsockopt(SOL_CAN_RAW, CAN_RAW_ERR_FILTER, EVERY_ERROR)
        if self._filters:
            packed = b"".join(struct.pack("=II", *pair) for pair in self._filters)
            opened.setsockopt(SOL_CAN_RAW, CAN_RAW_FILTER, packed)
        self._size_buffer(opened)

    def _size_buffer(self, opened: socket.socket) -> None:
        """Room for a second of full load; the kernel doubles what it is given, for its own bookkeeping."""
        wanted = math.ceil(most_frames(self._bitrate) * QUEUED_BYTES * QUEUE_S)
        try:
            opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, wanted // 2)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted // 2)
        given = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self._buffer_complaint = None
        if given < wanted - 1:
            self._buffer_complaint = (
                f"{self.name}: its receive buffer holds {QUEUE_S * given / wanted:.2f} s of a full bus, not "
                f"{QUEUE_S:g} s; give Ayaz CAP_NET_ADMIN, or: sysctl -w net.core.rmem_max={wanted // 2}"
            )

    def read(self, timeout_s: float) -> Frames:
        """What has arrived, up to 1024 frames; waits up to timeout_s for the first.

        Raises
        ------
        SourceError
            The source is not open, or the interface is gone.
        """
        if self._socket is None:
            raise SourceError(f"{self.name}: is not open")
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = 0.0 if self._gone else deadline - time.monotonic()
            count, error = self._receiver.read(
                self._socket.fileno(), self._frames, max(math.ceil(left_s * 1000), 0)
            )
            if error in GONE:
                self._gone = True
            elif error not in (0, errno.ENETDOWN):  # down: it is waited for
                raise SourceError(f"{self.name}: {os.strerror(error)}")
            if count:
                return self._frames[:count].copy()
            if error:  # the kernel tells it before the frames that came earlier
                continue
            if self._gone:
                raise SourceError(f"{self.name}: the interface is gone")
            return self._frames[:0].copy()

    def close(self) -> None:
        """Stop; may be called twice."""
        opened, self._socket = self._socket, None
        if opened is not None:
            self._ask_drops(opened)
            self._look_at_link()
            opened.close()

    def fileno(self) -> int | None:
        """Readable when frames wait; None while it is closed."""
        return None if self._socket is None else self._socket.fileno()

    def status(self) -> SourceStatus:
        """What is known now: counts to the frame, the controller's state at most a second old."""
        if self._socket is not None:
            self._ask_drops(self._socket)
            if time.monotonic() - self._link_at >= LINK_EVERY_S:
                self._look_at_link()
        counted, link = self._receiver.counters(), self._link or NO_LINK
        return SourceStatus(
            state=self._state(),
            frames=counted["frames"],
            malformed=counted["malformed"],
            lost_socket=self._receiver.lost_socket,
            lost_backlog=self._counts["rx_dropped"],
            lost_controller=max(counted["rx_overflow"], self._counts["rx_over"]),
            bus_off=max(counted["bus_off"], self._counts["bus_off"]),
            restarts=max(counted["restarted"], self._counts["restarts"]),
            error_frames={name: counted[name] for name in ERROR_CLASSES if counted[name]},
            tx_errors=_first(link.tx_errors, self._receiver.tx_errors),
            rx_errors=_first(link.rx_errors, self._receiver.rx_errors),
            listen_only=link.listen_only,
            bitrate=link.bitrate,
            data_bitrate=link.data_bitrate,
            complaints=tuple(self._complaints(link)),
        )

    def _state(self) -> str:
        if self._gone or self._link is None:
            return "gone"
        return (self._link.state or "up") if self._link.up else "down"

    def _complaints(self, link: Link) -> Iterator[str]:
        if self._buffer_complaint:
            yield self._buffer_complaint
        if self._link is None or self._gone:
            return
        to_set = f"ip link set {self._interface} down && ip link set {self._interface} type can"
        if not link.up:
            yield f"{self.name}: is down; bring it up: ip link set {self._interface} up"
        if self._listen_only and link.listen_only is False:
            yield f"{self.name}: is not in listen-only mode, so its controller acknowledges; {to_set} listen-only on"
        if link.bitrate not in (None, self._bitrate):
            yield f"{self.name}: runs at {link.bitrate} bit/s, the configuration says {self._bitrate}"
        if self._data_bitrate and link.data_bitrate not in (None, self._data_bitrate):
            yield f"{self.name}: data phase at {link.data_bitrate} bit/s, the configuration says {self._data_bitrate}"
        if self._data_bitrate and link.mtu < FD_MTU:
            yield f"{self.name}: is not set for CAN FD; {to_set} fd on dbitrate {self._data_bitrate}"

    def _ask_drops(self, opened: socket.socket) -> None:
        """The kernel's own count: what no later frame has told yet is in it."""
        with suppress(OSError):
            answer = opened.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * MEMINFO_WORDS)
            self._receiver.dropped(struct.unpack_from("=I", answer, 4 * MEMINFO_DROPS)[0])

    def _look_at_link(self) -> None:
        self._link_at = time.monotonic()
        try:
            link = find_link(self._interface)
        except OSError:
            return  # it has gone: read says so
        before = self._link
        if before is not None and link.index == self._index:  # else another one of the same name
            for name in LINK_COUNTS:
                self._counts[name] += max((getattr(link, name) or 0) - (getattr(before, name) or 0), 0)
            self._link = link


def _first(told: int | None, seen: int) -> int:
    return seen if told is None else told
