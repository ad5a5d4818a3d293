"""What every benchmark shares: the clock, the result, the versions of the peers."""

import time
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

SEED = 1


class Result(NamedTuple):
    """One line of the table. `ratio` is how many times better we are than the peer, in the same run."""

    name: str
    value: float
    unit: str
    peer: str
    ratio: float
    must: float | None = None
    aim: float | None = None


def fastest(what: Callable[[], object], times: int) -> float:
    """Seconds of the fastest of some runs."""
    best = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        what()
        best = min(best, time.perf_counter() - begin)
    return best


def version(distribution: str) -> str:
    """A peer's name and version, as the table prints it."""
    try:
        return f"{distribution} {metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        raise SystemExit(f"the peer {distribution} is not installed: make bench does it") from None
