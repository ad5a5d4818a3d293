"""The accuracy tables of docs/battery.md: `python scripts/validate_soc.py DATA [--write]`.

DATA holds lg_hg2_nmc, a123_lfp and tao_lfp (CSV.gz: time_s,current_A,voltage_V,temperature_C,soc). How the cases are
made and what judges them: docs/battery/validation.md. In short, each drive is run with sensor errors that add up,
and with all of them reversed,
    right      from its beginning, with its soc
    wrong      from 25, 50 and 75 % of its time on, with a soc that is wrong by 30 to 50 %, either way where there is
               room; relaxation unknown; scored from 600 s on
    unknown    from the same places without a soc; not part of the rows, for `wrong` is the harder
on the file's own rows, as `ayaz soc` runs it. --lab takes drives of scripts/lab_pybamm.py, judged with
pybamm_nmc.toml and pybamm_lfp.toml of --cell-dir. --peers makes the table of what others would take instead, on rows of
1 s: counting, the textbook's filter with our own cell's tables, and PyBatterySE, identified on what our cell was fitted
on (the `[bench]` extra).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from edge.battery.model import FloatArray, load_cell
from edge.battery.soc_command import SETTLING_S, estimate_soc
from edge.measured import Measured, load_measured

PAGE = Path(__file__).parent.parent / "docs" / "battery.md"
PLACES = (0.25, 0.5, 0.75)
WRONG_BY = (0.3, 0.5)
STARTS = ("right", "wrong", "unknown")
TWO_SIDED_95 = 1.96
BAND_MUST, BAND_AIM = 3.0, 2.5  # mean half width over the row's limit of the RMSE
NMC_SENSORS = (0.05, 0.01, -0.03)  # offset in A (1.67 % of the 3 Ah cell's rate), gain - 1, capacity's error
LG_CELL, A123_CELL = "lg_hg2", "a123_26650"
A123_DRIVES = (45, 25, 5, -5, -25)
WARMING = ((1.0, -20), (0.8, -10), (0.6, 0), (0.4, 10))  # from this soc on, at this temperature


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table: what was fitted on what, and the limits (RMSE, largest error; in % of soc)."""

    title: str
    fitted: str
    reference: str
    must: tuple[float, float]
    aim: tuple[float, float]
    starts: tuple[str, ...] = ("right", "wrong")


LG_FIT, LG_REFERENCE = "slow, pulses, US06, LA92", "± 1 %"
ROWS = {
    "nmc_warm": Row("NMC, 40, 25, 10 °C", LG_FIT, LG_REFERENCE, (1.0, 2.5), (0.5, 1.5)),
    "nmc_0": Row("NMC, 0 °C", LG_FIT, LG_REFERENCE, (1.2, 3), (0.6, 1.5)),
    "nmc_-10": Row("NMC, -10 °C", LG_FIT, LG_REFERENCE, (1.2, 3), (0.6, 1.5)),
    "nmc_-20": Row("NMC, -20 °C", LG_FIT, LG_REFERENCE, (1.5, 4), (0.8, 2.5)),
    "nmc_warming": Row("NMC, warming from -20 to +10 °C (composed)", LG_FIT, LG_REFERENCE, (2, 6), (1, 3)),
    "lfp": Row(
        "LFP, 45 to -25 °C, right start",
        "slow, drives at the other temperatures",
        "± 0.2 %",
        (2, 4),
        (1, 2),
        ("right",),
    ),
    "lfp_fitted": Row(
        "the same, by the cell as shipped (not unseen)",
        "slow, these drives",
        "± 0.2 %",
        (2, 4),
        (1, 2),
        ("right",),
    ),
    "nmc_lab_warming": Row(
        "NMC simulated, warming from -20 to +15 °C",
        "simulated, -20 to 25 °C",
        "exact, simulated",
        (2, 6),
        (1, 3),
    ),
    "nmc_lab": Row(
        "NMC simulated, -15 and 5 °C (limits of 0 °C)",
        "simulated, -20 to 25 °C",
        "exact, simulated",
        (1.2, 3),
        (0.6, 1.5),
    ),
    "nmc_lab_-30": Row(
        "NMC simulated, -30 °C (limits of -20 °C)",
        "simulated, -20 to 25 °C",
        "exact, simulated",
        (1.5, 4),
        (0.8, 2.5),
    ),
    "lfp_lab_-30": Row(
        "LFP simulated, 15 to -30 °C, right start",
        "simulated, -20 to 25 °C",
        "exact, simulated",
        (2, 4),
        (1, 2),
        ("right",),
    ),
    "lfp_flat": Row(
        "LFP held 25 h between 19 and 81 %", "another cell", "the source's own", (3, 6), (1.5, 3)
    ),
}
PEERS_ROWS = ("nmc_warm", "nmc_0", "nmc_-10", "nmc_-20")
SETTLING = {  # 90th percentile of the time to within 5 %: must, aim
    25: (60.0, 30.0),
    -10: (150.0, 60.0),
    -20: (240.0, 90.0),
}


