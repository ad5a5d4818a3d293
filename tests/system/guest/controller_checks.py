"""Two emulated SJA1000 controllers on one bus: what a real driver tells of its controller reaches the ledger."""

import time

import numpy as np
import pytest

from edge.can.frames import ERROR, EXTENDED, OWN, REMOTE
from edge.can.socketcan import SocketCanSource
from tests.system.guest.kit import drain, payloads, sh, take


@pytest.fixture(scope="module", autouse=True)
def bus() -> None:
    sh("ip link set can0 type can bitrate 500000 berr-reporting on && ip link set can0 up")
    sh("ip link set can1 type can bitrate 500000 berr-reporting on listen-only on && ip link set can1 up")


def test_order_content_flags_and_times() -> None:
    source = SocketCanSource("can1", 4, 500_000)
    source.open()
    status = source.status()
    assert (status.state, status.bitrate, status.listen_only, status.complaints) == (
        "error-active", 500_000, True, (),
    )  # fmt: skip
    before_us = time.monotonic_ns() // 1000
    for text in ("123#DEADBEEF", "1F334455#1122", "7FF#R"):
        sh(f"cansend can0 {text}")
    frames = take(source, 3)
    assert frames["id"].tolist() == [0x123, 0x1F334455, 0x7FF]
    assert frames["flags"].tolist() == [0, EXTENDED, REMOTE]
    assert payloads(frames) == [b"\xde\xad\xbe\xef", b"\x11\x22", b""]
    assert before_us <= frames["time_us"][0]
    assert (np.diff(frames["time_us"]) >= 0).all()
    source.close()


def test_a_node_that_acknowledges_is_complained_of_and_its_own_frames_are_marked() -> None:
    source = SocketCanSource("can0", 4, 500_000)
    source.open()
    (complaint,) = source.status().complaints
    assert "can0: is not in listen-only mode" in complaint
    sh("cansend can0 123#01")
    assert take(source, 1)["flags"].tolist() == [OWN]
    source.close()


def test_receive_overflow_reported_by_the_driver_reaches_the_ledger() -> None:
    source = SocketCanSource("can1", 4, 500_000)
    source.open()
    sent, data, errors = 0, 0, 0
    deadline = time.monotonic() + 60
    while source.status().lost_controller == 0 and time.monotonic() < deadline:
        sh("cangen can0 -g 0 -I 123 -L 8 -n 500 -p 100")  # with no gap: the receiver's 64 bytes overflow
        sent += 500
        time.sleep(0.2)
        frames = drain(source)
        bad = (frames["flags"] & ERROR) != 0
        errors += int(bad.sum())
        data += int((~bad).sum())
    status = source.status()
    print(f"sent {sent}, received {data}, error frames {errors}, {status}")
    assert status.lost_controller is not None
    assert status.lost_controller >= 1
    assert status.error_frames["rx_overflow"] >= 1
    assert data < sent  # some were lost, and nobody else lost any:
    assert (status.lost_socket, status.lost_backlog) == (0, 0)
    assert errors >= status.error_frames["rx_overflow"]
    source.close()
