"""`ayaz spool status|verify|export`: what waits on the bus for the depot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from edge.errors import SpoolError
from edge.telemetry.batch import unpack
from edge.telemetry.spool import Spool

path_option = click.option(
    "--spool",
    "path",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/ayaz/spool.db"),
    show_default=True,
    help="The agent's spool: STATE_DIR/spool.db.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@contextmanager
def _opened(path: Path) -> Iterator[Spool]:
    spool = Spool(path, owner=False)
    try:
        yield spool
    finally:
        spool.close()


@click.group()
def spool() -> None:
    """What waits on the bus for the depot. It only looks; the agent may be running.

    \b
    Example:  ayaz spool status --spool /var/lib/ayaz/spool.db
    """


@spool.command()
@path_option
@json_option
def status(path: Path, as_json: bool) -> None:
    """How much waits, per boot.

    \b
    Example:  ayaz spool status --json
    """
    with _opened(path) as opened:
        boots, items, size = opened.boots(), opened.count(), opened.size_bytes()
    if as_json:
        print(json.dumps({"items": items, "bytes": size, "boots": boots}))
        return
    print(f"{items} items, {size / 1000:.1f} kB wait for the depot")
    for boot in boots:
        print(f"  boot {boot['boot']}: {boot['items']} items, seq {boot['first']} to {boot['last']}")


@spool.command()
@path_option
@json_option
def verify(path: Path, as_json: bool) -> None:
    """Check the file and every item in it; status 1 where something is damaged.

    \b
    Example:  ayaz spool verify
    """
    with _opened(path) as opened:
        faults, items = opened.verify(), opened.count()
    if as_json:
        print(json.dumps({"items": items, "faults": faults}))
    else:
        print("\n".join(faults) or f"{items} items, all good")
    if faults:
        raise SpoolError(f"{path}: {len(faults)} faults; keep a copy of the file before you do anything")


@spool.command()
@path_option
@click.argument("folder", type=click.Path(path_type=Path))
def export(path: Path, folder: Path) -> None:
    """Write every waiting item as plain JSON into FOLDER.

    \b
    Example:  ayaz spool export ./items
    """
    with _opened(path) as opened:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for _, item in opened.pending(1 << 62):
                name = f"{item.boot}-{item.seq:08d}.{item.kind}.json"
                (folder / name).write_bytes(unpack(item.payload))
        except OSError as error:
            raise SpoolError(f"{folder}: cannot be written: {error.strerror}") from None
        print(f"{opened.count()} items in {folder}")
