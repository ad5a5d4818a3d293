"""The 29 bit identifier (SAE J1939-21).

    priority 3 | extended data page 1 | data page 1 | PDU format 8 | PDU specific 8 | source address 8

A PDU format below 240 is addressed (PDU1): PDU specific is the destination. From 240 on (PDU2) it belongs to
the parameter group number, and the message is for everybody.
"""

GLOBAL = 0xFF  # the destination that means everybody
NULL = 0xFE  # the source of one who has no address

TP_DT, TP_CM = 0xEB00, 0xEC00
REQUEST, ADDRESS_CLAIMED = 0xEA00, 0xEE00
COMMANDED_ADDRESS = 0xFED8
DM1, DM2 = 0xFECA, 0xFECB


def pgn_of(frame_id: int) -> int:
    """The parameter group number; an addressed one without its destination."""
    pgn = frame_id >> 8 & 0x3FFFF
    return pgn & 0x3FF00 if is_addressed(pgn) else pgn


def is_addressed(pgn: int) -> bool:
    """Whether a group goes to one destination (PDU1)."""
    return (pgn >> 8 & 0xFF) < 240


def identifier(priority: int, pgn: int, source: int, destination: int) -> int:
    """The identifier of a group; the destination is left out where the group has none."""
    return priority << 26 | (pgn | destination if is_addressed(pgn) else pgn) << 8 | source
