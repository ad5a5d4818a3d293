"""Where everything stands in a TOML text: `tomllib` says what, not where."""

from __future__ import annotations

import bisect
import contextlib
import re
import tomllib

Place = tuple[str | int, ...]  # ("timetable", 2, "at"): keys, and numbers from 0 in arrays

_SPACE = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'  # up to two quotes may stand before the closing three
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[^\n,\]}#]+")  # numbers, true, dates


def places(text: str) -> dict[Place, int]:
    """The line, from 1, of every table, key and array element of a text that `tomllib` has read.

    A table's line is its header's, or the first key's that mentions it. Raises RecursionError where arrays are nested
    deeper than Python goes.
    """
    return _Scan(text.replace("\r\n", "\n")).run()


def last_line(text: str) -> int:
    """The line where the last table or assignment begins, of a text that ends too early to be TOML."""
    scan = _Scan(text.replace("\r\n", "\n"))
    with contextlib.suppress(LookupError, ValueError, RecursionError):
        scan.run()
    return scan.begun


class _Scan:
    """Goes once over the text. It is known to be TOML, so all that is checked is that it does not stand still."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.begun = 1  # the line where the present table or assignment begins
        self.ends = [found.start() for found in re.finditer("\n", text)]
        self.lines: dict[Place, int] = {}
        self.tables: dict[Place, int] = {}  # how many tables an array of tables has so far

    def run(self) -> dict[Place, int]:
        here: Place = ()
        while self.skip(_SPACE) < len(self.text):
            self.begun = line = self.line()
            if self.text.startswith("[", self.at):
                array = self.text.startswith("[[", self.at)
                self.at += 1 + array
                here = self.header(self.key(), array, line)
                self.at += 1 + array
            else:
                self.assignment(here)
        return self.lines

    def line(self) -> int:
        return bisect.bisect_left(self.ends, self.at) + 1

    def skip(self, what: re.Pattern[str]) -> int:
        found = what.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.at

    def key(self) -> list[str]:
        """A key, in its dotted parts; ends before what follows it."""
        parts = []
        while True:
            begin = self.skip(_BLANK)
            name = self.text[begin : self.skip(_KEY)]
            parts.append(name if name[0] not in "\"'" else tomllib.loads(f"k={name}")["k"])
            self.skip(_BLANK)
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def header(self, key: list[str], array: bool, line: int) -> Place:
        """The table that a [header] or [[header]] opens; within an array of tables the last one is meant."""
        here: Place = ()
        for part in key[:-1]:
            here = (*here, part)
            self.lines.setdefault(here, line)
            if here in self.tables:
                here = (*here, self.tables[here] - 1)
        here = (*here, key[-1])
        self.lines.setdefault(here, line)
        if array:
            here = (*here, self.tables.setdefault(here, 0))
            self.tables[here[:-1]] += 1
            self.lines[here] = line
        return here

    def assignment(self, here: Place) -> None:
        line = self.line()
        for part in self.key():
            here = (*here, part)
            self.lines.setdefault(here, line)
        self.at += 1  # the =
        self.skip(_BLANK)
        self.value(here)

    def value(self, place: Place) -> None:
        begin = self.at
        opening = self.text[begin]
        if opening == "[":
            self.elements(place)
        elif opening == "{":
            self.inline(place)
        else:
            self.skip(_STRING if opening in "\"'" else _BARE)
        if self.at == begin:
            raise LookupError

    def elements(self, place: Place) -> None:
        self.at += 1
        n = 0
        while self.text[self.skip(_SPACE)] != "]":
            self.lines[(*place, n)] = self.line()
            self.value((*place, n))
            n += 1
            if self.text[self.skip(_SPACE)] == ",":
                self.at += 1
        self.at += 1

    def inline(self, place: Place) -> None:
        self.at += 1
        while self.text[self.skip(_SPACE)] != "}":
            self.assignment(place)
            if self.text[self.skip(_SPACE)] == ",":
                self.at += 1
        self.at += 1
