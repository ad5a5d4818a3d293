"""Measured data of one cell from files: one reader for the estimator, the fitting and the simulator's playback."""

from edge.measured.reader import FLAGS, SIGNS, Measured, load_measured

__all__ = ["FLAGS", "SIGNS", "Measured", "load_measured"]
