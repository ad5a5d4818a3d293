"""The battery was changed, or what was remembered of it can't be gone on with: everything learnt begins anew."""

from __future__ import annotations

import numpy as np

from edge.events.book import Book, Change, Rule, changes

RULE = Rule("battery_changed", ("warning",), open_s=(0.0,), close_s=0.0, reopen_s=0.0)


class BatteryChanged:
    """Over one pack, with its name. It stays open until the boot ends: by then somebody has seen it."""

    def __init__(self, thing: str) -> None:
        self._thing = thing
        self.book = Book(RULE, 1)

    def look(self, now_us: int, why: str) -> list[Change]:
        """Why it is taken for another one; "" where it is not."""
        level = np.array([int(bool(why))])
        turns = self.book.look(now_us, level, level, level.astype(float))
        text = f"The battery is taken for another one: {why}. The estimate begins anew"
        return changes(RULE, turns, [self._thing], [(text, {"reason": why})] * len(turns))
