"""A small bus for the tests of a battery's inputs: a simulated battery (which shares nothing with the estimator), as frames.

Every map is made of the parts that a test names, so the same battery can be shown whole, by its extremes, or by its
voltage only.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.battery.model import load_cell
from edge.can.frames import FRAME
from edge.core import Core, Setup
from edge.signals.catalogue import load_catalogue
from sim_bus.battery.battery import Battery
from sim_bus.doors import FaultEffects, Orders
from sim_bus.scenario.model import BatteryPlan
from sim_bus.streams import Streams

BATTERY = "Vehicle.Powertrain.TractionBattery"
CAPACITY_AH = 280.0
TICK_US = 1_000_000
WALL_MS = 1_764_000_000_000


def _signal(name: str, start: int, bits: int, scale: str, unit: str, signed: bool = False) -> str:
    return f' SG_ {name} : {start}|{bits}@1{"-" if signed else "+"} ({scale}) [0|0] "{unit}" A\n'


def dbc(strings: int, cells: int) -> str:
    """The database: pack, strings, extremes, identity, and the cells four to a message."""
    text = 'VERSION ""\nNS_ :\nBS_:\nBU_: B A\n'
    text += "BO_ 256 Pack: 8 B\n" + _signal("Current", 0, 16, "0.1,0", "A", True)
    text += _signal("Voltage", 16, 16, "0.1,0", "V") + _signal("SoC", 32, 8, "0.5,0", "%")
    text += _signal("State", 40, 8, "1,0", "") + _signal("Temp", 48, 8, "1,-40", "degC")
    text += "BO_ 288 Summary: 8 B\n"
    for n, name in enumerate(("Min", "Max", "Mean")):
        text += _signal(name, 16 * n, 16, "0.001,0", "V")
    text += (
        "BO_ 289 Identity: 8 B\n" + _signal("Serial", 0, 32, "1,0", "") + _signal("Count", 32, 16, "1,0", "")
    )
    text += "BO_ 290 Balancing: 8 B\n"
    for n in range(8):
        text += _signal(f"Switch{n + 1}", n, 1, "1,0", "")
    text += _signal("Drain", 16, 16, "1,0", "mA")
    for s in range(1, strings + 1):
        text += f"BO_ {256 + s} String{s}: 8 B\n" + _signal("Current", 0, 16, "0.1,0", "A", True)
        text += _signal("Contactor", 16, 8, "1,0", "") + _signal("Voltage", 24, 16, "0.1,0", "V")
        for page in range((cells + 3) // 4):
            text += f"BO_ {512 * s + page} Cells{s}p{page}: 8 B\n"
            for k in range(min(4, cells - 4 * page)):
                text += _signal(f"C{4 * page + k + 1}", 16 * k, 16, "0.001,0", "V")
    return text


PARTS = {
    "pack_current": 'source = "Pack.Current"\npath = "{b}.CurrentCurrent"\nrole = "pack_current"',
    "pack_voltage": 'source = "Pack.Voltage"\npath = "{b}.CurrentVoltage"\nrole = "pack_voltage"',
    "bms_soc": 'source = "Pack.SoC"\npath = "{b}.StateOfCharge.Displayed"\nrole = "bms_soc"',
    "contactors": 'source = "Pack.State"\npath = "{b}.Bms.IsContactorClosed"\nrole = "contactors"',
    "temp": 'source = "Pack.Temp"\npath = "{b}.Temperature.Average"\nrole = "cell_temp_mean"',
    "min": 'source = "Summary.Min"\npath = "{b}.CellVoltage.Min"\nrole = "cell_voltage_min"',
    "max": 'source = "Summary.Max"\npath = "{b}.CellVoltage.Max"\nrole = "cell_voltage_max"',
    "mean": 'source = "Summary.Mean"\npath = "{b}.CellVoltage.Mean"\nrole = "cell_voltage_mean"',
    "serial": 'source = "Identity.Serial"\npath = "{b}.Bms.SerialNumber"\nrole = "pack_serial"',
    "count": 'source = "Identity.Count"\npath = "{b}.Bms.CellCount"\nrole = "cell_count"',
    "string_current": 'source = "String{{s}}.Current"\npath = "{b}.String{{s}}.Current"\nrole = "string_current"\n'
    's = "1..{strings}"\nstring = "{{s}}"',
    "string_voltage": 'source = "String{{s}}.Voltage"\npath = "{b}.String{{s}}.Voltage"\nrole = "string_voltage"\n'
    's = "1..{strings}"\nstring = "{{s}}"',
    "string_contactor": 'source = "String{{s}}.Contactor"\npath = "{b}.String{{s}}.IsContactorClosed"\n'
    'role = "string_contactor"\ns = "1..{strings}"\nstring = "{{s}}"',
    "switches": 'source = "Balancing.Switch{{n}}"\npath = "{b}.String1.Cell{{n}}.IsBalancing"\nrole = "balancing"\n'
    'n = "1..{switches}"\nstring = "1"\nindex = "{{n}}"\ncurrent_a = 0.5',
    "drain": 'source = "Balancing.Drain"\npath = "{b}.String1.Cell1.BalancingCurrent"\nrole = "balancing"\n'
    'string = "1"\nindex = "1"',
}


def signal_map(parts: list[str], strings: int, cells: int) -> str:
    """A map with these parts; "cells" are all cell voltages."""
    text = "version = 1\n"
    names = ["Pack", "Summary", "Identity", "Balancing", *(f"String{s}" for s in range(1, strings + 1))]
    names += [f"Cells{s}p{p}" for s in range(1, strings + 1) for p in range((cells + 3) // 4)]
    for name in names:
        text += f"[messages.{name}]\nperiod_ms = 1000\ntimeout_ms = 60000\n"
    for part in parts:
        if part == "cells":
            for n in range(1, cells + 1):
                text += f'[[signals]]\nsource = "Cells{{s}}p{(n - 1) // 4}.C{n}"\ns = "1..{strings}"\nstring = "{{s}}"\n'
                text += f'index = "{n}"\nrole = "cell_voltage"\npath = "{BATTERY}.String{{s}}.Cell{n:03d}.Voltage"\n'
        else:
            filled = PARTS[part].format(b=BATTERY, strings=strings, switches=min(cells, 8))
            text += f"[[signals]]\n{filled}\n"
    return text


def make_setup(
    folder: Path,
    parts: list[str],
    *,
    strings: int = 1,
    cells: int = 24,
    series: int | None = None,
    parallel: int = 1,
    cell: str = "lfp_bus",
) -> Setup:
    """What a core is built from, with a map of these parts."""
    (folder / "bus.dbc").write_text(dbc(strings, cells))
    (folder / "bus.toml").write_text(signal_map(parts, strings, cells))
    catalogue = load_catalogue([("bms", folder / "bus.dbc")])
    return Setup(
        "o", "b", catalogue, load_cell(cell), parallel, CAPACITY_AH, series=series, batch_interval_s=1e6
    )


def orders(strings: int, cells: int) -> Orders:
    """Of a BMS that lets everything through."""
    closed, none = np.ones(strings, np.bool_), np.zeros((strings, cells), np.bool_)
    return Orders(3, closed, False, 1e6, 1e6, 0.0, False, False, none)


class Bus:
    """A battery whose frames go to a core once a second.

    `current_bias_a` is what every current sensor shows too much, `contactor` what the contactors say; the battery
    gives `power_w`, or nothing while the contactors are open.
    """

    def __init__(self, core: Core, seed: int, *, strings: int = 1, cells: int = 24, soc: float = 0.6) -> None:
        print("seed", seed)
        self.rng = np.random.default_rng(seed)
        self.core = core
        plan = BatteryPlan(soc, 20.0, strings=strings, cells=cells)
        self.battery = Battery(plan, Streams(seed), 20.0)
        self.orders = orders(strings, cells)
        self.now_us = 0
        self.current_bias_a: float | np.ndarray = 0.0
        self.contactor = 1
        self.string_contactor = [1] * strings
        self.bms_soc = soc
        self.serial = 7
        self.count = strings * cells
        self.switches = 0
        self.noise_v = 0.001
        self.silent: set[int] = set()  # ids that are not sent

    def clock(self, wall_ms: int = WALL_MS, quality: str = "ntp") -> None:
        """Wall time now."""
        self.core.set_clock(wall_ms - self.now_us // 1000, quality)

    def run(self, seconds: int, power_w: float = 0.0, pages: int | None = None) -> None:
        """Time goes on by a second a tick; `pages`: so many of the messages of cells come in each, in turn."""
        for _ in range(seconds):
            battery = self.battery
            self.orders.contactors[:] = bool(self.contactor)
            battery.step(1.0, power_w, 20.0, 0.0, 1.0, self.orders, FaultEffects())
            self.send(pages)
            self.now_us += TICK_US
            self.core.tick(self.now_us)

    def send(self, pages: int | None = None) -> None:
        """Every message once."""
        b = self.battery
        volts = b.cell_v + self.rng.normal(0, self.noise_v, b.cell_v.shape)
        milli = np.clip(np.round(volts * 1000), 0, 65535).astype("<u2")
        shown = b.string_a + self.current_bias_a
        amps = np.round(shown * 10).astype("<i2")
        pack_v = round(float(volts.sum(axis=1).mean()) * 10)
        frames = [
            (256, np.array([round(float(shown.sum()) * 10)], "<i2").tobytes() + pack_v.to_bytes(2, "little")
             + bytes([round(self.bms_soc * 200), self.contactor, 60, 0])),
            (288, b"".join(int(v).to_bytes(2, "little") for v in (milli.min(), milli.max(), round(milli.mean()))) + b"\0\0"),
            (289, self.serial.to_bytes(4, "little") + self.count.to_bytes(2, "little") + b"\0\0"),
            (290, bytes([self.switches, 0]) + (300).to_bytes(2, "little") + bytes(4)),
        ]  # fmt: skip
        strings, cells = b.cell_v.shape
        count = (cells + 3) // 4
        turn = self.now_us // TICK_US
        for s in range(strings):
            string_v = round(float(volts[s].sum()) * 10)
            body = amps[s].tobytes() + bytes([self.string_contactor[s]]) + string_v.to_bytes(2, "little")
            frames.append((257 + s, body.ljust(8, b"\0")))
            for page in range(count):
                if pages is None or (page - turn * pages) % count < pages:
                    frames.append(
                        (512 * (s + 1) + page, milli[s, 4 * page : 4 * page + 4].tobytes().ljust(8, b"\0"))
                    )
        frames = [f for f in frames if f[0] not in self.silent]
        records = np.zeros(len(frames), FRAME)
        records["time_us"] = self.now_us + 1
        records["id"] = [i for i, _ in frames]
        records["length"] = 8
        records["data"][:, :8] = [np.frombuffer(d, np.uint8) for _, d in frames]
        self.core.feed(records)

    def truth(self) -> float:
        """The pack's soc by its weakest cells."""
        return float(self.battery.pack_soc())

    def estimate(self) -> tuple[float, float]:
        """soc and its sd."""
        pack = self.core.battery.state()
        assert pack is not None
        return pack.soc, pack.soc_sd
