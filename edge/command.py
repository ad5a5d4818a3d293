"""What several commands share: options, progress, files that are written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


def finite(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """An option's callback: neither NaN nor infinite.

    Raises
    ------
    click.BadParameter
    """
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no finite number.", context, option)
    return value


def frame_progress(quiet: bool = False) -> Progress:
    """How many frames so far, on stderr, only on a terminal; a task's `frames` field is the count."""
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description} {task.fields[frames]:,} frames"),
        TimeElapsedColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
        transient=True,
    )


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """FILE.part, to be written in the block; it becomes FILE at the block's end, and is gone after an error.

    Raises
    ------
    OSError
        The file can't get its name.
    """
    part = path.with_name(path.name + ".part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
