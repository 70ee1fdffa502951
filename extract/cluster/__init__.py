"""Stage one on Ray: one process plans and deals out batches, workers on any machines encode and write them."""
