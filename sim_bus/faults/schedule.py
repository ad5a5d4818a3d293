"""When faults act: at a time, for a time, again and again, with a probability; by whole seconds.

A fault begins with the first second that begins at or after its time, and lasts for a second at least. Where it comes
again while it lasts, it ends and begins anew. Everything is drawn from streams of its place in the scenario's list:
`faults.0` when, `faults.0.where` which cell, `faults.0.what` what it does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge.errors import ScenarioError
from sim_bus.doors import FaultEffects
from sim_bus.faults.battery import ACTIONS
from sim_bus.faults.catalogue import CATALOGUE, Area, Kind, Parameter
from sim_bus.faults.places import Sensor, Size, find_cell, find_sensor
from sim_bus.scenario.model import FaultPlan
from sim_bus.streams import Streams

SECOND_US = 1_000_000
MOST_OFTEN_S = 0.1
NOTHING = FaultEffects()  # what a second without a fault gets: not to be written to


@dataclass(frozen=True, eq=False)
class Act:
    """A fault that acts. `parameters`: all of its kind's, with the defaults; drawn strings and cells are in `label`,
    which is the kind and where it is, as the truth says it."""

    plan: FaultPlan
    kind: Kind
    at_s: float  # the second that it began with
    parameters: Mapping[str, float | str]
    index: int  # its place in the scenario's list, from 0
    label: str
    until_s: float
    cell: tuple[int, int]  # string and cell, from 0; of a fault of a cell
    sensors: tuple[Sensor, ...]  # of a sensor's
    random: np.random.Generator
    state: dict[str, Any] = field(default_factory=dict)  # what it remembers from second to second

    def number(self, name: str) -> float:
        """A parameter that is a number."""
        return float(self.parameters[name])

    def text(self, name: str) -> str:
        """A parameter that is a text."""
        return str(self.parameters[name])


class Faults:
    """All faults of a scenario, over a battery of `strings` x `cells`.

    acting        those that act in this second, in the scenario's order
    labels        theirs, sorted: what the truth says
    began, ended  of them, with this second: what whoever runs the agent goes by
    restarts      (node, time in microseconds) of this second: for `Ecus.restart`

    Raises
    ------
    ScenarioError
        Of a kind or parameter that the catalogue has not, or a string, cell or sensor that the battery has not; with
        all of them.
    """

    def __init__(self, plans: Sequence[FaultPlan], streams: Streams, strings: int, cells: int) -> None:
        self.size = Size(strings, cells)
        self._lines: list[_Line] = []
        problems: list[str] = []
        for n, plan in enumerate(plans):
            try:
                self._lines.append(_Line(n, plan, streams, self.size))
            except ScenarioError as error:
                problems += titled(n, plan, error)
        if problems:
            raise ScenarioError(problems)
        self.acting: tuple[Act, ...] = ()
        self.began: list[Act] = []
        self.ended: list[Act] = []
        self.restarts: list[tuple[str, int]] = []
        self._physical: tuple[Act, ...] = ()
        self._by_area: dict[Area, tuple[Act, ...]] = {}
        self.labels: tuple[str, ...] = ()
        self._next_s = min((line.change_s for line in self._lines), default=math.inf)

    def second(self, t_s: float) -> FaultEffects:
        """What acts on battery and vehicle in the second that begins at `t_s`; seconds must follow each other."""
        if self.began or self.ended:  # what was told with the second before
            self.began, self.ended, self.restarts = [], [], []
        if t_s >= self._next_s:
            self._change(t_s)
        if not self.acting:
            return NOTHING
        effects = FaultEffects(labels=self.labels)
        for act in self._physical:
            ACTIONS[act.kind.name](effects, act, t_s - act.at_s, (self.size.strings, self.size.cells))
        return effects

    def of(self, area: Area) -> tuple[Act, ...]:
        """Those of an area that act in this second."""
        return self._by_area.get(area, ())

    def plans_of(self, area: Area) -> list[Act]:
        """Every fault of an area as it would act: to be checked before anything runs."""
        return [line.act_at(line.plan.at_s) for line in self._lines if line.kind.area == area]

    def _change(self, t_s: float) -> None:
        for line in self._lines:
            if t_s >= line.change_s:
                ended, began = line.look(t_s)
                self.ended += ended
                self.began += began
        self._next_s = min(line.change_s for line in self._lines)
        self.acting = tuple(line.act for line in self._lines if line.act)
        self._physical = tuple(act for act in self.acting if act.kind.name in ACTIONS)
        self._by_area = {a: tuple(x for x in self.acting if x.kind.area == a) for a in _areas(self.acting)}
        self.labels = tuple(sorted({act.label for act in self.acting}))
        begin_us = round(t_s * 1e6)
        self.restarts = [
            (act.text("node"), begin_us + int(act.random.integers(SECOND_US)))
            for act in self.began
            if act.kind.name == "ecu_reset"
        ]


def titled(number: int, plan: FaultPlan, error: ScenarioError) -> list[str]:
    """The problems of the scenario's fault of that number, from 0, with which one it is."""
    return [f"[[faults]] {number + 1} ({plan.kind}): {problem}" for problem in error.problems]


