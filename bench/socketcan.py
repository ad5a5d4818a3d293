"""SocketCAN in a guest: a full receive queue drained by our source, beside python-can's bus.

Both sockets are open on vcan0 at the same time and hold the very same frames, in buffers of the same size.
`python bench/socketcan.py` is what runs inside the guest; one JSON object on stdout.
"""

import json
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.measure import Result, version
from scripts.guest import GuestError, run_uml

QUEUED = 8000  # frames: two full 500 kbit/s buses for a second
ROUNDS = 7
SO_RCVBUFFORCE = 33


def benchmarks() -> Iterator[Result]:
    """Frames per second out of a full queue, the fastest of some rounds of each."""
    try:
        done = run_uml([sys.executable, __file__], 600)
    except GuestError as error:
        print(f"socketcan: no guest, not measured: {error}", file=sys.stderr)
        return
    if done.returncode:
        raise RuntimeError(done.output)
    seconds = json.loads(done.output.splitlines()[-1])
    ours, theirs = min(seconds["ours"]), min(seconds["theirs"])
    yield Result(
        "SocketCAN, a full queue drained",
        ours / QUEUED * 1e9,
        "ns/frame",
        version("python-can"),
        theirs / ours,
        5,
        15,
    )


def measure() -> dict[str, list[float]]:
    """Seconds of each round, inside the guest."""
    import can
    import numpy as np

    from edge.can.socketcan import SocketCanSource

    source = SocketCanSource("vcan0", 0, 500_000)
    source.open()
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    with (
        can.Bus(interface="socketcan", channel="vcan0") as bus,
        socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as sender,
    ):
        bus.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        sender.bind(("vcan0",))
        for _ in range(ROUNDS):
            for n in range(QUEUED):
                sender.send(struct.pack("=IB3xQ", n % 2048, 8, n))
            parts = []
            begin = perf_counter()
            while sum(map(len, parts)) < QUEUED:
                parts.append(source.read(0))
            seconds["ours"].append(perf_counter() - begin)
            assert (np.concatenate(parts)["id"] == np.arange(QUEUED) % 2048).all()
            begin = perf_counter()
            for n in range(QUEUED):
                message = bus.recv(0)
                assert message is not None
                assert message.arbitration_id == n % 2048
            seconds["theirs"].append(perf_counter() - begin)
    assert source.status().lost_socket == 0
    source.close()
    return seconds


if __name__ == "__main__":
    print(json.dumps(measure()))
