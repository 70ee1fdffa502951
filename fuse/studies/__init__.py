"""Studies: unlike models on the same splits and seeds, and their tables.

Imports `runs`, `evaluation`, `training`, `settings`.
"""
