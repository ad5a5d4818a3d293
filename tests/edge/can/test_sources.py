"""What is a source's own, beyond the contract of all (test_source_contract.py)."""

import contextlib
import os
import pty
import threading
import time
import tty
from pathlib import Path

import can
import numpy as np
import pytest

from edge.can.socketcan import SocketCanSource
from edge.can.sources import LogSource, PythonCanSource, open_source
from edge.errors import SourceError


@pytest.mark.parametrize(
    ("spec", "kind", "name"),
    [
        ("can0", SocketCanSource, "socketcan:can0"),
        ("socketcan:vcan3", SocketCanSource, "socketcan:vcan3"),
        ("virtual:x", PythonCanSource, "virtual:x"),
        ("slcan:/dev/ttyACM0", PythonCanSource, "slcan:/dev/ttyACM0"),
        ("log:/a/b.log", LogSource, "log:/a/b.log"),
    ],
)
def test_the_spec_chooses_the_source(spec: str, kind: type, name: str) -> None:
    source = open_source(spec, 0, 500_000)
    assert isinstance(source, kind)
    assert source.name == name


@pytest.mark.parametrize(
    "spec",
    [
        "ghost0",
        "socketcan:ghost0",
        "slcan:/dev/ghost",
        "udp_multicast:not-an-address",
        "log:/no/such.log",
        "lo",
    ],
)
def test_absent_interface_is_a_typed_error(spec: str) -> None:
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source(spec, 0, 500_000).open()


@pytest.mark.parametrize("spec", ["nosuch:can0", ":", "::", " virtual:x"])
def test_unknown_interface_names_those_there_are(spec: str) -> None:
    with pytest.raises(SourceError, match=r"we and python-can know .*slcan"):
        open_source(spec, 0, 500_000)


@pytest.mark.parametrize(
    ("filters", "fault"),
    [
        ("123", "must be ID:MASK"),
        ("123:xyz", "must be ID:MASK"),
        ("-1:7FF", "over 29 bits"),
        ("3FFFFFFF:1FFFFFFF", "over 29 bits"),
        (",".join(["123:7FF"] * 513), "at most 512"),
    ],
)
def test_wrong_filters(filters: str, fault: str) -> None:
    with pytest.raises(SourceError, match=fault):
        open_source("can0", 0, 500_000, filters=filters)


def test_filters_are_socketcans() -> None:
    with pytest.raises(SourceError, match="only socketcan"):
        open_source("virtual:x", 0, 500_000, filters="123:7FF")


def test_multicast_groups_do_not_mix() -> None:
    """Two channels at the same port: Linux gives each socket what any on this machine has joined, unless told."""
    groups = [f"239.74.{os.getpid() % 250}.{n}" for n in (11, 12)]
    sources = [open_source(f"udp_multicast:{g}", n, 500_000) for n, g in enumerate(groups)]
    for source in sources:
        source.open()
    with contextlib.ExitStack() as stack:
        for n, group in enumerate(groups):
            other = stack.enter_context(can.Bus(interface="udp_multicast", channel=group))
            other.send(can.Message(arbitration_id=n, is_extended_id=False))
        for n, source in enumerate(sources):
            assert source.read(5)["id"].tolist() == [n]
            assert len(source.read(0.1)) == 0
    for source in sources:
        source.close()


@pytest.mark.parametrize(("listen_only", "command"), [(True, b"L"), (False, b"O")])
def test_slcan_is_asked_to_listen_only(listen_only: bool, command: bytes) -> None:
    ours, theirs = pty.openpty()
    tty.setraw(ours)
    tty.setraw(theirs)
    source = open_source(f"slcan:{os.ttyname(theirs)}", 0, 250_000, listen_only=listen_only)
    source.open()
    heard = b""
    while command + b"\r" not in heard:  # python-can writes byte by byte
        heard += os.read(ours, 100)
    assert heard.split(b"\r")[-2] == command
    assert b"S5\r" in heard  # 250 kbit/s
    assert source.status().complaints == ()
    source.close()
    os.close(ours)
    os.close(theirs)


def test_an_adapter_that_cannot_be_asked_to_listen_only_is_complained_of() -> None:
    (complaint,) = open_source("gs_usb:0", 0, 500_000).status().complaints
    assert "can't ask it to listen only" in complaint
    assert open_source("gs_usb:0", 0, 500_000, listen_only=False).status().complaints == ()


