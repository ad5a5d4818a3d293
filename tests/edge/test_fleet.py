"""Many agents whose turns one loop takes: nothing is lost between them, none stops another, all end in order."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge import clock
from edge.agent import Agent, make_setup
from edge.can.frames import FRAME, Frames
from edge.config import Config, load
from edge.core import Setup
from edge.fleet import Fleet, Paced
from edge.replay import replay_logs
from edge.telemetry.batch import unpack
from tests.conftest import CHANNELS, bus_config

SECOND_US = 1_000_000
FAULTS = (1, 0x303)  # INV_Faults and its channel: no checksum, on the uplink each second
SEED = 3


def seconds(count: int, per_second: int, seed: int = SEED) -> Iterator[Frames]:
    """Seconds of frames with a number as their id, which nobody knows, but every fifth is an INV_Faults."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        frames = np.zeros(per_second, FRAME)
        frames["time_us"] = n * SECOND_US + np.sort(rng.integers(0, SECOND_US, per_second))
        frames["id"] = n * per_second + np.arange(per_second)
        frames["channel"] = rng.integers(0, len(CHANNELS), per_second)
        known = frames[::5]
        known["channel"], known["id"] = FAULTS
        known["length"] = 8
        known["data"][:, :2] = rng.integers(0, 256, (len(known), 2))
        yield frames


