"""Catalogues, ratings and the embedding file. Imports nothing else of ours, and never torch."""

import os

# MKL, which reads this at its first product, then adds up in one order however many threads share the work, and so do
# embeddings and training from process to process. Here, because every other part imports this one first.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
