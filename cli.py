"""The `cinefuse` command: each subcommand parses its options and calls one function.

Everything heavy is imported inside the commands, so that ``cinefuse --help`` answers at once.
"""

from __future__ import annotations

import sys

import typer

from .data.errors import CinefuseError

app = typer.Typer(
    name="cinefuse",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Run BERT and ViT once over plots and posters, keep every embedding in one verified HDF5 file, "
    "train fusion models against it.",
)
data_app = typer.Typer(no_args_is_help=True, help="Make, fetch and look at dataset folders.")
cache_app = typer.Typer(no_args_is_help=True, help="Look at embedding files and check them.")
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")


@app.callback()
def cinefuse() -> None:
    """Two stages that meet in one file: `extract` fills it, `fuse` trains on it."""


def main() -> None:
    """Entry point: a refusal becomes one line on standard error and its exit code, never a traceback."""
    try:
        app()
    except CinefuseError as refusal:
        sys.stderr.write(f"cinefuse: {refusal}\n")
        sys.exit(refusal.exit_code)


if __name__ == "__main__":
    main()
