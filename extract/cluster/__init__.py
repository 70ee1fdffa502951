"""Stage one on Ray: one process plans and sends out batches, workers on any machines encode and write them."""
