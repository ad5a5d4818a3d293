"""Measured cells that the demo plays back; where they are from: README.md."""
