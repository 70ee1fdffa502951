"""MovieLens as GroupLens publishes it: downloaded, read in each of its generations, joined with plots and posters."""
