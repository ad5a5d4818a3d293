"""SocketCAN for real, on vcan, inside a guest: what can-utils and python-can send, our source gives.

The guest has one processor at 100 Hz: order, content, counts and times are asserted, never latency.
"""

import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import can
import numpy as np
import pytest

from edge.can.frames import BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, OWN, REMOTE, Frames
from edge.can.logs import open_log
from edge.can.socketcan import SocketCanSource
from edge.errors import SourceError
from tests.system.guest.kit import ERR_FLAG, drain, payloads, raw_frame, sh, take

SEED = 11
FD_LENGTHS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64)


@pytest.fixture
def source() -> Iterator[SocketCanSource]:
    opened = SocketCanSource("vcan0", 3, 500_000)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def other() -> Iterator[can.BusABC]:
    """Another node, python-can's."""
    with can.Bus(interface="socketcan", channel="vcan0", fd=True, receive_own_messages=False) as bus:
        yield bus


def random_messages(count: int) -> list[can.Message]:
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    made = []
    for _ in range(count):
        fd, extended, error = rng.random() < 0.4, rng.random() < 0.5, rng.random() < 0.1
        remote = not fd and not error and rng.random() < 0.2
        length = 8 if error else rng.choice(FD_LENGTHS) if fd and not error else rng.randrange(9)
        made.append(
            can.Message(
                arbitration_id=rng.randrange(1, 1 << (29 if extended or error else 11)),
                is_extended_id=extended and not error,
                is_remote_frame=remote,
                is_error_frame=error,
                is_fd=fd and not error,
                bitrate_switch=fd and not error and rng.random() < 0.5,
                error_state_indicator=fd and not error and rng.random() < 0.5,
                data=None if remote else rng.randbytes(length),
                dlc=length if not fd or error else None,
            )
        )
    return made


def flags_of(m: can.Message) -> int:
    return (
        EXTENDED * m.is_extended_id
        | REMOTE * m.is_remote_frame
        | ERROR * m.is_error_frame
        | FD * m.is_fd
        | BITRATE_SWITCH * m.bitrate_switch
        | ERROR_STATE * m.error_state_indicator
    )


def test_what_python_can_sends_comes_in_order_with_content_flags_and_times(
    source: SocketCanSource, other: can.BusABC
) -> None:
    sent = random_messages(3000)
    before_us = time.monotonic_ns() // 1000
    got: list[Frames] = []
    for n, message in enumerate(sent):
        other.send(message)
        if n % 100 == 99:
            got.append(drain(source))
    after_us = time.monotonic_ns() // 1000
    frames = np.concatenate(got)
    assert frames["id"].tolist() == [m.arbitration_id for m in sent]
    assert (frames["flags"] & ~np.uint8(OWN)).tolist() == [flags_of(m) for m in sent]
    assert payloads(frames) == [bytes(m.dlc) if m.is_remote_frame else bytes(m.data) for m in sent]
    assert not any(f["data"][f["length"] :].any() for f in frames)
    assert set(frames["channel"].tolist()) == {3}
    times = frames["time_us"]
    assert (np.diff(times) >= 0).all()
    assert before_us <= times[0] <= times[-1] <= after_us
    assert len(np.unique(times)) > 2500  # each frame its own time, not its read's
    status = source.status()
    assert (status.frames, status.lost_socket, status.malformed) == (3000, 0, 0)


def test_times_are_the_kernels_as_candump_has_them(source: SocketCanSource, tmp_path: Path) -> None:
    log = tmp_path / "candump.log"
    with log.open("w") as out, subprocess.Popen(["candump", "-L", "vcan0"], stdout=out) as candump:
        time.sleep(0.5)
        sh("cangen vcan0 -g 3 -I r -L r -D r -f -n 120; cangen vcan0 -g 3 -e -I r -L r -D r -n 120")
        frames = take(source, 240)
        time.sleep(0.3)
        candump.terminate()
    logged = np.concatenate(list(open_log(log)))
    assert len(frames) == len(logged) == 240
    assert frames["id"].tolist() == logged["id"].tolist()
    assert payloads(frames) == payloads(logged)
    kind = np.uint8(EXTENDED | FD | BITRATE_SWITCH)
    assert (frames["flags"] & kind).tolist() == (logged["flags"] & kind).tolist()
    offset_us = frames["time_us"] - logged["time_us"]
    assert (
        np.ptp(offset_us) <= 100
    )  # the clocks are slewed a little; a read's time would be off by milliseconds


