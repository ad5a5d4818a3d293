"""The ECUs of the three buses: a second's readings into a second's frames, as `dbc/` says.

A node (a sender of the databases) without supply is silent. Supplied, it boots (0.2 to 1.5 s), claims its address where
it has one on J1939, and sends each of its messages from its own phase on at its period, with jitter; counters begin at
0, and what it has not measured yet is "not available".
"""

from __future__ import annotations

from functools import cache

import numpy as np

from edge.can.frames import FRAME, Frames
from edge.errors import ScenarioError
from sim_bus.doors import STEP_S, STEPS, Readings
from sim_bus.ecus import j1939
from sim_bus.ecus._pack import Encoder
from sim_bus.ecus.derived import derived
from sim_bus.ecus.layout import FIELD, LAYOUT, load_layout
from sim_bus.ecus.names import NODES
from sim_bus.scenario.model import CanPlan
from sim_bus.streams import Streams

STEP_US = round(STEP_S * 1e6)
SECOND_US = STEPS * STEP_US
BOOT_S = (0.2, 1.5)
MOST_PHASE_US = 1_000_000
JITTER_DRAWN = 512  # at a time, of each message
MOST_JITTER = 0.45  # of the period, so that a message's frames keep their order
NEVER_US = 1 << 62

_ours = cache(lambda strings, cells: load_layout(None, strings, cells))


