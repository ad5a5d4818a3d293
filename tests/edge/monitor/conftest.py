"""A short day of the simulated bus, and its configuration."""

from pathlib import Path

import pytest

from sim_bus.command import run_simulation
from tests.conftest import bus_config, virtual

DURATION_S = 20.0


@pytest.fixture(scope="session")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of the simulated bus, DURATION_S long."""
    path = tmp_path_factory.mktemp("monitor") / "day.log"
    run_simulation("winter_day", str(path), seed=3, duration_s=DURATION_S, speed=None)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The bus's configuration."""
    path = tmp_path / "ayaz.toml"
    path.write_text(bus_config(virtual("monitor")), "utf-8")
    return path
