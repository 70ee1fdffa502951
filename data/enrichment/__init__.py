"""Plots, posters and tags of a dataset's items, brought from TMDB, OMDb or Wikipedia.

Imports `dataset`, `tables` and `runtime` of `data`, and the addresses and retries of `remote`.
"""
