"""Where datasets come from: MovieLens archives, tables of anyone's making, downloads.

Imports `dataset`, `enrichment`, `tables`, `remote`, `runtime`.
"""
