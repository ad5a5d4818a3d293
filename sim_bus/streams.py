"""Random numbers: one seed, a stream of its own for each thing that is random.

So a new message, sensor or fault shifts no other's numbers.
"""

from __future__ import annotations

import zlib

import numpy as np


class Streams:
    """Named streams of one seed: `Streams(7)("bms.voltage noise")` is the same generator's beginning each time."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, name: str) -> np.random.Generator:
        """A new generator at the beginning of the named stream."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])
