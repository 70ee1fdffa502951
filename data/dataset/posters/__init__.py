"""Posters: where they lie, which one is whose, and how the bytes of one are read."""
