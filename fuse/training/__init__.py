"""How a model is trained: batches, optimiser, the loop, checkpoints, several processes.

Imports `models`, `inputs`, `settings`.
"""
