"""Detectors: something a person must know, once, with its evidence.

The room is laid, not furnished: each detector will be one small module named for what it detects,
and what it finds leaves the core as a sealed item of its own.
"""