@dataclasses.dataclass(frozen=True)
class Drive:
    """One drive, and what judges it. With several files it is composed of them (see `composed`)."""

    row: str
    temp_degc: int
    paths: tuple[Path, ...]
    cell: str
    sensors: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Case:
    """One run of one drive. Errors and widths in % of soc, times in s; `all` is from the first row on."""

    row: str
    drive: str
    temp_degc: int
    start: str
    sign: int
    place: float
    given_soc: float | None
    rmse: float
    worst: float
    inside: float
    half_width: float
    inside_all: float
    half_width_all: float
    settled_s: float
    counting_rmse: float
    counting_worst: float


# data, cell, the given soc or None, capacity_ah, start_s -> time_s, soc, soc_sd
Estimate = Callable[[Measured, str, float | None, float, float], tuple[FloatArray, FloatArray, FloatArray]]


def ours(
    data: Measured, cell: str, given: float | None, capacity_ah: float, start_s: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    run = estimate_soc(data, load_cell(cell), given, capacity_ah, start_s)
    return run.time_s, run.soc, run.soc_sd


def textbook(
    data: Measured, cell: str, given: float | None, capacity_ah: float, start_s: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The two-RC filter of the textbook, by filterpy, with our cell's tables."""
    from bench.peers import FilterpyFilter, tables_of

    tables = dataclasses.replace(tables_of(load_cell(cell)), capacity_ah=capacity_ah)
    first = int(np.searchsorted(data.time_s, start_s))
    peer = FilterpyFilter(tables, 0.5 if given is None else given, peer_sd(start_s))
    times = data.time_s[first:]
    soc, sd = np.empty(len(times)), np.empty(len(times))
    columns = (np.diff(times, prepend=times[0] - 1), data.current_a, data.voltage_v, data.temp_degc)
    rows = zip(columns[0].tolist(), *(c[first:].tolist() for c in columns[1:]), strict=True)
    for k, row in enumerate(rows):
        peer.step(*row)
        soc[k], sd[k] = peer.soc, peer.soc_sd
    return times, soc, sd


def battery_se(
    data: Measured, cell: str, given: float | None, capacity_ah: float, start_s: float, model: Any = None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """PyBatterySE's filter with a model that was identified before."""
    from bench import peers

    first = int(np.searchsorted(data.time_s, start_s))
    sd = 1.0 if start_s else peer_sd(start_s)  # mid-drive as in its example
    ekf = peers.battery_se(model, 0.5 if given is None else given, sd, capacity_ah)
    drive = peers.Drive(0.0, data.current_a[first:], data.voltage_v[first:], data.temp_degc[first:])
    soc, soc_sd = peers.run_battery_se(ekf, drive)
    lost = len(drive.current_a) - len(soc)  # it stops where it diverges
    soc, soc_sd = (np.append(a, np.full(lost, a[-1])) for a in (soc, soc_sd))
    return data.time_s[first:], soc, soc_sd


def peer_sd(start_s: float) -> float:
    """What a peer is told of its first soc: mid-drive that it may be far off, or it would never find it."""
    return 0.3 if start_s else 0.02


def identified(data: Path, cell: str) -> Any:
    """A model by PyBatteryID from the drives on which our cell was fitted."""
    from bench import peers

    sets = []
    for path in sorted(p for name in ("US06", "LA92") for p in data.glob(f"lg_hg2_nmc/{name}_*.csv.gz")):
        rows = second_by_second(load_measured(path))
        sets.append(peers.Drive(1.0, rows.current_a, rows.voltage_v, rows.temp_degc))
    return peers.identify_battery_se(peers.tables_of(load_cell(cell)), sets)


def lab_drives(lab: Path, cells: Path) -> Iterator[Drive]:
    """The simulated cells' drives that were not fitted on."""
    for path in sorted(lab.glob("nmc/judge/*.csv.gz")):
        warming = path.name.startswith("warming")
        row = (
            "nmc_lab_warming"
            if warming
            else "nmc_lab_-30"
            if path.name.endswith("_-30.csv.gz")
            else "nmc_lab"
        )
        temp = -20 if warming else degrees(path)
        offset = NMC_SENSORS[0] / 3 * 5  # of the 5 Ah cell
        yield Drive(row, temp, (path,), str(cells / "pybamm_nmc.toml"), (offset, *NMC_SENSORS[1:]))
    for path in sorted(lab.glob("lfp/judge/*.csv.gz")):
        temp = -20 if path.name.startswith("warming") else degrees(path)
        yield Drive("lfp_lab_-30", temp, (path,), str(cells / "pybamm_lfp.toml"), lfp_sensors(2.3))


def lfp_sensors(capacity_ah: float) -> tuple[float, float, float]:
    return (0.005 * capacity_ah, 0.005, -0.01)


def drives(data: Path, cells: Path | None) -> Iterator[Drive]:
    """Every drive that judges. The cell files in `cells` go before those that we ship."""
    lg, a123 = chosen(cells, LG_CELL), chosen(cells, A123_CELL)
    for name in ("Mixed1", "Mixed2", "UDDS"):
        for path in sorted(data.glob(f"lg_hg2_nmc/{name}_*.csv.gz")):
            temp = degrees(path)
            row = "nmc_warm" if temp > 0 else f"nmc_{temp}"
            yield Drive(row, temp, (path,), lg, NMC_SENSORS)
        stages = tuple(data / f"lg_hg2_nmc/{name}_{temp:+03d}.csv.gz" for _, temp in WARMING)
        if all(path.is_file() for path in stages):
            yield Drive("nmc_warming", -20, stages, lg, NMC_SENSORS)
    for temp in A123_DRIVES:
        path = data / f"a123_lfp/drive_{temp:+03d}.csv.gz"
        if not path.is_file():
            continue
        yield Drive("lfp_fitted", temp, (path,), a123, lfp_sensors(2.072))
        unseen = cells and cells / f"without_{temp:+03d}" / f"{A123_CELL}.toml"
        if unseen and unseen.is_file():
            yield Drive("lfp", temp, (path,), str(unseen), lfp_sensors(2.072))
    for path in sorted(data.glob("tao_lfp/*.csv.gz")):
        yield Drive("lfp_flat", degrees(path), (path,), a123, lfp_sensors(1.2))


def chosen(cells: Path | None, name: str) -> str:
    path = cells and cells / f"{name}.toml"
    return str(path) if path and path.is_file() else name


def degrees(path: Path) -> int:
    return int(path.name.removesuffix(".csv.gz").rpartition("_")[2])


def load(drive: Drive, quick: bool) -> Measured:
    parts = [load_measured(path) for path in drive.paths]
    data = parts[0] if len(parts) == 1 else composed(parts, [soc for soc, _ in WARMING])
    return second_by_second(data) if quick else data


def composed(parts: list[Measured], from_soc: list[float]) -> Measured:
    """Pieces of drives that follow each other: each from where its soc first falls to `from_soc` until the next one's.

    Current, voltage, temperature and soc are as measured; what no cell did is the step from one temperature
    to the next, and that each piece's relaxation began at its own temperature.
    """
    pieces, at = [], 0.0
    for part, begin, end in zip(parts, from_soc, [*from_soc[1:], -1.0], strict=True):
        assert part.soc is not None
        first = int(np.argmax(part.soc <= begin))
        last = int(np.argmax(part.soc <= end)) or len(part.soc)
        time = part.time_s[first:last] - part.time_s[first] + at
        at = float(2 * time[-1] - time[-2])
        columns = (c[first:last] for c in (part.current_a, part.voltage_v, part.temp_degc, part.soc))
        pieces.append((time, *columns))
    return Measured(*(np.concatenate(columns) for columns in zip(*pieces, strict=True)))


def second_by_second(data: Measured) -> Measured:
    """Mean current and the last of all else in each second; unchanged where rows are sparser."""
    last = np.flatnonzero(np.diff(np.floor(data.time_s), append=math.inf))
    count = np.diff(last, prepend=-1)
    current = np.add.reduceat(data.current_a, np.append(0, last[:-1] + 1)) / count
    soc = None if data.soc is None else data.soc[last]
    return Measured(data.time_s[last], current, data.voltage_v[last], data.temp_degc[last], soc)


def counted_ah(data: Measured) -> float:
    """The capacity that the file's soc belongs to."""
    assert data.soc is not None
    charge = np.cumsum(data.current_a * np.diff(data.time_s, prepend=data.time_s[0])) / 3600
    low, high = int(np.nanargmin(data.soc)), int(np.nanargmax(data.soc))
    return float((charge[low] - charge[high]) / (data.soc[high] - data.soc[low]))


def begins(data: Measured, starts: Iterable[str]) -> Iterator[tuple[str, float, float | None]]:
    """(start, place, given soc) of every run of a drive."""
    assert data.soc is not None
    if "right" in starts:
        yield "right", 0.0, float(np.clip(data.soc[0], 0, 1))
    for place in PLACES:
        if (1 - place) * data.time_s[-1] <= SETTLING_S:
            continue  # nothing would be left to score
        soc = float(data.soc[np.searchsorted(data.time_s, place * data.time_s[-1])])
        if "wrong" in starts:
            for way, room in ((-1, soc), (1, 1 - soc)):
                if room >= WRONG_BY[0]:
                    yield "wrong", place, float(np.clip(soc + way * min(room, WRONG_BY[1]), 0, 1))
        if "unknown" in starts:
            yield "unknown", place, None


def cases(drive: Drive, quick: bool, starts: tuple[str, ...], estimate: Estimate = ours) -> list[Case]:
    """Every start of one drive, with the sensor errors and with their opposite."""
    data = load(drive, quick)
    capacity = counted_ah(data)
    wanted = [s for s in starts if s in ROWS[drive.row].starts or s == "unknown"]
    out = []
    for sign in (1, -1):
        offset, gain, off = (sign * e for e in drive.sensors)
        seen = dataclasses.replace(data, current_a=data.current_a * (1 + gain) + offset)
        for start, place, given in begins(data, wanted):
            start_s = place * float(data.time_s[-1])
            run = estimate(seen, drive.cell, given, capacity * (1 + off), start_s)
            first = len(seen.time_s) - len(run[0])
            truth = data.soc[first:]  # type: ignore[index]
            count = counting(seen, first, given, capacity * (1 + off))
            name = drive.paths[0].name.removesuffix(".csv.gz")
            out.append(
                Case(
                    drive.row,
                    name,
                    drive.temp_degc,
                    start,
                    sign,
                    place,
                    given,
                    **scored(start, *run, truth, count),
                )
            )
    return out


def counting(data: Measured, first: int, given: float | None, capacity_ah: float) -> FloatArray:
    """What counting alone makes of the same inputs; half full where nothing was given."""
    step = np.diff(data.time_s[first:], prepend=data.time_s[first])
    begin = 0.5 if given is None else given
    return np.asarray(begin - np.cumsum(data.current_a[first:] * step) / (3600 * capacity_ah))


def scored(
    start: str, time_s: FloatArray, soc: FloatArray, sd: FloatArray, truth: FloatArray, count: FloatArray
) -> dict[str, float]:
    """The figures of a case."""
    known, since = np.isfinite(truth), time_s - time_s[0]
    judged = known if start == "right" else known & (since >= SETTLING_S)
    error, half = 100 * (soc - truth), 100 * TWO_SIDED_95 * sd
    inside = np.abs(error) <= half
    outside = np.flatnonzero(known & (np.abs(error) >= 5.0))
    settled = 0.0 if not len(outside) else math.inf
    if len(outside) and outside[-1] + 1 < len(since):
        settled = float(since[outside[-1] + 1])
    counted = 100 * (count - truth)
    return {
        "rmse": rms(error[judged]),
        "worst": float(np.abs(error[judged]).max()),
        "inside": float(inside[judged].mean()),
        "half_width": float(half[judged].mean()),
        "inside_all": float(inside[known].mean()),
        "half_width_all": float(half.mean()),
        "settled_s": settled,
        "counting_rmse": rms(counted[judged]),
        "counting_worst": float(np.abs(counted[judged]).max()),
    }


def rms(values: Any) -> float:
    return math.sqrt(float(np.mean(np.square(values))))


# The tables


def markdown(head: list[str], lines: Iterable[list[str]]) -> str:
    rows = [head, *lines]
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(row) + " |" for row in padded)


def verdict(value: float, must: float, aim: float, better: int = -1) -> str:
    """Reached the aim, the must, or neither; better = -1: less is better."""
    if (value - aim) * better >= 0:
        return "aim"
    return "must" if (value - must) * better >= 0 else "NO"


def summary(found: list[Case]) -> str:
    """The issue's table: a row for each case, over all its drives, starts and both sensor errors."""
    head = "case, reference | fitted on | cases | must | aim | RMSE / largest | right | mid-drive | reached | in band"
    head += " | half width | band reached | counting, right start"
    lines = []
    for key, row in ROWS.items():
        mine = [c for c in found if c.row == key and c.start in row.starts]
        if not mine:
            continue
        total = pair(mine)
        inside, half = (float(np.mean([getattr(c, k) for c in mine])) for k in ("inside", "half_width"))
        reached = min_of(
            verdict(v, m, a) for v, m, a in zip((total[0], total[1]), row.must, row.aim, strict=True)
        )
        band = min_of([band_verdict(inside), verdict(half, BAND_MUST * row.must[0], BAND_AIM * row.must[0])])
        starts = ([c for c in mine if c.start == s] for s in ("right", "wrong"))
        lines.append(
            [
                f"{row.title}; {row.reference}",
                row.fitted,
                str(len(mine)),
                "{:g} / {:g}".format(*row.must),
                "{:g} / {:g}".format(*row.aim),
                text(total),
                *(text(pair(s)) if s else "" for s in starts),
                reached,
                f"{100 * inside:.0f} % (least {100 * min(c.inside for c in mine):.0f})",
                f"{half:.1f}",
                band,
                beside_counting([c for c in mine if c.start == "right"]),
            ]
        )
    return markdown(head.split(" | "), lines)


def pair(found: list[Case]) -> tuple[float, float]:
    """RMSE over all cases, and the worst single error."""
    return rms([c.rmse for c in found]), max(c.worst for c in found)


def text(figures: tuple[float, float]) -> str:
    return f"{figures[0]:.2f} / {figures[1]:.1f}"


def min_of(verdicts: Iterable[str]) -> str:
    return min(verdicts, key=["NO", "must", "aim"].index)


def band_verdict(inside: float) -> str:
    if 0.93 <= inside <= 0.97:
        return "aim"
    return "must" if inside >= 0.90 else "NO"


def beside_counting(found: list[Case]) -> str:
    if not found:
        return ""
    worse = sum(c.rmse > c.counting_rmse for c in found)
    figures = text((rms([c.counting_rmse for c in found]), max(c.counting_worst for c in found)))
    return f"{figures}; better than us in {worse} of {len(found)}"


def beside(found: dict[str, list[Case]]) -> str:
    """The peers' table, per temperature and start."""
    lines = []
    for start in ("right", "wrong"):
        for temp in sorted({c.temp_degc for c in found["Ayaz"]}, reverse=True):
            line = [start, str(temp)]
            for cases_of in found.values():
                mine = [c for c in cases_of if c.start == start and c.temp_degc == temp]
                slow = float(np.quantile([c.settled_s for c in mine], 0.9, method="higher"))
                inside = 100 * float(np.mean([c.inside for c in mine]))
                shown = "never" if math.isinf(slow) else f"{slow:.0f} s"
                line.append(
                    f"{text(pair(mine))}; {inside:.0f} %" + (f"; {shown}" if start == "wrong" else "")
                )
            mine = [c for c in found["Ayaz"] if c.start == start and c.temp_degc == temp]
            counted = (rms([c.counting_rmse for c in mine]), max(c.counting_worst for c in mine))
            lines.append([*line, text(counted)])
    return markdown(
        ["start", "°C", *(f"{name}: RMSE / largest; in band" for name in found), "counting"], lines
    )


def settling(found: list[Case]) -> str:
    """Time to within 5 % and staying there, mid-drive."""
    lines = []
    for temp, (must, aim) in SETTLING.items():
        times = [
            c.settled_s
            for c in found
            if c.temp_degc == temp and c.row in ("nmc_warm", f"nmc_{temp}") and c.start == "wrong"
        ]
        if times:
            slow = float(np.quantile(times, 0.9, method="higher"))
            shown = "never" if math.isinf(slow) else f"{slow:.0f} s"
            never = sum(map(math.isinf, times))
            line = [
                f"{temp} °C",
                str(len(times)),
                f"{must:g} s",
                f"{aim:g} s",
                shown,
                verdict(slow, must, aim),
            ]
            lines.append([*line, str(never)])
    head = "NMC, time to within 5 % | cases | must | aim | 90th percentile | reached | never"
    return markdown(head.split(" | "), lines)


def detail(found: list[Case]) -> str:
    """Each start at each temperature."""
    groups: dict[tuple[int, int, int], list[Case]] = {}
    rows = list(ROWS)
    for c in found:
        groups.setdefault((rows.index(c.row), STARTS.index(c.start), -c.temp_degc), []).append(c)
    lines = []
    for (row, start, cold), mine in sorted(groups.items()):
        mean = {
            k: float(np.mean([getattr(c, k) for c in mine]))
            for k in ("inside", "half_width", "inside_all", "half_width_all")
        }
        slow = float(np.quantile([c.settled_s for c in mine], 0.9, method="higher"))
        lines.append(
            [
                ROWS[rows[row]].title,
                STARTS[start],
                str(-cold),
                str(len(mine)),
                *(f"{v:.2f}" if n == 0 else f"{v:.1f}" for n, v in enumerate(pair(mine))),
                f"{100 * mean['inside']:.0f}",
                f"{mean['half_width']:.1f}",
                f"{100 * mean['inside_all']:.0f}",
                f"{mean['half_width_all']:.1f}",
                "never" if math.isinf(slow) else f"{slow:.0f}",
                text((rms([c.counting_rmse for c in mine]), max(c.counting_worst for c in mine))),
            ]
        )
    head = "case | start | °C | cases | RMSE | largest | in band | half width | in band, from the first row"
    head += " | half width | within 5 % after s | counting"
    return markdown(head.split(" | "), lines)


def options_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true", help="replace the tables in docs/battery.md")
    parser.add_argument("--only", default="", help="drives with a file whose path contains this")
    parser.add_argument("--row", choices=ROWS, action="append", help="only this row; may be given again")
    parser.add_argument(
        "--start", choices=STARTS, action="append", help="only this start; may be given again"
    )
    parser.add_argument("--cell-dir", type=Path, help="cell files that go before those we ship")
    parser.add_argument("--lab", type=Path, help="what scripts/lab_pybamm.py has made")
    parser.add_argument(
        "--peers", action="store_true", help="the table of others' filters (LG drives, rows of 1 s)"
    )
    parser.add_argument("--quick", action="store_true", help="rows joined to 1 s")
    parser.add_argument("--brief", action="store_true", help="no table of details")
    parser.add_argument("--json", type=Path, help="write every case here")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    options = parser.parse_args()
    if options.lab and not options.cell_dir:
        parser.error("--lab needs the --cell-dir with the cells that were fitted on it")
    return options


def main() -> None:
    options = options_of()
    wanted = list(drives(options.data, options.cell_dir))
    if options.lab:
        wanted += lab_drives(options.lab, options.cell_dir)
    chosen_rows = options.row or ROWS
    wanted = [d for d in wanted if any(options.only in str(p) for p in d.paths) and d.row in chosen_rows]
    if not wanted:
        sys.exit(f"no drives in {options.data}")
    with ProcessPoolExecutor(options.jobs) as pool:
        run = partial(all_cases, pool)
        if options.peers:
            wanted = [d for d in wanted if d.row in PEERS_ROWS]
            model = identified(options.data, wanted[0].cell)
            starts = ("right", "wrong")
            others: dict[str, Estimate] = {
                "Ayaz": ours,
                "textbook two-RC EKF": textbook,
                "PyBatterySE": partial(battery_se, model=model),
            }
            page = beside({name: run(wanted, True, starts, estimate) for name, estimate in others.items()})
        else:
            found = run(wanted, options.quick, tuple(options.start or STARTS), ours)
            if options.json:
                options.json.write_text(json.dumps([dataclasses.asdict(c) for c in found], indent=1), "utf-8")
            tables = (summary, settling) if options.brief else (summary, settling, detail)
            page = "\n\n".join(table(found) for table in tables)
    if options.write:
        put(PAGE, "peers" if options.peers else "validation", page)
    else:
        print(page)


def all_cases(
    pool: ProcessPoolExecutor, wanted: list[Drive], quick: bool, starts: tuple[str, ...], estimate: Estimate
) -> list[Case]:
    work = partial(cases, quick=quick, starts=starts, estimate=estimate)
    return [case for part in pool.map(work, wanted) for case in part]


def put(page: Path, name: str, text: str) -> None:
    """Replace what lies between the markers of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text("utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        sys.exit(f"{page}: no markers {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")


if __name__ == "__main__":
    main()
