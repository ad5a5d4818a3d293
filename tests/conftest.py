"""Fixtures that several rooms' tests use."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from sim_bus.job import Job, live

ROOT = Path(__file__).parent.parent
AYAZ = [sys.executable, "-m", "edge.cli"]
CHANNELS = ("bms", "inverter", "vehicle")


def bus_config(
    sources: Mapping[str, str],
    *,
    broker: str = "mqtt://127.0.0.1:1",
    battery: str = 'cell = "lfp_bus"',
    interval_s: float | None = None,
) -> str:
    """A bus's configuration: each channel's source; nothing answers at the default broker."""
    channels = "".join(f'[[can]]\nname = "{c}"\nsource = "{s}"\ndbc = "{c}"\n' for c, s in sources.items())
    batch = "" if interval_s is None else f"[batch]\ninterval_s = {interval_s}\n"
    return (
        f'# of the tests\noperator = "o"\nbus = "b"\nstate_dir = "state"\n{channels}'
        f'[battery]\n{battery}\n{batch}[mqtt]\nbroker = "{broker}"\n'
    )


def virtual(name: str) -> dict[str, str]:
    """The sources that `ayaz sim --to virtual:NAME` feeds."""
    return {c: f"virtual:{name}-{c}" for c in CHANNELS}


def simulate(
    scenario: str,
    to: Path | str,
    *,
    seed: int = 1,
    duration_s: float | None = None,
    speed: float | None = None,
    stop: threading.Event | None = None,
) -> None:
    """What `ayaz sim` does; without a speed, as fast as it goes."""
    live(Job(scenario, str(to), seed, duration_s, speed), stop or threading.Event())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The large measurements and logs beside the repository; tests that need them skip without."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no large data set at {path}")
    return path


def find_program(name: str, *others: str) -> str:
    """The program's path; without it the test is skipped, or fails where CI promises it."""
    path = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
    for candidate in (name, *others):
        if found := shutil.which(candidate, path=path):
            return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"{name} is not installed, and CI must not skip what needs it")
    pytest.skip(f"{name} is not installed (make test installs it where it may)")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The system's Chromium."""
    return find_program("chromium", "chromium-browser", "google-chrome")


def free_port() -> int:
    """A TCP port of this machine that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def eventually(check: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until it is so; fail where it never is."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Mosquitto:
    """A real broker on a port of its own; keeps its sessions and retained messages over restarts."""

    def __init__(self, program: str, folder: Path) -> None:
        self.port = free_port()
        self._program = program
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {folder}/\nlog_type error\nuser root\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen([self._program, "-c", str(self._config)])
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("mosquitto did not start")

    def stop(self, kill: bool = False) -> None:
        if self._process is not None:
            self._process.kill() if kill else self._process.terminate()
            self._process.wait(10)
        self._process = None


@pytest.fixture
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A running Mosquitto."""
    broker = Mosquitto(find_program("mosquitto"), tmp_path_factory.mktemp("mosquitto"))
    broker.start()
    yield broker
    broker.stop()
