"""The language of scenarios: TOML in, one checked object out."""
