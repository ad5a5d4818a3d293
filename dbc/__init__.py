"""The buses that we speak: DBC files and signal maps, as data."""
