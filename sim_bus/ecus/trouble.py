"""The trouble codes of the BMS, as DM1 carries them.

The SPNs are of the range that SAE J1939 leaves to each maker (516 096 to 524 287); the FMIs are the standard's:
0 and 1 beyond the range, most severe, above and below; 15 to 18 the same, less severe (15, 17) and moderately (16, 18);
2 erratic or not there; 7 does not respond; 12 bad device.
"""

from __future__ import annotations

CELL_VOLTAGE, CELL_TEMP, INSULATION, PRECHARGE, CELL_SENSOR, TEMP_SENSOR, CURRENT_SENSOR, STRINGS = range(
    520_192, 520_200
)

Code = tuple[int, int]

CELL_VOLTAGE_HIGH: Code = (CELL_VOLTAGE, 0)
CELL_VOLTAGE_LOW: Code = (CELL_VOLTAGE, 1)
CELL_TEMP_HIGH: Code = (CELL_TEMP, 0)
CELL_TEMP_WARM: Code = (CELL_TEMP, 16)
INSULATION_BROKEN: Code = (INSULATION, 1)
INSULATION_LOW: Code = (INSULATION, 18)
PRECHARGE_FAILED: Code = (PRECHARGE, 7)
CELL_SENSOR_LOST: Code = (CELL_SENSOR, 2)
CELL_SENSORS_LOST: Code = (CELL_SENSOR, 12)
TEMP_SENSOR_LOST: Code = (TEMP_SENSOR, 2)
CURRENT_SENSOR_LOST: Code = (CURRENT_SENSOR, 2)
STRINGS_APART: Code = (STRINGS, 2)

# What stops the bus; everything else warns.
SEVERE = frozenset(
    {
        CELL_VOLTAGE_HIGH, CELL_VOLTAGE_LOW, CELL_TEMP_HIGH, INSULATION_BROKEN, PRECHARGE_FAILED,
        CELL_SENSORS_LOST, CURRENT_SENSOR_LOST,
    }
)  # fmt: skip


def is_severe(spn: int, fmi: int) -> bool:
    """Whether it lights the red lamp: what stops the bus, and of others' codes those beyond the range."""
    return (spn, fmi) in SEVERE or fmi in (0, 1)
