"""Embedding files cut, joined, converted, compared, described, and carried to and from stores."""
