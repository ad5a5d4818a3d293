"""The real program on a pseudo-terminal: keys drive it, and the terminal is as before however it ends."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.monitor.terminal import Keys, wants_ascii, wants_colour

LEAVE = b"\x1b[?1049l"


class Session:
    """`ayaz monitor` as the leader of a terminal of its own, 80 by 24."""

    def __init__(self, *arguments: str, starter: str = "") -> None:
        self.screen, self._at = b"", 0
        self.master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            [sys.executable, "-c", starter or STARTER, *arguments],
            stdin=self._slave, stdout=self._slave, stderr=self._slave,
            env=os.environ | {"TERM": "xterm", "LC_ALL": "C.UTF-8"}, start_new_session=True,
        )  # fmt: skip

    def read_until(self, wanted: str | bytes, seconds: float = 30) -> None:
        """Until the program has written that, after what was waited for before; fails where it never does."""
        wanted = wanted.encode() if isinstance(wanted, str) else wanted
        deadline = time.monotonic() + seconds
        while (found := self.screen.find(wanted, self._at)) < 0:
            assert time.monotonic() < deadline, self.screen[self._at :][-2000:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.screen += os.read(self.master, 65536)
        self._at = found + len(wanted)

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def attributes(self) -> list[object]:
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self.master)
        os.close(self._slave)


# The slave becomes the controlling terminal, as a login shell's is.
STARTER = (
    "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "from edge.cli import run_command; sys.exit(run_command(['monitor', *sys.argv[1:]]))"
)


@pytest.fixture
def start(day: Path, config: Path) -> Iterator[Callable[..., Session]]:
    sessions: list[Session] = []

    def make(*arguments: str) -> Session:
        sessions.append(Session(str(day), "-c", str(config), *arguments))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


def test_keys_drive_it_and_q_quits(start: Callable[..., Session]) -> None:
    session = start("--end")
    session.read_until("end of the log")
    assert session.attributes() != session.before  # no echo, keys at once
    session.press("3")
    session.read_until("PackVoltage")
    session.press("/packcurr")
    session.read_until('887 signals with "packcurr"')
    session.read_until("find:")
    session.press("\r\x1b[B4")
    session.read_until("state of charge")
    session.press("v")
    session.read_until("cells by state of charge")
    session.resize(40, 120)
    session.read_until(b"\x1b[40;1H")
    session.press("?")
    session.read_until("It only listens")
    session.press("?q")
    session.read_until(LEAVE)
    assert session.process.wait(10) == 0
    assert session.attributes() == session.before


def test_pause_and_pace(start: Callable[..., Session]) -> None:
    session = start("--speed", "4")
    session.read_until("4×")
    session.press("+")
    session.read_until("8×")
    session.press("p")
    session.read_until("PAUSED")
    session.press("pe")
    session.read_until("end of the log")
    session.press("q")
    assert session.process.wait(10) == 0


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)]
)
def test_a_signal_restores_the_terminal(start: Callable[..., Session], number: int, status: int) -> None:
    session = start()
    session.read_until("Overview")
    if number == signal.SIGINT:
        session.press("\x03")
    else:
        session.process.send_signal(number)
    session.read_until(LEAVE)
    assert session.process.wait(10) == status
    assert session.attributes() == session.before


def test_an_exception_restores_the_terminal(day: Path, config: Path) -> None:
    broken = STARTER.replace(
        "from edge.cli", "import edge.monitor.command as c; c.bus_page = lambda *_: 1 / 0; from edge.cli"
    )
    session = Session(str(day), "-c", str(config), starter=broken)
    try:
        session.read_until(LEAVE)
        session.read_until("ZeroDivisionError")
        assert session.process.wait(10) == 1
        assert session.attributes() == session.before
    finally:
        session.close()


def test_ctrl_z_gives_the_terminal_back(start: Callable[..., Session]) -> None:
    session = start()
    session.read_until("Overview")
    session.process.send_signal(signal.SIGTSTP)
    session.read_until(LEAVE)
    deadline = time.monotonic() + 10
    state = ""
    while state != "T" and time.monotonic() < deadline:
        state = Path(f"/proc/{session.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert state == "T"
    assert session.attributes() == session.before
    session.process.send_signal(signal.SIGCONT)
    session.read_until("Overview")
    session.press("q")
    assert session.process.wait(10) == 0


def test_a_slow_terminal_does_not_hold_the_feed(start: Callable[..., Session]) -> None:
    """Nobody reads what it draws: it goes on, and still obeys its keys."""
    session = start("--speed", "100")
    session.read_until("Overview")
    for _ in range(40):
        session.press("23")
        time.sleep(0.02)
    time.sleep(0.5)
    session.press("1q")
    deadline = time.monotonic() + 20
    while session.process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert session.process.returncode == 0


def test_keys_are_told_apart() -> None:
    keys = Keys()
    assert keys.feed(b"a\x1b[A\x1bOB\x1b[5~\x1b[Z\r\x7f\t\x15\x00\x1b[99;99R?") == [
        "a", "up", "down", "pgup", "shift-tab", "enter", "backspace", "tab", "ctrl-u", "?",
    ]  # fmt: skip
    assert keys.feed("é→".encode()[:3]) == ["é"]
    assert keys.feed("é→".encode()[3:]) == ["→"]
    assert keys.feed(b"\x1b") == []
    assert keys.pause() == ["esc"]
    assert keys.feed(b"\x1b[") == []
    assert keys.feed(b"B") == ["down"]
    assert keys.feed(b"\xff\xfe") == ["\ufffd", "\ufffd"]
    assert keys.feed(b"\x1b[" + b"1" * 1000 + b"q") != ["q"] * 1000


@pytest.mark.parametrize(
    ("environment", "ascii_only"),
    [
        ({"LANG": "en_US.UTF-8"}, False), ({"LANG": "kk_KZ.utf8"}, False), ({"LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "C"}, True), ({}, True), ({"LC_CTYPE": "C.UTF-8", "LANG": "C"}, True),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, True), ({"TERM": "linux", "LANG": "en_US.UTF-8"}, True),
        ({"LANG": "ru_RU.KOI8-R"}, True),
    ],
)  # fmt: skip
def test_locale(environment: dict[str, str], ascii_only: bool) -> None:
    assert wants_ascii(environment) == ascii_only


def test_no_color() -> None:
    assert wants_colour({})
    assert not wants_colour({"NO_COLOR": "1"})
