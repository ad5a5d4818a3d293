"""Write dbc/bms.dbc, dbc/inverter.dbc and dbc/vehicle.dbc.

The 352 cell voltages make hand-written DBC files unreadable; this table is what a person edits.
The DBC files are what everything else reads: run this, then commit both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

DBC = Path(__file__).parent.parent / "dbc"
J1939_SOURCE = "PGN and SPN layout as public implementations and fleet-telematics guides give them."


@dataclass
class Signal:
    """Little-endian; a `mux` of "M" is the multiplexer, "m3" belongs to page 3."""

    name: str
    start: int
    bits: int
    scale: float = 1
    offset: float = 0
    unit: str = ""
    signed: bool = False
    mux: str = ""
    comment: str = ""
    choices: dict[int, str] = field(default_factory=dict)

    def line(self) -> str:
        low = -(1 << (self.bits - 1)) if self.signed else 0
        high = low + (1 << self.bits) - 1
        sign = "-" if self.signed else "+"
        span = f"[{low * self.scale + self.offset:.12g}|{high * self.scale + self.offset:.12g}]"
        mux = f" {self.mux}" if self.mux else ""
        return (
            f" SG_ {self.name}{mux} : {self.start}|{self.bits}@1{sign} "
            f'({self.scale:.12g},{self.offset:.12g}) {span} "{self.unit}" Agent'
        )


@dataclass
class Message:
    id: int
    name: str
    length: int
    sender: str
    period_ms: int
    comment: str
    signals: list[Signal]

    def lines(self) -> list[str]:
        frame_id = self.id | (0x80000000 if self.id > 0x7FF else 0)
        return [f"BO_ {frame_id} {self.name}: {self.length} {self.sender}", *(s.line() for s in self.signals), ""]

    @property
    def raw_id(self) -> int:
        return self.id | (0x80000000 if self.id > 0x7FF else 0)


def protected(counter_at: int) -> list[Signal]:
    """Alive counter and checksum, the last two of a protected frame."""
    return [
        Signal("AliveCounter", counter_at, 4, comment="Counts up by one from frame to frame."),
        Signal("Checksum", 56, 8, comment="CRC-8 SAE J1850 (poly 0x1D, init 0xFF, xor 0xFF) over the other bytes in order."),
    ]


STATES = {0: "Init", 1: "Standby", 2: "Precharge", 3: "Drive", 4: "Charge", 5: "Fault"}
OPEN_CLOSED = {0: "Open", 1: "Closed"}


def bms() -> list[Message]:
    messages = [
        Message(0x100, "BMS_PackStatus", 8, "BMS", 100, "The pack as a whole. Current is positive when the battery is charged.", [
            Signal("PackVoltage", 0, 16, 0.1, 0, "V"),
            Signal("PackCurrent", 16, 16, 0.1, 0, "A", signed=True),
            Signal("SoC", 32, 8, 0.5, 0, "%", comment="What the driver sees: 0 to 100 % is 5 to 95 % of the cells' range."),
            Signal("State", 40, 4, choices=STATES),
            Signal("ContactorsClosed", 44, 1, choices=OPEN_CLOSED),
            *protected(48),
        ]),
    ]
    for s in (1, 2):
        messages.append(Message(0x10F + s, f"BMS_StringStatus{s}", 8, "BMS", 100, f"String {s}. Current is positive when the battery is charged.", [
            Signal(f"String{s}_Voltage", 0, 16, 0.1, 0, "V"),
            Signal(f"String{s}_Current", 16, 16, 0.05, 0, "A", signed=True),
            Signal(f"String{s}_Contactor", 32, 1, choices=OPEN_CLOSED),
            *protected(48),
        ]))
    messages += [
        Message(0x120, "BMS_Limits", 8, "BMS", 1000, "What the battery allows for 10 s.", [
            Signal("DischargePowerLimit", 0, 16, 0.1, 0, "kW"),
            Signal("ChargePowerLimit", 16, 16, 0.1, 0, "kW"),
            Signal("DischargeCurrentLimit", 32, 12, 0.5, 0, "A"),
            Signal("ChargeCurrentLimit", 44, 12, 0.5, 0, "A"),
        ]),
        Message(0x121, "BMS_Insulation", 4, "BMS", 1000, "Insulation resistance of the high-voltage net against the body.", [
            Signal("InsulationResistance", 0, 16, 1, 0, "kOhm"),
            Signal("InsulationMeasured", 16, 1, choices={0: "No", 1: "Yes"}),
        ]),
        Message(0x122, "BMS_CellSummary", 8, "BMS", 1000, "Extremes over all cells. Cells are numbered 1 to 352, string 1 first.", [
            Signal("MinCellVoltage", 0, 13, 0.001, 0, "V"),
            Signal("MinCellNumber", 13, 9),
            Signal("MaxCellVoltage", 22, 13, 0.001, 0, "V"),
            Signal("MaxCellNumber", 35, 9),
            Signal("MinCellTemp", 44, 8, 1, -40, "degC"),
            Signal("MaxCellTemp", 52, 8, 1, -40, "degC"),
        ]),
    ]
    for s in (1, 2):
        messages.append(Message(0x1FF + s, f"BMS_CellVoltages{s}", 8, "BMS", 20, f"String {s}: 176 cell voltages, four to a page, all pages in about a second.", [
            Signal(f"String{s}_VoltagePage", 0, 8, mux="M"),
            *(Signal(f"String{s}_Cell{4 * page + k + 1:03d}_Voltage", 8 + 13 * k, 13, 0.001, 0, "V", mux=f"m{page}")
              for page in range(44) for k in range(4)),
        ]))
    for s in (1, 2):
        messages.append(Message(0x20F + s, f"BMS_CellTemps{s}", 8, "BMS", 140, f"String {s}: 44 temperatures, one for four cells, seven to a page.", [
            Signal(f"String{s}_TempPage", 0, 8, mux="M"),
            *(Signal(f"String{s}_Temp{7 * page + k + 1:02d}", 8 + 8 * k, 8, 1, -40, "degC", mux=f"m{page}")
              for page in range(7) for k in range(7) if 7 * page + k < 44),
        ]))
    return messages


def inverter() -> list[Message]:
    return [
        Message(0x300, "INV_Torque", 8, "INV", 20, "Motor torque and speed; torque is positive when driving.", [
            Signal("MotorTorque", 0, 16, 0.1, 0, "Nm", signed=True),
            Signal("TorqueDemand", 16, 16, 0.1, 0, "Nm", signed=True),
            Signal("MotorSpeed", 32, 16, 0.5, 0, "rpm", signed=True),
            *protected(48),
        ]),
        Message(0x301, "INV_DcLink", 8, "INV", 50, "High-voltage side; current is positive when the inverter draws.", [
            Signal("DcVoltage", 0, 16, 0.1, 0, "V"),
            Signal("DcCurrent", 16, 16, 0.1, 0, "A", signed=True),
            *protected(48),
        ]),
        Message(0x302, "INV_Temps", 4, "INV", 1000, "Temperatures.", [
            Signal("MotorTemp", 0, 8, 1, -40, "degC"),
            Signal("InverterTemp", 8, 8, 1, -40, "degC"),
            Signal("CoolantTemp", 16, 8, 1, -40, "degC"),
        ]),
        Message(0x303, "INV_Faults", 4, "INV", 1000, "Faults; 0 is none.", [
            Signal("FaultCode", 0, 16),
            Signal("DeratingActive", 16, 1, choices={0: "No", 1: "Yes"}),
            Signal("InverterState", 17, 3, choices={0: "Off", 1: "Ready", 2: "Drive", 3: "Fault"}),
        ]),
    ]


def j1939(priority: int, pgn: int, source: int) -> int:
    return priority << 26 | pgn << 8 | source


def vehicle() -> list[Message]:
    battery, body, vehicle_ecu = 0xF3, 0x21, 0x0B
    byte = 8
    return [
        Message(j1939(6, 65265, vehicle_ecu), "CCVS1", 8, "VCU", 100, "PGN 65265 Cruise control / vehicle speed 1.", [
            Signal("WheelBasedVehicleSpeed", byte, 16, 1 / 256, 0, "km/h", comment="SPN 84"),
        ]),
        Message(j1939(6, 65217, vehicle_ecu), "VDHR", 8, "VCU", 1000, "PGN 65217 High resolution vehicle distance.", [
            Signal("TotalVehicleDistance", 0, 32, 0.005, 0, "km", comment="SPN 917"),
            Signal("TripDistance", 32, 32, 0.005, 0, "km", comment="SPN 918"),
        ]),
        Message(j1939(6, 65269, body), "AMB", 8, "Body", 1000, "PGN 65269 Ambient conditions.", [
            Signal("BarometricPressure", 0, 8, 0.5, 0, "kPa", comment="SPN 108"),
            Signal("CabInteriorTemp", 8, 16, 0.03125, -273, "degC", comment="SPN 170"),
            Signal("AmbientAirTemp", 24, 16, 0.03125, -273, "degC", comment="SPN 171"),
        ]),
        Message(j1939(6, 65102, body), "DC1", 8, "Body", 100, "PGN 65102 Door control 1.", [
            Signal("PositionOfDoors", 0, 4, comment="SPN 1821", choices={0: "AtLeastOneOpen", 1: "Closing", 2: "AllClosed", 14: "Error", 15: "NotAvailable"}),
        ]),
        Message(j1939(6, 65296, body), "PROP_AuxPower", 8, "Body", 1000, "PGN 65296, proprietary B: auxiliary consumers.", [
            Signal("AuxPower", 0, 16, 0.01, 0, "kW"),
            Signal("HvacPower", 16, 16, 0.01, 0, "kW"),
            Signal("BatteryHeaterPower", 32, 16, 0.01, 0, "kW"),
        ]),
        Message(j1939(6, 65297, vehicle_ecu), "PROP_Charger", 8, "VCU", 1000, "PGN 65297, proprietary B: the charger.", [
            Signal("ChargerState", 0, 4, choices={0: "Unplugged", 1: "Plugged", 2: "Charging", 3: "Done", 4: "Fault"}),
            Signal("ChargerVoltage", 8, 16, 0.1, 0, "V"),
            Signal("ChargerCurrent", 24, 16, 0.1, 0, "A"),
        ]),
        Message(j1939(3, 61584, battery), "HVESSD1", 8, "BMS", 100, "PGN 61584 High voltage energy storage system data 1.", [
            Signal("HvessDischargePower", 0, 16, 0.05, 0, "kW", comment="SPN 5919"),
            Signal("HvessChargePower", 16, 16, 0.05, 0, "kW", comment="SPN 5920"),
            Signal("HvessVoltageLevel", 32, 16, 0.05, 0, "V", comment="SPN 5921"),
            Signal("HvessCurrentLevel", 48, 16, 0.05, -1600, "A", comment="SPN 5922; here positive when the battery is charged"),
        ]),
        Message(j1939(3, 61585, battery), "HVESSD2", 8, "BMS", 1000, "PGN 61585 High voltage energy storage system data 2.", [
            Signal("HvessFastUpdateSoC", 0, 16, 0.0015625, 0, "%"),
            Signal("HvessHighestCellVoltage", 16, 16, 0.001, 0, "V"),
            Signal("HvessLowestCellVoltage", 32, 16, 0.001, 0, "V"),
        ]),
        Message(j1939(3, 61586, battery), "HVESSD3", 8, "BMS", 1000, "PGN 61586 High voltage energy storage system data 3.", [
            Signal("HvessHighestCellTemp", 0, 16, 0.03125, -273, "degC"),
            Signal("HvessLowestCellTemp", 16, 16, 0.03125, -273, "degC"),
            Signal("HvessAverageCellTemp", 32, 16, 0.03125, -273, "degC"),
        ]),
        Message(j1939(3, 61589, battery), "HVESSD6", 8, "BMS", 1000, "PGN 61589 High voltage energy storage system data 6.", [
            Signal("HvessBusVoltage", 0, 16, 0.05, 0, "V"),
            Signal("HvessIgnitionVoltage", 16, 16, 0.05, 0, "V"),
            Signal("HvessCoolantInletTemp", 32, 8, 1, -40, "degC"),
            Signal("HvessCoolantOutletTemp", 40, 8, 1, -40, "degC"),
        ]),
        Message(j1939(7, 65300, battery), "PROP_HvessCounters", 20, "BMS", 5000, "PGN 65300, proprietary B, 20 bytes, carried by BAM: the battery's life counters.", [
            Signal("HvessDischargedEnergy", 0, 32, 0.1, 0, "kWh"),
            Signal("HvessChargedEnergy", 32, 32, 0.1, 0, "kWh"),
            Signal("HvessDischargedCharge", 64, 32, 0.1, 0, "Ah"),
            Signal("HvessChargedCharge", 96, 32, 0.1, 0, "Ah"),
            Signal("HvessHoursInService", 128, 32, 0.05, 0, "h"),
        ]),
        Message(j1939(7, 0xECFF, battery), "TP_CM", 8, "BMS", 5000, "PGN 60416 Transport protocol, connection management (here BAM, to all).", [
            Signal("ControlByte", 0, 8, choices={16: "RTS", 17: "CTS", 19: "EndOfMsgAck", 32: "BAM", 255: "Abort"}),
            Signal("MessageSize", 8, 16, unit="byte"),
            Signal("PacketCount", 24, 8),
            Signal("PackagedPgn", 40, 24),
        ]),
        Message(j1939(7, 0xEBFF, battery), "TP_DT", 8, "BMS", 50, "PGN 60160 Transport protocol, data transfer.", [
            Signal("SequenceNumber", 0, 8),
            *(Signal(f"Byte{n}", 8 * n, 8) for n in range(1, 8)),
        ]),
    ]


def dbc_text(title: str, nodes: list[str], messages: list[Message], is_j1939: bool) -> str:
    """A whole DBC file."""
    out = ['VERSION "1.0"', "", "NS_ :", "", "BS_:", "", "BU_: " + " ".join([*nodes, "Agent"]), ""]
    for m in messages:
        out += m.lines()
    out.append(f'CM_ "{title}";')
    for m in messages:
        out.append(f'CM_ BO_ {m.raw_id} "{m.comment}{" " + J1939_SOURCE if is_j1939 and "PGN" in m.comment else ""}";')
        out += [f'CM_ SG_ {m.raw_id} {s.name} "{s.comment}";' for s in m.signals if s.comment]
    out += [
        'BA_DEF_ BO_ "GenMsgCycleTime" INT 0 65535;',
        'BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";',
        'BA_DEF_ "ProtocolType" STRING ;',
        'BA_DEF_DEF_ "GenMsgCycleTime" 0;',
        'BA_DEF_DEF_ "VFrameFormat" "StandardCAN";',
        'BA_DEF_DEF_ "ProtocolType" "";',
        f'BA_ "ProtocolType" "{"J1939" if is_j1939 else ""}";',
    ]
    for m in messages:
        out.append(f'BA_ "GenMsgCycleTime" BO_ {m.raw_id} {m.period_ms};')
        if is_j1939:
            out.append(f'BA_ "VFrameFormat" BO_ {m.raw_id} 3;')
    for m in messages:
        for s in m.signals:
            if s.choices:
                pairs = " ".join(f'{k} "{v}"' for k, v in sorted(s.choices.items()))
                out.append(f"VAL_ {m.raw_id} {s.name} {pairs} ;")
    return "\n".join(out) + "\n"


def main() -> None:
    files = {
        "bms": dbc_text("Battery of a 12 m city bus: two strings of 176 LFP cells. 500 kbit/s, 11-bit. Not a real maker's.", ["BMS"], bms(), False),
        "inverter": dbc_text("Traction inverter of a 12 m city bus. 500 kbit/s, 11-bit. Not a real maker's.", ["INV"], inverter(), False),
        "vehicle": dbc_text("Vehicle bus of a 12 m city bus: SAE J1939, 250 kbit/s, 29-bit.", ["VCU", "Body", "BMS"], vehicle(), True),
    }
    for name, text in files.items():
        (DBC / f"{name}.dbc").write_text(text, "ascii")


if __name__ == "__main__":
    main()
