"""The format of an embedding file: its header, its HDF5 metadata, and where every byte lies."""
