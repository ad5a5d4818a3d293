"""CAN frames in: sources, log files, and the decoder compiled from DBC files."""
