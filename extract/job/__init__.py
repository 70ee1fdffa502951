"""One extraction from start to end: its settings, its loop, resuming, reuse of rows, slices of a catalogue."""
