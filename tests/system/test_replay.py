"""A recording replayed gives the same batches as the live agent gave."""

import sqlite3
import threading
from pathlib import Path

from edge.agent import Agent, make_setup
from edge.config import load
from edge.replay import replay_logs
from edge.telemetry.batch import unpack
from tests.conftest import bus_config, simulate, virtual


def config_file(folder: Path, name: str) -> Path:
    path = folder / "ayaz.toml"
    path.write_text(bus_config(virtual(name), interval_s=2))
    return path


def test_recording_gives_the_same_bytes(tmp_path: Path) -> None:
    path = config_file(tmp_path, "replay")
    log = tmp_path / "rec.log"
    agent = Agent(load(path), record=log)
    agent_stop = threading.Event()
    runner = threading.Thread(target=agent.run, args=(agent_stop,))
    runner.start()
    simulate("spring_day", "virtual:replay", seed=5, duration_s=7.0, speed=1.0)
    agent_stop.set()
    runner.join(10)
    rows = sqlite3.connect(tmp_path / "state" / "spool.db").execute(
        "SELECT seq, payload FROM item ORDER BY seq"
    )
    live = {seq: unpack(payload) for seq, payload in rows}
    setup = make_setup(load(path))
    again = {item.seq: unpack(item.payload) for _, items in replay_logs(setup, [log]) for item in items}
    assert len(live) >= 4
    assert again == live


def test_a_plain_log_is_replayed_the_same_each_time(tmp_path: Path) -> None:
    path = config_file(tmp_path, "plain")
    log = tmp_path / "day.log"
    simulate("winter_day", log, seed=2, duration_s=20)
    setup = make_setup(load(path))
    runs = [[i.payload for _, items in replay_logs(setup, [log]) for i in items] for _ in range(2)]
    assert runs[0] == runs[1]
    assert len(runs[0]) > 5
