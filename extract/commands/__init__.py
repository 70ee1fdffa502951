"""The command `cinefuse extract` and what it prints. Imports the other rooms of `extract`, lazily."""
