"""Which encoder: its files, its preprocessing, its forward pass, and what makes it fast."""
