"""SAE J1939, listening only: transport, addresses and NAMEs, diagnostics, and what is no number.

| module | what | standard |
|---|---|---|
| `identifier` | PGN, source and destination in a 29 bit identifier | SAE J1939-21 |
| `transport` | messages of 9 to 1785 bytes, reassembled from BAM and RTS/CTS transfers | SAE J1939-21 |
| `names` | who sits at which address | SAE J1939-81 |
| `diagnostics` | DM1 and DM2: lamps and trouble codes | SAE J1939-73 |
| `limits` | which raw values say "error" or "not available" | SAE J1939-71 |
| `listener` | one channel's transport, addresses and trouble codes, fed with frames | |

Nothing here sends: no request, no CTS, no claim.
"""

from edge.can.j1939.diagnostics import Dm, Dtc, decode_dm, flat_signals
from edge.can.j1939.identifier import pgn_of
from edge.can.j1939.limits import limits
from edge.can.j1939.listener import Diagnosed, Listener
from edge.can.j1939.names import Addresses, Claim, Name
from edge.can.j1939.transport import Transport, Transported

__all__ = [
    "Addresses",
    "Claim",
    "Diagnosed",
    "Dm",
    "Dtc",
    "Listener",
    "Name",
    "Transport",
    "Transported",
    "decode_dm",
    "flat_signals",
    "limits",
    "pgn_of",
]
