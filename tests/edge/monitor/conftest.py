"""A short day of the simulated bus, and its configuration."""

from pathlib import Path

import pytest

from tests.conftest import bus_config, simulate, virtual

DURATION_S = 20.0


@pytest.fixture(scope="session")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of the simulated bus, DURATION_S long."""
    path = tmp_path_factory.mktemp("monitor") / "day.log"
    simulate("winter_day", path, seed=3, duration_s=DURATION_S)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The bus's configuration."""
    path = tmp_path / "ayaz.toml"
    path.write_text(bus_config(virtual("monitor")), "utf-8")
    return path
