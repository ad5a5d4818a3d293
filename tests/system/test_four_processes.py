"""Measured cells → simulated ECUs → a virtual CAN bus → the agent → Mosquitto → the depot, each its own process."""

import csv
import gzip
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depot.store import Store
from edge.battery.model import load_cell
from sim_bus.playback import SENSOR_BIAS_C, SENSOR_GAIN
from tests.conftest import AYAZ, CHANNELS, bus_config

pytestmark = pytest.mark.system
EXTRACT = Path(__file__).parent.parent / "data/battery/lg_hg2_US06_-10_extract.csv.gz"
PACK = "Vehicle.Powertrain.TractionBattery"
SECONDS = 40
PARALLEL, STRINGS, CELLS = 80, 2, 176


@contextmanager
def ayaz(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running command; ended in order at the end of the block."""
    process = subprocess.Popen([*AYAZ, *arguments], cwd=cwd)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def measured() -> dict[str, Any]:
    with gzip.open(EXTRACT, "rt") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def test_measured_cells_reach_the_depot(tmp_path: Path, mosquitto: Any) -> None:
    groups = [f"239.74.{os.getpid() % 250}.{n}" for n in (2, 3, 4)]
    sources = {c: f"udp_multicast:{group}" for c, group in zip(CHANNELS, groups, strict=True)}
    battery = f'cell = "lg_hg2"\nparallel = {PARALLEL}'
    text = bus_config(sources, broker=mosquitto.url, battery=battery, interval_s=2)
    (tmp_path / "ayaz.toml").write_text(text)
    url = f"sqlite:///{tmp_path / 'depot.db'}"
    with ayaz("depot", "--headless", "--broker", mosquitto.url, "--store", url, cwd=tmp_path) as depot:
        with ayaz("run", "-c", "ayaz.toml", cwd=tmp_path) as agent:
            time.sleep(3)  # both listen before the bus speaks
            sim = ["sim", "--playback", str(EXTRACT), "--to", f"udp_multicast:{','.join(groups)}"]
            with ayaz(*sim, "--duration", str(SECONDS), cwd=tmp_path) as bus:
                assert bus.wait(SECONDS + 20) == 0
            time.sleep(1)
        assert agent.returncode == 0
        time.sleep(1)
    assert depot.returncode == 0
    store = Store(url)
    compare(store)
    store.close()


def compare(store: Store) -> None:
    report = store.verify()
    assert [(row["gaps"], row["stored"] == row["last"]) for row in report] == [([], True)]

    def series(leaf: str) -> tuple[Any, Any]:
        wall_ms, value = store.series("o", "b", f"{PACK}.{leaf}", 0, 1 << 62)
        return (wall_ms - begin_ms) / 1000, value

    begin_ms = 0
    begin_ms = min(series("CurrentVoltage")[0][0], series("CurrentCurrent")[0][0]) * 1000
    truth = measured()

    def true(name: str, at_s: Any) -> Any:
        return np.interp(at_s, truth["time_s"], truth[name])

    # The depot's time axis begins with the first stored sample, once the BMS has booted; where on the data, voltage tells.
    t, volts = series("CurrentVoltage")
    shift = min(
        np.arange(-1.5, 5.0, 0.05), key=lambda s: np.median(abs(volts / CELLS - true("voltage_V", t + s)))
    )
    assert np.median(abs(volts / CELLS - true("voltage_V", t + shift))) < 0.003
    t, amps = series("CurrentCurrent")
    sensed = SENSOR_GAIN * true("current_A", t + shift) + SENSOR_BIAS_C * load_cell("lg_hg2").capacity_ah
    assert np.median(abs(amps / STRINGS / PARALLEL - sensed)) < 0.02
    t, soc = series("StateOfCharge.Current")
    t_sd, sd = series("StateOfCharge.StandardDeviation")
    error = soc - 100 * true("soc", t + shift)
    print(f"SoC at the depot against the measured one: RMSE {np.sqrt(np.mean(error**2)):.2f} %")
    assert len(soc) > SECONDS * 0.6
    assert abs(error).max() < 5
    assert np.mean(abs(error) <= 1.96 * np.interp(t, t_sd, sd)) > 0.9
    cells = store.newest("o", "b", f"{PACK}.String%.Cell%.Voltage")
    assert len(cells) == STRINGS * CELLS
    assert 0 < np.std(list(cells.values())) < 0.02  # cells differ, a little
