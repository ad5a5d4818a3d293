"""What the kernel knows of a network interface: one RTM_GETLINK request over rtnetlink(7), read only.

The answer is a tree of attributes (`struct rtattr`: length, type, value, padded to 4 bytes). We read, of
linux/if_link.h and linux/can/netlink.h:

    IFLA_MTU, IFLA_STATS64
    IFLA_LINKINFO / IFLA_INFO_KIND          "can", "vcan", "vxcan", ...
                  / IFLA_INFO_DATA          bit timing, state, control mode, error counters
                  / IFLA_INFO_XSTATS        struct can_device_stats: since the device was made
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

RTM_GETLINK: Final = 18
NLM_F_REQUEST: Final = 1
NLMSG_ERROR: Final = 2
IFF_UP = 0x1
IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_STATS64 = 3, 4, 18, 23
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_XSTATS = 1, 2, 3
IFLA_CAN_BITTIMING, IFLA_CAN_STATE, IFLA_CAN_CTRLMODE = 1, 4, 5
IFLA_CAN_BERR_COUNTER, IFLA_CAN_DATA_BITTIMING = 8, 9
CTRLMODE_LISTEN_ONLY = 0x02
STATES = ("error-active", "error-warning", "error-passive", "bus-off", "stopped", "sleeping")
NESTED = 0x3FFF  # the two bits above are flags of the attribute's type
TIMEOUT_S = 1.0

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, seq, pid
INTERFACE = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
CAN_STATS = struct.Struct(
    "=6I"
)  # bus_error, error_warning, error_passive, bus_off, arbitration_lost, restarts
STATS_RX_DROPPED, STATS_RX_OVER, STATS_RX_FIFO = 6, 11, 14  # places in rtnl_link_stats64, u64 each


@dataclass(frozen=True)
class Link:
    """One interface. What an interface has not (vcan: no controller) is None."""

    index: int
    up: bool
    kind: str
    mtu: int
    state: str | None = None  # of STATES
    bitrate: int | None = None  # bit/s
    data_bitrate: int | None = None  # bit/s, CAN FD's second phase
    listen_only: bool | None = None
    tx_errors: int | None = None
    rx_errors: int | None = None
    bus_off: int | None = None  # counts, since the device was made
    restarts: int | None = None
    rx_over: int = 0  # times that the controller lost frames, as its driver counts
    rx_dropped: int = 0  # frames that the host dropped between driver and sockets


def find_link(name: str) -> Link:
    """The interface of this name.

    Raises
    ------
    OSError
        There is none (ENODEV), or the kernel does not answer.
    """
    return parse_link(_ask(_request(name)))


def _request(name: str) -> bytes:
    text = name.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(text), IFLA_IFNAME) + text
    attribute += bytes(-len(attribute) % 4)
    length = HEADER.size + INTERFACE.size + len(attribute)
    head = HEADER.pack(length, RTM_GETLINK, NLM_F_REQUEST, 1, 0)
    return head + INTERFACE.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute


def _ask(request: bytes) -> bytes:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as s:
        s.settimeout(TIMEOUT_S)
        s.sendto(request, (0, 0))
        return s.recv(65536)


def parse_link(answer: bytes) -> Link:
    """An answer to RTM_GETLINK.

    Raises
    ------
    OSError
        It is the kernel's refusal, or it is cut short.
    """
    try:
        _, kind, _, _, _ = HEADER.unpack_from(answer)
        if kind == NLMSG_ERROR:
            code = -struct.unpack_from("=i", answer, HEADER.size)[0]
            raise OSError(code, "no such CAN interface" if code == 19 else "rtnetlink refused")
        _, _, index, flags, _ = INTERFACE.unpack_from(answer, HEADER.size)
        return _link(index, flags, dict(_attributes(answer[HEADER.size + INTERFACE.size :])))
    except struct.error as error:
        raise OSError(0, f"rtnetlink's answer is cut short: {error}") from None


def _link(index: int, flags: int, found: dict[int, bytes]) -> Link:
    info = dict(_attributes(found.get(IFLA_LINKINFO, b"")))
    kind = info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
    can = dict(_attributes(info.get(IFLA_INFO_DATA, b""))) if kind == "can" else {}
    stats = found.get(IFLA_STATS64, b"")
    state = _u32(can.get(IFLA_CAN_STATE))
    mode = can.get(IFLA_CAN_CTRLMODE)
    counter = can.get(IFLA_CAN_BERR_COUNTER)
    tx, rx = struct.unpack_from("=HH", counter) if counter else (None, None)
    made = info.get(IFLA_INFO_XSTATS, b"") if can else b""
    _, _, _, bus_off, _, restarts = (
        CAN_STATS.unpack_from(made) if len(made) >= CAN_STATS.size else (None,) * 6
    )
    return Link(
        index=index,
        up=bool(flags & IFF_UP),
        kind=kind,
        mtu=_u32(found.get(IFLA_MTU)) or 0,
        state=None if state is None or state >= len(STATES) else STATES[state],
        bitrate=_u32(can.get(IFLA_CAN_BITTIMING)) or None,
        data_bitrate=_u32(can.get(IFLA_CAN_DATA_BITTIMING)) or None,
        listen_only=None if mode is None else bool(struct.unpack_from("=II", mode)[1] & CTRLMODE_LISTEN_ONLY),
        tx_errors=tx,
        rx_errors=rx,
        bus_off=bus_off,
        restarts=restarts,
        rx_over=max(_u64(stats, STATS_RX_OVER), _u64(stats, STATS_RX_FIFO)),
        rx_dropped=_u64(stats, STATS_RX_DROPPED),
    )


def _attributes(blob: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(blob):
        length, kind = struct.unpack_from("=HH", blob, at)
        if not 4 <= length <= len(blob) - at:
            raise struct.error(f"an attribute of {length} bytes")
        yield kind & NESTED, blob[at + 4 : at + length]
        at += (length + 3) & ~3


def _u32(value: bytes | None) -> int | None:
    return None if value is None else int(struct.unpack_from("=I", value)[0])


def _u64(stats: bytes, place: int) -> int:
    return int(struct.unpack_from("=Q", stats, 8 * place)[0]) if len(stats) >= 8 * place + 8 else 0
