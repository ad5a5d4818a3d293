"""Lines fit, whatever they are made of; nothing that a terminal obeys gets through."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from edge.monitor.page import Column, Page, ansi, bar, clean

EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202e\u0085ok"


def test_control_characters_never_reach_the_terminal() -> None:
    for ascii_only in (False, True):
        text = clean(EVIL, ascii_only)
        assert "ok" in text
        assert all(c.isprintable() for c in text)
        assert "\x1b" not in text
        assert "\u202e" not in text


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=6), st.integers(0, 40), st.booleans())
def test_every_line_is_as_wide_as_the_page(texts: list[str], width: int, ascii_only: bool) -> None:
    page = Page(width, 3, ascii_only)
    for _ in range(5):
        page.add(*texts)
    page.row(
        (Column("a", 0), Column("b", 4, right=True), Column("c", 5, ending=True)), [*texts, "", "", ""][:3]
    )
    page.fill()
    assert len(page.lines) == 3
    assert [cell_len(line) for line in page.text()] == [width] * 3
    if ascii_only:
        assert all(line.isascii() for line in page.text())


def test_a_table_drops_what_has_no_room() -> None:
    columns = (Column("name", 0), Column("value", 8, right=True), Column("path", 0, from_width=60))
    narrow, wide = Page(40, 2), Page(80, 2)
    for page in (narrow, wide):
        page.head(columns, "value")
        page.row(columns, ["PackVoltage", ("584.1", "good"), "Vehicle"])
    assert "path" not in narrow.text()[0]
    assert "value▼" in narrow.text()[0]
    assert "Vehicle" in wide.text()[1]


@pytest.mark.parametrize(
    ("share", "text"), [(0, "░░░░"), (0.5, "██░░"), (1, "████"), (7.0, "████"), (-1, "░░░░")]
)
def test_bar(share: float, text: str) -> None:
    assert bar(share, 4) == text


def test_styles() -> None:
    page = Page(10, 1)
    page.add(("bad", "bad"), ("dim", "dim"), "plain")
    assert ansi(page.lines[0], True) == "\x1b[1;31mbad\x1b[0m\x1b[2mdim\x1b[0mpla…"
    assert ansi(page.lines[0], False) == "\x1b[1mbad\x1b[0m\x1b[2mdim\x1b[0mpla…"
