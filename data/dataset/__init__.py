"""The dataset folder: items, ratings, users and splits as tables, and how such a folder comes into being whole.

Imports `tables`, `runtime`.
"""