@pytest.mark.parametrize(
    ("text", "identifier", "flags", "data"),
    [
        ("123#DEADBEEF", 0x123, 0, "DEADBEEF"),
        ("7FF#", 0x7FF, 0, ""),
        ("1F334455#1122334455667788", 0x1F334455, EXTENDED, "1122334455667788"),
        ("00000001#01", 1, EXTENDED, "01"),
        ("001#01", 1, 0, "01"),
        ("123#R", 0x123, REMOTE, ""),
        ("123#R5", 0x123, REMOTE, "0000000000"),
        ("1F334455#R", 0x1F334455, EXTENDED | REMOTE, ""),
        ("321##0AABB", 0x321, FD, "AABB"),
        ("321##1" + "5A" * 64, 0x321, FD | BITRATE_SWITCH, "5A" * 64),
        ("321##2" + "A5" * 12, 0x321, FD | ERROR_STATE, "A5" * 12),
        ("20000004#0001000000000000", 4, ERROR, "0001000000000000"),
    ],
)
def test_what_cansend_sends(
    source: SocketCanSource, text: str, identifier: int, flags: int, data: str
) -> None:
    sh(f"cansend vcan0 {text}")
    (frame,) = take(source, 1)
    assert (int(frame["id"]), int(frame["flags"]) & ~OWN) == (identifier, flags)
    assert frame["data"][: frame["length"]].tobytes().hex().upper() == data


def test_cangen_in_order(source: SocketCanSource) -> None:
    sh("cangen vcan0 -g 0 -I i -L 8 -D i -n 2000 -p 10")
    frames = drain(source)
    assert frames["id"].tolist() == [n & 0x7FF for n in range(2000)]
    counted = frames["data"][:, :8].copy().view("<u8")[:, 0].tolist()
    assert counted == list(range(counted[0], counted[0] + 2000))


def test_a_flood_with_the_reader_held_back_kernel_and_ledger_agree_to_the_frame(other: can.BusABC) -> None:
    source = SocketCanSource("vcan0", 0, 10_000)  # a small bus, a small buffer
    source.open()
    sent = 0
    for count in (5000, 1, 3000, 777):
        for _ in range(count):
            other.send(can.Message(arbitration_id=sent % 2048, data=sent.to_bytes(8, "little")))
            sent += 1
        told_before_reading = source.status().lost_socket
        frames = drain(source)
        status = source.status()
        assert status.lost_socket == told_before_reading  # known at once, not with the next frame
        assert status.frames + status.lost_socket == sent
        numbers = frames["data"][:, :8].copy().view("<u8")[:, 0]
        assert (np.diff(numbers) > 0).all()
    assert status.lost_socket > 5000
    sh("cangen vcan0 -g 0 -I 1 -L 8 -n 4000 -p 10")
    read = len(drain(source))
    assert read < 4000
    source.close()
    source.open()
    sh("cangen vcan0 -g 0 -I 1 -L 8 -n 2000 -p 10")
    drain(source)
    status = source.status()  # goes on counting over the new socket
    assert status.frames + status.lost_socket == sent + 6000
    source.close()
    assert source.status().lost_socket == status.lost_socket


def test_reading_while_it_floods_loses_nothing_that_is_not_counted() -> None:
    source = SocketCanSource("vcan0", 0, 20_000)
    source.open()
    with subprocess.Popen(
        ["cangen", "vcan0", "-g", "0", "-I", "i", "-L", "8", "-n", "20000", "-p", "10"]
    ) as gen:
        read = 0
        while gen.poll() is None:
            read += len(source.read(0.01))
            time.sleep(0.002)
    read += len(drain(source))
    status = source.status()
    assert read == status.frames
    assert status.frames + status.lost_socket == 20_000
    source.close()


