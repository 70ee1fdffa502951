"""How ratings are cut: specs as a user writes them, ways of holding rows out, files of row numbers.

Imports `runtime`, `tables` and the names of boolean columns.
"""
