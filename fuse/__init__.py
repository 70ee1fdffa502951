"""Stage two: ratings joined with cached embeddings train a fusion Transformer."""
