"""What is encoded: texts become token ids, poster files become pixels, and a plan says which batches will run."""
