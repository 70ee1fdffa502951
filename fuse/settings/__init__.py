"""Every setting of a run, its range and its meaning, and the presets. Imports nothing but errors."""
