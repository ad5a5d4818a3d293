"""Sinks: every flag of every frame arrives, the same seed gives the same bytes, and what fails says so in one line."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import can
import numpy as np
import pytest

from edge.can.frames import BITRATE_SWITCH, ERROR, ERROR_STATE, EXTENDED, FD, FRAME, REMOTE, Frames
from edge.can.logs import open_log
from edge.errors import AyazError, LogError, ScenarioError, SourceError
from sim_bus import transmit
from sim_bus.blf import BlfWriter
from sim_bus.ecus import CHANNELS
from sim_bus.sinks import (
    LOG_START_US,
    BusSink,
    PipeSink,
    Sink,
    bus_channels,
    file_of,
    is_live,
    is_pipe,
    open_sink,
)
from sim_bus.socketcan import FD_BYTES, SocketCanSender, lay_out
from tests.sim_bus.small_run import SmallRun

SEED = 5


def frames_of(seconds: int, seed: int = SEED) -> Frames:
    run = SmallRun(seed).seconds()
    return np.concatenate([next(run).frames for _ in range(seconds)])


def written(path: Path, frames: Frames) -> bytes:
    with open_sink(str(path)) as sink:
        for part in np.array_split(frames, 7):
            sink.write(part)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", [".log", ".blf", ".asc", ".mf4", ".trc"])
def test_a_log_holds_every_frame_and_flag(tmp_path: Path, suffix: str) -> None:
    frames = frames_of(3)
    with open_sink(str(tmp_path / f"a{suffix}")) as sink:
        sink.write(frames)
    found = np.concatenate(list(open_log(tmp_path / f"a{suffix}")))
    if suffix == ".trc":
        frames = frames[frames["flags"] & (ERROR | REMOTE) == 0]
        assert sink.left_out == 450 - len(frames) == 270
    else:
        assert sink.left_out == 0
    if suffix == ".mf4":  # its groups are read one after the other where times are equal
        found, frames = (f[np.lexsort((f["channel"], f["flags"], f["time_us"]))] for f in (found, frames))
    first = found["time_us"][0]
    assert np.abs(found["time_us"] - first - frames["time_us"]).max() <= 1
    if suffix in (".log", ".blf", ".mf4"):
        assert abs(first - LOG_START_US) <= 1
    np.testing.assert_array_equal(found["channel"], frames["channel"])
    if suffix == ".asc":  # it says that there was an error frame, not which
        np.testing.assert_array_equal(found["flags"] & ERROR, frames["flags"] & ERROR)
        found, frames = (f[f["flags"] & ERROR == 0] for f in (found, frames))
    for name in ("flags", "id", "length", "data"):
        np.testing.assert_array_equal(found[name], frames[name])


@pytest.mark.parametrize("suffix", [".log", ".blf"])
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    first = written(tmp_path / f"a{suffix}", frames_of(20))
    assert first == written(tmp_path / f"b{suffix}", frames_of(20))
    assert first != written(tmp_path / f"c{suffix}", frames_of(20, SEED + 1))


def test_python_can_reads_our_blf_of_every_kind(tmp_path: Path) -> None:
    """FD too; over many containers; with the times that we gave."""
    rng = np.random.default_rng(SEED)
    frames = np.zeros(9000, FRAME)
    frames["time_us"] = np.sort(rng.integers(0, 10**9, len(frames)))
    frames["channel"] = rng.integers(0, 3, len(frames))
    frames["flags"] = rng.choice(
        [0, EXTENDED, REMOTE, ERROR, FD, FD | EXTENDED | BITRATE_SWITCH | ERROR_STATE], len(frames)
    )
    frames["id"] = rng.integers(0, 0x800, len(frames))
    fd = frames["flags"] & FD != 0
    frames["length"] = np.where(fd, rng.choice([8, 12, 20, 64], len(frames)), rng.integers(0, 9, len(frames)))
    for frame in frames:
        if not frame["flags"] & REMOTE:
            frame["data"][: frame["length"]] = rng.integers(0, 256, frame["length"])
    writer = BlfWriter(tmp_path / "a.blf", LOG_START_US)
    for part in np.array_split(frames, 50):
        writer.write(part)
    writer.close()
    with can.BLFReader(tmp_path / "a.blf") as reader:
        messages = list(reader)
    assert len(messages) == len(frames)
    for frame, message in zip(frames, messages, strict=True):
        assert round((message.timestamp - LOG_START_US / 1e6) * 1e6) == pytest.approx(frame["time_us"], abs=1)
        flags = frame["flags"]
        assert message.is_error_frame == bool(flags & ERROR)
        assert message.is_remote_frame == bool(flags & REMOTE)
        assert message.is_extended_id == bool(flags & EXTENDED)
        assert message.is_fd == bool(flags & FD)
        assert (message.channel, message.arbitration_id, message.dlc) == (
            frame["channel"], frame["id"], frame["length"],
        )  # fmt: skip
        if not flags & REMOTE:
            assert bytes(message.data) == frame["data"][: frame["length"]].tobytes()
    assert (reader.object_count, reader.file_size) == (9000, (tmp_path / "a.blf").stat().st_size)


@pytest.mark.parametrize("suffix", [".log", ".blf", ".asc", ".trc", ".mf4"])
def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("an older one")
    (tmp_path / f"a{suffix}.part").symlink_to("/dev/full")
    with pytest.raises(LogError, match=f"a{suffix}: cannot be written: No space left") as caught:
        written(path, frames_of(40))
    assert "\n" not in str(caught.value)
    assert path.read_text() == "an older one"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".log", ".blf", ".asc", ".trc", ".mf4"])
def test_no_folder(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(LogError, match="cannot be written: No such file"):
        open_sink(str(tmp_path / "none" / f"a{suffix}"))


def test_an_error_of_the_run_leaves_no_log(tmp_path: Path) -> None:
    def fail() -> None:
        with open_sink(str(tmp_path / "a.blf")) as sink:
            sink.write(frames_of(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(tmp_path.iterdir())


# Pipes


def test_a_named_pipe_takes_candump_lines(tmp_path: Path) -> None:
    pipe, log = tmp_path / "pipe", tmp_path / "a.log"
    os.mkfifo(pipe)
    assert is_pipe(str(pipe))
    reader = threading.Thread(target=lambda: log.write_bytes(pipe.read_bytes()))
    reader.start()
    frames = frames_of(3)
    with _read_at_last(str(pipe)) as sink:
        sink.write(frames)
    reader.join(10)
    np.testing.assert_array_equal(np.concatenate(list(open_log(log)))["data"], frames["data"])


def _read_at_last(pipe: str) -> Sink:
    """The sink, as soon as the reader is there."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return open_sink(pipe)
        except LogError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def test_a_pipe_without_a_reader_is_one_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LogError, match="pipe: cannot be written: nobody reads it"):
        open_sink(str(tmp_path / "pipe"))


