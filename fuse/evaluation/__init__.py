"""How good predictions are: metrics with intervals, the evaluation of a run, runs side by side."""
