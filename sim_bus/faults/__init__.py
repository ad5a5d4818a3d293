"""What goes wrong: a catalogue of faults, when they act, and what they do."""
