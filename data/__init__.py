"""Catalogues, ratings and the embedding file. Imports nothing else of ours, and never torch."""

import os

# MKL, which reads this at its first product, then adds up in one order however many threads share the work, and so do
# embeddings and training from process to process. Here, because every other part imports this one first.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

# The threads of a product wait for each other in a loop. GNU OpenMP's default is milliseconds, which on cores that
# other programs use too delays the very thread they wait for; with none, each product has to wake its threads. Some
# microseconds cost neither (docs/benchmarks.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
