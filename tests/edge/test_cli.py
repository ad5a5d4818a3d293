"""Every command has help with an example; errors are one line and a status."""

from pathlib import Path

import pytest

from edge.cli import COMMANDS, run_command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([command, "--help"]) == 0
    assert f"ayaz {command}" in capsys.readouterr().out.split("Example", 1)[1]


def test_the_group_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("arguments", [["nonsense"], ["run"], ["demo", "--buses", "0"], ["replay"]])
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(arguments) == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize("command", [["run"], ["check"], ["replay", "x.log"]])
def test_missing_configuration_is_one_line_and_status_1(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([*command, "-c", str(tmp_path / "none.toml")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "none.toml" in error


def test_demo_without_its_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run_command(["demo", "--headless", "--duration", "1"]) == 1
    assert "pip install 'ayaz[depot]'" in capsys.readouterr().err
