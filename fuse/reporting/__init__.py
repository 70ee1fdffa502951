"""One page about a run: how good, for whom, and what it was trained on."""
