"""One contract for every source of frames, whatever is behind it.

Order, content, flags, times on the monotonic scale that never run backwards, a read that never waits beyond
its time-out, one typed error, closed twice and opened again, a status. SocketCAN needs a kernel that has it:
tests/system/guest/test_guest.py runs this file in one.
"""

import os
import pty
import random
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import can
import numpy as np
import pytest

from edge.can.frames import BITRATE_SWITCH, ERROR_STATE, EXTENDED, FD, FRAME, OWN, REMOTE, Frames
from edge.can.sources import Source, open_source
from edge.errors import SourceError

SEED = 5
HAS_CAN = Path("/sys/class/net/vcan0").exists()


class Pair(NamedTuple):
    """A source, not yet open, and what makes its frames come."""

    source: Source
    send: Callable[[list[can.Message]], None]  # to call after open
    kinds: int  # flags that this source can carry


def python_can(interface: str, channel: str, kinds: int) -> Iterator[Pair]:
    fd = {"fd": True} if interface == "socketcan" else {}
    with can.Bus(interface=interface, channel=channel, **fd) as other:

        def send(messages: list[can.Message]) -> None:
            for message in messages:
                other.send(message)

        yield Pair(open_source(f"{interface}:{channel}", 2, 500_000), send, kinds)


def virtual(_: Path) -> Iterator[Pair]:
    yield from python_can("virtual", f"contract-{os.getpid()}", ALL)


def udp_multicast(_: Path) -> Iterator[Pair]:
    yield from python_can("udp_multicast", f"239.74.{os.getpid() % 250}.99", ALL)


def socketcan(_: Path) -> Iterator[Pair]:
    yield from python_can("socketcan", "vcan0", ALL)


def slcan(_: Path) -> Iterator[Pair]:
    """An adapter on a pty that answers each command, and then speaks Lawicel's ASCII."""
    ours, theirs = pty.openpty()
    tty.setraw(ours)
    tty.setraw(theirs)
    os.set_blocking(ours, False)

    def send(messages: list[can.Message]) -> None:
        for m in messages:
            head = f"{'T' if m.is_extended_id else 't'}{m.arbitration_id:0{8 if m.is_extended_id else 3}X}"
            head = head.replace("t", "r").replace("T", "R") if m.is_remote_frame else head
            os.write(ours, f"{head}{m.dlc:X}{bytes(m.data).hex().upper()}\r".encode())

    yield Pair(open_source(f"slcan:{os.ttyname(theirs)}", 2, 500_000), send, EXTENDED | REMOTE)
    os.close(ours)
    os.close(theirs)


def log(folder: Path) -> Iterator[Pair]:
    """The log is written by what "sends"; so it is there before the source is opened."""
    path = folder / "played.log"

    def send(messages: list[can.Message]) -> None:
        with can.CanutilsLogWriter(path) as writer:
            for n, message in enumerate(messages):
                message.timestamp, message.channel = 1000 + n / 1e4, "can7"
                writer(message)

    yield Pair(open_source(f"log:{path}", 2, 500_000), send, EXTENDED | FD | BITRATE_SWITCH | ERROR_STATE)


ALL = EXTENDED | REMOTE | FD | BITRATE_SWITCH | ERROR_STATE
WAYS = [virtual, udp_multicast, slcan, log, *([socketcan] if HAS_CAN else [])]
WAYS = [
    way for way in WAYS if way.__name__ in os.environ.get("AYAZ_SOURCES", way.__name__)
]  # a guest runs one


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    make: Callable[[Path], Iterator[Pair]] = request.param
    made = make(tmp_path)
    one = next(made)
    yield one
    one.source.close()
    one.source.close()
    for _ in made:
        pass


def messages(kinds: int, count: int) -> list[can.Message]:
    rng = random.Random(SEED)
    made = []
    for _ in range(count):
        extended, fd = rng.random() < 0.5, bool(kinds & FD) and rng.random() < 0.4
        remote = bool(kinds & REMOTE) and not fd and rng.random() < 0.1
        length = rng.choice((0, 8, 12, 64)) if fd else rng.randrange(9)
        switch, state = fd and rng.random() < 0.5, fd and bool(kinds & ERROR_STATE) and rng.random() < 0.2
        made.append(
            can.Message(
                arbitration_id=rng.randrange(1 << (29 if extended else 11)),
                is_extended_id=extended,
                is_remote_frame=remote,
                is_fd=fd,
                bitrate_switch=switch,
                error_state_indicator=state,
                data=None if remote else rng.randbytes(length),
                dlc=length if remote else None,
            )
        )
    return made


