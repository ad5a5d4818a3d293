"""A bus, its battery, its weather and its ECUs, as CAN frames."""
