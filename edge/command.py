"""What several commands share: options, progress, files that are written whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


def finite(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """An option's callback: neither NaN nor infinite.

    Raises
    ------
    click.BadParameter
    """
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no finite number.", context, option)
    return value


class _Frames(ProgressColumn):
    """Frames so far."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['frames']:,} frames", style="progress.download")


class _Left(TimeRemainingColumn):
    """Time left, where the total is known."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else Text.assemble(super().render(task), " left")


@contextmanager
def frame_progress(what: str, quiet: bool = False) -> Iterator[Callable[[int, float | None], None]]:
    """A line on stderr, on a terminal only, while the block runs: `advance(frames so far, fraction 0 to 1 or None)`.

    With a fraction there is a bar and the time left; without, only the frames and the time so far.
    """
    console = Console(stderr=True)
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        _Frames(),
        TimeElapsedColumn(),
        _Left(),
        console=console,
        disable=quiet or not console.is_terminal,
        transient=True,
    )
    with progress:
        task = progress.add_task(what, total=None, frames=0)

        def advance(frames: int, fraction: float | None) -> None:
            if fraction is None:
                progress.update(task, frames=frames)
            else:
                progress.update(task, frames=frames, total=1.0, completed=fraction)

        yield advance


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
