"""The run folder: trained, resumed, repeated over seeds and folds, and started from an earlier run."""
