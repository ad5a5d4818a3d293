"""What a bus tells of its battery, as the estimator takes it: from the roles of the signal maps to arrays.

`find_layout` chooses, from the roles, what stands for a cell of the estimator (docs/battery/inputs.md):

    cells      every cell has a voltage of its own
    extremes   lowest, highest and mean cell voltage, as far as they are shown: up to three cells that stand for the rest
    mean       only the voltage of a pack or string: one cell that stands for the mean of those in series

of each string where the bus shows strings, else of the pack as one string. `PackInputs.read` then gives one `Sample` a
tick. Current positive = discharge; NaN = not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from edge.battery.estimator import PackState
from edge.can.decoder import LatestTable
from edge.errors import ConfigError
from edge.signals.catalogue import Signal
from edge.watch import BoolArray, FloatArray, Inputs, IntArray, Watch

OPEN_SETTLED_S = 1.0  # contactors and current come in different frames: open counts after so long
OPEN_MAX_C = 0.05  # more current than that, in capacities per hour, is no sensor's zero
EXTREME_SD_V = (
    0.005  # the lowest of many readings is also the one with the worst noise, sensor and resistance
)
PACK_VOLTAGE_REL_SD = 0.002  # what a pack's voltmeter is good for; it also sees cables and fuses
SPREAD_SD = 0.02  # of cells nobody sees, the sd of their soc lies between 0 and this, anywhere
EXTREME_OF_SD = 0.45  # sd of the largest of 24 (0.5) to 400 (0.39) normal numbers, in units of theirs
SERIES = 100  # cells in series where nobody says: it moves the extreme by 0.2 of the sd between 50 and 200

_SHOWN = ("mean", "min", "max")
Rows = Mapping[str, Sequence[int]]


class Sample(NamedTuple):
    """The battery at one tick: S strings, n cells of the estimator."""

    current_a: FloatArray  # [S]
    voltage_v: FloatArray  # [n] each only once
    temp_degc: FloatArray  # [n]
    open: BoolArray  # [S] its contactors are, and have been for OPEN_SETTLED_S
    balancing_a: FloatArray | None  # [n] out of each cell; None: the bus tells of none


@dataclass(frozen=True)
class Layout:
    """What stands for the cells of the estimator.

    kind            "cells", "extremes" or "mean"; "" where the maps have no voltage and current to estimate from
    rows, divide_by [n] signal that is the voltage of a cell, once divided
    string_of_cell  [n] from 0
    strings         [S] the maps' numbers; None is the pack as one string
    below, above    [S] how many of the unseen spreads lie between what is shown and the emptiest, and the fullest, cell
    series          cells in series
    parallel        strings behind each current, where several are taken as one
    """

    kind: str = ""
    rows: tuple[int, ...] = ()
    divide_by: tuple[float, ...] = ()
    string_of_cell: tuple[int, ...] = ()
    strings: tuple[int | None, ...] = ()
    below: tuple[int, ...] = ()
    above: tuple[int, ...] = ()
    series: int = SERIES
    parallel: int = 1

    def spread(self) -> tuple[float, float, float]:
        """How far from the mean the emptiest and the fullest of the unseen cells lie, in soc; the sd of that, which
        both share; and the sd that each has of its own.

        Of n normal numbers the largest lies at the normal quantile of (n - 3/8)/(n + 1/4) (G. Blom, Statistical
        Estimates and Transformed Beta-Variables, 1958); their sd is anything from 0 to SPREAD_SD.
        """
        of_sd = NormalDist().inv_cdf((self.series - 0.375) / (self.series + 0.25))
        return (
            of_sd * SPREAD_SD / 2,
            of_sd * SPREAD_SD / math.sqrt(12),
            EXTREME_OF_SD * SPREAD_SD / math.sqrt(3),
        )


def unseen_pack(layout: Layout, soc: FloatArray, soc_sd: FloatArray, capacity_ah: FloatArray) -> PackState:
    """The pack by its weakest cells, as `PackEstimator.pack`, where those lie below and above what is shown.

    With the left of the emptiest cell l = (lowest shown) - below * spread and the room of the fullest r, soc is
    l / (l + r); a doubt e about the spread moves it by ((1 - soc) * below - soc * above) * e.

    Parameters
    ----------
    soc, soc_sd, capacity_ah : [n] of the estimator's cells
    """
    far, far_sd, own_sd = layout.spread()
    places = np.array(layout.string_of_cell)
    left, room, doubt, weakest = [], [], [], []
    for string, (below, above) in enumerate(zip(layout.below, layout.above, strict=True)):
        cells = np.flatnonzero(places == string)
        low, high = cells[int(np.argmin(soc[cells]))], cells[int(np.argmax(soc[cells]))]
        rest, gap = max(soc[low] - below * far, 0.0), max(1 - soc[high] - above * far, 0.0)
        share = rest / (rest + gap)
        unseen = far_sd * ((1 - share) * below - share * above)
        own = own_sd * math.hypot((1 - share) * math.sqrt(below), share * math.sqrt(above))
        left.append(rest * capacity_ah[low])
        room.append(gap * capacity_ah[high])
        doubt.append(math.hypot(max(soc_sd[low], soc_sd[high]), unseen, own) * capacity_ah[low])
        weakest.append(int(low))
    rests, whole = np.array(left), np.array(left) + np.array(room)
    string_soc = rests / whole
    return PackState(
        soc=float(rests.sum() / whole.sum()),
        soc_sd=float(sum(doubt) / whole.sum()),
        weakest=weakest[int(np.argmin(string_soc))],
        string_soc=string_soc,
    )


def rows_by_role(signals: Sequence[Signal]) -> dict[str, list[int]]:
    """The numbers of the signals that have a role, by string and index."""
    rows: dict[str, list[int]] = {}
    for row in sorted(range(len(signals)), key=lambda n: (signals[n].string or 0, signals[n].index or 0)):
        if role := signals[row].role:
            rows.setdefault(role, []).append(row)
    return rows


def find_layout(signals: Sequence[Signal], series: int | None) -> Layout:
    """What the maps' roles and `battery.series` make of a battery.

    Raises
    ------
    ConfigError
        The numbers of cells or strings do not fit each other, or the number in series is needed and missing.
    """
    rows = rows_by_role(signals)
    if not rows.get("string_current") and not rows.get("pack_current"):
        return Layout()
    layout = _of_cells(signals, rows) or _of_summary(signals, rows, series)
    problems = [] if layout is None else _misfits(signals, rows, layout, series)
    if layout is None and (rows.get("pack_voltage") or rows.get("string_voltage")):
        problems.append(
            "battery.series is missing: the maps name the voltage of the pack only; how many cells are in series?"
        )
    if problems:
        raise ConfigError(problems)
    return layout or Layout()


def _of_cells(signals: Sequence[Signal], rows: Rows) -> Layout | None:
    cells = rows.get("cell_voltage", [])
    if not cells:
        return None
    strings = sorted({signals[n].string or 0 for n in cells})
    places = tuple(strings.index(signals[n].string or 0) for n in cells)
    none = (0,) * len(strings)
    series = max(places.count(s) for s in range(len(strings)))
    return Layout("cells", tuple(cells), (1.0,) * len(cells), places, tuple(strings), none, none, series)


def _of_summary(signals: Sequence[Signal], rows: Rows, series: int | None) -> Layout | None:
    """The finest level at which lowest or highest are shown, else the finest at which a mean is."""
    divisors = {"cell_voltage_min": 1.0, "cell_voltage_mean": 1.0, "cell_voltage_max": 1.0}
    if series:
        divisors |= {"string_voltage": float(series), "pack_voltage": float(series)}
    at: dict[int | None, dict[str, int]] = {}
    for role in divisors:
        for row in rows.get(role, []):
            at.setdefault(signals[row].string, {})[role] = row
    levels = [{s: found for s, found in at.items() if (s is None) == whole} for whole in (False, True)]
    extremes = [
        level
        for level in levels
        if level and all({"cell_voltage_min", "cell_voltage_max"} & found.keys() for found in level.values())
    ]
    chosen = next(iter([*extremes, *(level for level in levels if level)]), None)
    if chosen is None:
        return None
    cells: list[tuple[int, float, int]] = []
    below, above = [], []
    strings = sorted(chosen, key=lambda s: s or 0)
    for place, string in enumerate(strings):
        found = chosen[string]
        mean = next((r for r in ("cell_voltage_mean", "string_voltage", "pack_voltage") if r in found), None)
        shown = [r for r in ("cell_voltage_min", mean, "cell_voltage_max") if r in found]
        cells += [(found[r], divisors[r], place) for r in shown if r]
        lowest, highest = ("cell_voltage_min" in found, "cell_voltage_max" in found)
        below.append(0 if lowest else 1 if mean else 2)
        above.append(0 if highest else 1 if mean else 2)
    named = {signals[n].string for n in rows.get("string_current", [])}
    return Layout(
        kind="extremes" if extremes else "mean",
        rows=tuple(row for row, _, _ in cells),
        divide_by=tuple(divisor for _, divisor, _ in cells),
        string_of_cell=tuple(place for _, _, place in cells),
        strings=tuple(strings),
        below=tuple(below),
        above=tuple(above),
        series=series or SERIES,
        parallel=max(len(named), 1) if None in chosen else 1,
    )


def _misfits(signals: Sequence[Signal], rows: Rows, layout: Layout, series: int | None) -> list[str]:
    problems = []
    for place, string in enumerate(layout.strings):
        count = layout.string_of_cell.count(place)
        if layout.kind == "cells" and series not in (None, count):
            problems.append(
                f"battery.series is {series}, but the maps name {count} cell voltages of string {string}"
            )
    named = [signals[n].string for n in rows.get("string_current", [])]
    if named and None not in layout.strings and set(named) != set(layout.strings):
        problems.append(
            f"the maps name the currents of strings {_listed(named)}, but the voltages of {_listed(layout.strings)}"
        )
    for role in ("balancing", "cell_temp", "string_contactor"):
        strings = {signals[n].string for n in rows.get(role, [])} - set(layout.strings)
        if strings and layout.kind == "cells":
            problems.append(f"the maps give string {_listed(strings)} role {role!r}, but no cell voltages")
    if layout.kind == "cells":
        cells = {(signals[n].string, signals[n].index) for n in layout.rows}
        lost = [n for n in rows.get("balancing", []) if (signals[n].string, signals[n].index) not in cells]
        if lost:
            problems.append(f"{signals[lost[0]].path}: balancing of a cell that has no cell voltage")
    return problems


def _listed(numbers: Sequence[int | None] | set[int | None]) -> str:
    return ", ".join(str(n) for n in sorted(numbers, key=lambda n: n or 0))


class PackInputs:
    """Reads the signals of a layout, tick by tick.

    `current_while_open` counts how often a string showed more current than a sensor's zero can be while its
    contactors were said to be open: it is then taken as closed. `count_differs` counts how often the bus began to
    say another number of cells than the maps and the configuration have.
    """

    def __init__(self, layout: Layout, watch: Watch, capacity_ah: float) -> None:
        signals, rows = watch.signals, rows_by_role(watch.signals)
        self.layout = layout
        self.current_while_open = 0
        self.count_differs = 0
        self.voltages = Inputs(watch, layout.rows)
        self._divide_by = np.array(layout.divide_by)
        self._open_max_a = OPEN_MAX_C * capacity_ah * layout.parallel
        whole = None in layout.strings
        own, pack = rows.get("string_current", []), rows.get("pack_current", [])
        self.currents = Inputs(watch, (pack or own) if whole else (own or pack))
        self._as_one = whole
        self._shared = len(self.currents) == 1 and len(layout.strings) > 1
        self._temps = _Temperatures(layout, watch, rows)
        self._contactors = _Contactors(layout, watch, rows)
        self._balancing = _Balancing(layout, watch, rows) if rows.get("balancing") else None
        self.bms_soc = Inputs(watch, rows.get("bms_soc", []))
        self.serial = Inputs(watch, rows.get("pack_serial", []))
        self._count = Inputs(watch, rows.get("cell_count", []))
        self._should_count = np.array([_cells_of(layout, s.string) for s in self._count.signals])
        self._differed = np.zeros(len(self._count), dtype=bool)
        self._disputed = np.zeros(len(layout.strings), dtype=bool)
        self.signals = [signals[n] for n in layout.rows]

    def extra_sd_v(self) -> float:
        """Doubt about the voltage of a cell that stands for others, besides the model's."""
        if self.layout.kind in ("", "cells"):
            return 0.0
        rounding = float((self.voltages.quantum / self._divide_by).max()) / math.sqrt(12)
        return math.hypot(rounding, EXTREME_SD_V if self.layout.kind == "extremes" else 0.0)

    def gain_sd(self) -> float:
        """The same, as a share of the voltage: where a voltmeter of the whole pack stands for a cell."""
        return PACK_VOLTAGE_REL_SD if (self._divide_by > 1).any() else 0.0

    def voltages_now(self, latest: LatestTable) -> FloatArray:
        """[n] the newest, also those that have been used."""
        return np.asarray(self.voltages.values(latest) / self._divide_by)

    def soc_shown(self, latest: LatestTable) -> float:
        """The BMS's soc within the cells' range; NaN where it shows none."""
        if not len(self.bms_soc):
            return math.nan
        low, high = self.bms_soc.signals[0].window or (0.0, 1.0)
        shown = low + float(self.bms_soc.values(latest)[0]) / 100 * (high - low)
        return min(max(shown, 0.0), 1.0) if math.isfinite(shown) else math.nan

    def read(self, dt_s: float, latest: LatestTable) -> Sample:
        """What has arrived since the last call and is good."""
        self._compare_count(latest)
        opened = self._contactors.read(dt_s, latest)
        current = self.currents.values(latest)
        voltage = self.voltages.fresh_values(latest) / self._divide_by
        if (
            self._contactors.pack_open
        ):  # a pack's voltmeter may sit behind the contactors, where there is none
            voltage[self._contactors.behind] = np.nan
        if self._as_one:
            current = current.sum(keepdims=True)
        elif self._shared:
            current = self._divided(float(current[0]), opened)
        disputed = opened & (np.abs(current) > self._open_max_a)
        self.current_while_open += int((disputed & ~self._disputed).sum())
        self._disputed = disputed
        temp = self._temps.read(latest)
        balancing = self._balancing.read(latest, self.voltages_now(latest)) if self._balancing else None
        return Sample(current, voltage, temp, opened & ~disputed, balancing)

    def _divided(self, current_a: float, opened: BoolArray) -> FloatArray:
        """One sensor's current over the strings that carry it; what it shows is not the zero of one that is open."""
        if opened.all():
            return np.full(len(opened), current_a / len(opened))
        return np.where(opened, np.nan, current_a / (~opened).sum())

    def _compare_count(self, latest: LatestTable) -> None:
        if len(self._count):
            count = self._count.values(latest)
            differs = np.isfinite(count) & (count != self._should_count)
            self.count_differs += int((differs & ~self._differed).sum())
            self._differed = differs

    @property
    def other_count(self) -> bool:
        """Whether the bus says, now, that it has another number of cells."""
        return bool(self._differed.any())


