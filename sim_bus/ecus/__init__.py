"""The ECUs: what they know, and how they say it in frames."""
