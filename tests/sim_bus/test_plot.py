"""The picture: whole, small, of its own, and drawn of whatever there is."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ScenarioError
from sim_bus.plot import MOST_ROWS, Picture
from tests.sim_bus.small_run import COLUMNS, SmallRun


def drawn(seconds: int) -> str:
    run = SmallRun(1)
    picture = Picture(run.columns)
    picture.first(run.first)
    for second in itertools.islice(run.seconds(), seconds):
        picture.add(second.truth, second.labels)
    return picture.page("a <day>")


def test_it_shows_all_panels_and_faults() -> None:
    page = drawn(600)
    for title in ("Faults", "State of charge", "Power", "Speed", "Cell voltage", "Temperature", "kWh went"):
        assert title in page, title
    assert page.count("<svg") == page.count("</svg>") == 6
    assert page.count('class="fault"') == 5, "one span, in each panel"
    assert "weak cell 1.17" in page
    assert "a &lt;day&gt;" in page
    assert "nan" not in page
    assert "http" not in page, "nothing from the internet"


def test_a_long_day_is_small() -> None:
    picture = Picture(COLUMNS)
    row = SmallRun(1).first.copy()
    picture.first(row)
    for n in range(2 * MOST_ROWS + 10):
        row = row.copy()
        row[0], row[COLUMNS.index("power_w")] = n + 1, 1e5 * (n % 60 == 7)
        picture.add(row[None, :], ())
    page = picture.page("long")
    assert len(page) < 300_000
    assert re.search(r">\d+(\.\d)? h<", page) or " h<" in page


def test_what_lacks_is_left_out(tmp_path: Path) -> None:
    columns = ("t_s", "soc", "bms_soc", "power_w", "speed_kmh")
    picture = Picture(columns)
    picture.first(np.array([0.0, np.nan, np.nan, 0.0, np.nan]))
    picture.write(tmp_path / "p.html", "one row")
    page = (tmp_path / "p.html").read_text()
    assert page.count("<svg") == 1
    assert "nan" not in page
    assert [p.name for p in tmp_path.iterdir()] == ["p.html"]


def test_it_cannot_be_written(tmp_path: Path) -> None:
    picture = Picture(COLUMNS)
    picture.first(SmallRun(1).first)
    with pytest.raises(ScenarioError, match="cannot be written"):
        picture.write(tmp_path / "none" / "p.html", "x")
