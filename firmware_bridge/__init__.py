"""The serial link to the microcontroller beside the Pi.

The room is laid, not furnished: it stands alone (imports nothing of ours) and will hold the link,
CAN over serial, the companion and firmware update.
"""
