"""TMDB, OMDb and Wikipedia: what each says of an item, and how sure it is that it is the item meant."""
