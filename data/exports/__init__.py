"""The embedding file for other programs: whole, or a vector for each item as indexes and recommenders read them.

Imports `dataset`, `sharing`, `embeddings`, `pages` (vectors of items), `runtime`.
"""
