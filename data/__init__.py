"""Catalogues, ratings and the embedding file. Imports nothing else of ours, and never torch."""
