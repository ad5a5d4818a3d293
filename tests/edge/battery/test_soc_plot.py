"""The picture of `ayaz soc`: what is in it, whatever the data lack."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from edge.battery.soc_plot import BINS, Pictured, _envelope, _thin, plot_soc
from edge.errors import DataError
from edge.measured import Measured

ROWS = 300
TIME = np.arange(ROWS) * 60.0
SOC = np.linspace(0.9, 0.5, ROWS)


def shown(**changed: object) -> Pictured:
    data = Measured(TIME, np.full(ROWS, 2.0), 4 - TIME / 1e5, np.full(ROWS, -20.0), SOC)
    whole = Pictured(
        "a <drive>", data, SOC + 0.01, np.full(ROWS, 0.02), SOC, SOC - 0.01, (("RMSE", "1 % & more"),)
    )
    return dataclasses.replace(whole, **changed)


def svg(folder: Path, **changed: object) -> str:
    plot_soc(folder / "x.html", shown(**changed))
    return (folder / "x.html").read_text()


def test_png(tmp_path: Path) -> None:
    plot_soc(tmp_path / "x.png", shown())
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


def test_html_is_a_page_of_its_own(tmp_path: Path) -> None:
    page = svg(tmp_path)
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 1
    assert "a &lt;drive&gt;" in page
    assert "<td>1 % &amp; more</td>" in page
    for text in ("state of charge, %", "error, %", "voltage, V", "current, A", "cell, °C", "95 % band"):
        assert text in page
    outside = set(re.findall(r"https?://[^\"' <>]+", page))
    assert all(
        link.startswith(
            ("http://www.w3.org", "https://matplotlib.org", "http://purl.org", "http://creativecommons.org")
        )
        for link in outside
    ), "names of formats, nothing to fetch"
    assert page == svg(tmp_path), "the same twice"


def test_what_is_not_known_has_no_panel(tmp_path: Path) -> None:
    data = dataclasses.replace(shown().data, temp_degc=np.full(ROWS, np.nan), soc=None)
    page = svg(tmp_path, data=data, truth=None, counted=None)
    for text in ("error, %", "cell, °C", "counting", "measured"):
        assert text not in page


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_short(tmp_path: Path, rows: int) -> None:
    data = shown().data
    few = Measured(
        *(getattr(data, k)[:rows] for k in ("time_s", "current_a", "voltage_v", "temp_degc", "soc"))
    )
    sd = np.full(rows, 0.02)
    assert "<svg" in svg(tmp_path, data=few, soc=SOC[:rows], soc_sd=sd, truth=SOC[:rows], counted=SOC[:rows])


def test_holes_everywhere(tmp_path: Path) -> None:
    nan = np.full(ROWS, np.nan)
    data = Measured(TIME, nan, nan, nan, nan)
    assert "<svg" in svg(tmp_path, data=data, truth=nan, counted=None)


def test_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.png: cannot be written"):
        plot_soc(tmp_path / "no" / "x.png", shown())


def test_thinned_lines_keep_every_peak() -> None:
    rng = np.random.default_rng(2)
    time, values = np.arange(200_000.0), rng.normal(0, 1, 200_000)
    values[::7] = np.nan
    values[100_000:101_000] = np.nan
    values[123_456], values[7_890] = 50.0, -50.0
    at, kept = _thin(time, values)
    assert len(at) <= 2 * BINS
    assert (np.diff(at) > 0).all()
    assert np.nanmax(kept) == 50
    assert np.nanmin(kept) == -50
    assert np.isnan(kept).any(), "a hole stays one"
    np.testing.assert_array_equal(kept, values[at.astype(int)])
    starts, low, high = _envelope(time, time - 1, time + 1)
    assert len(starts) == BINS
    assert (low == starts - 1).all()
    assert (high > starts).all()


def test_short_lines_stay_as_they_are() -> None:
    at, kept = _thin(TIME, SOC)
    np.testing.assert_array_equal(at, TIME)
    np.testing.assert_array_equal(kept, SOC)
