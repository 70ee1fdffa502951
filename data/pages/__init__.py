"""Pages that need no network: the shared look, charts, pictures, and the map of an embedding file."""
