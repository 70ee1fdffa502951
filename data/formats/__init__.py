"""Embeddings in other number formats, compressed, and in the formats of other programs.

Imports `exports`, `sharing`, `embeddings`, `runtime`.
"""
