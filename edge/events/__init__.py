"""Detectors: something a person must know, once, with its evidence.

Each is one small module named for what it detects. Plain arrays go in at a low rate, `Change`s come out: opened or
closed. What never floods and never flickers is common to all of them: `book.py`. Thresholds: `limits.py`.
Nothing here reads a clock: time is the core's monotonic microseconds.
"""
