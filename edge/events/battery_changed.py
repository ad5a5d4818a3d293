"""The battery was changed: the memory of the boot before is of another one, so everything learnt begins anew."""

from __future__ import annotations

import numpy as np

from edge.events.book import Book, Change, Rule, changes

RULE = Rule("battery_changed", ("warning",), open_s=(0.0,), close_s=0.0, reopen_s=0.0)
TEXT = "What was remembered of the battery is of another one: was it swapped? The estimate begins anew"


class BatteryChanged:
    """Over one pack, with its name. It stays open until the boot ends: by then somebody has seen it."""

    def __init__(self, thing: str) -> None:
        self._thing = thing
        self.book = Book(RULE, 1)

    def look(self, now_us: int, refused: int) -> list[Change]:
        """How often a memory was refused in this boot."""
        level = np.array([min(refused, 1)])
        turns = self.book.look(now_us, level, level, level.astype(float))
        return changes(RULE, turns, [self._thing], [(TEXT, {})] * len(turns))
