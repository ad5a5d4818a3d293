"""`ayaz check`: every mistake in configuration, DBCs, signal maps and cell model at once."""

from __future__ import annotations

from pathlib import Path

import click

from edge.agent import make_setup
from edge.can.decoder import Decoder
from edge.config import load


@click.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), required=True, help="ayaz.toml")
def check(path: Path) -> None:
    """Every mistake in configuration, DBCs and signal maps at once, each with its place.

    \b
    Example:  ayaz check -c /etc/ayaz/ayaz.toml
    """
    setup = make_setup(load(path))
    slots = Decoder.from_catalogue(setup.catalogue).slots
    cells = sum(s.role == "cell_voltage" for s in setup.catalogue.signals)
    for channel in setup.catalogue.channels:
        mapped = sum(s.channel == channel.number for s in setup.catalogue.signals)
        messages = len(channel.database.messages)
        print(f"{channel.name}: {messages} messages, {mapped} signals mapped")
    print(f"battery: {cells} cells of {setup.cell.name}, {setup.parallel} in parallel")
    print(f"{path}: good ({len(slots)} signals decoded)")
