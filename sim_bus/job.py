"""One run from its beginning to its end: what to live, where to, how fast, and who looks on."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.can.frames import Frames
from edge.errors import ScenarioError
from sim_bus.doors import FloatArray
from sim_bus.plot import Picture
from sim_bus.run import Run
from sim_bus.scenario.model import Scenario
from sim_bus.sinks import Sink, file_of, is_live, open_sink
from sim_bus.truth import Account, Recorder, TruthFile, steps_of

PACE_US = 20_000  # on a bus, frames are sent in slices of this length
NOTHING = 1e-9  # s


@dataclass(frozen=True)
class Job:
    """One bus.

    source      a scenario's name or path to a .toml, as text; or measured data to be played back, as a Path
    to          see sinks.py; None: nowhere
    duration_s  None: as long as the data, or as the scenario says; on a CAN interface without an end
    speed       factor on real time; None: as fast as it goes
    parallel    of a playback: cells in each place of a string
    scenario    what `source` says, where it was read or made already
    """

    source: str | Path
    to: str | None = None
    seed: int = 1
    duration_s: float | None = None
    speed: float | None = None
    truth_path: Path | None = None
    truth_every_s: float = 1.0
    plot_path: Path | None = None
    parallel: int = 80
    scenario: Scenario | None = None

    def files(self) -> dict[str, Path]:
        """The files that it makes, by option."""
        paths = {"--to": file_of(self.to), "--truth": self.truth_path, "--plot": self.plot_path}
        return {option: path for option, path in paths.items() if path is not None}

    def check(self) -> None:
        """Refuse what would fail, or destroy something, only after a long run.

        Raises
        ------
        ScenarioError
        """
        steps_of(self.truth_every_s)
        taken = {self.source.resolve(): "--playback"} if isinstance(self.source, Path) else {}
        for option, path in self.files().items():
            if not path.parent.is_dir() or path.is_dir():
                raise ScenarioError(
                    f"{option} {path}: cannot be written: no such folder, or it is one itself; make it with: mkdir -p"
                )
            if path.resolve() in taken:
                raise ScenarioError(f"{option} {path}: is {taken[path.resolve()]} already; give another name")
            taken[path.resolve()] = option


@dataclass(frozen=True)
class Moment:
    """What a live line shows."""

    t_s: float
    end_s: float  # infinite where nothing ends it
    factor: float  # of real time
    doing: str
    labels: tuple[str, ...]
    account: Account


Watch = Callable[[Moment], None]


def load(job: Job) -> Scenario:
    """The job's scenario.

    Raises
    ------
    ScenarioError
    """
    from sim_bus.scenario import load_scenario

    return job.scenario or load_scenario(str(job.source))


def make_run(job: Job) -> tuple[Run, float]:
    """What the job lives, and until when where nobody says otherwise.

    Raises
    ------
    ScenarioError, DataError
    """
    if isinstance(job.source, Path):
        from sim_bus.playback import Playback

        played = Playback(job.source, job.seed, job.parallel)
        return played, played.duration_s
    from sim_bus.simulation import Simulation

    scenario = load(job)
    return Simulation(scenario, job.seed), scenario.duration_s


def live(job: Job, stop: threading.Event, watch: Watch = lambda moment: None) -> dict[str, Any]:
    """Live it, until its end or until `stop` is set; what it came to, for people and JSON.

    Frames before the end's time, rows of the truth up to it. A stop ends after whole seconds in a file.

    Raises
    ------
    ScenarioError, DataError, SourceError, LogError
    """
    job.check()
    run, own_s = make_run(job)
    wanted_s = job.duration_s if job.duration_s is not None else math.inf if is_live(job.to) else own_s
    end_s = min(wanted_s, run.duration_s)
    account = Account(run.columns)
    with ExitStack() as stack:
        sink = stack.enter_context(open_sink(job.to))
        recorders: list[Recorder] = [account]
        if job.truth_path:
            recorders.append(stack.enter_context(TruthFile(job.truth_path, run.columns, job.truth_every_s)))
        picture = Picture(run.columns) if job.plot_path else None
        if picture:
            recorders.append(picture)
        stopped = _through(run, end_s, Pace(sink, job.speed, stop), account, recorders, watch)
    if picture and job.plot_path:
        picture.write(job.plot_path, f"{job.source}, seed {job.seed}")
    files = [str(path) for path in job.files().values()]
    name = {"playback": str(job.source)} if isinstance(job.source, Path) else {"scenario": job.source}
    return {
        **name,
        "seed": job.seed,
        **account.summary(),
        "left_out": sink.left_out,
        "stopped": stopped,
        "files": files,
    }


class Pace:
    """Frames into a sink, at their time."""

    def __init__(self, sink: Sink, speed: float | None, stop: threading.Event) -> None:
        self._sink, self._speed, self.stop = sink, speed, stop
        self._begin = time.monotonic()

    def send(self, frames: Frames) -> bool:
        """Send frames; False where it was stopped before the last."""
        for part in [frames] if self._speed is None else _slices(frames):
            if self._speed is not None and len(part):
                due = self._begin + int(part["time_us"][0]) / 1e6 / self._speed
                self.stop.wait(max(due - time.monotonic(), 0))
            if self.stop.is_set():
                return False
            self._sink.write(part)
        return True

    def factor(self, t_s: float) -> float:
        """Of real time, since the beginning."""
        return t_s / max(time.monotonic() - self._begin, NOTHING)


def _through(
    run: Run, end_s: float, pace: Pace, account: Account, recorders: list[Recorder], watch: Watch
) -> bool:
    """All seconds; True where it was stopped before the end."""
    for recorder in recorders:
        recorder.first(run.first)
    for second in run.seconds():
        frames, rows = _cut(second.frames, second.truth, end_s)
        if not pace.send(frames):
            return True
        account.frames += len(frames)
        for recorder in recorders:
            recorder.add(rows, second.labels)
        t_s = float(rows[-1, 0])
        watch(Moment(t_s, end_s, pace.factor(t_s), second.doing, second.labels, account))
        if t_s >= end_s - NOTHING or len(rows) < len(second.truth):
            break
    return False


def _cut(frames: Frames, rows: FloatArray, end_s: float) -> tuple[Frames, FloatArray]:
    """What of a second is before the end; of the rows at least one."""
    if rows[-1, 0] < end_s - NOTHING:
        return frames, rows
    kept = max(int(np.searchsorted(rows[:, 0], end_s + NOTHING, "right")), 1)
    return frames[: int(np.searchsorted(frames["time_us"], round(end_s * 1e6)))], rows[:kept]


def _slices(frames: Frames) -> list[Frames]:
    """Frames of the same 20 ms together."""
    return np.split(frames, np.flatnonzero(np.diff(frames["time_us"] // PACE_US)) + 1)
