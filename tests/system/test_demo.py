"""The whole of it, as a visitor runs it."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import AYAZ

pytestmark = pytest.mark.system


def test_demo_loses_nothing_and_stores_nothing_twice() -> None:
    command = [*AYAZ, "demo", "--buses", "3", "--duration", "25", "--headless", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    batches = result["batches"]
    assert (batches["lost"], batches["duplicated"]) == (0, 0)
    assert batches["sealed"] == batches["stored"] >= 3 * 4
    for bus in result["buses"]:
        assert bus["frames"] > 1300  # a third of what the quietest, the playback, sends
        assert bus["soc_rmse_pct"] < 10
        assert bus["bms_soc_rmse_pct"] > 1
    (cold,) = [bus for bus in result["buses"] if "degC" in bus["day"]]
    assert cold["soc_rmse_pct"] < cold["bms_soc_rmse_pct"], (
        "the measured cell in the cold, which no model was fitted on"
    )


def children(pid: int) -> list[int]:
    """The processes that a process has started (proc(5))."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def test_a_demo_whose_host_was_killed_ends_and_says_so() -> None:
    command = [*AYAZ, "demo", "--buses", "2", "--headless"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while len(children(process.pid)) < 3:  # the depot and more: hosts are started once it is ready
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(3)
        os.kill(children(process.pid)[-1], signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "host of bus-00" in said
    assert "stopped by itself" in said
