"""Searching settings on validation ratings: the search, and the file of settings that it writes.

Imports `choosing`, `training`, `inputs`, `settings`.
"""
