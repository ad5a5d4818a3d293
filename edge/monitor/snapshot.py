"""One picture without a terminal: as plain text, or as an object for `--json`."""

from __future__ import annotations

import math
from typing import Any

from edge.monitor.bus import BatteryPicture, BusPicture
from edge.monitor.faults import Heard
from edge.monitor.feeds import FeedPicture
from edge.monitor.fleet import FleetPicture
from edge.monitor.fleet_view import FleetState, fleet_page
from edge.monitor.page import Page
from edge.monitor.text import value_text
from edge.monitor.traffic import EXTENDED_KEY
from edge.monitor.views import VIEWS, BusState
from edge.signals.validity import NAMES, NEVER

WIDTH = 120
MAX_LINES = 100_000


def bus_text(picture: BusPicture, feed: FeedPicture) -> str:
    """Every view of the bus, one below the other."""
    parts = []
    for name, view in VIEWS:
        page = Page(WIDTH, _rows(picture))
        state = BusState()
        state.messages.here = state.signals.here = -1
        view(page, picture, feed, state)
        lines = [line.rstrip() for line in page.text()]
        parts.append("\n".join([f"== {name}", *(line for line in lines if line)]))
    trouble = [f"! {feed.trouble}"] if feed.trouble else []
    return "\n\n".join([*parts, *trouble])


def _rows(picture: BusPicture) -> int:
    most = max(
        len(picture.signals.slots),
        len(picture.messages.rows),
        8 * len(picture.channels),
        picture.faults.codes,
    )
    return min(most + 50, MAX_LINES)


def fleet_text(picture: FleetPicture) -> str:
    """The fleet's table."""
    state = FleetState()
    state.fleet.here = -1
    page = fleet_page(picture, state, WIDTH, len(picture.buses) + 10, ascii_only=False)
    lines = [line.rstrip() for line in page.text()[3:-1]]
    return "\n".join(line for line in lines if line)


def bus_object(picture: BusPicture, feed: FeedPicture) -> dict[str, Any]:
    """What `--json` prints of a bus: `t_s`, `channels`, `messages`, `signals`, `battery`, `faults`,
    `trouble`.

    Signals that were never heard are left out. What is not known is null.
    """
    return {
        "source": feed.label,
        "live": feed.live,
        "t_s": round(picture.now_us / 1e6, 3),
        "elapsed_s": None if feed.live else round(feed.elapsed_s, 3),
        "channels": [_channel(picture, feed, n) for n in range(len(picture.channels))],
        "messages": _messages(picture),
        "signals": _signals(picture),
        "battery": _battery(picture.battery) if picture.battery else None,
        "faults": [_fault(picture, heard) for heard in picture.faults.dms],
        "trouble": feed.trouble or None,
    }


def _fault(picture: BusPicture, heard: Heard) -> dict[str, Any]:
    return {
        "channel": picture.channels[heard.channel].name,
        "source_address": heard.source,
        "age_s": round((picture.now_us - heard.time_us) / 1e6, 6),
        "lamps": heard.dm.lamps,
        "dtcs": [
            {
                "spn": d.spn,
                "fmi": d.fmi,
                "occurrence_count": d.occurrence_count,
                "spn_certain": not d.old_layout,
            }
            for d in heard.dm.dtcs
        ],
    }


def _channel(picture: BusPicture, feed: FeedPicture, n: int) -> dict[str, Any]:
    channel = picture.channels[n]
    source = feed.sources[n] if feed.sources else None
    return {
        "name": channel.name,
        "bitrate": channel.bitrate,
        "state": source.state if source else None,
        "frames_per_s": round(float(picture.traffic.frames_s[n]), 1),
        "load": round(float(picture.traffic.load[n]), 4),
        "counts": dict(picture.counts[n]),
        "losses": dict(source.losses) if source else {},
        "controller": dict(source.controller) if source else {},
        "complaints": list(source.complaints) if source else [],
    }


def _messages(picture: BusPicture) -> list[dict[str, Any]]:
    table = picture.messages
    out = []
    for row, rate in zip(table.rows, table.rate.tolist(), strict=True):
        key, label = int(row["key"]), table.labels[int(row["label"])]
        out.append(
            {
                "channel": picture.channels[key >> 40].name,
                "id": key & 0x1FFFFFFF,
                "extended": bool(key & EXTENDED_KEY),
                "name": label.name or None,
                "source_address": label.source,
                "count": int(row["count"]),
                "rate_per_s": round(rate, 3),
                "period_ms": _rounded(float(row["period_us"]) / 1000, 3),
                "map_period_ms": label.period_ms or None,
                "age_s": round((picture.now_us - int(row["last_us"])) / 1e6, 6),
            }
        )
    return out


def _signals(picture: BusPicture) -> list[dict[str, Any]]:
    table = picture.signals
    out = []
    for n, slot in enumerate(table.slots[: len(table.raw)]):
        state = int(table.validity[n])
        if state == NEVER:
            continue
        raw, value = int(table.raw[n]), float(table.value[n])
        text = not slot.is_float and raw in slot.choices
        out.append(
            {
                "channel": picture.channels[slot.channel].name,
                "message": slot.message,
                "signal": slot.signal,
                "source_address": slot.source,
                "value": value_text(slot, raw, value) if text else (value if math.isfinite(value) else None),
                "unit": slot.unit,
                "validity": NAMES[state],
                "age_s": round((picture.now_us - int(table.time_us[n])) / 1e6, 6),
                "path": table.paths[n] or None,
            }
        )
    return out


def _battery(pack: BatteryPicture) -> dict[str, Any]:
    return {
        "soc": _rounded(pack.soc, 6),
        "soc_sd": _rounded(pack.soc_sd, 6),
        "string_soc": [_rounded(v, 6) for v in pack.string_soc.tolist()],
        "bms_soc_pct": _rounded(pack.bms_soc_pct, 3),
        "voltage_v": _rounded(pack.voltage_v, 3),
        "current_a": _rounded(pack.current_a, 3),
        "cells": [
            {"string": s, "index": i, "voltage_v": _rounded(v, 4), "soc": _rounded(c, 6)}
            for s, i, v, c in zip(
                pack.string.tolist(),
                pack.index.tolist(),
                pack.cell_v.tolist(),
                pack.cell_soc.tolist(),
                strict=True,
            )
        ],
        "temps_degc": [_rounded(v, 2) for v in pack.temp_degc.tolist()],
    }


def fleet_object(picture: FleetPicture) -> dict[str, Any]:
    """What `--json` prints of a fleet."""
    return {
        "broker": picture.broker,
        "messages": picture.messages,
        "refused": picture.refused,
        "buses": [
            {
                "operator": bus.operator,
                "bus": bus.name,
                "online": bus.online,
                "boot": bus.boot,
                "version": bus.version,
                "t_ms": bus.t_ms,
                "age_s": _rounded(bus.age_s(picture.now_s, picture.wall_ms), 3),
                "state": dict(bus.state),
            }
            for bus in picture.buses
        ],
    }


def _rounded(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
