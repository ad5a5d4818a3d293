"""The ECUs: what they know, and how they say it in frames."""

from sim_bus.ecus._pack import crc8_sae_j1850
from sim_bus.ecus.bms import Bms
from sim_bus.ecus.derived import derived
from sim_bus.ecus.ecus import Ecus
from sim_bus.ecus.layout import CHANNELS
from sim_bus.ecus.names import NODES, needed
from sim_bus.ecus.tables import CellLimits

__all__ = ["CHANNELS", "NODES", "Bms", "CellLimits", "Ecus", "crc8_sae_j1850", "derived", "needed"]