def flags_of(m: can.Message) -> int:
    return (
        EXTENDED * m.is_extended_id
        | REMOTE * m.is_remote_frame
        | FD * m.is_fd
        | BITRATE_SWITCH * m.bitrate_switch
        | ERROR_STATE * m.error_state_indicator
    )


def start(pair: Pair, sent: list[can.Message]) -> None:
    """Open and send; a log is written first."""
    if pair.source.name.startswith("log:"):
        pair.send(sent)
        pair.source.open()
    else:
        pair.source.open()
        pair.send(sent)


def collect(source: Source, count: int) -> Frames:
    parts: list[Frames] = [np.zeros(0, FRAME)]
    deadline = time.monotonic() + 20
    while sum(map(len, parts)) < count and time.monotonic() < deadline:
        parts.append(source.read(0.5))
        assert len(parts[-1]) <= 1024
    return np.concatenate(parts)


def test_order_content_flags_and_times(pair: Pair) -> None:
    print(f"seed {SEED}")
    sent = messages(pair.kinds, 150)
    before_us = time.monotonic_ns() // 1000
    start(pair, sent)
    frames = collect(pair.source, len(sent))
    after_us = time.monotonic_ns() // 1000
    assert frames.dtype == FRAME
    assert frames["id"].tolist() == [m.arbitration_id for m in sent]
    assert (frames["flags"] & ~np.uint8(OWN)).tolist() == [flags_of(m) for m in sent]
    asked = [bytes(m.dlc) if m.is_remote_frame else bytes(m.data) for m in sent]  # a length, and no data
    assert [f["data"][: f["length"]].tobytes() for f in frames] == asked
    assert not any(f["data"][f["length"] :].any() for f in frames)
    assert not frames["pad"].any()
    assert set(frames["channel"].tolist()) == {2}
    assert (np.diff(frames["time_us"]) >= 0).all()
    assert before_us - 1_000_000 <= frames["time_us"][0] <= frames["time_us"][-1] <= after_us
    assert len(pair.source.read(0)) == 0
    assert pair.source.status().frames == len(sent)


def test_read_waits_for_its_time_and_no_longer(pair: Pair) -> None:
    start(pair, messages(EXTENDED, 1))
    assert len(collect(pair.source, 1)) == 1
    for timeout_s in (0.0, 0.2):
        begin = time.monotonic()
        assert len(pair.source.read(timeout_s)) == 0
        took_s = time.monotonic() - begin
        assert timeout_s - 0.005 <= took_s < timeout_s + 2  # a busy machine; a stall would be for good


def test_one_typed_error_where_it_is_not_open(pair: Pair) -> None:
    with pytest.raises(SourceError, match="is not open"):
        pair.source.read(0)
    start(pair, messages(EXTENDED, 1))
    pair.source.close()
    with pytest.raises(SourceError, match="is not open"):
        pair.source.read(0)


def test_opened_again_it_goes_on_and_goes_on_counting(pair: Pair) -> None:
    sent = messages(EXTENDED, 3)
    start(pair, sent)
    first = collect(pair.source, 3)
    pair.source.close()
    start(pair, sent)
    again = collect(pair.source, 3)
    assert again["id"].tolist() == first["id"].tolist()
    assert again["time_us"][0] >= first["time_us"][-1]
    assert pair.source.status().frames == 6


def test_status_claims_nothing_that_is_not_known(pair: Pair) -> None:
    start(pair, messages(EXTENDED, 1))
    status = pair.source.status()
    assert (
        status.losses().items()
        <= dict.fromkeys(
            ("malformed", "lost_socket", "lost_backlog", "lost_controller", "bus_off", "restarts"), 0
        ).items()
    )
    assert status.lost_socket == (0 if pair.source.name.startswith("socketcan:") else None)
    pair.source.close()
    assert pair.source.status().frames == status.frames


def test_a_descriptor_or_none(pair: Pair) -> None:
    assert pair.source.fileno() is None
    start(pair, messages(EXTENDED, 1))
    number = pair.source.fileno()
    assert number is None or os.fstat(number)