def test_own_frames_and_those_of_another_machine_are_told_apart() -> None:
    sh("ip link add near type vxcan peer name far; ip link set near mtu 72 up; ip link set far mtu 72 up")
    source = SocketCanSource("near", 0, 500_000)
    source.open()
    sh("cansend far 123#01; cansend near 124#02; cansend far 125##0AA")
    frames = take(source, 3)
    assert frames["id"].tolist() == [0x123, 0x124, 0x125]
    assert (frames["flags"] & OWN).tolist() == [0, OWN, 0]
    source.close()
    sh("ip link del near")


def test_interface_down_and_up_again(source: SocketCanSource) -> None:
    sh("cansend vcan0 101#01; cansend vcan0 102#02; ip link set vcan0 down")
    assert drain(source)["id"].tolist() == [0x101, 0x102]  # what came before is not lost
    begin = time.monotonic()
    assert len(source.read(0.3)) == 0  # an interface that is down is waited for
    assert time.monotonic() - begin >= 0.3
    status = source.status()
    assert status.state == "down"
    assert any("is down" in c and "ip link set vcan0 up" in c for c in status.complaints)
    sh("ip link set vcan0 up; cansend vcan0 103#03")
    assert take(source, 1)["id"].tolist() == [0x103]
    assert source.status().state == "up"
    assert source.status().complaints == ()


def test_opened_while_down_it_waits_until_the_interface_is_up() -> None:
    sh("ip link add vcan8 type vcan")
    source = SocketCanSource("vcan8", 0, 500_000)
    source.open()
    assert len(source.read(0)) == 0
    assert source.status().state == "down"
    sh("ip link set vcan8 up; cansend vcan8 001#01")
    assert len(take(source, 1)) == 1
    source.close()
    sh("ip link del vcan8")


def test_unplugged_and_back_with_another_index() -> None:
    sh("ip link add vcan9 type vcan; ip link set vcan9 up")
    source = SocketCanSource("vcan9", 0, 500_000)
    source.open()
    first = socket.if_nametoindex("vcan9")
    sh("cansend vcan9 001#01; cansend vcan9 002#02; ip link del vcan9")
    assert source.read(0.5)["id"].tolist() == [1, 2]
    with pytest.raises(SourceError, match="socketcan:vcan9: the interface is gone"):
        source.read(0.5)
    assert source.status().state == "gone"
    source.close()
    with pytest.raises(SourceError, match="vcan9: cannot be opened: no such CAN interface"):
        source.open()
    sh("ip link add vcan7 type vcan; ip link add vcan9 type vcan; ip link set vcan9 up")
    assert socket.if_nametoindex("vcan9") != first
    source.open()
    sh("cansend vcan9 003#03")
    assert take(source, 1)["id"].tolist() == [3]
    assert source.status().frames == 3
    source.close()
    sh("ip link del vcan9; ip link del vcan7")


def test_error_frames_are_classified(source: SocketCanSource) -> None:
    with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as sender:
        sender.bind(("vcan0",))
        for classes, data in (
            (0x004, b"\0\x01\0\0\0\0\0\0"),  # receive overflow
            (0x004, b"\0\x05\0\0\0\0\x60\x61"),  # overflow and warning, with counters
            (0x004, b"\0\x20\0\0\0\0\0\0"),  # passive
            (0x004, b"\0\x40\0\0\0\0\0\0"),  # active again
            (0x008 | 0x080, bytes(8)),  # protocol, bus error
            (0x020, bytes(8)),
            (0x040, bytes(8)),
            (0x100, bytes(8)),
            (0x200, b"\0\0\0\0\0\0\x05\x07"),
        ):
            sender.send(raw_frame(ERR_FLAG | classes, data))
    assert len(take(source, 9)) == 9
    status = source.status()
    assert status.error_frames == {
        "rx_overflow": 2, "warning": 1, "passive": 1, "active": 1, "protocol": 1, "no_ack": 1, "bus_off": 1,
        "bus_error": 1, "restarted": 1,
    }  # fmt: skip
    assert (status.lost_controller, status.bus_off, status.restarts) == (2, 1, 1)
    assert (status.tx_errors, status.rx_errors) == (5, 7)


