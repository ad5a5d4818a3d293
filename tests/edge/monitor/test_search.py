"""Finding, sorting, scrolling: plain functions."""

import pytest

from edge.monitor.search import MAX_QUERY, Listing, found

WORDS = ["bms packvoltage v", "bms packcurrent a", "inverter dcvoltage v"]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("", [0, 1, 2]),
        ("pack", [0, 1]),
        ("PACK volt", [0]),
        ("v inverter", [2]),
        ("nothing", []),
        ("  ", [0, 1, 2]),
    ],
)
def test_every_word_anywhere(query: str, rows: list[int]) -> None:
    assert found(WORDS, query).tolist() == rows


def test_typing_a_query() -> None:
    listing = Listing(("name",))
    for key in ("/", "p", "x", "backspace", "q", "2", "enter"):
        assert listing.key(key, 10)
    assert (listing.query, listing.editing) == ("pq2", False)
    assert listing.key("esc", 10)
    assert listing.query == ""
    assert not listing.key("x", 10)


def test_a_query_is_bounded_and_can_be_cleared() -> None:
    listing = Listing(("name",))
    listing.key("/", 10)
    for _ in range(500):
        listing.key("a", 10)
    assert len(listing.query) == MAX_QUERY
    listing.key("ctrl-u", 10)
    assert listing.query == ""


def test_scrolling_stays_inside() -> None:
    listing = Listing(("name",))
    assert listing.window(5, 10) == (0, 5)
    listing.key("end", 10)
    assert listing.window(95, 10) == (85, 95)
    listing.key("pgup", 10)
    assert listing.window(95, 10) == (75, 85)
    for key in ("home", "up", "up", "down"):
        listing.key(key, 10)
    assert listing.window(95, 10) == (1, 11)
    assert listing.window(0, 10) == (0, 0)
    assert listing.window(3, 0) == (0, 1)


def test_the_chosen_row_is_visible() -> None:
    listing = Listing(("name",), here=0)
    for key in ("end", "up"):
        listing.window(100, 10)
        listing.key(key, 10)
    first, last = listing.window(100, 10)
    assert first <= listing.here < last
    assert listing.here == 98
    listing.window(3, 10)
    assert listing.here == 2


def test_sorting_goes_round() -> None:
    listing = Listing(("a", "b"))
    seen = []
    for _ in range(3):
        seen.append(listing.sorted_by)
        listing.key("s", 10)
    assert seen == ["a", "b", "a"]
