"""What a long job needs of its machine: errors with exit codes, atomic files, locks, signals, progress, event logs.

Imports nothing of ours.
"""
