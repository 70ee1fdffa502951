"""The `cinefuse` command, put together from the commands of each part, and the demo that goes through all parts."""

from __future__ import annotations

import atexit
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .data import cache_commands
from .data import commands as data_commands
from .data.errors import CinefuseError, Interrupted
from .data.printable import printable
from .extract import commands as extract_commands
from .fuse import commands as fuse_commands


class _Commands(TyperGroup):
    """All commands. Ctrl-C is a refusal like any other: where a command knows nothing better to say, this says it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("stopped: run the same command again to go on; nothing is left half-written") from None


app = typer.Typer(
    name="cinefuse",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Run BERT and ViT once over plots and posters, keep every embedding in one verified HDF5 file, "
    "train fusion models against it.",
)


app.add_typer(data_commands.app, name="data")
app.add_typer(extract_commands.app)
app.add_typer(cache_commands.app, name="cache")
app.add_typer(fuse_commands.app)


@app.callback()
def cinefuse() -> None:
    """Two stages that meet in one file: `extract` fills it, `fuse` trains on it."""


@app.command("demo")
def demo(
    out: Annotated[Path, typer.Option(help="folder for everything the demo makes")] = Path("demo"),
    items: Annotated[int, typer.Option(min=8, help="films to invent")] = 96,
) -> None:
    """Run both stages on an invented catalogue: import, extract, verify, train, recommend. Offline, in a minute.

    Encoders, films and ratings are invented, and no model hub is asked: look at the machinery, not at the figures.
    """
    from .data.catalog import Catalog
    from .data.sample import write_sample
    from .extract.untrained import write_untrained_image_encoder, write_untrained_text_encoder

    source, dataset, cache, run = out / "source", out / "dataset", out / "embeddings.h5", out / "runs" / "paper"
    text_model, image_model = out / "models" / "untrained-bert", out / "models" / "untrained-vit"
    if not source.exists():
        write_sample(source, items=items)
    catalogue = Catalog.open(source)
    if not text_model.exists():
        making = out / "models.new"  # gets its name when whole, so that an interrupted demo can be run again
        write_untrained_text_encoder(making / text_model.name, (text for text in catalogue.texts() if text))
        write_untrained_image_encoder(making / image_model.name)
        making.rename(out / "models")
    tables = ("--items", source / "items.parquet", "--ratings", source / "ratings.parquet")
    small = ("--set", "width=32", "--set", "attention_heads=2", "--set", "epochs=4", "--set", "light_steps=80")
    steps: list[tuple[Any, ...]] = [
        ("data", "import", "table", dataset, *tables, "--posters", catalogue.poster_root, "--overwrite"),
        ("extract", dataset, cache, "--text-model", text_model, "--image-model", image_model),
        ("cache", "verify", cache),
        ("cache", "info", cache),
        ("fuse", dataset, cache, run, "--preset", "paper", "--split", "random:0.2", *small, "--resume"),
        ("evaluate", run),
        ("recommend", run, "--user", 1, "-k", 5),
    ]
    for step in steps:
        words = [str(word) for word in step]
        typer.secho(f"\n$ cinefuse {' '.join(words)}", bold=True)
        try:
            app(words, standalone_mode=False)
        except Interrupted:
            raise Interrupted("stopped: run `cinefuse demo` again to go on; nothing is left half-written") from None
    typer.echo(
        f"\nNext: cinefuse cache info {cache} --failures"
        f"\n      cinefuse fuse {dataset} {cache} {out / 'runs' / 'best'} --split random:0.2"
        f"\n      cinefuse compare {run} {out / 'runs' / 'best'}"
        "\n      or the same commands on your own catalogue."
    )


def main() -> None:
    """Entry point: a refusal becomes one line on standard error and its exit code, never a traceback."""
    try:
        app()
    except CinefuseError as refusal:
        sys.stderr.write(f"cinefuse: {printable(refusal)}\n")
        sys.exit(refusal.exit_code)
    finally:
        # the command is over: a Ctrl-C while Python tears itself down must not turn its exit code into a signal's
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
