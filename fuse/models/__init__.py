"""The model: factors, fusion Transformer, heads, items without ratings, and the trained model that predicts.

Imports `inputs`.
"""