def test_what_no_bus_can_carry_is_left_out_and_counted(source: SocketCanSource) -> None:
    with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as sender:
        sender.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FD_FRAMES, 1)
        sender.bind(("vcan0",))
        sender.send(raw_frame(0x111, b"\1"))
        sender.send(raw_frame(0x12345, b"\2"))  # over 11 bits, and not called extended
        sender.send(raw_frame(0x112, bytes(9), fd=True))  # no FD frame has 9 bytes
        sender.send(raw_frame(0x113, b"\3"))
    frames = drain(source)
    assert frames["id"].tolist() == [0x111, 0x113]
    assert source.status().malformed == 2


def test_kernel_filters_take_only_theirs_and_error_frames() -> None:
    source = SocketCanSource("vcan0", 0, 500_000, filters="100:7F0,18FEF100:1FFFFF00")
    source.open()
    sh(
        "for f in 100#01 10F#02 110#03 00000100#04 18FEF12A#05 18FEF22A#06 20000040#0000000000000000; do cansend vcan0 $f; done"
    )
    assert drain(source)["id"].tolist() == [0x100, 0x10F, 0x18FEF12A, 0x40]
    source.close()
    most = SocketCanSource("vcan0", 0, 500_000, filters=",".join(f"{n:03X}:7FF" for n in range(512)))
    most.open()
    sh("cansend vcan0 1FF#01; cansend vcan0 200#02")
    assert drain(most)["id"].tolist() == [0x1FF]
    most.close()


def test_a_capped_buffer_is_complained_of_with_what_to_do() -> None:
    source = SocketCanSource("vcan0", 0, 500_000)
    os.seteuid(65534)  # no CAP_NET_ADMIN any more
    try:
        source.open()
    finally:
        os.seteuid(0)
    (complaint,) = source.status().complaints
    assert "0.04 s of a full bus" in complaint
    assert "sysctl -w net.core.rmem_max=" in complaint
    needed = complaint.rpartition("=")[2]
    before = sh("cat /proc/sys/net/core/rmem_max")
    sh(f"echo {needed} > /proc/sys/net/core/rmem_max")
    os.seteuid(65534)
    try:
        source.open()
    finally:
        os.seteuid(0)
        sh(f"echo {before.strip()} > /proc/sys/net/core/rmem_max")
    assert source.status().complaints == ()
    source.close()


def test_the_buffer_holds_a_second_of_the_fullest_bus(source: SocketCanSource, other: can.BusABC) -> None:
    for n in range(500_000 // 47):
        other.send(can.Message(arbitration_id=n % 2048, data=b"", is_extended_id=False))
    assert source.status().lost_socket == 0
    assert len(drain(source)) == 500_000 // 47


def test_a_wall_clock_that_steps_breaks_no_time(source: SocketCanSource) -> None:
    wall = time.clock_gettime(time.CLOCK_REALTIME)
    marks, got = [], []
    try:
        for step_s in (0, 3600, -7200, 0.5, -0.5, 40 * 365 * 86400):
            sh("cansend vcan0 001#01")
            marks.append(time.monotonic_ns() // 1000)
            wall = time.clock_gettime(time.CLOCK_REALTIME)
            time.clock_settime(time.CLOCK_REALTIME, wall + step_s)
            sh("cansend vcan0 002#02")
            marks.append(time.monotonic_ns() // 1000)
            got.append(drain(source))
    finally:
        time.clock_settime(time.CLOCK_REALTIME, wall)
    frames = np.concatenate(got)
    assert len(frames) == len(marks) == 12
    assert (np.diff(frames["time_us"]) >= 0).all()
    # sent before the mark, and after the one before it: to the millisecond, whatever the wall clock did
    assert (frames["time_us"] <= np.array(marks)).all()
    assert (frames["time_us"][1:] >= np.array(marks[:-1]) - 1000).all()


def test_it_never_sends(source: SocketCanSource, other: can.BusABC) -> None:
    packets = Path("/sys/class/net/vcan0/statistics/tx_packets")
    before = packets.read_text()
    source.read(0.2)
    source.status()
    source.close()
    source.open()
    assert packets.read_text() == before


def test_vcan_has_no_controller_to_complain_of() -> None:
    source = SocketCanSource("vcan1", 0, 500_000, data_bitrate=2_000_000)
    source.open()
    status = source.status()
    assert (status.state, status.listen_only, status.bitrate) == ("up", None, None)
    assert status.complaints == ()
    source.close()
