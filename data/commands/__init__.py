"""The commands `cinefuse data` and `cinefuse cache`, and what they print.

Imports every other room of `data`, lazily.
"""
