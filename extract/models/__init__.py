"""Which encoder: its files, its structure, its forward pass, and what makes it fast."""
