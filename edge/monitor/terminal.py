"""The terminal: keys in, lines out, and as it was before whatever happens.

Written to directly, with the few escape sequences that every terminal since the VT100 has: only lines that
changed are sent, and never more than the line to the technician takes. `/dev/tty` is opened anew without
blocking, so a slow connection delays the picture and never the CAN bus. (curses would own the screen too, but
has no output that doesn't block; rich's Live redraws the whole screen, and reads no keys.)
"""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

import click

from edge.monitor.page import Line, ansi

ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # other screen, no cursor, no wrapping, empty
LEAVE = b"\x1b[?7h\x1b[?25h\x1b[?1049l\x1b[0m"
MAX_SIZE = (500, 200)  # columns, lines
ESCAPE_S = 0.1  # a lone escape is the key itself after so long: a slow line may cut a sequence in two

SEQUENCES = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left", "[H": "home", "[F": "end", "OA": "up", "OB": "down",
    "OC": "right", "OD": "left", "OH": "home", "OF": "end", "[1~": "home", "[7~": "home", "[4~": "end",
    "[8~": "end", "[5~": "pgup", "[6~": "pgdn", "[Z": "shift-tab",
}  # fmt: skip
CONTROLS = {
    "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\t": "tab", "\x15": "ctrl-u",
    "\x0c": "ctrl-l",
}  # fmt: skip


def wants_ascii(environment: Mapping[str, str]) -> bool:
    """Whether the locale or the terminal lacks the signs of UTF-8 that we draw with.

    Python itself sets LC_CTYPE=C.UTF-8 where the locale is C (PEP 538): that says nothing of the terminal.
    """
    if environment.get("TERM", "") in ("linux", "vt100", "vt220"):
        return True
    names = [environment.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    if names[1] == "C.UTF-8" and not names[0]:
        names[1] = ""
    locale = next((name for name in names if name), "")
    return "utf8" not in locale.lower().replace("-", "")


def wants_colour(environment: Mapping[str, str]) -> bool:
    """See https://no-color.org."""
    return not environment.get("NO_COLOR")


class Keys:
    """Bytes from a terminal into names of keys: a character, or `up`, `pgdn`, `enter`, `esc`, ..."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""

    def feed(self, data: bytes) -> list[str]:
        """The keys that are complete now."""
        self._text += self._decode.decode(data)
        keys = []
        while self._text and (length := self._length()):
            part, self._text = self._text[:length], self._text[length:]
            key = SEQUENCES.get(part[1:]) if part[0] == "\x1b" else CONTROLS.get(part, part)
            if key and (len(key) > 1 or key.isprintable()):
                keys.append(key)
        return keys

    def pause(self) -> list[str]:
        """Nothing came for a moment: a lone escape was the key itself."""
        alone, self._text = self._text[:1] == "\x1b", ""
        return ["esc"] if alone else []

    def _length(self) -> int:
        """How long the sequence at the start is; 0 where it isn't complete."""
        text = self._text
        if text[0] != "\x1b":
            return 1
        if len(text) == 1:
            return 0
        if text[1] == "O":
            return 3 if len(text) > 2 else 0
        if text[1] != "[":
            return 2  # Alt and a key: nobody wants it
        end = next((n for n, c in enumerate(text[2:], 2) if "@" <= c <= "~"), 0)
        return end + 1 if end else (0 if len(text) < 16 else len(text))


class Terminal:
    """The technician's terminal, ours from `with` to its end.

    Raises
    ------
    click.UsageError
        There is no terminal, or one that can't place its cursor.
    """

    def __init__(self, colour: bool = True) -> None:
        self.colour = colour
        self.stopped = False  # SIGTERM, SIGHUP, or the terminal is gone
        self._fd = -1
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._suspend = False
        self._keys = Keys()
        self._heard_s = 0.0
        self._shown: list[Line] = []
        self._size = (0, 0)
        self._unsent = b""

    def __enter__(self) -> Terminal:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise click.UsageError("there is no terminal here; for one plain picture say --once or --json")
        if os.environ.get("TERM", "") in ("", "dumb"):
            raise click.UsageError("TERM names no terminal with a cursor; for one plain picture say --once")
        try:
            self._fd = os.open("/dev/tty", os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise click.UsageError(f"/dev/tty: {error.strerror}; for one plain picture say --once") from None
        try:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
                self._handlers[number] = signal.signal(number, self._signalled)
            self._take()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._fd)

    def size(self) -> tuple[int, int]:
        """Columns and lines now."""
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._fd)
            if columns and lines:
                return min(columns, MAX_SIZE[0]), min(lines, MAX_SIZE[1])
        return 80, 24

    def ready(self) -> bool:
        """Whether all that was drawn has gone out, so that a new picture is of use."""
        self._send()
        return not self._unsent

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines; only those that are not there yet are sent."""
        size = self.size()
        out = []
        if size != self._size:
            self._size, self._shown = size, []
            out.append("\x1b[0m\x1b[2J")
        for n, line in enumerate(lines[: size[1]]):
            if n >= len(self._shown) or self._shown[n] != line:
                out.append(f"\x1b[{n + 1};1H{ansi(line, self.colour)}")
        self._shown = list(lines)
        self._unsent += "".join(out).encode("utf-8", "replace")
        self._send()

    def wait(self, timeout_s: float) -> list[str]:
        """The keys that were pressed; waits that long for the first."""
        if self._suspend:
            self._stop_for_now()
        try:
            readable, _, _ = select.select([self._fd], [], [], timeout_s)
            data = os.read(self._fd, 1024) if readable else None
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            data = b""
        if data is None:
            return self._keys.pause() if time.monotonic() - self._heard_s > ESCAPE_S else []
        self._heard_s = time.monotonic()
        if not data:
            self.stopped = True  # hung up
        keys = self._keys.feed(data)
        if "ctrl-l" in keys:
            self._size = (0, 0)
        return keys

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._fd, self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self.stopped, self._unsent = True, b""

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGTSTP:
            self._suspend = True
        else:
            self.stopped = True

    def _take(self) -> None:
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd, termios.TCSANOW)
        self._unsent, self._size = ENTER, (0, 0)
        self._send()

    def _give_back(self) -> None:
        """As it was. What waits to be drawn is dropped; the way back is worth a moment's waiting."""
        if self._before is None:
            return
        self._unsent = LEAVE
        for _ in range(50):
            self._send()
            if not self._unsent:
                break
            with contextlib.suppress(OSError, ValueError):
                select.select([], [self._fd], [], 0.02)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
        self._before = None

    def _stop_for_now(self) -> None:
        """Ctrl-Z: give the terminal back, stop, and take it again when we are called back."""
        self._suspend = False
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
