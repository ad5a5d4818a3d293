"""Write dbc/bms.dbc, dbc/inverter.dbc and dbc/vehicle.dbc.

The 352 cell voltages make a hand-written DBC unreadable; the tables below are what a person edits.
The DBC files are what everything else reads: run this, and commit both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DBC = Path(__file__).parent.parent / "dbc"

FMS = "Layout as the public ACEA FMS-Standard and open-source implementations give it."
OPEN = "Layout as open-source implementations give it."
OURS = "Proprietary B: each maker defines its own; this one is ours."
CRC = "CRC-8 SAE J1850 (poly 0x1D, init 0xFF, xor 0xFF) over the other bytes of the frame, in order."
CHARGING = "Positive when the battery is charged."


@dataclass(frozen=True)
class Signal:
    """Little-endian. `mux` "M" is the multiplexer, "m3" belongs to page 3. `low`, `high`: raw limits."""

    name: str
    start: int
    bits: int
    scale: float = 1
    offset: float = 0
    unit: str = ""
    comment: str = ""
    signed: bool = False
    mux: str = ""
    low: int | None = None
    high: int | None = None
    choices: dict[int, str] | None = None

    def line(self) -> str:
        """The SG_ line."""
        least = -(1 << (self.bits - 1)) if self.signed else 0
        most = least + (1 << self.bits) - 1
        limits = (least if self.low is None else self.low, most if self.high is None else self.high)
        span = "|".join(f"{raw * self.scale + self.offset:.12g}" for raw in limits)
        mux = f" {self.mux}" if self.mux else ""
        return (
            f" SG_ {self.name}{mux} : {self.start}|{self.bits}@1{'-' if self.signed else '+'} "
            f'({self.scale:.12g},{self.offset:.12g}) [{span}] "{self.unit}" Agent'
        )


@dataclass(frozen=True)
class Message:
    """One message; identifiers above 11 bits are extended."""

    id: int
    name: str
    length: int
    sender: str
    period_ms: int
    comment: str
    signals: tuple[Signal, ...]

    @property
    def dbc_id(self) -> int:
        """As DBC files write it: bit 31 says extended."""
        return self.id | (0x80000000 if self.id > 0x7FF else 0)


@dataclass(frozen=True)
class Bus:
    """One DBC file."""

    name: str
    comment: str
    baudrate: int
    nodes: dict[str, str]
    messages: tuple[Message, ...]
    j1939: bool = False


def flag(name: str, start: int, no: str, yes: str, comment: str = "") -> Signal:
    """One bit."""
    return Signal(name, start, 1, comment=comment, choices={0: no, 1: yes})


def celsius(name: str, start: int, comment: str, mux: str = "") -> Signal:
    """Eight bits, 1 degC, from -40 to 125."""
    return Signal(name, start, 8, 1, -40, "degC", comment, mux=mux, high=165)


def number(
    name: str, start: int, bits: int, scale: float, offset: float, unit: str, comment: str = "", mux: str = ""
) -> Signal:
    """An unsigned number whose highest raw value is left for "not available"."""
    return Signal(name, start, bits, scale, offset, unit, comment, mux=mux, high=(1 << bits) - 2)


def both_ways(name: str, start: int, bits: int, scale: float, unit: str, comment: str) -> Signal:
    """A signed number whose lowest raw value is left for "not available"."""
    return Signal(name, start, bits, scale, 0, unit, comment, signed=True, low=1 - (1 << (bits - 1)))


def protection() -> tuple[Signal, Signal]:
    """What protects a frame: bytes 6 and 7."""
    return (
        Signal("AliveCounter", 48, 4, comment="Counts up by one from frame to frame, 0 to 15."),
        Signal("Checksum", 56, 8, comment=CRC),
    )


# The battery

STATES = {0: "Init", 1: "Standby", 2: "Precharge", 3: "Drive", 4: "Charge", 5: "Fault"}
SHOWN = "What the driver sees: 0 to 100 % are 5 to 95 % of the range of the cells."


def pack_status() -> Message:
    signals = (
        Signal("PackVoltage", 0, 16, 0.1, 0, "V", "Behind the main contactors.", high=12000),
        both_ways("PackCurrent", 16, 16, 0.1, "A", "Sum of the strings. " + CHARGING),
        Signal("SoC", 32, 8, 0.5, 0, "%", SHOWN, high=200),
        Signal("State", 40, 4, comment="What the BMS is doing.", choices=STATES),
        flag("ContactorsClosed", 44, "Open", "Closed", "Main contactors."),
        *protection(),
    )
    return Message(0x100, "BMS_PackStatus", 8, "BMS", 100, "The pack as a whole.", signals)


def string_status(s: int) -> Message:
    signals = (
        Signal(f"String{s}_Voltage", 0, 16, 0.1, 0, "V", "Sum of the cells.", high=12000),
        both_ways(f"String{s}_Current", 16, 16, 0.05, "A", CHARGING),
        flag(f"String{s}_Contactor", 32, "Open", "Closed"),
        *protection(),
    )
    return Message(0x10F + s, f"BMS_StringStatus{s}", 8, "BMS", 100, f"String {s} of 2.", signals)


def cell_voltages(s: int) -> Message:
    cells = (
        Signal(f"String{s}_Cell{4 * page + k + 1:03d}_Voltage", 8 + 13 * k, 13, 0.001, 0, "V",
               mux=f"m{page}", high=5000)
        for page in range(44) for k in range(4)
    )  # fmt: skip
    page = Signal(
        f"String{s}_VoltagePage", 0, 8, comment="Page p holds cells 4p+1 to 4p+4.", mux="M", high=43
    )
    text = f"String {s}: 176 cell voltages, four to a page, 44 pages in 0.88 s."
    return Message(0x1FF + s, f"BMS_CellVoltages{s}", 8, "BMS", 20, text, (page, *cells))


def cell_temps(s: int) -> Message:
    sensors = (
        celsius(f"String{s}_Temp{7 * page + k + 1:02d}", 8 + 8 * k, "", f"m{page}")
        for page in range(7) for k in range(7) if 7 * page + k < 44
    )  # fmt: skip
    page = Signal(f"String{s}_TempPage", 0, 8, comment="Page p holds sensors 7p+1 to 7p+7.", mux="M", high=6)
    text = (
        f"String {s}: 44 temperatures, seven to a page, 7 pages in 0.98 s. Sensor n sits on cells 4n-3 to 4n."
    )
    return Message(0x20F + s, f"BMS_CellTemps{s}", 8, "BMS", 140, text, (page, *sensors))


def balancing(s: int) -> Message:
    switches = (
        Signal(f"String{s}_Cell{44 * page + k + 1:03d}_Balancing", 8 + k, 1, mux=f"m{page}")
        for page in range(4) for k in range(44)
    )  # fmt: skip
    page = Signal(
        f"String{s}_BalancingPage", 0, 8, comment="Page p holds cells 44p+1 to 44p+44.", mux="M", high=3
    )
    text = f"String {s}: the switches of 176 balancing resistors, 1 is on; 44 to a page, 4 pages in 2 s."
    return Message(0x21F + s, f"BMS_Balancing{s}", 8, "BMS", 500, text, (page, *switches))


def bms() -> Bus:
    limits = (
        number("DischargePowerLimit", 0, 16, 0.1, 0, "kW", "For 10 s."),
        number("ChargePowerLimit", 16, 16, 0.1, 0, "kW", "For 10 s, braking included."),
        number("DischargeCurrentLimit", 32, 12, 0.5, 0, "A", "For 10 s."),
        number("ChargeCurrentLimit", 44, 12, 0.5, 0, "A", "For 10 s."),
    )
    insulation = (
        number("InsulationResistance", 0, 16, 1, 0, "kOhm", "The weaker of both poles against the body."),
        flag("InsulationMeasured", 16, "No", "Yes", "No: the figure is an old one."),
    )
    summary = (
        Signal("MinCellVoltage", 0, 13, 0.001, 0, "V", high=5000),
        Signal("MinCellNumber", 13, 9, comment="1 to 352, string 1 first.", low=1, high=352),
        Signal("MaxCellVoltage", 22, 13, 0.001, 0, "V", high=5000),
        Signal("MaxCellNumber", 35, 9, comment="1 to 352, string 1 first.", low=1, high=352),
        celsius("MinCellTemp", 44, ""),
        celsius("MaxCellTemp", 52, ""),
    )
    identity = (
        number("PackSerial", 0, 32, 1, 0, "", "Another number is another pack."),
        number("String1_CellCount", 32, 10, 1, 0, "", "In series."),
        number("String2_CellCount", 42, 10, 1, 0, "", "In series."),
        number("SoftwareVersion", 52, 12, 1, 0, "", "Of the BMS: 100 x major + minor."),
    )
    messages = (
        pack_status(),
        *(string_status(s) for s in (1, 2)),
        Message(0x120, "BMS_Limits", 8, "BMS", 1000, "What the battery allows now.", limits),
        Message(
            0x121, "BMS_Insulation", 4, "BMS", 1000, "The high-voltage net against the body.", insulation
        ),
        Message(0x122, "BMS_CellSummary", 8, "BMS", 1000, "Extremes over all cells.", summary),
        *(cell_voltages(s) for s in (1, 2)),
        *(cell_temps(s) for s in (1, 2)),
        *(balancing(s) for s in (1, 2)),
        Message(0x123, "BMS_Identity", 8, "BMS", 5000, "Which battery this is.", identity),
    )
    text = "Battery of a 12 m city bus: two strings of 176 LFP cells. 11-bit identifiers. No real maker's."
    return Bus("bms", text, 500_000, {"BMS": "Battery management system."}, messages)


# The inverter


def inverter() -> Bus:
    torque = (
        both_ways("MotorTorque", 0, 16, 0.1, "Nm", "At the shaft; positive drives, negative brakes."),
        both_ways("TorqueDemand", 16, 16, 0.1, "Nm", "What the vehicle asked for."),
        both_ways("MotorSpeed", 32, 16, 0.5, "rpm", "Positive is forwards."),
        *protection(),
    )
    dc_link = (
        Signal("DcVoltage", 0, 16, 0.1, 0, "V", high=12000),
        both_ways("DcCurrent", 16, 16, 0.1, "A", "Positive when the inverter draws from the battery."),
        *protection(),
    )
    temps = (
        celsius("MotorTemp", 0, "Hottest winding."),
        celsius("InverterTemp", 8, "Hottest power module."),
        celsius("CoolantTemp", 16, "At the inlet."),
    )
    states = {0: "Off", 1: "Ready", 2: "Drive", 3: "Fault"}
    faults = (
        number("FaultCode", 0, 16, 1, 0, "", "0 is none."),
        flag("DeratingActive", 16, "No", "Yes", "Torque is limited by temperature or voltage."),
        Signal("InverterState", 17, 3, choices=states),
    )
    messages = (
        Message(0x300, "INV_Torque", 8, "INV", 20, "Motor torque and speed.", torque),
        Message(0x301, "INV_DcLink", 8, "INV", 50, "The high-voltage side.", dc_link),
        Message(0x302, "INV_Temps", 4, "INV", 1000, "Temperatures of motor and inverter.", temps),
        Message(0x303, "INV_Faults", 4, "INV", 1000, "Faults and state.", faults),
    )
    text = "Traction inverter of a 12 m city bus. 11-bit identifiers. No real maker's."
    return Bus("inverter", text, 500_000, {"INV": "Traction inverter."}, messages)


# The vehicle: SAE J1939

VCU, BODY, BATTERY = 0x0B, 0x21, 0xF3  # source addresses
NOT_VALID_FROM = {8: 0xFB, 16: 0xFB00, 32: 0xFB000000}  # above: special, error, not available


def j1939_id(priority: int, pgn: int, source: int) -> int:
    """A 29-bit identifier. A PGN below 0xF000 has its destination in the low byte: 0xFF is all."""
    return priority << 26 | pgn << 8 | source


def spn(
    name: str, start: int, bits: int, scale: float, offset: float, unit: str, comment: str = ""
) -> Signal:
    """A J1939 number: the highest raw values say `error` and `not available`, so they are out of range."""
    return Signal(name, start, bits, scale, offset, unit, comment, high=NOT_VALID_FROM[bits] - 1)


def fine_celsius(name: str, start: int, comment: str = "") -> Signal:
    """The 16-bit temperature of J1939."""
    return spn(name, start, 16, 0.03125, -273, "degC", comment)


def fms_messages() -> tuple[Message, ...]:
    doors = {0: "AtLeastOneOpen", 1: "Closing", 2: "AllClosed", 14: "Error", 15: "NotAvailable"}
    distances = (
        spn("TotalVehicleDistance", 0, 32, 0.005, 0, "km", "SPN 917, 5 m per bit"),
        spn("TripDistance", 32, 32, 0.005, 0, "km", "SPN 918, 5 m per bit"),
    )
    ambient = (
        spn("BarometricPressure", 0, 8, 0.5, 0, "kPa", "SPN 108"),
        fine_celsius("CabInteriorTemp", 8, "SPN 170"),
        fine_celsius("AmbientAirTemp", 24, "SPN 171"),
    )
    speed = (spn("WheelBasedVehicleSpeed", 8, 16, 1 / 256, 0, "km/h", "SPN 84"),)
    position = (Signal("PositionOfDoors", 0, 4, comment="SPN 1821", choices=doors),)
    return (
        Message(j1939_id(6, 65265, VCU), "CCVS1", 8, "VCU", 100,
                f"PGN 65265, cruise control and vehicle speed 1. {FMS}", speed),
        Message(j1939_id(6, 65217, VCU), "VDHR", 8, "VCU", 1000,
                f"PGN 65217, high-resolution vehicle distance. {FMS}", distances),
        Message(j1939_id(6, 65269, BODY), "AMB", 8, "Body", 1000,
                f"PGN 65269, ambient conditions. {FMS}", ambient),
        Message(j1939_id(6, 65102, BODY), "DC1", 8, "Body", 100,
                f"PGN 65102, door control 1. {FMS}", position),
    )  # fmt: skip


def own_messages() -> tuple[Message, ...]:
    consumers = (
        spn("AuxPower", 0, 16, 0.01, 0, "kW", "All auxiliaries but heating and cooling."),
        spn("HvacPower", 16, 16, 0.01, 0, "kW", "Heating and cooling of cabin and driver."),
        spn("BatteryHeaterPower", 32, 16, 0.01, 0, "kW", "Heater of the battery's coolant."),
    )
    charger = (
        Signal("ChargerState", 0, 4, comment="Seen from the vehicle.",
               choices={0: "Unplugged", 1: "Plugged", 2: "Charging", 3: "Done", 4: "Fault"}),
        spn("ChargerVoltage", 8, 16, 0.1, 0, "V"),
        spn("ChargerCurrent", 24, 16, 0.1, 0, "A", "Positive when it charges."),
    )  # fmt: skip
    counters = (
        spn("HvessDischargedEnergy", 0, 32, 0.1, 0, "kWh", "Over the life of the battery."),
        spn("HvessChargedEnergy", 32, 32, 0.1, 0, "kWh", "Over the life of the battery."),
        spn("HvessDischargedCharge", 64, 32, 0.1, 0, "Ah", "Over the life of the battery."),
        spn("HvessChargedCharge", 96, 32, 0.1, 0, "Ah", "Over the life of the battery."),
        spn("HvessHoursInService", 128, 32, 0.05, 0, "h", "Contactors closed."),
    )
    life = (
        f"PGN 65300, the battery's life counters: 20 bytes, so carried by BAM. {OURS} "
        "Public sources disagree on the layout of HVESSHIST (PGN 64606), so it is not imitated here."
    )
    return (
        Message(j1939_id(6, 65296, BODY), "PROP_AuxPower", 8, "Body", 1000,
                f"PGN 65296, auxiliary consumers. {OURS}", consumers),
        Message(j1939_id(6, 65297, VCU), "PROP_Charger", 8, "VCU", 1000,
                f"PGN 65297, the charger. {OURS}", charger),
        Message(j1939_id(7, 65300, BATTERY), "PROP_HvessCounters", 20, "BMS", 5000, life, counters),
    )  # fmt: skip


def hvess_messages() -> tuple[Message, ...]:
    data_1 = (
        spn("HvessDischargePower", 0, 16, 0.05, 0, "kW", "SPN 5919, available"),
        spn("HvessChargePower", 16, 16, 0.05, 0, "kW", "SPN 5920, available"),
        spn("HvessVoltageLevel", 32, 16, 0.05, 0, "V", "SPN 5921"),
        spn("HvessCurrentLevel", 48, 16, 0.05, -1600, "A", "SPN 5922. On this bus: " + CHARGING),
    )
    data_2 = (
        spn("HvessFastUpdateSoC", 0, 16, 0.0015625, 0, "%", "The same as the driver sees, finer."),
        spn("HvessHighestCellVoltage", 16, 16, 0.001, 0, "V"),
        spn("HvessLowestCellVoltage", 32, 16, 0.001, 0, "V"),
    )
    data_3 = (
        fine_celsius("HvessHighestCellTemp", 0),
        fine_celsius("HvessLowestCellTemp", 16),
        fine_celsius("HvessAverageCellTemp", 32),
    )
    data_6 = (
        spn("HvessBusVoltage", 0, 16, 0.05, 0, "V", "Behind the contactors."),
        spn("HvessIgnitionVoltage", 16, 16, 0.05, 0, "V"),
        spn("HvessCoolantInletTemp", 32, 8, 1, -40, "degC"),
        spn("HvessCoolantOutletTemp", 40, 8, 1, -40, "degC"),
    )
    parts = (
        (1, 61584, 100, data_1),
        (2, 61585, 1000, data_2),
        (3, 61586, 1000, data_3),
        (6, 61589, 1000, data_6),
    )
    return tuple(
        Message(j1939_id(3, pgn, BATTERY), f"HVESSD{n}", 8, "BMS", period_ms,
                f"PGN {pgn}, high-voltage energy storage system data {n}. {OPEN}", signals)
        for n, pgn, period_ms, signals in parts
    )  # fmt: skip


def transport_messages() -> tuple[Message, ...]:
    control = (
        Signal(
            "ControlByte", 0, 8, choices={16: "RTS", 17: "CTS", 19: "EndOfMsgAck", 32: "BAM", 255: "Abort"}
        ),
        Signal("MessageSize", 8, 16, unit="byte"),
        Signal("PacketCount", 24, 8),
        Signal("PackagedPgn", 40, 24),
    )
    data = (
        Signal("SequenceNumber", 0, 8, comment="From 1."),
        *(Signal(f"Byte{n}", 8 * n, 8) for n in range(1, 8)),
    )
    return (
        Message(j1939_id(7, 0xECFF, BATTERY), "TP_CM", 8, "BMS", 5000,
                f"PGN 60416, transport protocol, connection management: here BAM, to all. {OPEN}", control),
        Message(j1939_id(7, 0xEBFF, BATTERY), "TP_DT", 8, "BMS", 5000,
                f"PGN 60160, transport protocol, data transfer: at least 50 ms apart. {OPEN}", data),
    )  # fmt: skip


def trouble_messages() -> tuple[Message, ...]:
    lamps = ("Protect", "AmberWarning", "RedStop", "MalfunctionIndicator")
    lit = {0: "Off", 1: "On", 3: "NotAvailable"}
    flashing = {0: "Slow", 1: "Fast", 3: "NotAvailable"}
    signals = (
        *(Signal(f"{name}Lamp", 2 * n, 2, choices=lit) for n, name in enumerate(lamps)),
        *(Signal(f"{name}LampFlash", 8 + 2 * n, 2, choices=flashing) for n, name in enumerate(lamps)),
        Signal("SpnLow", 16, 16, comment="SPN, bits 0 to 15, of the first trouble code. 0 with FMI 0: none."),
        Signal("Fmi", 32, 5, comment="Failure mode identifier."),
        Signal("SpnHigh", 37, 3, comment="SPN, bits 16 to 18."),
        Signal("OccurrenceCount", 40, 7, comment="127: not available."),
        Signal("ConversionMethod", 47, 1, comment="0: the SPN as laid out here."),
    )
    text = f"PGN 65226, DM1, active trouble codes. Several codes are longer, and carried by BAM. {OPEN}"
    return (Message(j1939_id(6, 65226, BATTERY), "DM1", 8, "BMS", 1000, text, signals),)


def claim_messages(nodes: dict[str, int]) -> tuple[Message, ...]:
    fields = (
        ("IdentityNumber", 0, 21), ("ManufacturerCode", 21, 11), ("EcuInstance", 32, 3),
        ("FunctionInstance", 35, 5), ("Function", 40, 8), ("VehicleSystem", 49, 7),
        ("VehicleSystemInstance", 56, 4), ("IndustryGroup", 60, 3), ("ArbitraryAddressCapable", 63, 1),
    )  # fmt: skip
    text = f"PGN 60928, address claimed: the 64 bit NAME, sent once when the node starts. {OPEN}"
    return tuple(
        Message(j1939_id(6, 0xEEFF, address), f"AddressClaim{node}", 8, node, 0, text,
                tuple(Signal(f"{node}{name}", start, bits) for name, start, bits in fields))
        for node, address in nodes.items()
    )  # fmt: skip


def vehicle() -> Bus:
    fms, own, hvess = fms_messages(), own_messages(), hvess_messages()
    nodes = {
        "VCU": "Vehicle control unit, address 0x0B.",
        "Body": "Body controller, address 0x21.",
        "BMS": "Battery management system, address 0xF3.",
    }
    text = (
        "Vehicle bus of a 12 m city bus: SAE J1939, 29-bit identifiers. Standard PGNs as public sources give "
        "them, which each message names; the proprietary ones are ours. No SAE document was used."
    )
    sent = (*fms, *own[:2], *hvess, own[2], *transport_messages(), *trouble_messages())
    messages = (*sent, *claim_messages({"VCU": VCU, "Body": BODY, "BMS": BATTERY}))
    return Bus("vehicle", text, 250_000, nodes, messages, j1939=True)


# Writing

DEFINITIONS = (
    'BA_DEF_ BO_ "GenMsgCycleTime" INT 0 65535;',
    'BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";',
    'BA_DEF_ "BusType" STRING ;',
    'BA_DEF_ "ProtocolType" STRING ;',
    'BA_DEF_ "DBName" STRING ;',
    'BA_DEF_ "Baudrate" INT 0 1000000;',
    'BA_DEF_DEF_ "GenMsgCycleTime" 0;',
    'BA_DEF_DEF_ "VFrameFormat" "StandardCAN";',
    'BA_DEF_DEF_ "BusType" "CAN";',
    'BA_DEF_DEF_ "ProtocolType" "";',
    'BA_DEF_DEF_ "DBName" "";',
    'BA_DEF_DEF_ "Baudrate" 500000;',
)


def comments(bus: Bus) -> list[str]:
    """The CM_ lines: file, nodes, messages, signals."""
    lines = [f'CM_ "{bus.comment} {bus.baudrate // 1000} kbit/s. Written by scripts/make_dbc.py.";']
    lines += [
        f'CM_ BU_ {name} "{text}";' for name, text in {**bus.nodes, "Agent": "Ayaz; it only listens."}.items()
    ]
    for m in bus.messages:
        lines.append(f'CM_ BO_ {m.dbc_id} "{m.comment}";')
        lines += [f'CM_ SG_ {m.dbc_id} {s.name} "{s.comment}";' for s in m.signals if s.comment]
    return lines


def attributes(bus: Bus) -> list[str]:
    """The BA_ lines."""
    protocol = "J1939" if bus.j1939 else ""
    lines = [
        f'BA_ "ProtocolType" "{protocol}";',
        f'BA_ "DBName" "{bus.name}";',
        f'BA_ "Baudrate" {bus.baudrate};',
    ]
    for m in bus.messages:
        lines.append(f'BA_ "GenMsgCycleTime" BO_ {m.dbc_id} {m.period_ms};')
        if bus.j1939:
            lines.append(f'BA_ "VFrameFormat" BO_ {m.dbc_id} 3;')
    return lines


def value_tables(bus: Bus) -> list[str]:
    """The VAL_ lines."""
    return [
        f"VAL_ {m.dbc_id} {s.name} " + " ".join(f'{k} "{v}"' for k, v in sorted(s.choices.items())) + " ;"
        for m in bus.messages
        for s in m.signals
        if s.choices
    ]


def dbc_text(bus: Bus) -> str:
    """A whole DBC file."""
    lines = ['VERSION "1.0"', "", "NS_ :", "", "BS_:", "", "BU_: " + " ".join([*bus.nodes, "Agent"]), ""]
    for m in bus.messages:
        lines += [f"BO_ {m.dbc_id} {m.name}: {m.length} {m.sender}", *(s.line() for s in m.signals), ""]
    parts = [*comments(bus), *DEFINITIONS, *attributes(bus), *value_tables(bus)]
    return "\n".join([*lines, *parts]) + "\n"


def main() -> None:
    """Write all three."""
    for bus in (bms(), inverter(), vehicle()):
        (DBC / f"{bus.name}.dbc").write_text(dbc_text(bus), "ascii")


if __name__ == "__main__":
    main()
