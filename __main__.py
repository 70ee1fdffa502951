"""`python -m cinefuse`: the same command as `cinefuse`."""

from cinefuse.cli import main

if __name__ == "__main__":
    main()
