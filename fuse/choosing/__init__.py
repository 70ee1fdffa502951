"""What a run chooses by itself, on ratings held out of its training part: sizes, heads, L2 and members.

Imports `training`, `models`, `inputs`, `settings`.
"""
