"""The embedding file: its header, its HDF5 layout, reading, writing row by row, and verification.

Imports `runtime` alone.
"""
