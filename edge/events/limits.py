"""The thresholds of the detectors, with where they come from. `[events]` of the configuration changes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """When something is worth a person's time. How long it must last is in each detector's RULE.

    cell_soc, cell_resistance
        How far a cell must be from its string's median (soc; resistance as a share) beside standing out of its
        neighbours' spread: ours. Passive balancing holds a healthy pack within 1 to 2 % soc.
    insulation_warning_ohm_per_v, insulation_critical_ohm_per_v
        UN R100 rev. 3 (5.1.3) and ISO 6469-3:2021: at least 100 ohm for each volt of working voltage on a DC
        circuit, 500 where an AC circuit (the inverter's) is joined to it.
    insulation_horizon_h
        It falls so fast that the warning is this near: ours.
    heating_degc_per_min
        A sensor above the median of the others: ours; a heated or fast charged pack warms by less than 1 degC
        a minute, evenly.
    runaway_degc_per_s
        The sign of thermal runaway in UN GTR 20 and GB 38031-2020: 1 degC/s for 3 s or longer.
    bms_soc
        How far the BMS may be from us, where that is significant: ours; 5 % is a tenth of a day's plan.
    """

    cell_soc: float = 0.03
    cell_resistance: float = 0.25
    insulation_warning_ohm_per_v: float = 500.0
    insulation_critical_ohm_per_v: float = 100.0
    insulation_horizon_h: float = 1.0
    heating_degc_per_min: float = 1.0
    runaway_degc_per_s: float = 1.0
    bms_soc: float = 0.05
