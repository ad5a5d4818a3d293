"""Write the tables of docs/simulator/scenarios.md, from the dataclasses that check a scenario and from ours.

make_scenario_docs.py            write them
make_scenario_docs.py --check    say whether they are as the code is
"""

import re
import sys
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from sim_bus.scenario import Scenario, summaries
from sim_bus.scenario.loading import GROUPS, KEYS, LISTS, TABLES
from sim_bus.scenario.model import Key, Table

PAGE = Path(__file__).parent.parent / "docs/simulator/scenarios.md"
BLOCK = r"(<!-- {0}: written by scripts/make_scenario_docs.py -->\n).*?(<!-- end -->)"
HEAD = "| key | what | unit | default | from, to |\n|---|---|---|---|---|\n"


def keys() -> str:
    """A table of keys for each table of a scenario."""
    titles = {Scenario: "Above all tables"}
    titles |= {kind: f"`[{name}]`" for name, kind in TABLES.items()}
    titles |= {kind: f"`[[{name}]]`" for name, kind in LISTS.items()}
    parts = []
    for kind, title in titles.items():
        rows = [row(name, *of) for name, of in KEYS[kind].items()]
        if kind is Scenario:
            rows.insert(
                1,
                "| `based_on` | a scenario whose keys hold where this file has none |  | none | a name of ours, or a path |",
            )
        parts.append(f"\n### {title}\n\n{HEAD}" + "\n".join(rows) + "\n")
    return "".join(parts) + "\n"


def row(name: str, spec: Any, wanted: Any, key: Key) -> str:
    """One key."""
    default = spec.default
    if default is MISSING:
        shown = "**needed**"
    elif default is None:
        shown = "none"
    elif wanted == Table:
        shown = number(default[0][1])
    else:
        shown = f"`{default}`" if isinstance(default, str) else number(default)
    if key.choices:
        span = ", ".join(f"`{one}`" for one in key.choices)
    elif wanted is str or key.toml:
        span = "text"
    else:
        span = f"{number(key.low)} to {number(key.high)}" + (" whole" if wanted is int else "")
    unit = f"{key.unit} over {key.x.unit}" if key.x else key.unit
    return f"| `{name}` | {key.about.replace('|', '/')} | {unit} | {shown} | {span} |"


def number(value: float) -> str:
    """In full, thousands apart."""
    return f"{value:,.0f}".replace(",", " ") if value == int(value) else f"{value:g}"


def ours() -> str:
    """The scenarios that we ship, by group."""
    titles = dict(zip(GROUPS, ("Days and nights", "Faults"), strict=True))
    parts = []
    for group, title in titles.items():
        rows = [f"| `{name}` | {about} |\n" for name, (about, its) in summaries().items() if its == group]
        parts.append(f"\n### {title}\n\n| scenario | what for |\n|---|---|\n{''.join(rows)}")
    return "".join(parts) + "\n"


def written(text: str) -> str:
    """The page with its tables as they must be."""
    for name, block in (("keys", keys()), ("scenarios", ours())):
        found = re.compile(BLOCK.format(name), re.DOTALL)
        if not found.search(text):
            raise SystemExit(f"{PAGE}: has no place for {name}")
        text = found.sub(lambda m, block=block: m[1] + block + m[2], text)
    return text


if __name__ == "__main__":
    old = PAGE.read_text("utf-8")
    new = written(old)
    if "--check" in sys.argv[1:]:
        sys.exit(f"{PAGE.name} is old; run scripts/make_scenario_docs.py" if new != old else 0)
    PAGE.write_text(new, "utf-8")
