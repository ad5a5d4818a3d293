"""Addresses and NAMEs (SAE J1939-81)."""

import random

import pytest

from edge.can.j1939 import Listener, Name
from tests.edge.can.j1939.traffic import Bus

BUS = Bus()
LOW, HIGH = 0x8000_0000_0000_0001, 0x8000_0000_0000_0002


def addresses(listener: Listener) -> dict[int, int]:
    return {address: name.value for address, name in listener.names.items()}


def test_a_name_is_taken_apart() -> None:
    # every field with a value of its own, put together bit by bit as J1939-81 lays them out
    value = (
        1 << 63 | 3 << 60 | 9 << 56 | 0x55 << 49 | 0x83 << 40 | 0x15 << 35 | 5 << 32 | 0x2AA << 21 | 0x12345
    )
    name = Name.from_int(value)
    assert name == Name(value, 0x12345, 0x2AA, 5, 0x15, 0x83, 0x55, 9, 3, 1)


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_name_has_64_bits(value: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        Name.from_int(value)


def test_a_claim_is_known() -> None:
    listener = Listener(0)
    listener.feed(BUS.frames([BUS.frame(0xFE, 1, 2, bytes(8)), BUS.claim(0xF3, LOW)]))
    assert addresses(listener) == {0xF3: LOW}
    assert listener.address_of(LOW) == 0xF3
    assert listener.generation == 1
    (claim,) = listener.claimed
    assert (claim.frame, claim.address, claim.name) == (1, 0xF3, Name.from_int(LOW))


def test_the_same_claim_again_is_no_change() -> None:
    listener = Listener(0)
    listener.feed(BUS.frames([BUS.claim(0xF3, LOW)] * 3))
    assert listener.generation == 1


@pytest.mark.parametrize("order", [(LOW, HIGH), (HIGH, LOW)])
def test_the_lower_name_keeps_the_address(order: tuple[int, int]) -> None:
    listener = Listener(0)
    listener.feed(BUS.frames([BUS.claim(0xF3, name) for name in order]))
    assert addresses(listener) == {0xF3: LOW}
    assert listener.address_of(HIGH) is None
    assert listener.addresses.contended == 1


def test_a_name_that_moves_has_left() -> None:
    listener = Listener(0)
    listener.feed(BUS.frames([BUS.claim(0xF3, LOW), BUS.claim(0xF4, LOW)]))
    assert addresses(listener) == {0xF4: LOW}
    assert [(c.address, c.name and c.name.value) for c in listener.claimed] == [
        (0xF3, LOW),
        (0xF3, None),
        (0xF4, LOW),
    ]


def test_cannot_claim_leaves_its_address() -> None:
    listener = Listener(0)
    listener.feed(BUS.frames([BUS.claim(0xF3, HIGH), BUS.claim(0xFE, HIGH)]))
    assert addresses(listener) == {}
    assert listener.claimed[-1][1:] == (0xF3, None)


def test_the_loser_of_an_address_takes_another() -> None:
    listener = Listener(0)
    listener.feed(BUS.frames([BUS.claim(0xF3, HIGH), BUS.claim(0xF3, LOW), BUS.claim(0x80, HIGH)]))
    assert addresses(listener) == {0xF3: LOW, 0x80: HIGH}


def test_short_and_remote_claims_are_none() -> None:
    listener = Listener(0)
    remote = BUS.claim(0xF3, LOW)
    remote["flags"] |= 2
    listener.feed(BUS.frames([BUS.frame(0xEE, 0xFF, 0xF3, bytes(7)), remote]))
    assert addresses(listener) == {}


def test_an_address_that_is_not_defended_passes_to_the_higher_name() -> None:
    """A controller was exchanged for one with a higher NAME: the old one says no more."""
    listener = Listener(0)
    listener.feed(BUS.frames([BUS.claim(0xF3, LOW), BUS.claim(0xF3, HIGH)], every_us=1000))
    assert addresses(listener) == {0xF3: LOW}
    listener.feed(BUS.frames([BUS.frame(0xFE, 1, 2, bytes(8))], begin_us=251_000))
    assert addresses(listener) == {0xF3: LOW}
    listener.feed(BUS.frames([BUS.frame(0xFE, 1, 2, bytes(8))], begin_us=251_001))
    assert addresses(listener) == {0xF3: HIGH}
    assert listener.address_of(LOW) is None
    assert listener.generation == 2
    assert listener.claimed == [(0, 0xF3, Name.from_int(HIGH))]


def test_an_address_that_is_defended_stays() -> None:
    listener = Listener(0)
    claims = [BUS.claim(0xF3, LOW), BUS.claim(0xF3, HIGH), BUS.claim(0xF3, LOW)]
    listener.feed(BUS.frames(claims))
    listener.feed(BUS.frames([BUS.frame(0xFE, 1, 2, bytes(8))], begin_us=10**7))
    assert addresses(listener) == {0xF3: LOW}


@pytest.mark.parametrize("goes_to", [0x80, 0xFE])
def test_who_wanted_an_address_and_went_elsewhere_does_not_get_it(goes_to: int) -> None:
    listener = Listener(0)
    listener.feed(BUS.frames([BUS.claim(0xF3, LOW), BUS.claim(0xF3, HIGH), BUS.claim(goes_to, HIGH)]))
    listener.feed(BUS.frames([BUS.frame(0xFE, 1, 2, bytes(8))], begin_us=10**7))
    assert addresses(listener) == {0xF3: LOW} | ({0x80: HIGH} if goes_to == 0x80 else {})


def test_random_claims_keep_the_table_whole() -> None:
    """One address a NAME, one NAME an address, and `generation` rises exactly where the table changes."""
    seed = 11
    print("seed", seed)
    rng = random.Random(seed)
    listener, now_us = Listener(0), 0
    for _ in range(5000):
        now_us += rng.choice([0, 1000, 100_000, 300_000])
        before, generation = addresses(listener), listener.generation
        claim = BUS.claim(rng.choice([1, 2, 3, 254, 255]), rng.randrange(6))
        listener.feed(BUS.frames([claim], begin_us=now_us))
        after = addresses(listener)
        assert (listener.generation > generation) == bool(listener.claimed)
        assert before == after or listener.claimed
        assert {listener.address_of(name) for name in after.values()} == set(after)
        assert set(after) <= {1, 2, 3}
    assert listener.generation > 100