def test_a_reader_that_goes_is_one_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with PipeSink(tmp_path / "pipe") as sink:
        os.close(reader)
        with pytest.raises(LogError, match="pipe: cannot be written: Broken pipe"):
            sink.write(frames_of(1))


def test_a_full_device_is_one_error() -> None:
    with (
        pytest.raises(LogError, match="/dev/full: cannot be written: No space"),
        open_sink("/dev/full") as sink,
    ):
        sink.write(frames_of(1))


def test_names_of_places(tmp_path: Path) -> None:
    assert file_of("a.BLF") == Path("a.BLF")
    assert [is_live(to) for to in ("vcan0", "virtual:x", "a.log", "-", None, "/dev/null")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip


# CAN interfaces


def test_channels_of_an_interface() -> None:
    assert bus_channels("vcan0") == ("socketcan", ["vcan0", "vcan1", "vcan2"])
    assert bus_channels("virtual:x1") == ("virtual", ["x1-bms", "x1-inverter", "x1-vehicle"])
    assert bus_channels("udp_multicast:239.74.163.2")[1] == [f"239.74.163.{n}" for n in (2, 3, 4)]
    assert bus_channels("socketcan:a,b,c") == ("socketcan", ["a", "b", "c"])


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("day.csv", "neither a file that ends in .log, .blf, .asc, .mf4, .trc nor INTERFACE:CHANNEL"),
        ("no/such/thing", "neither a file"),
        ("tin:can", "neither a file"),
        ("virtual:", "neither a file"),
        ("virtual:a,b", "three channels are needed: bms, inverter, vehicle"),
        ("virtual:a,,c", "three channels are needed"),
        ("nocan7", "socketcan:nocan7: cannot be opened"),
        ("nocan7", "sudo ip link add dev nocan7 type vcan"),
        ("a_name_that_is_too_long0", "cannot be opened"),
        ("udp_multicast:not an address", "cannot be opened"),
        ("udp_multicast:239.74.163.255", "cannot be opened"),
        ("slcan:/dev/none", "neither a file"),
        ("pcan:PCAN_USBBUS1", "cannot be opened"),
        ("kvaser:0", "cannot be opened"),
        ("vector:0", "cannot be opened"),
    ],
)
def test_a_wrong_interface_is_one_line(to: str, expected: str) -> None:
    with pytest.raises(AyazError) as caught:
        open_sink(to)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, (ScenarioError, SourceError))


