"""Whatever is written into a scenario: a Scenario, or one ScenarioError with places, soon."""

from __future__ import annotations

import random
import re
import statistics
import time
from pathlib import Path

from edge.errors import ScenarioError
from sim_bus.scenario import Scenario, load_scenario, names
from sim_bus.scenario.source import find

ROUNDS = 600
TOKENS = ["=", "[", "]", "[[", "]]", '"', "'", '"""', "{", "}", ",", ".", "#", "\n", "\r", "-", "nan", "inf", "1e999", "0x", "true",
          "05:40", "[[timetable]]", "[[faults]]", "[[add_faults]]", "[battery]", "based_on = ", "soc", "\x00", "\udcff", "é", "\u2028"]  # fmt: skip
PLACED = re.compile(r"\S+\.toml(:\d+)?: ", re.DOTALL)


def mutated(text: str, rng: random.Random, other: str) -> bytes:
    """One to four changes: of characters, tokens, lines, or lines from another scenario."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        lines = text.split("\n")
        n = rng.randrange(len(lines))
        what = rng.randrange(6)
        if what == 0:
            text = text[:at] + text[at + rng.randint(1, 8) :]
        elif what == 1:
            text = text[:at] + rng.choice(TOKENS) + text[at:]
        elif what == 2:
            text = text[:at] + chr(rng.randrange(256)) + text[at + 1 :]
        elif what == 3:
            text = "\n".join([*lines[:n], *lines[n + 1 :]])
        elif what == 4:
            text = "\n".join([*lines[:n], rng.choice(other.split("\n")), *lines[n:]])
        else:
            text = re.sub(r"= .*", lambda m: f"= {rng.choice(TOKENS)}" if rng.random() < 0.2 else m[0], text)
    return text.encode("utf-8", "surrogateescape")


def test_mutations_of_ours(tmp_path: Path) -> None:
    texts = [find(name).read_text("utf-8") for name in names()]
    path = tmp_path / "s.toml"
    outcomes = {True: 0, False: 0}
    took = []
    for seed in range(ROUNDS):
        rng = random.Random(seed)
        path.write_bytes(mutated(rng.choice(texts), rng, rng.choice(texts)))
        begin = time.process_time()
        problems = problems_of(path)
        took.append(time.process_time() - begin)
        assert all(PLACED.match(one) for one in problems), (seed, problems)
        outcomes[not problems] += 1
    assert min(outcomes.values()) > ROUNDS / 20, outcomes
    assert max(took) < 500 * statistics.median(took), took.index(max(took))


def problems_of(path: Path) -> list[str]:
    """What is wrong with it; another exception than ScenarioError is a defect."""
    try:
        assert isinstance(load_scenario(str(path)), Scenario)
    except ScenarioError as error:
        return error.problems
    return []
