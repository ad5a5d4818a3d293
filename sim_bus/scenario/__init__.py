"""The language of scenarios: TOML in, one checked object out."""

from sim_bus.scenario.loading import load_scenario, summaries
from sim_bus.scenario.model import Scenario
from sim_bus.scenario.source import names

__all__ = ["Scenario", "load_scenario", "names", "summaries"]