def _areas(acts: Sequence[Act]) -> set[Area]:
    return {act.kind.area for act in acts}


class _Line:
    """One fault of the scenario. `change_s`: nothing changes before."""

    def __init__(self, number: int, plan: FaultPlan, streams: Streams, size: Size) -> None:
        self._number, self.plan, self.kind = number, plan, _kind(plan)
        self._parameters = _parameters(plan, self.kind)
        self._random = streams(f"faults.{number}")
        self._what = streams(f"faults.{number}.what")
        where = streams(f"faults.{number}.where")
        self._cell, self._sensors, self._label = _where(self.kind, self._parameters, size, where)
        self._next_s = plan.at_s
        self.change_s = plan.at_s
        self.act: Act | None = None

    def look(self, t_s: float) -> tuple[list[Act], list[Act]]:
        """What ends and what begins with this second."""
        before, begins = self.act, False
        if self.act and self.act.until_s <= t_s:
            self.act = None
        every_s = self.plan.every_s
        while self._next_s <= t_s:
            begins |= bool(self._random.random() < self.plan.probability)
            self._next_s += math.inf if every_s is None else float(self._random.exponential(every_s))
        if begins:
            self.act = self.act_at(t_s)
        self.change_s = min(self._next_s, self.act.until_s if self.act else math.inf)
        if self.act is before:
            return [], []
        return [before] if before else [], [self.act] if self.act else []

    def act_at(self, t_s: float) -> Act:
        """It, as it acts from then on."""
        lasts_s = self.plan.for_s
        if lasts_s is None:
            lasts_s = 0.0 if self.kind.momentary else math.inf
        return Act(
            plan=self.plan,
            kind=self.kind,
            at_s=t_s,
            parameters=self._parameters,
            index=self._number,
            label=self._label,
            until_s=t_s + max(lasts_s, 1.0),
            cell=self._cell,
            sensors=self._sensors,
            random=self._what,
        )


def _kind(plan: FaultPlan) -> Kind:
    if plan.kind not in CATALOGUE:
        raise ScenarioError(f"unknown fault kind: {plan.kind!r}; there are {', '.join(CATALOGUE)}")
    return CATALOGUE[plan.kind]


def _parameters(plan: FaultPlan, kind: Kind) -> dict[str, float | str]:
    """All of the kind's, each as the catalogue wants it."""
    problems = [
        f"unknown parameter of {kind.name}: {name!r}"
        for name in plan.parameters
        if name not in kind.parameters
    ]
    values: dict[str, float | str] = {}
    for name, known in kind.parameters.items():
        value = plan.parameters.get(name, known.default)
        if wrong := _wrong(known, value):
            problems.append(f"faults.{name} {wrong}, not {str(value)[:80]!r}")
        elif isinstance(value, (float, int, str)):
            values[name] = value
    if not problems and kind.name == "ignition_games" and values["longest_s"] < values["shortest_s"]:  # type: ignore[operator]
        problems.append("faults.longest_s must not lie below faults.shortest_s")
    if plan.every_s is not None and not plan.every_s >= MOST_OFTEN_S:
        problems.append(f"faults.every_s must not lie below {MOST_OFTEN_S} s, not {plan.every_s}")
    if problems:
        raise ScenarioError(problems)
    return values


def _wrong(known: Parameter, value: object) -> str:
    """What a value must be and is not; "" where it is right."""
    if isinstance(known.default, str):
        if not isinstance(value, str):
            return "must be a text"
        return (
            f"must be one of {', '.join(known.choices)}" if value not in (known.choices or (value,)) else ""
        )
    if not isinstance(value, (float, int)) or isinstance(value, bool):
        return "must be a number"
    if not known.low <= value <= known.high:
        unit = f" {known.unit}" if known.unit else ""
        return f"must lie between {known.low:g} and {known.high:g}{unit}"
    return "must be a whole number" if isinstance(known.default, int) and value != int(value) else ""


def _where(
    kind: Kind, parameters: Mapping[str, float | str], size: Size, random: np.random.Generator
) -> tuple[tuple[int, int], tuple[Sensor, ...], str]:
    """Its cell (from 0) and sensors, and its label."""
    cell = (0, 0)
    sensors: tuple[Sensor, ...] = ()
    places: list[object] = []
    if "cell" in parameters:
        string, number = find_cell(parameters, size, random)
        cell, places = (string - 1, number - 1), [string, number]
    keys = [key for key in ("sensor", "other") if key in parameters]
    if keys:
        sensors = tuple(find_sensor(key, str(parameters[key]), size, random) for key in keys)
        places = list(sensors)
        if len(sensors) == 2:
            _check_pair(*sensors)
    places += [parameters[key] for key in ("bus", "message", "node") if key in parameters]
    return cell, sensors, ":".join([kind.name, *map(str, places)])


def _check_pair(one: Sensor, other: Sensor) -> None:
    if one.what != other.what or one.what == "pack_current":
        raise ScenarioError(f"faults.other must be a sensor of the kind of {one}, not {other}")
    if str(one) == str(other):
        raise ScenarioError(f"faults.other must be another sensor than {one}")