def test_what_is_no_frame_is_left_out_and_counted() -> None:
    source = open_source("virtual:malformed", 0, 500_000)
    source.open()
    with can.Bus(interface="virtual", channel="malformed") as other:
        for message in (
            can.Message(arbitration_id=1, data=[1]),
            can.Message(arbitration_id=2, data=bytes(65), check=False, is_fd=True),
            can.Message(arbitration_id=1 << 40, check=False),
            can.Message(arbitration_id=3, data=[3]),
        ):
            other.send(message)
        frames = source.read(1)
    assert frames["id"].tolist() == [1, 3]
    assert frames["data"][:, 0].tolist() == [1, 3]
    assert source.status().malformed == 2
    source.close()


def test_whatever_python_can_raises_is_a_source_error(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source("virtual:raises", 0, 500_000)
    source.open()

    def broken(*_: object) -> None:
        raise IndexError("in the adapter's own library")

    monkeypatch.setattr(can.BusABC, "recv", broken)
    with pytest.raises(SourceError, match="virtual:raises: in the adapter's own library"):
        source.read(0)
    source.close()


def test_a_wall_clock_that_steps_stalls_no_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """python-can computes its time-outs with the wall clock; an hour back would make it wait for one."""
    source = open_source("virtual:steps", 0, 500_000)
    source.open()
    real = time.time
    step = threading.Timer(0.1, lambda: monkeypatch.setattr("can.bus.time", lambda: real() - 3600))
    step.start()
    begin = time.monotonic()
    assert len(source.read(0.5)) == 0
    assert time.monotonic() - begin < 10
    step.join()
    source.close()


def write_log(path: Path, lines: str) -> str:
    path.write_text(lines)
    return f"log:{path}"


def test_a_log_plays_at_its_own_pace_and_says_that_it_has_ended(tmp_path: Path) -> None:
    spec = write_log(tmp_path / "a.log", "(5.000000) can0 001#01\n(5.300000) can0 002#02\n")
    source = open_source(spec, 1, 500_000)
    source.open()
    assert source.read(0.1)["id"].tolist() == [1]
    assert len(source.read(0.05)) == 0
    second = source.read(5)
    assert second["id"].tolist() == [2]
    assert len(source.read(0)) == 0
    status = source.status()
    assert (status.state, status.frames) == ("ended", 2)
    assert status.complaints == (f"{spec}: has ended",)


def test_a_log_that_breaks_off_gives_all_before_it(tmp_path: Path) -> None:
    spec = write_log(tmp_path / "a.log", "(5.0) can0 001#01\n(5.0) can0 002#02\n(5.0) can0 0")
    source = open_source(spec, 1, 500_000)
    source.open()
    frames = np.concatenate([source.read(0.05) for _ in range(3)])
    assert frames["id"].tolist() == [1, 2]
    assert source.status().state == "ended"
    assert "a.log" in source.status().complaints[0]


def test_one_channel_of_a_log_that_has_several(tmp_path: Path) -> None:
    spec = write_log(tmp_path / "a@b.log", "(5.0) can0 001#01\n(5.0) can1 002#02\n(5.0) can0 003#03\n")
    source = open_source(f"{spec}@can0", 7, 500_000)
    source.open()
    frames = np.concatenate([source.read(0.05) for _ in range(2)])
    assert frames["id"].tolist() == [1, 3]
    assert set(frames["channel"].tolist()) == {7}
    unnamed = open_source(spec, 7, 500_000)
    unnamed.open()
    with pytest.raises(SourceError, match="has the channels can0, can1; take one"):
        unnamed.read(1)


def test_times_of_a_log_that_run_backwards_do_not(tmp_path: Path) -> None:
    spec = write_log(tmp_path / "a.log", "(5.2) can0 001#01\n(5.0) can0 002#02\n(5.1) can0 003#03\n")
    source = open_source(spec, 0, 500_000)
    source.open()
    frames = np.concatenate([source.read(0.05) for _ in range(3)])
    assert frames["id"].tolist() == [1, 2, 3]
    assert (np.diff(frames["time_us"]) >= 0).all()
