"""Hold the house together: no package may import one that it must not know.

The table is the rule of `docs/architecture.md`. Imports are read from the syntax tree, so lazy
imports inside functions count too.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ALWAYS = {"edge.errors", "edge.command", "edge"}
# room -> the rooms of ours that it may import, besides itself and ALWAYS
MAY_IMPORT: dict[str, set[str]] = {
    "edge.can": {"edge.signals"},
    "edge.signals": {"dbc"},
    "edge.measured": set(),
    "edge.battery": {"edge.measured"},
    "edge.telemetry": set(),
    "edge.events": {"edge.signals"},
    "firmware_bridge": set(),
    "sim_bus": {"dbc", "edge.can", "edge.measured"},
    "depot": {"edge.telemetry", "edge.signals"},
    "dbc": set(),
}


def imported_modules(path: Path) -> set[str]:
    """Every absolute module name that the file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def room_of(module: str) -> str | None:
    """The room of ours that a module lies in, or None for other people's."""
    parts = module.split(".")
    if parts[0] == "edge":
        return ".".join(parts[:2])
    return parts[0] if parts[0] in {*MAY_IMPORT, "tests", "bench"} else None


def violations() -> list[str]:
    """One line per import that crosses a wall."""
    found = []
    for path in sorted(p for room in MAY_IMPORT for p in ROOT.glob(room.replace(".", "/") + "/**/*.py")):
        here = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        assert here is not None
        allowed = MAY_IMPORT[here] | ALWAYS | {here}
        for module in sorted(imported_modules(path)):
            room = room_of(module)
            if room and room not in allowed and module != "edge.__version__":
                found.append(f"{path.relative_to(ROOT)} imports {module}: {here} must not know {room}")
    return found


if __name__ == "__main__":
    problems = violations()
    print("\n".join(problems) or "imports: every room keeps to its doors")
    sys.exit(bool(problems))
