"""The SocketCAN reader without SocketCAN: any datagram socket whose datagrams are the kernel's frames.

UDP over loopback has the kernel's receive times and its counter of drops too. On a kernel with CAN the same
reader is checked by tests/system/guest/.
"""

import random
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge.can import _socketcan, netlink, socketcan
from edge.can._socketcan import COUNTERS, MAX_READ, Receiver, StampClock
from edge.can.frames import BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, FRAME, REMOTE, Frames
from edge.can.netlink import find_link, parse_link
from edge.can.socketcan import SO_RXQ_OVFL, SO_TIMESTAMPING_NEW, parse_filters

SEED = 17
EFF, RTR, ERR = 0x80000000, 0x40000000, 0x20000000
FD_LENGTHS = (*range(9), 12, 16, 20, 24, 32, 48, 64)
S = 1_000_000_000
ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(what receives, with the options of a CAN socket; what sends)."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending,
    ):
        receiving.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING_NEW, 1 << 3 | 1 << 4)
        receiving.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        receiving.bind(("127.0.0.1", 0))
        sending.connect(receiving.getsockname())
        yield receiving, sending


def kernel_frame(can_id: int, data: bytes, fd_flags: int | None = None, length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    head = struct.pack("=IBB2x", can_id, size, fd_flags or 0)
    return head + data.ljust(8 if fd_flags is None else 64, b"\0")


def read_all(receiver: Receiver, fd: int, count: int) -> Frames:
    parts: list[Frames] = [np.zeros(0, FRAME)]
    deadline = time.monotonic() + 10
    while sum(map(len, parts)) < count and time.monotonic() < deadline:
        scratch = (
            np.full(MAX_READ, 0xAA, "u1").repeat(FRAME.itemsize).view(FRAME)
        )  # whatever was there before
        got, error = receiver.read(fd, scratch, 100)
        assert error == 0
        parts.append(scratch[:got])
    return np.concatenate(parts)


def plain(raw: bytes) -> tuple[int, int, bytes] | None:
    """(id, flags, data) as linux/can.h describes a frame; None where no bus carries it: the reader's twin."""
    if len(raw) not in (16, 72):
        return None
    can_id, length, fd_flags = struct.unpack_from("=IBB", raw)
    fd = len(raw) == 72
    if length not in (FD_LENGTHS if fd else range(9)) or (fd and can_id & (RTR | ERR)):
        return None
    if can_id & ERR:
        return (can_id & 0x1FFFFFFF, ERROR, raw[8:16]) if length == 8 else None
    if not can_id & EFF and can_id & 0x1FFFF800:
        return None
    flags = EXTENDED * bool(can_id & EFF) | REMOTE * bool(can_id & RTR) | FD * fd
    if fd:
        flags |= BITRATE_SWITCH * bool(fd_flags & 1) | ERROR_STATE * bool(fd_flags & 2)
    return can_id & 0x1FFFFFFF, flags, bytes(length) if can_id & RTR else raw[8 : 8 + length]


def random_raw(rng: random.Random) -> bytes:
    """Mostly frames, some that are nearly."""
    fd = rng.random() < 0.4
    can_id = rng.randrange(1 << 29) | rng.choice((0, EFF, EFF, EFF | RTR, RTR, ERR))
    can_id = can_id & ~0x1FFFF800 if not can_id & (EFF | ERR) and rng.random() < 0.8 else can_id
    length = rng.choice(FD_LENGTHS) if fd else rng.randrange(9)
    length = 8 if can_id & ERR and rng.random() < 0.8 else length
    length = rng.randrange(256) if rng.random() < 0.05 else length
    raw = kernel_frame(can_id, rng.randbytes(64 if fd else 8), rng.randrange(8) if fd else None, length)
    return rng.randbytes(rng.randrange(1, 120)) if rng.random() < 0.05 else raw


def test_every_frame_as_the_plain_twin_reads_it(line: tuple[socket.socket, socket.socket]) -> None:
    receiving, sending = line
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    receiver = Receiver(9)
    good = bad = 0
    for _ in range(200):
        raws = [random_raw(rng) for _ in range(100)]
        for raw in raws:
            sending.send(raw)
        expected = [one for raw in raws if (one := plain(raw)) is not None]
        frames = read_all(receiver, receiving.fileno(), len(expected))
        good, bad = good + len(expected), bad + len(raws) - len(expected)
        got = [(int(f["id"]), int(f["flags"]), f["data"][: f["length"]].tobytes()) for f in frames]
        assert got == expected
        assert not any(f["data"][f["length"] :].any() for f in frames)
        assert not frames["pad"].any()
        assert set(frames["channel"].tolist()) == {9}
    counted = receiver.counters()
    receiver.read(receiving.fileno(), np.zeros(1, FRAME), 0)
    assert (counted["frames"], receiver.counters()["malformed"]) == (good, bad)
    assert bad > 500


def test_error_classes_as_the_kernels_header_has_them(line: tuple[socket.socket, socket.socket]) -> None:
    receiving, sending = line
    rng = random.Random(SEED)
    receiver = Receiver(0)
    bits = {0x1: "tx_timeout", 0x2: "lost_arbitration", 0x8: "protocol", 0x10: "transceiver", 0x20: "no_ack",
            0x40: "bus_off", 0x80: "bus_error", 0x100: "restarted"}  # fmt: skip
    controller = {0x01: "rx_overflow", 0x02: "tx_overflow", 0x0C: "warning", 0x30: "passive", 0x40: "active"}
    expected = dict.fromkeys(COUNTERS, 0)
    errors = (0, 0)
    for _ in range(500):
        classes, data = rng.randrange(1 << 10), rng.randbytes(8)
        sending.send(kernel_frame(ERR | classes, data))
        read_all(receiver, receiving.fileno(), 1)
        expected["frames"] += 1
        expected["error_frames"] += 1
        for bit, name in bits.items():
            expected[name] += bool(classes & bit)
        for mask, name in controller.items():
            expected[name] += bool(classes & 4 and data[1] & mask)
        if classes & 0x200 or (classes & 4 and (data[6] or data[7])):
            errors = data[6], data[7]
    assert receiver.counters() == expected
    assert (receiver.tx_errors, receiver.rx_errors) == errors


def test_times_are_the_kernels_and_monotonic(line: tuple[socket.socket, socket.socket]) -> None:
    receiving, sending = line
    receiver = Receiver(0)
    marks = []
    for n in range(20):
        before = time.monotonic_ns() // 1000
        sending.send(kernel_frame(n, b""))
        marks.append((before, time.monotonic_ns() // 1000))
        time.sleep(0.005)
    times = read_all(receiver, receiving.fileno(), 20)["time_us"].tolist()
    # read long after: each has the time at which it came
    assert all(before - 5 <= t <= after + 5 for t, (before, after) in zip(times, marks, strict=True))


def test_what_the_full_buffer_cost_is_counted_to_the_frame(line: tuple[socket.socket, socket.socket]) -> None:
    receiving, sending = line
    receiving.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
    receiver = Receiver(0)
    sent = received = 0
    for _ in range(5):
        for _ in range(500):
            sending.send(kernel_frame(sent & 0x7FF, b"\0"))
            sent += 1
        while got := receiver.read(receiving.fileno(), scratch := np.zeros(MAX_READ, FRAME), 0)[0]:
            received += got
        assert len(scratch) == MAX_READ
    sending.send(kernel_frame(0, b""))  # the counter comes with a frame
    received += len(read_all(receiver, receiving.fileno(), 1))
    assert received + receiver.lost_socket == sent + 1
    assert receiver.lost_socket > 1000


def test_the_kernels_counter_of_drops_wraps_and_may_come_late() -> None:
    receiver = Receiver(0)
    receiver.dropped(0x7FFFFFFF)
    receiver.dropped(0xFFFFFFF0)
    assert receiver.lost_socket == 0xFFFFFFF0
    receiver.dropped(0xFFFFFF00)  # with a frame that was queued before it was asked for
    assert receiver.lost_socket == 0xFFFFFFF0
    receiver.dropped(0x00000010)
    assert receiver.lost_socket == 0x100000010
    receiver.new_socket()
    receiver.dropped(5)
    assert receiver.lost_socket == 0x100000015


def test_read_waits_without_the_gil_and_no_longer_than_told(
    line: tuple[socket.socket, socket.socket],
) -> None:
    receiving, _ = line
    receiver, scratch = Receiver(0), np.zeros(8, FRAME)
    ticks = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not stop.wait(0.01):
            ticks += 1

    counting = threading.Thread(target=count)
    counting.start()
    begin = time.monotonic()
    assert receiver.read(receiving.fileno(), scratch, 300) == (0, 0)
    assert 0.29 <= time.monotonic() - begin < 5
    stop.set()
    counting.join()
    assert ticks >= 3


def test_no_room_and_a_closed_descriptor() -> None:
    receiver = Receiver(0)
    assert receiver.read(0, np.zeros(0, FRAME), 0) == (0, 0)
    assert receiver.read(999_999, np.zeros(1, FRAME), 0) == (0, 9)  # EBADF


# The clock


def run_clock(clock: StampClock, wall: list[int], device: list[int], now: int, offset: int) -> list[int]:
    out = np.zeros(len(wall), np.int64)
    clock.times(np.array(wall, np.int64), np.array(device, np.int64), now, offset, out)
    return [int(t) for t in out]


class PlainClock:
    """The twin of StampClock, in words: shift by the offset from before while that is possible, else by now's."""

    def __init__(self) -> None:
        self.offset: int | None = None
        self.last = self.lowest = 0

    def times(self, wall: list[int], now: int, offset: int) -> list[int]:
        old = offset if self.offset is None else self.offset
        out = []
        for stamp in wall:
            at = stamp + old
            possible = max(self.last, self.lowest) - S // 1000 <= at <= now + S // 1000
            if not possible:
                old, at = offset, stamp + offset
            self.last = max(self.last, min(at, now))
            out.append(self.last)
        self.offset, self.lowest = offset, now
        return out


def test_stamps_as_the_plain_twin_places_them() -> None:
    rng = random.Random(SEED)
    clock, twin = StampClock(), PlainClock()
    now, offset = 1000 * S, -(1_700_000_000 * S)
    for _ in range(3000):
        came = sorted(now + rng.randrange(S // 100) for _ in range(rng.randrange(6)))
        step_at = rng.choice([now, now + S // 200, now + S // 100]) if rng.random() < 0.1 else None
        stepped = offset + rng.choice((-3600 * S, 3600 * S, S // 50, -S // 50)) if step_at else offset
        wall = [t - (stepped if step_at and t >= step_at else offset) for t in came]
        now, offset = now + S // 100, stepped
        got = run_clock(clock, wall, [-1] * len(wall), now, offset)
        assert got == twin.times(wall, now, offset)
        # and right: to the length of one read, whatever the wall clock did within it; exact where it did nothing
        assert all(abs(a - b) <= S // 100 + S // 1000 for a, b in zip(got, came, strict=True))
        assert step_at or got == came


@pytest.mark.parametrize("drift", [40e-6, -40e-6])
def test_a_devices_clock_from_anywhere_with_drift_and_restart(drift: float) -> None:
    rng = random.Random(SEED)
    clock = StampClock()
    now, offset = 1000 * S, -(1_700_000_000 * S)
    worst = 0
    for second in range(300):
        begin = 12_345 * S if second < 150 else 7 * S  # it counts anew from elsewhere
        wall, device, came = [], [], []
        for n in range(100):
            at = now + n * S // 100
            came.append(at)
            wall.append(at + rng.choice((20_000, 50_000, 3_000_000)) - offset)  # the kernel sees it later
            device.append(begin + round((at - 1000 * S) * (1 + drift)))
        now += S + S // 100
        got = run_clock(clock, wall, device, now, offset)
        assert got == sorted(got)
        if second not in (0, 150):
            worst = max(worst, *(abs(a - b) for a, b in zip(got, came, strict=True)))
    assert worst < 200_000  # ns: of jitter of 3 ms, what is left


def test_without_a_stamp_the_time_of_the_read() -> None:
    assert run_clock(StampClock(), [-1, -1], [-1, -1], 5 * S, 0) == [5 * S, 5 * S]


def test_times_never_run_backwards_whatever_the_stamps_say() -> None:
    rng = random.Random(SEED)
    clock, now, last = StampClock(), S, 0
    for _ in range(2000):
        now += rng.randrange(S)
        count = rng.randrange(5)
        wall = [rng.choice((-1, rng.randrange(1 << 62), now)) for _ in range(count)]
        device = [rng.choice((-1, rng.randrange(1 << 62))) for _ in range(count)]
        for t in run_clock(clock, wall, device, now, rng.randrange(-(1 << 61), 1 << 61)):
            assert last <= t <= now
            last = t


# rtnetlink


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def can_link(state: int, listen_only: bool) -> bytes:
    stats = [0] * 24
    stats[6], stats[11], stats[14] = 5, 2, 3
    info = attribute(1, b"can\0")
    info += attribute(2, b"".join((
        attribute(1, struct.pack("=8I", 500_000, *[0] * 7)),
        attribute(4, struct.pack("=I", state)),
        attribute(5, struct.pack("=II", 0, 0x2 if listen_only else 0x20)),
        attribute(8, struct.pack("=HH", 96, 135)),
        attribute(9, struct.pack("=8I", 2_000_000, *[0] * 7)),
    )))  # fmt: skip
    info += attribute(3, struct.pack("=6I", 1, 2, 3, 4, 5, 6))
    body = struct.pack("=BxHiII", 0, 280, 7, 0x41, 0)
    body += attribute(3, b"can0\0") + attribute(4, struct.pack("=I", 72)) + attribute(18 | 0x8000, info)
    body += attribute(23, struct.pack("=24Q", *stats))
    return struct.pack("=IHHII", 16 + len(body), 16, 0, 1, 0) + body


def test_a_can_link_is_read_whole() -> None:
    link = parse_link(can_link(2, True))
    assert link == netlink.Link(
        index=7, up=True, kind="can", mtu=72, state="error-passive", bitrate=500_000, data_bitrate=2_000_000,
        listen_only=True, tx_errors=96, rx_errors=135, bus_off=4, restarts=6, rx_over=3, rx_dropped=5,
    )  # fmt: skip
    assert parse_link(can_link(3, False)).state == "bus-off"
    assert parse_link(can_link(3, False)).listen_only is False
    assert parse_link(can_link(77, False)).state is None


def test_this_machines_loopback_and_none() -> None:
    link = find_link("lo")
    assert (link.index, link.listen_only, link.state) == (socket.if_nametoindex("lo"), None, None)
    with pytest.raises(OSError, match="no such CAN interface"):
        find_link("ghost0")


def test_answers_cut_and_flipped_anywhere_are_a_link_or_one_error() -> None:
    rng = random.Random(SEED)
    whole = can_link(1, True)
    for _ in range(5000):
        answer = bytearray(whole[: rng.randrange(len(whole) + 1)] if rng.random() < 0.5 else whole)
        for _ in range(rng.randrange(4)):
            if answer:
                answer[rng.randrange(len(answer))] = rng.randrange(256)
        try:
            parse_link(bytes(answer))
        except OSError:
            continue


def test_filters_as_candump_writes_them() -> None:
    assert parse_filters("") == []
    assert parse_filters("123:7FF, 18FEF100:1FFFFF00,00000123:1FFFFFFF") == [
        (0x123, EFF | 0x7FF),
        (EFF | 0x18FEF100, EFF | 0x1FFFFF00),
        (EFF | 0x123, EFF | 0x1FFFFFFF),
    ]


def test_there_is_no_send_in_here() -> None:
    """The agent only listens: no module between the bus and the core names a call that sends on it."""
    sending = re.compile(r"\b(send|sendto|sendmsg|sendmmsg|send_periodic|write)\s*\(")
    for module in (socketcan, _socketcan):
        path = Path(str(module.__file__))
        source = (
            ROOT
            / "edge"
            / "can"
            / (path.name.partition(".")[0] + (".pyx" if path.suffix == ".so" else ".py"))
        )
        assert not sending.search(source.read_text("utf-8")), source
    sources = (ROOT / "edge" / "can" / "sources.py").read_text("utf-8")
    assert not sending.search(sources)
