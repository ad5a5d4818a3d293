"""Kills and cuts, a slice that CI runs: what was sealed is stored exactly once."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from depot.store import Store
from depot.subscriber import Subscriber
from edge.agent import Agent
from edge.config import load
from tests.conftest import bus_config, eventually, simulate, virtual

pytestmark = pytest.mark.faults
CAMPAIGN = os.environ.get("AYAZ_CAMPAIGN") == "1"
KILLS = 200 if CAMPAIGN else 6
SEED = 11


def write_config(folder: Path, broker: str) -> Path:
    path = folder / "ayaz.toml"
    path.write_text(bus_config(virtual("f"), broker=broker, interval_s=0.5))
    return path


def test_broker_away_at_start_and_killed_later(tmp_path: Path, mosquitto: Any) -> None:
    mosquitto.stop()
    agent = Agent(load(write_config(tmp_path, mosquitto.url)))
    agent_stop = threading.Event()
    runner = threading.Thread(target=agent.run, args=(agent_stop,))
    runner.start()
    sim_stop = threading.Event()
    sim = threading.Thread(
        target=simulate, args=("spring_day", "virtual:f"), kwargs={"speed": 1.0, "stop": sim_stop}
    )
    sim.start()
    store = Store(f"sqlite:///{tmp_path / 'depot.db'}")
    subscriber = Subscriber(mosquitto.url, store)
    subscriber.start()
    time.sleep(3)
    mosquitto.start()
    for _ in range(2):
        time.sleep(3)
        mosquitto.stop(kill=True)
        time.sleep(1)
        mosquitto.start()
    sim_stop.set()
    sim.join(10)
    time.sleep(1)
    boot = agent.core.boot
    eventually(lambda: store.keys("o", "b", boot) == list(range(1, agent.core.seq + 1)))
    agent_stop.set()
    runner.join(15)
    subscriber.stop()
    assert agent.core.seq > 10
    assert store.quarantined() == 0
    store.close()


def test_agent_killed_again_and_again_loses_nothing_that_it_sealed(tmp_path: Path, mosquitto: Any) -> None:
    """`kill -9` at random times; every item that ever reached the spool is stored, no gap in any boot."""
    print("seed", SEED)
    rng = random.Random(SEED)
    path = write_config(tmp_path, mosquitto.url)
    store = Store(f"sqlite:///{tmp_path / 'depot.db'}")
    subscriber = Subscriber(mosquitto.url, store)
    subscriber.start()
    script = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from edge.agent import Agent\n"
        "from edge.config import load\n"
        "from sim_bus.job import Job, live\n"
        "bus = Job('spring_day', 'virtual:f', speed=1.0)\n"
        "threading.Thread(target=live, args=(bus, threading.Event()), daemon=True).start()\n"
        "stop = threading.Event()\n"
        "threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()\n"
        f"Agent(load(Path({str(path)!r}))).run(stop)\n"
    )
    command = [sys.executable, "-c", script]
    for _ in range(KILLS):
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            time.sleep(rng.uniform(1.5, 4))
            process.kill()
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        time.sleep(4)
        process.communicate(b"\n", timeout=20)
    assert process.returncode == 0
    time.sleep(1)
    report = store.verify()
    assert len(report) >= 2, json.dumps(report)
    assert all(not row["gaps"] and row["stored"] == row["last"] for row in report), json.dumps(report)
    subscriber.stop()
    store.close()