def test_python_can_gets_all_flags() -> None:
    frames = frames_of(1)
    with (
        can.Bus(interface="virtual", channel="all-flags-inverter") as bus,
        open_sink("virtual:all-flags") as sink,
    ):
        sink.write(frames)
        got = [bus.recv(1.0) for _ in range(50)]
    mine = frames[frames["channel"] == 1]
    for frame, message in zip(mine, got, strict=True):
        assert message is not None
        assert message.is_error_frame == bool(frame["flags"] & ERROR)
        assert message.is_remote_frame == bool(frame["flags"] & REMOTE)
        assert message.is_extended_id == bool(frame["flags"] & EXTENDED)
        assert (message.arbitration_id, message.dlc) == (frame["id"], 8)


class Failing:
    """A bus or socket whose first sends fail."""

    def __init__(self, error: Exception, times: float) -> None:
        self.error, self.times, self.sent = error, times, 0

    def send(self, _: object) -> None:
        if self.times > 0:
            self.times -= 1
            raise self.error
        self.sent += 1

    def close(self) -> None: ...
    def shutdown(self) -> None: ...


def socket_sender(failing: Failing) -> SocketCanSender:
    return SocketCanSender(["vcan0", "vcan1", "vcan2"], lambda _: failing)  # type: ignore[arg-type, return-value]


def bus_sender(failing: Failing) -> BusSink:
    sink = BusSink("virtual", ["x", "y", "z"])
    for bus in sink._buses:
        bus.shutdown()
    sink._buses = [failing] * 3  # type: ignore[list-item]
    return sink


MAKERS: list[Callable[[Failing], SocketCanSender | BusSink]] = [socket_sender, bus_sender]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOBUFS, "No buffer space"), can.CanOperationError("full", errno.ENOBUFS)]
)
def test_a_full_queue_is_waited_for(
    make: Callable[[Failing], SocketCanSender | BusSink], error: Exception
) -> None:
    failing = Failing(error if make is bus_sender else OSError(errno.ENOBUFS, "x"), 3)
    with make(failing) as sink:
        sink.write(frames_of(1))
    assert failing.sent == 150


@pytest.mark.parametrize("make", MAKERS)
def test_a_queue_that_stays_full_is_one_error(
    make: Callable[[Failing], SocketCanSender | BusSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transmit, "PATIENCE_S", 0.02)
    sink = make(Failing(OSError(errno.ENOBUFS, "No buffer space"), float("inf")))
    with pytest.raises(SourceError, match="queue has been full"), sink:
        sink.write(frames_of(1))


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENODEV, "it has gone"), (errno.ENETDOWN, "ip link set vcan0 up")]
)
def test_a_vanished_interface_is_one_error(number: int, says: str) -> None:
    sink = socket_sender(Failing(OSError(number, os.strerror(number)), float("inf")))
    with pytest.raises(SourceError, match=f"socketcan:vcan0: cannot send: .*{says}"), sink:
        sink.write(frames_of(1))


def test_a_vanished_python_can_interface_is_one_error() -> None:
    sink = bus_sender(Failing(can.CanOperationError("Network is down [Error Code 100]", 100), float("inf")))
    with pytest.raises(SourceError, match="virtual: cannot send: Network is down"), sink:
        sink.write(frames_of(1))


def test_frames_as_the_kernel_takes_them() -> None:
    """struct can_frame and canfd_frame, through a real datagram socket."""
    frames = frames_of(1)[:15]
    fd = np.zeros(1, FRAME)
    fd["id"], fd["length"], fd["flags"] = 0x123, 12, FD | BITRATE_SWITCH
    fd["data"][0, :12] = range(12)
    frames = np.concatenate([frames, fd])
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs, SocketCanSender(CHANNELS, lambda _: mine.dup()) as sink:
        mine.close()
        sink.write(frames)
        got = [theirs.recv(100) for _ in frames]
    for frame, data in zip(frames, got, strict=True):
        flags = int(frame["flags"])
        assert len(data) == (72 if flags & FD else 16)
        identifier, length, fd_flags = struct.unpack_from("=IBB", data)
        assert identifier & 0x1FFFFFFF == frame["id"]
        assert [bool(identifier >> bit & 1) for bit in (31, 30, 29)] == [
            bool(flags & f) for f in (EXTENDED, REMOTE, ERROR)
        ]
        assert (length, fd_flags) == (frame["length"], 5 if flags & FD else 0)
        assert data[8 : 8 + length] == frame["data"][:length].tobytes()
    assert lay_out(frames).itemsize == FD_BYTES
    assert sys.byteorder == "little" or got[0][:4] == struct.pack("=I", int(frames["id"][0]))
