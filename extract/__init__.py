"""Stage one: plots and posters become embeddings, once."""
