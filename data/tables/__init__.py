"""Tables as people have them, read as they are meant: separators, quotes, lists in cells, words for nothing.

Imports `runtime` alone.
"""
