"""Active trouble codes, as a technician looks them up."""

from __future__ import annotations

from edge.monitor.bus import BusPicture
from edge.monitor.faults import Heard
from edge.monitor.page import Column, Page, Span
from edge.monitor.search import Listing, scrolled
from edge.monitor.text import seconds

FAULT_COLUMNS = (
    Column("bus", 9), Column("from", 4, right=True), Column("SPN", 6, right=True), Column("FMI", 3, right=True),
    Column("what", 0), Column("times", 5, right=True), Column("lamps", 11), Column("age", 7, right=True, from_width=90),
)  # fmt: skip
LAMP_NAMES = {  # as SAE J1939-73 shortens them
    "MalfunctionIndicatorLamp": "MIL", "RedStopLamp": "RSL", "AmberWarningLamp": "AWL", "ProtectLamp": "PL",
}  # fmt: skip
SILENT_S = 5.0  # a DM1 comes every second
# SAE J1939-73, appendix A: failure mode identifiers
FAILURES = {
    0: "above normal, most severe", 1: "below normal, most severe", 2: "erratic or incorrect",
    3: "voltage high", 4: "voltage low", 5: "current low or open circuit", 6: "current high or grounded",
    7: "mechanism not responding", 8: "abnormal frequency", 9: "abnormal update rate", 10: "abnormal rate of change",
    11: "cause not known", 12: "device failed", 13: "out of calibration", 14: "special instructions",
    15: "above normal, least severe", 16: "above normal, moderate", 17: "below normal, least severe",
    18: "below normal, moderate", 19: "received data in error", 20: "drifted high", 21: "drifted low",
    31: "condition exists",
}  # fmt: skip


def faults_view(page: Page, picture: BusPicture, listing: Listing) -> None:
    """The active trouble codes of each source (DM1), with its lamps."""
    dms = picture.faults.dms
    whole = Page(page.width, 10_000, page.ascii_only)
    for heard in dms:
        _source_faults(whole, picture, heard)
    if whole.lines:
        page.head(FAULT_COLUMNS)
    body = Page(page.width, max(page.left - 1, 0), page.ascii_only)
    scrolled(body, whole, listing)
    body.fill()
    page.lines += body.lines
    said = (
        f"{len(dms):,} J1939 sources send their trouble codes (DM1)"
        if dms
        else "No J1939 source sends trouble codes (DM1)"
    )
    page.add((f" {said}; active: {picture.faults.codes:,}", "dim"))


def _source_faults(page: Page, picture: BusPicture, heard: Heard) -> None:
    lit = [LAMP_NAMES[name] for name, state in heard.dm.lamps.items() if state == 1]
    lamps: Span = (" ".join(lit), "bad" if "RSL" in lit else "warn")
    where = [picture.channels[heard.channel].name, f"{heard.source:02X}"]
    age_s = (picture.now_us - heard.time_us) / 1e6
    age = seconds(age_s)
    silent = f", silent for {age}" if age_s > SILENT_S else ""
    for dtc in heard.dm.dtcs:
        what = FAILURES.get(dtc.fmi, "reserved") + (", SPN not certain" if dtc.old_layout else "") + silent
        times = "—" if dtc.occurrence_count is None else f"{dtc.occurrence_count}"
        page.row(FAULT_COLUMNS, [*where, (f"{dtc.spn}", "head"), f"{dtc.fmi}", what, times, lamps, age])
    if lit and not heard.dm.dtcs:
        page.row(FAULT_COLUMNS, [*where, "—", "—", f"lamps without a code{silent}", "", lamps, age])
