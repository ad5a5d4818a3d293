"""Cell models, as data."""
