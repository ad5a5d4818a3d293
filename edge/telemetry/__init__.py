"""Batch, spool, uplink: what was sealed reaches the depot exactly once."""
