"""The agent on the bus: CAN frames in, sealed batches out."""

__version__ = "0.1.0"
