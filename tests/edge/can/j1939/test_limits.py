"""The ranges of SAE J1939-71 that are no numbers."""

import pytest

from edge.can.j1939 import limits

# bits -> (highest valid raw value, lowest that is an error or special, highest of those, lowest not available)
TABLE = {
    2: (0b01, 0b10, 0b10, 0b11),
    4: (0xD, 0xE, 0xE, 0xF),
    8: (0xFA, 0xFB, 0xFE, 0xFF),
    16: (0xFAFF, 0xFB00, 0xFEFF, 0xFF00),
    32: (0xFAFFFFFF, 0xFB000000, 0xFEFFFFFF, 0xFF000000),
}


@pytest.mark.parametrize("bits", TABLE)
def test_the_standard_s_table(bits: int) -> None:
    valid, error, last_error, not_available = TABLE[bits]
    assert limits(bits) == (error, not_available)
    assert valid + 1 == error
    assert last_error + 1 == not_available


@pytest.mark.parametrize("bits", range(2, 65))
def test_every_length_has_all_three(bits: int) -> None:
    found = limits(bits)
    assert found is not None
    assert 0 < found[0] < found[1] < 1 << bits


def test_one_bit_is_always_valid() -> None:
    assert limits(1) is None
