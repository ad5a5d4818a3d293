"""The catalogue of faults: what there is, with which parameters, in which units and limits. Data only.

What a kind does is a small function beside its like: battery.py, sensors.py, wire.py. Platform and network faults are
for whoever runs the agent: he gets an `Act` (schedule.py) and does them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Area = Literal["battery", "sensor", "can", "platform", "network"]
AREAS: tuple[Area, ...] = ("battery", "sensor", "can", "platform", "network")
BUSES = ("bms", "inverter", "vehicle")
NODES = ("BMS", "INV", "VCU", "Body")
ALL = "all"
DRAWN = 0  # as string or cell: drawn at random, once for each fault of a scenario
ANY_LENGTH = -1


@dataclass(frozen=True)
class Parameter:
    """A parameter of a fault: its default, which gives its type, and from where to where (both ends are allowed)."""

    default: float | int | str
    low: float
    high: float
    unit: str
    about: str
    choices: tuple[str, ...] = ()  # of a text; none: any


@dataclass(frozen=True)
class Kind:
    """A kind of fault. `momentary`: done at once, so that it is over after a second where `for_s` says nothing."""

    name: str
    area: Area
    about: str
    parameters: dict[str, Parameter] = field(default_factory=dict)
    momentary: bool = False


def _text(default: str, about: str, choices: tuple[str, ...] = ()) -> Parameter:
    return Parameter(default, 0, 0, "", about, choices)


_STRING = Parameter(DRAWN, 0, 16, "", "string, from 1; 0: drawn at random")
_CELL = {
    "string": _STRING,
    "cell": Parameter(DRAWN, 0, 1000, "", "cell of the string, from 1; 0: drawn at random"),
}
_GROW_S = Parameter(3600.0, 1, 1e8, "s", "after which it is as bad as it gets")
_SENSOR = {
    "sensor": _text(
        "pack_current",
        "pack_current, string_current:1, cell_voltage:1:17, cell_temp:2:5 (string, then cell or sensor, from 1; "
        "0: drawn at random), or a signal of the databases",
    )
}
_BUS = {"bus": _text("bms", "which bus", (ALL, *BUSES))}
_FRAMES = {**_BUS, "message": _text(ALL, "a message of the databases, or all")}
_SHARE = {"share": Parameter(0.1, 0, 1, "", "of those frames, drawn at random")}
_NODE = {"node": _text("BMS", "which node", NODES)}


def _catalogue(kinds: Iterable[Kind]) -> dict[str, Kind]:
    return {kind.name: kind for kind in kinds}


CATALOGUE = _catalogue(
    [
        Kind(
            "internal_short",
            "battery",
            "A resistance across a cell, inside it, which falls evenly on a logarithmic scale.",
            {
                **_CELL,
                "ohm": Parameter(100.0, 1e-3, 1e6, "ohm", "at the beginning"),
                "end_ohm": Parameter(1.0, 1e-3, 1e6, "ohm", "at last"),
                "grow_s": _GROW_S,
            },
        ),
        Kind(
            "weak_cell",
            "battery",
            "A cell of less capacity and more resistance.",
            {
                **_CELL,
                "capacity": Parameter(0.85, 0.05, 1, "", "share of its capacity that is left"),
                "resistance": Parameter(1.5, 1, 20, "", "times its resistance"),
            },
        ),
        Kind(
            "loose_busbar",
            "battery",
            "A resistance in series at a cell, within that cell's measured voltage; may flicker.",
            {
                **_CELL,
                "ohm": Parameter(5e-4, 1e-6, 0.1, "ohm", "while the contact is bad"),
                "flicker": Parameter(0.0, 0, 1, "", "share of seconds, drawn at random, in which it is good"),
            },
        ),
        Kind(
            "blocked_coolant",
            "battery",
            "Less coolant flows than the pump would give.",
            {"share": Parameter(1.0, 0, 1, "", "of the flow that does not come through")},
        ),
        Kind("heater_failed", "battery", "The heater of the battery's coolant stays cold."),
        Kind(
            "insulation_drop",
            "battery",
            "The insulation resistance falls evenly on a logarithmic scale.",
            {
                "ohm": Parameter(2e6, 1, 1e9, "ohm", "at the beginning"),
                "end_ohm": Parameter(5e4, 1, 1e9, "ohm", "at last"),
                "grow_s": _GROW_S,
            },
        ),
        Kind(
            "thermal_runaway_precursor",
            "battery",
            "A cell heats itself, ever more, discharges a little by itself, and its voltage dips.",
            {
                **_CELL,
                "heat_w": Parameter(2.0, 1e-3, 5000, "W", "of its own at the beginning"),
                "end_heat_w": Parameter(100.0, 1e-3, 5000, "W", "at last; rises as e does"),
                "grow_s": Parameter(1800.0, 1, 1e8, "s", "after which it is as bad as it gets"),
                "leak_ohm": Parameter(20.0, 1e-3, 1e6, "ohm", "through which it discharges itself"),
                "dip_ohm": Parameter(0.05, 1e-3, 1e6, "ohm", "instead, in a second of a dip"),
                "dip_every_s": Parameter(60.0, 1, 1e8, "s", "on average; a dip lasts a second"),
            },
        ),
        Kind(
            "sensor_offset",
            "sensor",
            "A sensor shows so much more.",
            {
                **_SENSOR,
                "offset": Parameter(
                    5.0, -1e6, 1e6, "", "in the sensor's unit; of pack_current, of all together"
                ),
            },
        ),
        Kind(
            "sensor_gain",
            "sensor",
            "A sensor shows so many times what is.",
            {**_SENSOR, "gain": Parameter(1.05, -100, 100, "", "1 is right")},
        ),
        Kind(
            "sensor_noise",
            "sensor",
            "A sensor shows normal noise on top.",
            {
                **_SENSOR,
                "sd": Parameter(
                    5.0, 0, 1e6, "", "1 sigma of a sample, as offset; every 0.1 s another, all independent"
                ),
            },
        ),
        Kind("sensor_stuck", "sensor", "A sensor goes on showing what it showed at the beginning.", _SENSOR),
        Kind(
            "sensor_dropout",
            "sensor",
            "A sensor gives nothing: not available on the wire.",
            {**_SENSOR, "share": Parameter(1.0, 0, 1, "", "of samples of 0.1 s, drawn at random")},
        ),
        Kind(
            "swapped_harness",
            "sensor",
            "Two sensors of a kind have each other's wire.",
            {
                "sensor": _text("cell_voltage:1:1", "one, as of the other sensor faults"),
                "other": _text("cell_voltage:1:2", "and the other"),
            },
        ),
        Kind("lost_frames", "can", "Frames never come.", {**_FRAMES, **_SHARE}),
        Kind(
            "repeated_frames",
            "can",
            "Frames come twice, the same bytes.",
            {
                **_FRAMES,
                **_SHARE,
                "delay_ms": Parameter(1.0, 0.01, 1000, "ms", "between the two; within the same second"),
            },
        ),
        Kind(
            "bad_checksum",
            "can",
            "Bits of the checksum are flipped, of messages that have one.",
            {**_FRAMES, **_SHARE},
        ),
        Kind(
            "stuck_counter",
            "can",
            "The counter stays as it was in the first frame; the checksum is right.",
            _FRAMES,
        ),
        Kind(
            "wrong_length",
            "can",
            "Frames have another length than the database says.",
            {
                **_FRAMES,
                **_SHARE,
                "length": Parameter(
                    ANY_LENGTH, -1, 8, "bytes", "of those frames; -1: drawn, never the right one"
                ),
            },
        ),
        Kind(
            "flood",
            "can",
            "Frames of one id, of high priority where it is low, take the bus.",
            {
                **_BUS,
                "rate_hz": Parameter(1000.0, 0.1, 20_000, "Hz", "evenly spaced"),
                "id": Parameter(0, 0, 0x7FF, "", "11 bit identifier"),
            },
        ),
        Kind(
            "error_frames",
            "can",
            "Protocol errors on the bus, as the kernel tells of them.",
            {**_BUS, "rate_hz": Parameter(10.0, 0.1, 20_000, "Hz", "on average (a Poisson process)")},
        ),
        Kind(
            "bus_off",
            "can",
            "A node's frames fail, one error after the other, until its controller leaves the bus; it is silent "
            "while the fault lasts.",
            {
                "bus": _text("bms", "which bus", BUSES),
                **_NODE,
                "gap_ms": Parameter(0.5, 0.1, 20, "ms", "between its 32 errors"),
            },
        ),
        Kind(
            "ecu_reset",
            "can",
            "A node starts again, on all its buses, within that second.",
            _NODE,
            momentary=True,
        ),
        Kind(
            "unknown_ids",
            "can",
            "Frames that no database knows; 29 bit identifiers on the vehicle bus, 11 bit on the others.",
            {
                **_BUS,
                "rate_hz": Parameter(
                    10.0, 0.1, 20_000, "Hz", "on average (a Poisson process), of all of them"
                ),
                "ids": Parameter(4, 1, 100, "", "how many there are, drawn at random"),
            },
        ),
        Kind(
            "clock_step",
            "platform",
            "The agent's wall clock steps.",
            {"step_s": Parameter(3600.0, -1e9, 1e9, "s", "forward")},
            momentary=True,
        ),
        Kind(
            "power_cut",
            "platform",
            "The agent's computer has no power while it lasts; no time to say goodbye.",
        ),
        Kind(
            "ignition_games",
            "platform",
            "Ignition off and on, again and again, whatever the timetable says.",
            {
                "shortest_s": Parameter(1, 1, 86_400, "s", "each off and each on lasts at least so long"),
                "longest_s": Parameter(5, 1, 86_400, "s", "and at most, drawn evenly"),
            },
        ),
        Kind(
            "serial_noise",
            "platform",
            "Bytes on the serial link to the microcontroller are replaced by random ones.",
            {"share": Parameter(0.001, 0, 1, "", "of the bytes, drawn at random")},
        ),
        Kind("outage", "network", "Nothing gets through between bus and broker, and nobody says so."),
        Kind(
            "slow_link",
            "network",
            "The link between bus and broker is slow and far.",
            {
                "bit_s": Parameter(20_000.0, 100, 1e9, "bit/s", "each way"),
                "delay_ms": Parameter(600.0, 0, 60_000, "ms", "each way"),
            },
        ),
        Kind("broker_restart", "network", "The broker stops, and starts again when it is over."),
    ]
)
