"""Embeddings in other number formats, compressed, and in the formats of other programs.

Imports `sharing`, `embeddings`, `runtime`.
"""