def _cells_of(layout: Layout, string: int | None) -> int:
    """How many cells a string has, or the pack."""
    if layout.kind == "cells":
        places = [p for p, s in enumerate(layout.strings) if string in (None, s)]
        return sum(layout.string_of_cell.count(p) for p in places)
    return layout.series * (layout.parallel * len(layout.strings) if string is None else 1)


class _Contactors:
    """Which strings are cut off. What is not known counts as closed."""

    def __init__(self, layout: Layout, watch: Watch, rows: Rows) -> None:
        self._signals = Inputs(watch, [*rows.get("contactors", []), *rows.get("string_contactor", [])])
        signals = self._signals.signals
        self._ranges = [s.open for s in signals]
        self._main = [n for n, s in enumerate(signals) if s.role == "contactors"]
        own = [n for n, s in enumerate(signals) if s.role != "contactors"]
        # the pack as one string is cut off where all of its strings are
        self._of = [
            own if string is None else [n for n in own if signals[n].string == string]
            for string in layout.strings
        ]
        of_pack = [watch.signals[row].role == "pack_voltage" for row in layout.rows]
        self.behind = np.flatnonzero(np.array(of_pack, dtype=bool))
        self.pack_open = False
        self._since_s = [0.0] * len(layout.strings)

    def read(self, dt_s: float, latest: LatestTable) -> BoolArray:
        """[S] open, and so for OPEN_SETTLED_S."""
        values = self._signals.values(latest).tolist()  # a few numbers: quicker without numpy
        is_open = [low <= value <= high for value, (low, high) in zip(values, self._ranges, strict=True)]
        main = any(is_open[n] for n in self._main)
        opened = [main or (len(of) > 0 and all(is_open[n] for n in of)) for of in self._of]
        self.pack_open = all(opened)
        self._since_s = [since + dt_s if o else 0.0 for since, o in zip(self._since_s, opened, strict=True)]
        return np.array([since > OPEN_SETTLED_S for since in self._since_s])


