"""Embedding files cut, joined, compared, described, and carried to and from stores.

Imports `embeddings`, `remote`, `runtime`.
"""
