"""The decoder's workload: a database with something of everything, and frames of random payloads.

    python bench/workload.py > workload.dbc      to look at it

64 messages, 24 of them with 29 bit identifiers, and over 400 signals: Intel and Motorola, signed and not,
1 to 32 bits wide, float32 and float64, and multiplexers with four pages each.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import cantools
import numpy as np

from bench.measure import SEED
from edge.can.frames import EXTENDED, FRAME, Frames

N_MESSAGES, N_EXTENDED, N_FLOATS, N_MULTIPLEXED = 64, 24, 5, 8
SCALES = ((1, 0), (1, 0), (0.1, 0), (0.25, -40), (0.01, 0), (0.5, 0), (0.001, -10), (2, 0), (0.03125, 0))
WIDTHS = (1, 1, 2, 2, 4, 8, 8, 10, 12, 12, 14, 16, 16, 16, 24, 32)
PAGES = 4


def make_dbc(seed: int = SEED) -> str:
    """The database, as the text of a DBC."""
    rng = random.Random(seed)
    lines = ['VERSION ""', "NS_ :", "BS_:", "BU_: ecu"]
    for n in range(N_MESSAGES):
        extended = n % 8 < 3
        frame_id = rng.randrange(1 << 29) | 1 << 31 if extended else 0x100 + 17 * n
        lines += [f"BO_ {frame_id} m{n}: 8 ecu", *_signals(n, rng), ""]
    return "\n".join(lines) + "\n"


def _signals(n: int, rng: random.Random) -> list[str]:
    kind = n % 13
    big = n % 2 == 1
    if n % 16 == 7:  # a float and what fits behind it
        first = [_signal(f"s{n}_0", 0, 32, big, "-", (1, 0))]
        return first + _fill(f"s{n}_", 32, 64, big, rng, "")
    if n == 20:
        return [_signal(f"s{n}_0", 0, 64, False, "-", (1, 0))]
    if kind == 5 or n in (3, 30, 50):
        selector = _signal(f"s{n}_0", 0, 2, big, "+", (1, 0), "M ")
        pages = [line for p in range(PAGES) for line in _fill(f"s{n}_{p}", 8, 64, big, rng, f"m{p} ")]
        return [selector, *pages]
    return _fill(f"s{n}_", 0, 64, big, rng, "")


def _fill(name: str, place: int, end: int, big: bool, rng: random.Random, page: str) -> list[str]:
    """Signals side by side from one bit to another."""
    lines: list[str] = []
    while place < end:
        bits = min(rng.choice(WIDTHS), end - place)
        sign = "-" if bits > 2 and rng.random() < 0.3 else "+"
        scale = rng.choice(SCALES) if bits > 2 else (1, 0)
        if rng.random() < 0.85:
            lines.append(_signal(f"{name}x{len(lines)}", place, bits, big, sign, scale, page))
        place += bits
    return lines


def _signal(
    name: str, place: int, bits: int, big: bool, sign: str, scale: tuple[float, float], page: str = ""
) -> str:
    start = 8 * (place // 8) + 7 - place % 8 if big else place
    return f' SG_ {name} {page}: {start}|{bits}@{0 if big else 1}{sign} ({scale[0]},{scale[1]}) [0|0] "" ecu'


def make_floats(text: str) -> str:
    """The lines that make floats of the whole-word signals."""
    lines = []
    for n in range(N_MESSAGES):
        if n % 16 == 7 or n == 20:
            frame_id = next(line.split()[1] for line in text.splitlines() if f" m{n}:" in line)
            lines.append(f"SIG_VALTYPE_ {frame_id} s{n}_0 : {2 if n == 20 else 1};")
    return text + "\n".join(lines) + "\n"


def database_text(seed: int = SEED) -> str:
    """The whole DBC."""
    return make_floats(make_dbc(seed))


def make_database(seed: int = SEED) -> Any:
    """The database, loaded."""
    return cantools.database.load_string(database_text(seed), "dbc")


def make_frames(database: Any, n: int, seed: int = SEED) -> Frames:
    """Frames of random messages with random payloads, 100 µs apart."""
    rng = np.random.default_rng(seed)
    frames = np.zeros(n, FRAME)
    which = rng.integers(0, len(database.messages), n)
    frames["time_us"] = 100 * np.arange(n)
    frames["id"] = np.array([m.frame_id for m in database.messages], np.uint32)[which]
    frames["flags"] = np.array([EXTENDED * m.is_extended_frame for m in database.messages], np.uint8)[which]
    frames["length"] = 8
    frames["data"][:, :8] = rng.integers(0, 256, (n, 8), np.uint8)
    return frames


if __name__ == "__main__":
    print(database_text())
