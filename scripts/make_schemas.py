"""Write docs/schemas/*.json: the JSON Schemas of what travels, from the types that check it.

make_schemas.py            write them
make_schemas.py --check    say whether they are as the code is
"""

import json
import sys
from pathlib import Path

import msgspec

from edge.telemetry.batch import Ack, Batch, EventPayload, SchemaPayload

FOLDER = Path(__file__).parent.parent / "docs/schemas"
KINDS = {"batch": Batch, "schema": SchemaPayload, "event": EventPayload, "ack": Ack}


def texts() -> dict[Path, str]:
    """Each file and what it must hold."""
    return {
        FOLDER / f"{name}.json": json.dumps(msgspec.json.schema(kind), indent=2, sort_keys=True) + "\n"
        for name, kind in KINDS.items()
    }


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        old = [p.name for p, text in texts().items() if not p.is_file() or p.read_text("utf-8") != text]
        sys.exit(f"docs/schemas: {', '.join(old)} is old; run scripts/make_schemas.py" if old else 0)
    for path, text in texts().items():
        path.write_text(text, "utf-8")
