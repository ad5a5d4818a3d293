"""Lines of styled text that fit the terminal: cleaned, cut, filled, in UTF-8 or ASCII.

All text that a view shows goes through `Page.add`. Names, units and texts come from files and from the
network, so control characters are replaced there: none can reach the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

Span = tuple[str, str]  # text, name of its style
Line = tuple[Span, ...]

# Style -> SGR parameters. The terminal's own 16 colours only, so that its theme decides how they look.
STYLES = {
    "": "", "head": "1", "dim": "2", "good": "32", "warn": "33", "bad": "1;31", "note": "36",
    "bar": "7", "here": "7", "low": "36", "high": "33",
}  # fmt: skip

LEVELS = "▁▂▃▄▅▆▇█"
# What ASCII has for the signs that we write ourselves; anything else becomes "?".
ASCII = str.maketrans(
    {
        "·": ".", "…": "~", "─": "-", "█": "#", "░": ".", "±": "+-", "°": "", "Ω": "Ohm", "µ": "u",
        "▲": "^", "▼": "v", "▶": ">", "→": ">", "✓": "+", "×": "x", "≥": ">=", "—": "-", "–": "-",
        **{sign: str(n + 1) for n, sign in enumerate(LEVELS[:-1])},
    }
)  # fmt: skip
_CONTROL = re.compile(r"[^ -~\u00a1-\U0010ffff]")


def clean(text: str, ascii_only: bool) -> str:
    """The text without anything that a terminal would obey; in ASCII where that is asked for."""
    text = _CONTROL.sub("?", text)
    if text.isascii():
        return text
    if ascii_only:
        return text.translate(ASCII).encode("ascii", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)


class Column(NamedTuple):
    """A column of a table: `width` 0 takes what is left; shown only on pages `from_width` wide or wider. Where
    `ending`, the end of what is too long stays."""

    title: str
    width: int
    right: bool = False
    from_width: int = 0
    ending: bool = False


class Page:
    """Lines of one width; `lines` never holds more than `height` of them."""

    def __init__(self, width: int, height: int, ascii_only: bool = False) -> None:
        self.width, self.height, self.ascii_only = width, height, ascii_only
        self.lines: list[Line] = []

    @property
    def left(self) -> int:
        """How many more lines fit."""
        return self.height - len(self.lines)

    def add(self, *spans: Span | str) -> None:
        """One line; what is too long is cut, and a line that has no room is left out."""
        if self.left <= 0:
            return
        room, line = self.width, []
        for span in spans:
            text, style = (span, "") if isinstance(span, str) else span
            text = self.fit(text, room)
            if text:
                line.append((text, style))
                room -= cell_len(text)
        if room > 0:
            line.append((" " * room, line[-1][1] if line and line[-1][1] in ("bar", "here") else ""))
        self.lines.append(tuple(line))

    def fit(self, text: str, width: int) -> str:
        """The cleaned text, cut with an ellipsis where it is wider."""
        text = clean(text, self.ascii_only)
        if cell_len(text) <= width:
            return text
        return set_cell_size(text, width - 1) + ("~" if self.ascii_only else "…") if width > 0 else ""

    def fit_end(self, text: str, width: int) -> str:
        """As `fit`, but the end is what stays."""
        text = clean(text, self.ascii_only)
        return text if cell_len(text) <= width else ("~" if self.ascii_only else "…") + text[1 - width :]

    def cell(self, text: str, width: int, right: bool = False) -> str:
        """The text as wide as that, flush left or right."""
        text = self.fit(text, width)
        pad = " " * (width - cell_len(text))
        return pad + text if right else text + pad

    def head(self, columns: Sequence[Column], sorted_by: str = "") -> None:
        """A table's titles; an arrow at the one that it is sorted by."""
        titles = [f"{c.title}▼" if c.title == sorted_by else c.title for c in columns]
        self.row(columns, [(title, "dim") for title in titles])

    def row(self, columns: Sequence[Column], cells: Sequence[Span | str], style: str = "") -> None:
        """A row of a table; `style` is of the cells that have none of their own."""
        shown = [n for n, c in enumerate(columns) if self.width >= c.from_width]
        fixed = sum(columns[n].width for n in shown) + 2 * (len(shown) - 1) + 1
        rest = [n for n in shown if not columns[n].width]
        spans: list[Span] = [(" ", style)]
        for n in shown:
            cell = cells[n]
            text, own = (cell, "") if isinstance(cell, str) else cell
            width = columns[n].width or max((self.width - fixed) // len(rest), 1)
            text = self.fit_end(text, width) if columns[n].ending else text
            spans.append((self.cell(text, width, columns[n].right), own or style))
            spans.append(("  ", style))
        self.add(*spans[:-1])

    def fill(self) -> None:
        """Empty lines to the page's end."""
        while self.left > 0:
            self.add()

    def text(self) -> list[str]:
        """The lines without styles."""
        return ["".join(text for text, _ in line) for line in self.lines]


def ansi(line: Line, colour: bool) -> str:
    """The line as a terminal takes it; without colour, only bold, dim and reversed are left."""
    out = []
    for text, style in line:
        codes = STYLES[style]
        if not colour:
            codes = ";".join(code for code in codes.split(";") if code in ("1", "2", "7"))
        out.append(f"\x1b[{codes}m{text}\x1b[0m" if codes else text)
    return "".join(out)


def bar(share: float, width: int) -> str:
    """A bar that is full at 1."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return "█" * full + "░" * (width - full)
