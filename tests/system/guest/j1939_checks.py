"""J1939 transport as the kernel's own j1939 sockets send it: our reader takes the frames, our reassembly the messages."""

import itertools
import random
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edge.can.frames import EXTENDED, Frames
from edge.can.j1939 import Listener
from edge.can.socketcan import SocketCanSource
from tests.system.guest.kit import take

SEED = 23
NO_NAME, NO_PGN, TO_ALL = socket.J1939_NO_NAME, socket.J1939_NO_PGN, socket.J1939_NO_ADDR
PROPRIETARY_B, PROPRIETARY_A, DM1 = 0xFF42, 0xEF00, 0xFECA
ABORT = 255


@pytest.fixture
def source() -> Iterator[SocketCanSource]:
    opened = SocketCanSource("vcan0", 0, 500_000)
    opened.open()
    yield opened
    opened.close()


def node(address: int) -> socket.socket:
    """The kernel's own J1939 node."""
    made = socket.socket(socket.AF_CAN, socket.SOCK_DGRAM, socket.CAN_J1939)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    made.bind(("vcan0", NO_NAME, NO_PGN, address))
    made.settimeout(30)
    return made


def packets(size: int) -> int:
    return -(-size // 7)


def messages(frames: Frames, cuts: int = 1) -> list[tuple[int, int, bytes]]:
    """(PGN, source address, payload) of what the frames complete, fed in so many parts."""
    listener = Listener(0)
    found = []
    for part in np.array_split(frames, cuts):
        for one in listener.feed(part):
            assert one.time_us == part["time_us"][one.frame]
            pgn = one.id >> 8 & 0x3FFFF
            found.append(
                (pgn if pgn >> 8 & 0xFF >= 240 else pgn & 0x3FF00, one.id & 0xFF, bytes(one.payload))
            )
    return found


def test_bam_of_several_lengths(source: SocketCanSource) -> None:
    rng = random.Random(SEED)
    sent = [rng.randbytes(size) for size in (9, 14, 15, 64, 100)]
    with node(0x80) as sender:
        for data in sent:
            sender.sendto(data, ("vcan0", NO_NAME, PROPRIETARY_B, TO_ALL))
        frames = take(source, sum(1 + packets(len(data)) for data in sent), 30)
    assert (frames["flags"] & EXTENDED).all()
    for cuts in (1, 7, len(frames)):
        assert messages(frames, cuts) == [(PROPRIETARY_B, 0x80, data) for data in sent]


def test_two_bams_at_once(source: SocketCanSource) -> None:
    rng = random.Random(SEED)
    data = {0x81: rng.randbytes(120), 0x82: rng.randbytes(90)}
    with node(0x81) as one, node(0x82) as two:
        for sender, address in ((one, 0x81), (two, 0x82)):
            sender.sendto(data[address], ("vcan0", NO_NAME, DM1, TO_ALL))
        frames = take(source, sum(1 + packets(len(d)) for d in data.values()), 30)
    senders = (frames["id"] & 0xFF).tolist()
    assert sum(a != b for a, b in itertools.pairwise(senders)) > 5  # they did come mixed
    assert sorted(messages(frames, 5)) == sorted((DM1, address, d) for address, d in data.items())


@pytest.mark.parametrize("size", [9, 63, 500, 1785])
def test_rts_cts_between_two_nodes(source: SocketCanSource, size: int) -> None:
    data = random.Random(SEED).randbytes(size)
    with node(0x90) as receiver, node(0x80) as sender:
        heard: list[bytes] = []
        listening = threading.Thread(target=lambda: heard.append(receiver.recv(2000)))
        listening.start()
        sender.sendto(data, ("vcan0", NO_NAME, PROPRIETARY_A, 0x90))
        listening.join(30)
        time.sleep(0.1)
    assert heard == [data]
    frames = take(source, packets(size) + 3, 1)
    assert messages(frames, 3) == [(PROPRIETARY_A, 0x80, data)]


def test_a_node_that_does_not_answer_gives_nothing(source: SocketCanSource) -> None:
    with node(0x80) as sender:
        sender.sendto(bytes(40), ("vcan0", NO_NAME, PROPRIETARY_A, 0x91))
        frames = take(source, 2, 5)  # the request, and after its time-out the kernel's abort
    assert frames["data"][:, 0].tolist() == [16, ABORT]
    assert messages(frames) == []