class Clock:
    """Time that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_us = 77_000_000
        monkeypatch.setattr(clock, "monotonic_us", lambda: self.now_us)


@pytest.fixture
def time_(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_paced_hands_over_each_frame_once_at_its_time(time_: Clock) -> None:
    print("seed", SEED)
    rng = np.random.default_rng(SEED)
    whole = np.concatenate(list(seconds(6, 200)))
    begin_us = time_.now_us
    paced = Paced(seconds(6, 200))
    heard, last_us = [], begin_us - 1
    while time_.now_us < begin_us + 7 * SECOND_US:
        frames = paced.read()
        assert ((frames["time_us"] > last_us) & (frames["time_us"] <= time_.now_us)).all()
        heard.append(frames)
        last_us = time_.now_us
        time_.now_us += int(rng.integers(1, 900_000))
    together = np.concatenate(heard)
    together["time_us"] -= begin_us
    assert (together == whole).all()
    assert paced.late_us == 0


def test_paced_asks_for_a_second_only_when_it_begins(time_: Clock) -> None:
    asked = []

    def counted() -> Iterator[Frames]:
        for n, frames in enumerate(seconds(10, 5)):
            asked.append(n)
            yield frames

    paced = Paced(counted())
    assert asked == []
    paced.read()
    time_.now_us += 999_999
    paced.read()
    assert asked == [0]
    time_.now_us += 1
    paced.read()
    assert asked == [0, 1]


def test_where_the_process_was_held_up_simulated_time_stands_still_and_nothing_is_lost(time_: Clock) -> None:
    paced = Paced(seconds(5, 100))
    heard = [paced.read()]
    time_.now_us += 61 * SECOND_US  # a minute late
    for _ in range(60):
        heard.append(paced.read())
        time_.now_us += 100_000
    together = np.concatenate(heard)
    whole = np.concatenate(list(seconds(5, 100)))
    assert (together[["id", "data"]] == whole[["id", "data"]]).all()
    assert (np.diff(together["time_us"]) >= 0).all()
    assert paced.late_us == 59 * SECOND_US
    late = together["time_us"][100:200] - 77_000_000 - 61 * SECOND_US
    assert ((late >= -SECOND_US) & (late < 0)).all(), "what was sent late was sent just now, not a minute ago"


def test_a_closed_input_says_nothing_more(time_: Clock) -> None:
    paced = Paced(seconds(5, 100))
    paced.read()
    paced.close()
    time_.now_us += 10 * SECOND_US
    assert len(paced.read()) == 0
    assert paced.losses() == {}


class Broken(Paced):
    """Fails at its n-th read."""

    def __init__(self, given: Iterator[Frames], reads: int) -> None:
        super().__init__(given)
        self._reads_left = reads

    def read(self) -> Frames:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise RuntimeError("the harness is torn")
        return super().read()


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return make_setup(config(tmp_path_factory.mktemp("setup"), "any"))


def config(folder: Path, bus: str) -> Config:
    """Of a bus whose broker is away."""
    (folder / bus).mkdir()
    path = folder / bus / "ayaz.toml"
    text = bus_config(dict.fromkeys(CHANNELS, f"simulated:{bus}"), interval_s=0.5)
    path.write_text(text.replace('bus = "b"', f'bus = "{bus}"'))
    return load(path)


def live(fleet: Fleet, for_s: float) -> None:
    stop = threading.Event()
    timer = threading.Timer(for_s, stop.set)
    timer.start()
    fleet.run(stop, drain_s=0.1)
    timer.join()


def spooled(agent: Agent) -> list[int]:
    with sqlite3.connect(agent.spool.path) as db:
        rows = db.execute("SELECT seq FROM item ORDER BY id").fetchall()
    db.close()
    return [seq for (seq,) in rows]


def test_a_fleet_gives_every_agent_every_frame_and_seals_all(tmp_path: Path, setup: Setup) -> None:
    inputs = {f"bus-{n}": Paced(seconds(2, 50 + n)) for n in range(5)}
    agents = {b: Agent(config(tmp_path, b), setup=setup, inputs=[i]) for b, i in inputs.items()}
    fleet = Fleet(agents)
    live(fleet, 4.5)
    assert fleet.failed == {}
    for n, (name, agent) in enumerate(agents.items()):
        assert agent.core.setup.bus == name
        assert agent.counts()["frames"] == 2 * (50 + n)
        assert agent.core.seq >= 2
        assert spooled(agent) == list(range(1, agent.core.seq + 1)), "in order, none missing"
        assert agent.counts()["waiting"] == agent.core.seq


def test_a_failing_agent_is_told_and_seals_and_the_others_go_on(
    tmp_path: Path, setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    inputs = {"a": Paced(seconds(9, 50)), "b": Broken(seconds(9, 50), 3), "c": Paced(seconds(9, 50))}
    agents = {b: Agent(config(tmp_path, b), setup=setup, inputs=[i]) for b, i in inputs.items()}
    fleet = Fleet(agents)
    live(fleet, 2.5)
    assert fleet.failed == {"b": "RuntimeError: the harness is torn"}
    (told,) = [r for r in caplog.records if "b failed" in r.getMessage()]
    assert told.levelname == "ERROR"
    assert spooled(agents["b"]) == list(range(1, agents["b"].core.seq + 1)) != []
    assert 0 < agents["b"].counts()["frames"] < 50
    for name in ("a", "c"):
        assert agents[name].counts()["frames"] > 90
        assert spooled(agents[name]) == list(range(1, agents[name].core.seq + 1))


def test_one_that_cannot_end_in_order_holds_nobody_up(tmp_path: Path, setup: Setup) -> None:
    inputs = {name: Paced(seconds(9, 50)) for name in ("a", "b")}
    agents = {b: Agent(config(tmp_path, b), setup=setup, inputs=[i]) for b, i in inputs.items()}

    def torn() -> None:
        raise OSError("no space left")

    inputs["a"].close = torn  # type: ignore[method-assign]
    fleet = Fleet(agents)
    live(fleet, 0.6)
    assert fleet.failed == {"a": "OSError: no space left"}
    assert spooled(agents["b"])[-1] == agents["b"].core.seq
    again = Agent(load(tmp_path / "a" / "ayaz.toml"), setup=setup, inputs=[])  # its spool was given free
    again.finish()
    again.close()


def test_stopped_before_the_last_has_joined(tmp_path: Path, setup: Setup) -> None:
    agents = {n: Agent(config(tmp_path, n), setup=setup, inputs=[Paced(seconds(9, 50))]) for n in "abcdefgh"}
    fleet = Fleet(agents)
    live(fleet, 0.5)
    assert fleet.failed == {}
    assert agents["a"].core.seq > 0
    assert agents["h"].core.seq == 0
    assert agents["h"].counts()["waiting"] == 0


def test_what_a_fleet_makes_of_a_bus_is_what_a_replay_of_its_recording_makes(
    tmp_path: Path, setup: Setup
) -> None:
    log = tmp_path / "rec.log"
    agent = Agent(config(tmp_path, "a"), log, setup=setup, inputs=[Paced(seconds(9, 200))])
    other = Agent(config(tmp_path, "b"), setup=setup, inputs=[Paced(seconds(9, 200))])
    live(Fleet({"a": agent, "b": other}), 2.2)
    with sqlite3.connect(agent.spool.path) as db:
        lived = {seq: unpack(payload) for seq, payload in db.execute("SELECT seq, payload FROM item")}
    db.close()
    replayed = replay_logs(agent.core.setup, [log])
    assert lived == {item.seq: unpack(item.payload) for _, items in replayed for item in items}
    assert len(lived) >= 2
