"""What signals mean: the catalogue made from the maps in `dbc/`."""
