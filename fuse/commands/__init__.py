"""The commands of stage two and what they print. Imports the other rooms of `fuse`, lazily."""
