"""Write the catalogue's tables into docs/simulator/faults.md.

make_fault_docs.py            write them
make_fault_docs.py --check    say whether they are as the code is
"""

import re
import sys
from pathlib import Path

from sim_bus.faults.catalogue import AREAS, CATALOGUE, Kind, Parameter

PAGE = Path(__file__).parent.parent / "docs/simulator/faults.md"
BLOCK = re.compile(
    r"(<!-- catalogue: written by scripts/make_fault_docs.py -->\n).*?(<!-- end -->)", re.DOTALL
)
TITLES = dict(zip(AREAS, ("Battery", "Sensors", "CAN", "Platform", "Network"), strict=True))
HEAD = "| fault | parameter | what | unit | default | from, to |\n|---|---|---|---|---|---|\n"


def catalogue() -> str:
    """A table for each area."""
    parts = []
    for area in AREAS:
        kinds = [kind for kind in CATALOGUE.values() if kind.area == area]
        parts.append(f"\n### {TITLES[area]}\n\n{HEAD}" + "".join(rows(kind) for kind in kinds))
    return "".join(parts) + "\n"


def rows(kind: Kind) -> str:
    """What it is, then its parameters."""
    about = kind.about + (" Momentary." if kind.momentary else "")
    first = f"| `{kind.name}` | | {about} | | | |\n"
    return first + "".join(row(name, known) for name, known in kind.parameters.items())


def row(name: str, known: Parameter) -> str:
    """One parameter."""
    if isinstance(known.default, str):
        shown = f"`{known.default}`"
        span = ", ".join(f"`{choice}`" for choice in known.choices) or "text"
    else:
        shown = number(known.default)
        span = f"{number(known.low)} to {number(known.high)}" + " whole" * isinstance(known.default, int)
    return f"| | `{name}` | {known.about} | {known.unit} | {shown} | {span} |\n"


def number(value: float) -> str:
    """In full, thousands apart."""
    return f"{value:,.0f}".replace(",", " ") if value == int(value) else f"{value:g}"


def written(text: str) -> str:
    """The page with its tables as they must be."""
    if not BLOCK.search(text):
        raise SystemExit(f"{PAGE}: has no place for the catalogue")
    return BLOCK.sub(lambda found: found[1] + catalogue() + found[2], text)


if __name__ == "__main__":
    old = PAGE.read_text("utf-8")
    new = written(old)
    if "--check" in sys.argv[1:]:
        sys.exit(f"{PAGE.name} is old; run scripts/make_fault_docs.py" if new != old else 0)
    PAGE.write_text(new, "utf-8")