class Ecus:
    """All nodes of the three buses, channel 0 bms, 1 inverter, 2 vehicle.

    `sensors`: how many temperatures of each string the database shows; `Readings.cell_degc` has as many.

    Raises
    ------
    ScenarioError
        A database of `plan.folder` can't be read, lacks a signal, has one that can't be packed, or has other
        strings and cells.
    """

    def __init__(self, plan: CanPlan, streams: Streams, strings: int = 2, cells: int = 176) -> None:
        layout = _ours(strings, cells) if plan.folder is None else load_layout(plan.folder, strings, cells)
        self.sensors = layout.sensors
        self._layout = layout
        self._messages = layout.messages()
        self._messages["base_us"] = NEVER_US
        self._nodes = np.array([s.node for s in layout.sent])
        self._periods = self._messages["period_us"]
        keys = [f"{s.channel}.{s.name}" for s in layout.sent]  # channel and name
        self._phase_us = np.array(
            [
                streams(f"ecus.phase {key}").integers(0, min(int(period), MOST_PHASE_US))
                for key, period in zip(keys, self._periods, strict=True)
            ]
        )
        self._jitter_sd_us = plan.jitter_ms * 1000
        self._jitters = [streams(f"ecus.jitter {key}") for key in keys]
        self._most = SECOND_US // self._periods + 2
        self._most_frames = int(self._most.sum())
        self._jitter_us = np.zeros((len(keys), max(JITTER_DRAWN, 2 * int(self._most.max()))))
        for m in range(len(keys)):
            self._draw(m, self._jitter_us.shape[1])
        self._encoder = Encoder(
            self._messages, np.array(layout.layouts, LAYOUT), np.array(layout.fields, FIELD), self._jitter_us
        )
        self._state = np.full((STEPS, layout.slots()), np.nan)
        self._ends = np.zeros(len(keys), np.int64)
        self._plain = sum(not s.special for s in layout.sent)
        self._boots = [streams(f"ecus.boot {node}") for node in NODES]
        self._on = [False] * len(NODES)
        self._restarts: list[tuple[int, int]] = []
        self._transport = j1939.Transport()
        self._names = {c.id: _name(streams, c.name, n) for n, c in enumerate(layout.claims)}
        self._trouble: dict[tuple[int, int], int] = {}  # every code that ever was -> how often it came
        self._active: tuple[tuple[int, int], ...] = ()

    def restart(self, node: str, t_us: int) -> None:
        """Reset a node at that time of the coming second or later: silent until it has booted again.

        Raises
        ------
        ScenarioError
            There is no such node.
        """
        if node not in NODES:
            raise ScenarioError(f"no node {node!r} to restart; there are {', '.join(NODES)}")
        self._restarts.append((t_us, NODES.index(node)))

    def frames(self, readings: Readings) -> Frames:
        """The frames of the second that begins at `readings.begin_us`, in order of time.

        Raises
        ------
        ScenarioError
            A node that has supply lacks a value, or there are other strings, cells or sensors.
        """
        begin_us = readings.begin_us
        end_us = begin_us + SECOND_US
        self._fill(readings)
        self._count_trouble(readings.trouble)
        self._switch(begin_us, readings.awake)
        for m in np.flatnonzero(self._messages["drawn"] + self._most > self._jitter_us.shape[1]).tolist():
            self._draw(m, int(self._messages["drawn"][m]))
        parts = []
        for at_us, node in self._due_restarts(begin_us, end_us):
            parts.append(self._encode(begin_us, at_us))
            self._stop(node, at_us)
            self._boot(node, at_us)
        parts.append(self._encode(begin_us, end_us))
        parts.append(self._transport.due(end_us))
        frames = np.concatenate(parts)
        return frames[np.argsort(frames["time_us"], kind="stable")]

    # The state of the second

    def _fill(self, readings: Readings) -> None:
        """Lay the second's values into their slots."""
        lay, state = self._layout, self._state
        shapes = ((lay.cells, readings.cell_v), (lay.sensors, readings.cell_degc))
        for each, array in shapes:
            if array.shape != (STEPS, lay.strings, each):
                shape = f"{STEPS} x {lay.strings} x {each}"
                raise ScenarioError(f"the databases have {shape} values, the readings {array.shape}")
        values = derived(readings) | readings.values
        lacks = [n for n in lay.names if n not in values]
        if lacks:
            self._check_silent(lacks, readings.awake)
            values |= dict.fromkeys(lacks, np.full(STEPS, np.nan))
        at = len(lay.names)
        np.stack([values[n] for n in lay.names], axis=1, out=state[:, :at])
        for part in (
            readings.cell_v,
            readings.cell_degc,
            np.broadcast_to(readings.balancing, readings.cell_v.shape),
        ):
            width = part.shape[1] * part.shape[2]
            state[:, at : at + width] = part.reshape(STEPS, width)
            at += width

    def _check_silent(self, lacks: list[str], awake: dict[str, bool]) -> None:
        for s in self._layout.sent:
            if awake.get(NODES[s.node]):
                for signal in s.message.signals:
                    if signal.name in lacks:
                        raise ScenarioError(f"{s.name}.{signal.name}: the readings have no such value")

    def _draw(self, m: int, used: int) -> None:
        """Renew the jitter that was used, from the message's own stream."""
        row, limit = self._jitter_us[m], MOST_JITTER * self._periods[m]
        row[:-used] = row[used:].copy()
        row[-used:] = np.clip(self._jitters[m].standard_normal(used) * self._jitter_sd_us, -limit, limit)
        self._messages["drawn"][m] = 0

    # Supply

    def _switch(self, begin_us: int, awake: dict[str, bool]) -> None:
        for n, node in enumerate(NODES):
            on = awake.get(node, False)
            if on and not self._on[n]:
                self._boot(n, begin_us)
            elif self._on[n] and not on:
                self._stop(n, begin_us)
            self._on[n] = on

    def _due_restarts(self, begin_us: int, end_us: int) -> list[tuple[int, int]]:
        due = sorted((max(t, begin_us), n) for t, n in self._restarts if t < end_us)
        self._restarts = [r for r in self._restarts if r[0] >= end_us]
        return [(t, n) for t, n in due if self._on[n]]

    def _boot(self, node: int, at_us: int) -> None:
        boot_us = at_us + round(self._boots[node].uniform(*BOOT_S) * 1e6)
        claims = [c for c in self._layout.claims if c.node == node]
        for claim in claims:
            self._transport.add(boot_us, node, claim.channel, claim.id, self._names[claim.id])
        mine = self._nodes == node
        wait_us = np.where(
            np.isin(self._messages["channel"], [c.channel for c in claims]), j1939.CLAIM_WAIT_US, 0
        )
        first_us = boot_us + wait_us[mine]
        self._messages["boot_us"][mine] = first_us
        self._messages["base_us"][mine] = first_us + self._phase_us[mine]
        for name in ("sent", "counter", "page"):
            self._messages[name][mine] = 0

    def _stop(self, node: int, at_us: int) -> None:
        self._messages["base_us"][self._nodes == node] = NEVER_US
        self._transport.drop(node, at_us)

    # Frames

    def _encode(self, begin_us: int, until_us: int) -> Frames:
        """The frames that are due before `until_us`; long ones go to the transport."""
        self._messages["until_us"] = until_us
        out = np.zeros(self._most_frames, FRAME)
        self._encoder.encode(begin_us, STEP_US, self._state, out, self._ends)
        plain = int(self._ends[self._plain - 1]) if self._plain else 0
        if int(self._ends[-1]) == plain:
            return out[:plain]
        short = [out[:plain]]
        for m in range(self._plain, len(self._ends)):
            short.append(self._special(m, out[int(self._ends[m - 1]) if m else 0 : int(self._ends[m])]))
        return np.concatenate(short)

    def _special(self, m: int, rows: Frames) -> Frames:
        """Messages longer than a frame, and DM1; what fits in a frame comes back."""
        sent = self._layout.sent[m]
        short = []
        for row in rows:
            data = row["data"][: sent.message.length].tobytes()
            if sent.is_dm1:
                data = j1939.dm1([(*code, self._trouble[code]) for code in self._active])
            if len(data) > 8:
                self._transport.add_long(
                    int(row["time_us"]),
                    sent.node,
                    sent.channel,
                    sent.message.frame_id,
                    data,
                    int(self._periods[m]),
                )
            else:
                row["data"][:8] = np.frombuffer(data, np.uint8)
                short.append(row)
        return np.array(short, FRAME)

    def _count_trouble(self, trouble: tuple[tuple[int, int], ...]) -> None:
        for code in trouble:
            if code not in self._active:
                self._trouble[code] = self._trouble.get(code, 0) + 1
        self._active = tuple(dict.fromkeys(trouble))


def _name(streams: Streams, claim: str, instance: int) -> bytes:
    return j1939.name(int(streams(f"ecus.name {claim}").integers(1, 1 << 21)), instance)
