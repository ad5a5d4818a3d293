"""The simulator on a real vcan: what it sends, candump and python-can read, to the bit; and an interface that fails."""

import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import can
import numpy as np
import pytest

from edge.can.frames import ERROR, EXTENDED, REMOTE
from edge.can.logs import open_log
from edge.errors import SourceError
from sim_bus.sinks import open_sink
from tests.sim_bus.small_run import SmallRun
from tests.system.guest.kit import sh

NAMES = ("sima", "simb", "simc")
SEED = 4
SECONDS = 20


@pytest.fixture
def three() -> Iterator[str]:
    sh("; ".join(f"ip link add {name} type vcan && ip link set {name} up" for name in NAMES))
    yield ",".join(NAMES)
    sh("; ".join(f"ip link del {name} 2>/dev/null" for name in NAMES) + "; true")


def test_candump_and_python_can_read_what_the_simulator_sends(three: str, tmp_path: Path) -> None:
    print("seed", SEED)
    frames = np.concatenate([s.frames for s in islice(SmallRun(SEED).seconds(), SECONDS)])
    log, got = tmp_path / "a.log", []
    with (
        can.Bus(interface="socketcan", channel=NAMES[0]) as bus,
        log.open("w") as out,
        subprocess.Popen(
            ["candump", "-L", "-r", "4000000", *(f"{n},0:0,#FFFFFFFF" for n in NAMES)], stdout=out
        ) as candump,
    ):
        reader = threading.Thread(target=lambda: got.extend(iter(lambda: bus.recv(2.0), None)))
        reader.start()
        time.sleep(0.5)
        begin = time.process_time()
        with open_sink(f"socketcan:{three}") as sink:
            for part in np.array_split(frames, SECONDS * 10):
                sink.write(part)
                time.sleep(0.01)
        print(f"{(time.process_time() - begin) / len(frames) * 1e6:.1f} us a frame, readers included")
        reader.join()
        candump.terminate()
    assert len(got) == len(frames) // 3
    for frame, message in zip(frames[frames["channel"] == 0], got, strict=True):
        flags = frame["flags"]
        assert message.is_error_frame == bool(flags & ERROR)
        assert message.is_remote_frame == bool(flags & REMOTE)
        assert message.arbitration_id == frame["id"]
        if not flags & REMOTE:
            assert bytes(message.data) == frame["data"][:8].tobytes()
    found = open_log(log)
    logged = np.concatenate(list(found))
    kept = EXTENDED | REMOTE | ERROR
    for n, name in enumerate(NAMES):
        mine, theirs = frames[frames["channel"] == n], logged[logged["channel"] == found.channels.index(name)]
        assert len(mine) == len(theirs)
        for field in ("id", "length", "data"):
            np.testing.assert_array_equal(mine[field], theirs[field])
        np.testing.assert_array_equal(mine["flags"] & kept, theirs["flags"] & kept)


def test_an_interface_that_goes_down_or_away_is_one_error(three: str) -> None:
    frames = next(SmallRun(SEED).seconds()).frames
    with open_sink(f"socketcan:{three}") as sink:
        sink.write(frames)
        sh(f"ip link set {NAMES[1]} down")
        with pytest.raises(
            SourceError, match=f"socketcan:{NAMES[1]}: cannot send: .*ip link set {NAMES[1]} up"
        ):
            sink.write(frames)
        sh(f"ip link set {NAMES[1]} up; ip link del {NAMES[2]}")
        with pytest.raises(SourceError, match=f"socketcan:{NAMES[2]}: cannot send: it has gone"):
            sink.write(frames)


def test_no_such_interface_says_how_to_make_one() -> None:
    with pytest.raises(
        SourceError, match=r"socketcan:none0: cannot be opened: .*ip link add dev none0 type vcan"
    ):
        open_sink("none0")
