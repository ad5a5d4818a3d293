"""What a source of frames knows of its bus and of what it lost."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SourceStatus:
    """One source since it was made; every count is cumulative and survives that it is opened anew.

    What the interface can't tell is None, never 0.
    """

    state: str = "unknown"  # error-active, error-warning, error-passive, bus-off, stopped, sleeping; up, down, gone, ended
    frames: int = 0
    malformed: int | None = None  # what arrived and can't be a CAN frame: left out
    lost_socket: int | None = None  # frames that the socket's full buffer cost: exact
    lost_backlog: int | None = (
        None  # frames that the host dropped between driver and sockets, for all who listen
    )
    lost_controller: int | None = None  # times that the controller overran: at least so many frames
    bus_off: int | None = None
    restarts: int | None = None
    error_frames: dict[str, int] = field(default_factory=dict)  # by class, linux/can/error.h
    tx_errors: int | None = None  # the controller's own error counters, 0 to 255
    rx_errors: int | None = None
    listen_only: bool | None = None
    bitrate: int | None = None  # bit/s, as the controller is set
    data_bitrate: int | None = None
    complaints: tuple[str, ...] = ()  # each one line: what is wrong and what to do

    def losses(self) -> dict[str, int]:
        """What the ledger carries, by name; only what the interface can tell."""
        names = ("malformed", "lost_socket", "lost_backlog", "lost_controller", "bus_off", "restarts")
        return {name: count for name in names if (count := getattr(self, name)) is not None}
