"""`ayaz bench`: runs `bench/` of a checkout as a subprocess, for nobody imports it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from edge.errors import AyazError


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--only", multiple=True, metavar="SUBJECT", help="Only this subject; may be given again.")
def bench(as_json: bool, only: tuple[str, ...]) -> None:
    """The benchmarks, each beside its peers, as ratios from one run.

    \b
    Example:  ayaz bench --only decode
    """
    script = Path(__file__).parent.parent / "bench" / "run.py"
    if not script.is_file():
        raise AyazError("the benchmarks are in a checkout of the sources, and this is none: make bench there")
    options = [*(["--json"] if as_json else []), *(a for name in only for a in ("--only", name))]
    status = subprocess.run([sys.executable, str(script), *options], check=False).returncode
    if status == 2:
        sys.exit(2)
    if status:
        raise AyazError(f"the benchmarks ended with status {status}; what went wrong stands above")
