"""`ayaz check`: every mistake in configuration, DBCs, signal maps and cell model at once."""

from __future__ import annotations

from pathlib import Path

import click

from edge.agent import make_setup
from edge.can.decoder import Decoder
from edge.config import load
from edge.core import Setup
from edge.pack_inputs import Layout, find_layout


@click.command()
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), required=True, help="ayaz.toml")
def check(path: Path) -> None:
    """Every mistake in configuration, DBCs and signal maps at once, each with its place.

    \b
    Example:  ayaz check -c /etc/ayaz/ayaz.toml
    """
    setup = make_setup(load(path))
    slots = Decoder.from_catalogue(setup.catalogue).slots
    layout = find_layout(setup.catalogue.signals, setup.series)
    for channel in setup.catalogue.channels:
        mapped = sum(s.channel == channel.number for s in setup.catalogue.signals)
        messages = len(channel.database.messages)
        print(f"{channel.name}: {messages} messages, {mapped} signals mapped")
    print(f"battery: {_battery(setup, layout)}")
    print(f"{path}: good ({len(slots)} signals decoded)")


def _battery(setup: Setup, layout: Layout) -> str:
    """What the estimator has to go by."""
    cells = f"{setup.cell.name}, {setup.parallel * layout.parallel} in parallel"
    strings = f"{len(layout.strings)} string{'s' * (len(layout.strings) > 1)}"
    return {
        "cells": f"{len(layout.rows)} cells of {cells}, {strings}",
        "extremes": f"lowest and highest cell of {cells}, {strings}: a wider band",
        "mean": f"mean of {layout.series} cells of {cells}, {strings}: a wider band",
        "": "no estimate: no role gives it a voltage and a current",
    }[layout.kind]
