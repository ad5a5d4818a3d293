"""A true CAN device without hardware: the kernel's slcan driver on a pty, this process plays the adapter.

t1232AABB\\r      a frame from the bus
e1o\\r            one error: receive overflow      (drivers/net/can/slcan/slcan-core.c)
sp120040\\r       state: error passive, receive errors 120, transmit errors 40; a active, w warning, p passive, b bus-off
"""

import fcntl
import os
import pty
import struct
import threading
import time
import tty
from collections.abc import Iterator

import pytest

from edge.can.frames import ERROR, OWN
from edge.can.socketcan import SocketCanSource
from tests.system.guest.kit import drain, sh, take, until

TIOCSETD, N_SLCAN, SIOCGIFNAME = 0x5423, 17, 0x8910


class Adapter:
    """The other end of the serial line."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self._ours, self._theirs = pty.openpty()
        tty.setraw(self._ours)
        tty.setraw(self._theirs)
        fcntl.ioctl(self._theirs, TIOCSETD, struct.pack("i", N_SLCAN))
        self.name = fcntl.ioctl(self._theirs, SIOCGIFNAME, bytes(40)).split(b"\0")[0].decode()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        """The driver waits until its bytes are read."""
        while True:
            try:
                self.heard += os.read(self._ours, 200)
            except OSError:
                return

    def say(self, text: str) -> None:
        os.write(self._ours, text.encode() + b"\r")
        time.sleep(0.1)

    def unplug(self) -> None:
        """The listener ends by itself, with EIO, once the other end is closed. Our end is closed only then: the
        next adapter gets its number, and a listener that lived on would take that one's bytes."""
        os.close(self._theirs)
        self._listener.join(20)
        assert not self._listener.is_alive()
        os.close(self._ours)


@pytest.fixture
def adapter() -> Iterator[Adapter]:
    made = Adapter()
    yield made
    sh(f"ip link set {made.name} down")
    made.unplug()


def test_bus_off_recovery_and_what_the_ledger_says(adapter: Adapter) -> None:
    name = adapter.name
    sh(f"ip link set {name} type can bitrate 500000 && ip link set {name} up")
    source = SocketCanSource(name, 1, 500_000)
    source.open()
    status = source.status()
    assert (status.state, status.bitrate) == ("error-active", 500_000)
    adapter.say("t1234DEADBEEF")
    adapter.say("T1F33445521122")
    frames = take(source, 2)
    assert frames["id"].tolist() == [0x123, 0x1F334455]
    assert (frames["flags"] & OWN).tolist() == [0, 0]

    adapter.say("e1o")
    adapter.say("sp120040")
    errors = take(source, 2)
    assert (errors["flags"] & ERROR).all()
    status = source.status()
    assert status.lost_controller == 1
    assert (status.state, status.tx_errors, status.rx_errors) == ("error-passive", 40, 120)
    assert status.error_frames["passive"] == 1

    adapter.say("sb255255")
    (bus_off,) = take(source, 1)
    assert int(bus_off["id"]) & 0x40
    status = source.status()
    assert (status.state, status.bus_off, status.restarts) == ("bus-off", 1, 0)

    adapter.say("sa000000")  # the adapter recovered: 128 times 11 recessive bits
    (active,) = take(source, 1)
    assert (int(active["id"]), int(active["data"][1])) == (0x4 | 0x200, 0x40)
    status = source.status()
    assert (status.state, status.bus_off, status.error_frames["active"]) == ("error-active", 1, 1)
    adapter.say("t1111AA")
    assert take(source, 1)["id"].tolist() == [0x111]
    assert source.status().losses() == {
        "malformed": 0, "lost_socket": 0, "lost_backlog": 0, "lost_controller": 1, "bus_off": 1, "restarts": 0,
    }  # fmt: skip
    source.close()


def test_bus_off_then_down_and_up(adapter: Adapter) -> None:
    """What an operator does where the driver can't restart: the same source goes on, and goes on counting."""
    name = adapter.name
    sh(f"ip link set {name} type can bitrate 250000 && ip link set {name} up")
    source = SocketCanSource(name, 1, 250_000)
    source.open()
    for bus_offs in (1, 2):
        adapter.say("sb255255")
        until(lambda: source.status().state == "bus-off")
        drain(source)
        assert source.status().bus_off == bus_offs
        sh(f"ip link set {name} down && ip link set {name} up")
        assert source.status().state == "error-active"
        adapter.say("t1111AA")
        until(lambda: 0x111 in source.read(0.1)["id"])
    source.close()


def test_a_controller_that_acknowledges_is_complained_of(adapter: Adapter) -> None:
    name = adapter.name
    sh(f"ip link set {name} type can bitrate 500000 && ip link set {name} up")
    source = SocketCanSource(name, 1, 250_000)
    source.open()
    status = source.status()
    assert status.listen_only is False
    listen, bitrate = status.complaints
    assert "is not in listen-only mode" in listen
    assert "listen-only on" in listen
    assert "runs at 500000 bit/s, the configuration says 250000" in bitrate
    source.close()
    with_consent = SocketCanSource(name, 1, 500_000, listen_only=False)
    with_consent.open()
    assert with_consent.status().complaints == ()
    with_consent.close()
    sh(f"ip link set {name} down && ip link set {name} type can listen-only on && ip link set {name} up")
    quiet = SocketCanSource(name, 1, 500_000)
    quiet.open()
    status = quiet.status()
    assert (status.listen_only, status.complaints) == (True, ())
    quiet.close()
    until(lambda: b"L\r" in adapter.heard)  # the driver opened the adapter so


def test_nothing_reaches_the_adapter_that_we_did(adapter: Adapter) -> None:
    name = adapter.name
    sh(f"ip link set {name} type can bitrate 500000 && ip link set {name} up")
    until(lambda: adapter.heard.endswith(b"O\r"))  # the driver's own: it opens the adapter
    adapter.heard.clear()
    source = SocketCanSource(name, 1, 500_000)
    source.open()
    adapter.say("t1230")
    adapter.say("e1o")
    drain(source)
    source.status()
    source.close()
    assert not adapter.heard
