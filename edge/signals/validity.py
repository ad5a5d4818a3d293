"""What a latest value is worth. The numbers travel in batches (docs/protocol.md); they never change."""

NEVER = 0  # not heard since this start
GOOD = 1
STALE = 2  # heard, but not within its time-out
NOT_AVAILABLE = 3  # its sender says that it has no value (SAE J1939-71: 0xFF...)
ERROR = 4  # its sender says that its sensor failed (SAE J1939-71: 0xFE...), or a float that is no number
SUSPECT = 5  # it comes in time, but has not moved for longer than it can stand still

NAMES = ("never heard", "good", "stale", "not available", "error", "suspect")
