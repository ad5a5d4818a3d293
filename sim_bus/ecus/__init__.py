"""The ECUs: what they know, and how they say it in frames."""

from sim_bus.ecus._pack import crc8_sae_j1850
from sim_bus.ecus.ecus import Ecus
from sim_bus.ecus.layout import CHANNELS
from sim_bus.ecus.names import NODES, needed

__all__ = ["CHANNELS", "NODES", "Ecus", "crc8_sae_j1850", "needed"]
