"""Explain predictions: attention over a poster and a plot, and the change of predictions when they are masked."""
