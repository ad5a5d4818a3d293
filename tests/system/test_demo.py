"""The whole of it, as a visitor runs it."""

import json
import subprocess

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
