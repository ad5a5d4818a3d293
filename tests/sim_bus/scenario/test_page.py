"""The manual says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.errors import ScenarioError
from scripts.make_scenario_docs import PAGE, written
from sim_bus.scenario import load_scenario

TEXT = PAGE.read_text("utf-8")


def test_its_tables_are_the_codes() -> None:
    assert written(TEXT) == TEXT, "run scripts/make_scenario_docs.py"


@pytest.mark.parametrize("example", re.findall(r"^```toml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))
def test_its_examples_load(tmp_path: Path, example: str) -> None:
    path = tmp_path / "example.toml"
    path.write_text(example, "utf-8")
    assert load_scenario(str(path)).about in example


def test_its_mistakes_are_our_words(tmp_path: Path) -> None:
    """The messages in the manual, made by making the mistakes."""
    (tmp_path / "base.toml").write_text("\n" * 4 + "[battery]\nsoc = 1\ncells = 0\ntemp_degc = 1\n")
    lines = {1: "about = 'x'", 2: "based_on = 'base.toml'", 4: "[wether]", 6: "[weather]\nambient_degc = 1",
             8: "[bus]\nheating = 'fule'", 12: "[route]\ndwell_s = nan",
             16: "[[timetable]]\nat = '05:40'\ndo = 'drive'", 19: "[[timetable]]\nat = '05:10'\ndo = 'off'"}  # fmt: skip
    text = ""
    for number, line in lines.items():
        above = line.count("\n") > 0  # the header stands a line higher
        text += "\n" * (number - above - 1 - text.count("\n")) + line + "\n"
    path = tmp_path / "winter.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(str(path))
    shown = re.findall(r"^    (\w+\.toml:\d+: .*)$", TEXT, re.MULTILINE)
    assert [one.replace(f"{tmp_path}/", "") for one in caught.value.problems] == shown