class _Temperatures:
    """Of each cell its nearest sensor; where there is none, the mean that is shown, or the middle of lowest and highest."""

    def __init__(self, layout: Layout, watch: Watch, rows: Rows) -> None:
        self._n = len(layout.rows)
        self._sensors = Inputs(watch, rows.get("cell_temp", []))
        self._place = np.array(layout.string_of_cell, dtype=np.int64)
        self._cells = layout.kind == "cells"
        strings = [s.string for s in self._sensors.signals]
        own = [[i for i, s in enumerate(strings) if s == string] for string in layout.strings]
        self._of_string = [np.array(of or range(len(strings)), dtype=np.int64) for of in own]
        self._nearest = nearest_sensor(layout.string_of_cell, self._of_string)
        self._summary = [
            [Inputs(watch, _of_level(watch, rows.get(f"cell_temp_{which}", []), string)) for which in _SHOWN]
            for string in layout.strings
        ]

    def read(self, latest: LatestTable) -> FloatArray:
        """[n]"""
        if len(self._sensors):
            values = self._sensors.values(latest)
            if self._cells:
                return np.asarray(values[self._nearest])
            return np.array([_mean(values[of]) for of in self._of_string])[self._place]
        return np.array([self._middle(of, latest) for of in self._summary])[self._place]

    def _middle(self, of: Sequence[Inputs], latest: LatestTable) -> float:
        mean, low, high = (i.values(latest)[0] if len(i) else math.nan for i in of)
        return float(mean if math.isfinite(mean) else (low + high) / 2)


