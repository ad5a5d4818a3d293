"""Which raw values are no numbers (SAE J1939-71, "transmitted signal ranges").

| bits | valid | special, reserved | error | not available |
|---|---|---|---|---|
| 1 | all | | | |
| 2 to 7 (states) | below | | all ones less 1 | all ones |
| 8 | 0x00 .. 0xFA | 0xFB .. 0xFD | 0xFE | 0xFF |
| 9 to 64 | top eight bits 0x00 .. 0xFA | 0xFB .. 0xFD | 0xFE | 0xFF |

The standard names 2, 4, 8, 16 and 32 bits; other lengths follow the same rule by their top eight bits, as 10,
12, 20, 24 and 40 bit parameters do. What is special or reserved is no number either, and counts as an error. Signed integers,
floats and text have no such ranges.
"""


def limits(bits: int) -> tuple[int, int] | None:
    """For an unsigned parameter: (from which raw value on it is an error, from which it is not available).

    None for one bit, where every value is valid.
    """
    if bits < 2:
        return None
    if bits < 8:
        return (1 << bits) - 2, (1 << bits) - 1
    return 0xFB << (bits - 8), 0xFF << (bits - 8)
