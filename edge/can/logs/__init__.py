"""Logs of CAN frames: read in whatever format the ecosystem writes, written as candump logs.

    candump.py      candump, read and written by a compiled kernel     blf.py    Vector BLF, by a compiled kernel
    python_can.py   Vector ASC, PEAK TRC, python-can's CSV             mf4.py    ASAM MDF 4, through asammdf in a
                                                                                       process of its own, mf4_frames.py
    text.py         GVRET, SavvyCAN, CRTD, BUSMASTER, Microchip
    stream.py       a file's bytes and lines, gzip and zstd too        reader.py what all readers share

What a file is, its content decides, never its name. What we read otherwise than python-can: docs/can/logs.md.
"""

from edge.can.logs.candump import CandumpLines, CandumpWriter
from edge.can.logs.log import Log, Logs, open_log

__all__ = ["CandumpLines", "CandumpWriter", "Log", "Logs", "open_log"]