def _of_level(watch: Watch, rows: Sequence[int], string: int | None) -> list[int]:
    """The one of a string, else that of the pack."""
    own = [n for n in rows if watch.signals[n].string == string]
    return (own or [n for n in rows if watch.signals[n].string is None])[:1]


def _mean(values: FloatArray) -> float:
    good = values[np.isfinite(values)]
    return float(good.mean()) if len(good) else math.nan


def nearest_sensor(string_of_cell: Sequence[int], sensors: Sequence[IntArray]) -> IntArray:
    """For each cell, which temperature sensor stands for it: sensors are spread evenly over a string."""
    result = np.zeros(len(string_of_cell), dtype=np.int64)
    for string, near in enumerate(sensors):
        mine = [i for i, s in enumerate(string_of_cell) if s == string]
        for place, cell in enumerate(mine):
            result[cell] = near[place * len(near) // len(mine)] if len(near) else 0
    return result


class _Balancing:
    """What leaves each cell through its balancing resistor: switches or currents. Not known counts as off."""

    def __init__(self, layout: Layout, watch: Watch, rows: Rows) -> None:
        self._signals = Inputs(watch, rows.get("balancing", []))
        cells = {(watch.signals[n].string, watch.signals[n].index): i for i, n in enumerate(layout.rows)}
        signals = self._signals.signals
        known = [cells.get((s.string, s.index), -1) if layout.kind == "cells" else -1 for s in signals]
        self._use = np.flatnonzero(np.array(known) >= 0)
        self._cell = np.array(known, dtype=np.int64)[self._use]
        self._ampere = np.array([s.current_a if s.current_a else 0.0 for s in signals])[self._use]
        self._siemens = np.array([1 / s.resistance_ohm if s.resistance_ohm else 0.0 for s in signals])[
            self._use
        ]
        self._is_switch = self._ampere + self._siemens > 0
        self._n = len(layout.rows)

    def read(self, latest: LatestTable, voltage_v: FloatArray) -> FloatArray:
        """[n] A"""
        value = np.nan_to_num(self._signals.values(latest)[self._use], nan=0.0)
        volts = np.nan_to_num(voltage_v[self._cell], nan=0.0)
        result = np.zeros(self._n)
        switched = (value != 0) * (self._ampere + self._siemens * volts)
        result[self._cell] = np.where(self._is_switch, switched, value)
        return result
