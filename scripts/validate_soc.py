"""The validation table of docs/battery.md: `python scripts/validate_soc.py DATA [--write]`.

DATA holds lg_hg2_nmc, a123_lfp and tao_lfp (CSV.gz: time_s,current_A,voltage_V,temperature_C,soc). With
--write the table in docs/battery.md is replaced, else it is printed.

The judge is the charge that was counted from a known full charge. Rows of 10 Hz data are joined to 1 s, as a
bus sends them. Each drive is run
    right       from its beginning, with its soc
    unknown     from 25 and from 50 % of its time on, without a soc
    wrong       from the same places, with a soc that is wrong by 0.4, given as one known to 0.05
and each of these without and with sensor errors: a current offset, a gain and a wrong capacity that add up,
and all three reversed. `unknown` and `wrong` are scored from 600 s on, except for the band.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from edge.battery.measured import Measured, load_measured
from edge.battery.model import CellModel, load_cell
from edge.battery.soc_command import estimate_soc, soc_report
from scripts.fit_cells import A123_CAPACITY_AH, A123_DRIVES, a123_26650, label, write

PAGE = Path(__file__).parent.parent / "docs" / "battery.md"
BEGIN, END = "<!-- validation: begin -->", "<!-- validation: end -->"
PLACES = (0.25, 0.5)
WRONG_BY = 0.4
STARTS = ("right", "unknown", "wrong")


@dataclasses.dataclass(frozen=True)
class Drive:
    """One drive, and what judges it. sensors: (offset in A, gain - 1, capacity's relative error)."""

    group: str
    temp_degc: int
    role: str
    path: Path
    cell: str
    sensors: tuple[float, float, float]


NMC_SENSORS = (0.05, 0.01, -0.03)  # 1.67 % of the 3 Ah cell's capacity per hour


def lfp_sensors(capacity_ah: float) -> tuple[float, float, float]:
    return (0.005 * capacity_ah, 0.005, -0.01)


def drives(data: Path, left_out: Path) -> Iterator[Drive]:
    for role, names in (("fitted", ("US06", "LA92")), ("held out", ("Mixed1", "Mixed2", "UDDS"))):
        for name in names:
            for path in sorted(data.glob(f"lg_hg2_nmc/{name}_*.csv.gz")):
                yield Drive("LG HG2", degrees(path), role, path, "lg_hg2", NMC_SENSORS)
    for path in sorted(data.glob("a123_lfp/drive_*.csv.gz")):
        temp = degrees(path)
        yield Drive("A123", temp, "fitted", path, "a123_26650", lfp_sensors(A123_CAPACITY_AH))
        other = str(left_out / label(temp) / "a123_26650.toml")
        yield Drive("A123", temp, "left out", path, other, lfp_sensors(A123_CAPACITY_AH))
    for path in data.glob("tao_lfp/*.csv.gz"):
        yield Drive("Tao LFP", degrees(path), "another cell", path, "a123_26650", lfp_sensors(1.2))


def degrees(path: Path) -> int:
    return int(path.name.removesuffix(".csv.gz").rpartition("_")[2])


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


def runs(drive: Drive) -> list[dict[str, Any]]:
    """Every start of one drive, without and with sensor errors."""
    data, cell = second_by_second(load_measured(drive.path)), load_cell(drive.cell)
    capacity = counted_ah(data)
    out = []
    for way in (0, 1, -1):
        offset, gain, off = (way * e for e in drive.sensors)
        seen = dataclasses.replace(data, current_a=data.current_a * (1 + gain) + offset)
        # without errors: the model's own capacity, but for a cell that is not the model's
        known = capacity * (1 + off) if way or drive.role == "another cell" else None
        for start, report in one_by_one(seen, cell, known):
            out.append({"drive": drive, "start": start, "errors": way != 0, "report": report})
    return out


def one_by_one(
    data: Measured, cell: CellModel, capacity_ah: float | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    assert data.soc is not None
    first = float(np.clip(data.soc[0], 0, 1))
    yield "right", soc_report(estimate_soc(data, cell, first, capacity_ah))
    for place in PLACES:
        start_s = place * float(data.time_s[-1])
        soc = float(data.soc[np.searchsorted(data.time_s, start_s)])
        wrong = soc + (-WRONG_BY if soc > 0.5 else WRONG_BY)
        for start, given in (("unknown", None), ("wrong", min(max(wrong, 0.0), 1.0))):
            yield start, soc_report(estimate_soc(data, cell, given, capacity_ah, start_s))


def figures(reports: list[dict[str, Any]], start: str) -> str:
    """RMSE, largest error, share of rows in the band, mean half width: in %."""
    scored = reports if start == "right" else [r["after_600s"] for r in reports]
    rmse = math.sqrt(np.mean([r["rmse_pct"] ** 2 for r in scored]))
    worst = max(r["max_abs_pct"] for r in scored)
    inside, half = (np.mean([r[k] for r in reports]) for k in ("coverage95", "half_width95_pct"))
    return f"{rmse:.2f} | {worst:.1f} | {100 * inside:.0f} | {half:.1f}"


def table(results: list[dict[str, Any]]) -> str:
    rows: dict[tuple[Any, ...], dict[bool, list[dict[str, Any]]]] = {}
    for result in results:
        d = result["drive"]
        key = (d.group, d.role, STARTS.index(result["start"]), -d.temp_degc)
        rows.setdefault(key, {False: [], True: []})[result["errors"]].append(result["report"])
    lines = [
        "| data | drives | start | °C | RMSE | max | in band | half width | with sensor errors: RMSE | max "
        "| in band | half width | 1000 steps/s |",
        "|" + "---|" * 13,
    ]
    for (group, role, number, cold), found in sorted(rows.items()):
        start = STARTS[number]
        speed = np.median([r["steps_per_s"] for r in found[False] + found[True]]) / 1000
        figured = f"{figures(found[False], start)} | {figures(found[True], start)}"
        lines.append(f"| {group} | {role} | {start} | {-cold} | {figured} | {speed:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/battery.md")
    parser.add_argument("--only", default="", help="files whose path contains this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        left_out = Path(folder)
        for temp in A123_DRIVES:
            (left_out / label(temp)).mkdir()
            cell = a123_26650(options.data / "a123_lfp", temp)
            write(left_out / label(temp) / "a123_26650.toml", cell)
        chosen = [d for d in drives(options.data, left_out) if options.only in str(d.path)]
        if not chosen:
            parser.error(f"no drives in {options.data}")
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            text = table(list(itertools.chain.from_iterable(pool.map(runs, chosen))))
    if not options.write:
        print(text)
        return
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
