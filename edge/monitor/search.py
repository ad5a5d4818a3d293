"""Long lists: finding as you type, sorting, scrolling. Plain functions and one small state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.monitor.page import Page

IntArray = npt.NDArray[np.int64]
PAGE_KEYS = {"up": -1, "down": 1, "home": -(1 << 30), "end": 1 << 30}
MAX_QUERY = 60


@dataclass
class Listing:
    """What keys have made of one list: what is sought, how it is sorted, where it is scrolled to."""

    sorts: tuple[str, ...]
    query: str = ""
    editing: bool = False
    sort: int = 0
    first: int = 0
    here: int = -1  # the chosen row, in lists that have one

    @property
    def sorted_by(self) -> str:
        return self.sorts[self.sort]

    def key(self, name: str, rows: int) -> bool:
        """Take a key; whether it was one of the list's. `rows` is how many are visible at once."""
        if self.editing:
            return self._edit(name)
        if name == "/":
            self.editing = True
        elif name == "esc" and self.query:
            self.query, self.first = "", 0
        elif name == "s":
            self.sort, self.first = (self.sort + 1) % len(self.sorts), 0
        elif name in PAGE_KEYS or name in ("pgup", "pgdn"):
            step = PAGE_KEYS.get(name) or (-rows if name == "pgup" else rows)
            if self.here >= 0:
                self.here = max(self.here + step, 0)
            else:
                self.first = max(self.first + step, 0)
        else:
            return False
        return True

    def _edit(self, name: str) -> bool:
        """While a query is typed, everything but Enter, Esc and the arrows goes into it."""
        if name == "enter":
            self.editing = False
        elif name == "esc":
            self.editing, self.query = False, ""
        elif name == "backspace":
            self.query = self.query[:-1]
        elif name == "ctrl-u":
            self.query = ""
        elif len(name) == 1 and len(self.query) < MAX_QUERY:
            self.query += name
        else:
            return False
        self.first = 0
        return True

    def window(self, total: int, rows: int) -> tuple[int, int]:
        """First and last + 1 of the rows that are visible; the state is brought inside the list."""
        rows = max(rows, 1)
        if self.here >= 0:
            self.here = min(self.here, max(total - 1, 0))
            self.first = min(max(self.first, self.here - rows + 1), self.here)
        self.first = min(self.first, max(total - rows, 0))
        return self.first, min(self.first + rows, total)


def found(words: Sequence[str], query: str) -> IntArray:
    """Which of the texts (in lower case) hold every word of the query."""
    parts = query.lower().split()
    return np.array([n for n, text in enumerate(words) if all(p in text for p in parts)], dtype=np.int64)


def scrolled(page: Page, whole: Page, listing: Listing) -> None:
    """The part of a longer page that is scrolled to."""
    first, last = listing.window(len(whole.lines), page.left)
    page.lines += whole.lines[first:last]
