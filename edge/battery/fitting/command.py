"""`ayaz fit-cell`: a cell model from measurements, with a report."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from edge.battery.fitting import defaults
from edge.battery.fitting.cell import toml
from edge.battery.fitting.report import write_report
from edge.battery.fitting.run import Fitted, Request, fit_cell
from edge.battery.model import load_cell
from edge.command import finite, whole_file
from edge.errors import DataError


class _FilesOption(click.Option):
    """An option that takes all values up to the next option: `--drive a.csv b.csv` and `--drive 'x_*.csv'`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {"multiple": True, "type": click.Path(path_type=Path)}
        super().__init__(*args, **kwargs)


class _FilesCommand(click.Command):
    """Lets a shell's pattern stand behind one option: each value after it belongs to it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        many = {name for p in self.params if isinstance(p, _FilesOption) for name in p.opts}
        out: list[str] = []
        current: str | None = None
        fresh = False
        for arg in args:
            if arg.startswith("-") and arg != "-":
                current, fresh = (arg, True) if arg in many else (None, False)
                out.append(arg)
            elif current and not fresh:
                out += [current, arg]
            else:
                out.append(arg)
                fresh = False
        return super().parse_args(ctx, out)


@click.command(cls=_FilesCommand)
@click.option("--name", required=True, help="What the model is called.")
@click.option(
    "--chemistry",
    required=True,
    type=click.Choice(sorted(defaults.CHEMISTRIES), case_sensitive=False),
    help="What is typical of it stands in for what was not measured.",
)
@click.option(
    "--capacity-ah",
    required=True,
    type=click.FloatRange(0.01, 10_000),
    callback=finite,
    help="Charge of the full cell at 25 degC and a low rate.",
)
@click.option("--ocv", cls=_FilesOption, help="Slow (C/10 or less) discharges and charges.")
@click.option("--pulses", cls=_FilesOption, help="Pulse tests (HPPC).")
@click.option("--drive", cls=_FilesOption, help="Drive cycles, or any other load.")
@click.option("--voltage-min", type=click.FloatRange(0.5, 5), callback=finite, help="Of the data sheet, V.")
@click.option("--voltage-max", type=click.FloatRange(0.5, 5), callback=finite, help="Of the data sheet, V.")
@click.option("--summary", default="", help="A line about the cell, for its file.")
@click.option("--data", default="", help="Where the measurements come from, for the file.")
@click.option("--licence", default="", help="Their licence, for the file.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="A folder (PNG and HTML) or a file NAME.html: errors and pictures.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The cell's TOML file.",
)
def fit_cell_command(
    name: str,
    chemistry: str,
    capacity_ah: float,
    ocv: tuple[Path, ...],
    pulses: tuple[Path, ...],
    drive: tuple[Path, ...],
    voltage_min: float | None,
    voltage_max: float | None,
    summary: str,
    data: str,
    licence: str,
    report: Path | None,
    as_json: bool,
    out: Path,
) -> None:
    """A cell model from measurements (CSV, CSV.gz, Parquet), at one or several temperatures.

    Any of --ocv, --pulses and --drive will do; what is missing is said, and what it costs. Files may have a column
    `soc`; without it, charge is counted from where the cell is full, empty or at rest. Each option takes several
    files. Then: ayaz soc DATA.csv --cell CELL.toml

    \b
    Example:
      ayaz fit-cell --name mycell --chemistry NMC --capacity-ah 2.7 --ocv slow_*.csv.gz \\
          --pulses pulses_*.csv.gz --drive US06_*.csv.gz LA92_*.csv.gz \\
          --report report.html -o mycell.toml
    """
    request = Request(
        name=name,
        chemistry=chemistry.upper(),
        capacity_ah=capacity_ah,
        ocv=list(ocv),
        pulses=list(pulses),
        drive=list(drive),
        voltage_min_v=voltage_min,
        voltage_max_v=voltage_max,
        summary=summary,
        data=data,
        licence=licence,
    )
    _check(request)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=1.0)
        fitted = fit_cell(request, lambda what, done: bar.update(task, description=what, completed=done))
        _write(out, toml(fitted.cell, f"Made by ayaz fit-cell for {name}"))
        load_cell(out)  # what the agent would say of it
        if report is not None:
            bar.update(task, description="drawing", completed=0.95)
            message = write_report(report, fitted)
            if message:
                click.echo(message, err=True)
    click.echo(json.dumps(summary_of(fitted, out)) if as_json else text(fitted, out))


def _check(request: Request) -> None:
    seen: set[Path] = set()
    for path in [*request.ocv, *request.pulses, *request.drive]:
        if path in seen:
            raise click.UsageError(
                f"{path} is given twice: a file belongs to one of --ocv, --pulses, --drive"
            )
        seen.add(path)
    if not seen:
        raise click.UsageError("nothing to fit: give files with --ocv, --pulses or --drive")
    low, high = request.voltage_min_v, request.voltage_max_v
    if low is not None and high is not None and low >= high:
        raise click.UsageError("--voltage-min must be less than --voltage-max")


def _write(path: Path, content: str) -> None:
    try:
        with whole_file(path) as part:
            part.write_text(content, "utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None


def summary_of(fitted: Fitted, out: Path) -> dict[str, Any]:
    """What `--json` prints."""
    unsure = fitted.cell["uncertainty"]
    return {
        "name": fitted.cell["name"],
        "out": str(out),
        "files": [asdict(f) for f in fitted.files],
        "temp_degc": [float(t) for t in fitted.cell["dynamics"]["temp_degc"]],
        **{k: [float(v) for v in unsure[k]] for k in ("model_sd_v", "relaxation_sd_v", "sample_sd_v")},
        "remarks": fitted.remarks,
        "missing": fitted.missing,
    }


def text(fitted: Fitted, out: Path) -> str:
    lines = [
        f"{out}: {fitted.cell['name']}",
        f"{'file':<26}{'degC':>6}  {'soc':<13}{'fit rms':>8}{'slow':>6}{'left out':>10}{'slow':>6}  mV"
        f"{'10 s pulse':>14}",
    ]
    for f in fitted.files:
        away = (
            f"{f.left_out_rms_mv:10.1f}{f.left_out_slow_mv:6.1f}"
            if f.left_out_rms_mv is not None
            else " " * 16
        )
        pulse = f"{f.pulse_pct:12.1f} %" if f.pulse_pct is not None else ""
        lines.append(
            f"{f.name[:25]:<26}{f.temp_degc:6.1f}  {f.soc_from:5.3f}-{f.soc_to:5.3f}  "
            f"{f.rms_mv:8.1f}{f.slow_mv:6.1f}{away}    {pulse}"
        )
    lines += [f"note: {r}" for r in fitted.remarks]
    lines += [f"assumed: {m}" for m in fitted.missing]
    return "\n".join(lines)
