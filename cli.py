"""The `cinefuse` command, put together from the commands of each part, and the demo that goes through all parts."""

from __future__ import annotations

import atexit
import errno
import io
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .data.commands import cache as cache_commands
from .data.commands import dataset as data_commands
from .data.commands.options import name_values
from .data.runtime.errors import BadInput, CinefuseError, Interrupted, NoSpace, UsageError
from .data.runtime.untrusted_text import printable
from .extract.commands import encoders as encoder_commands
from .extract.commands import extract as extract_commands
from .fuse.commands import evaluation as evaluation_commands
from .fuse.commands import reports as report_commands
from .fuse.commands import serving as serving_commands
from .fuse.commands import study as study_commands
from .fuse.commands import train as train_commands
from .fuse.commands import tune as tune_commands


class _Commands(TyperGroup):
    """All commands. Unknown words and options, and Ctrl-C, are refusals of one line, where typer would draw a box."""

    def get_params(self, ctx: Any) -> Any:
        if not self._values_are_named:
            self._values_are_named = True
            name_values(self)
        return super().get_params(ctx)

    _values_are_named = False

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            code = super().main(*args, **options | {"standalone_mode": False})
        except Exception as fault:
            # typer hides its copy of click: what click refuses is known by what only such an exception can do
            if not hasattr(fault, "format_message"):
                raise
            if type(fault).__name__ == "NoArgsIsHelpError":  # and the help is printed
                sys.exit(2)
            words = getattr(fault, "ctx", None)
            command = words.command_path if words else "cinefuse"
            refusal = fault.format_message().rstrip(".")
            if words and refusal.startswith("Missing argument"):
                pieces = (piece.strip("{}").removesuffix("...") for piece in words.command.collect_usage_pieces(words))
                refusal += f": expected `{' '.join([command, *pieces])}`"
            raise UsageError(f"{refusal}; see `{command} --help`") from None
        if options.get("standalone_mode", True):
            sys.exit(code if isinstance(code, int) else 0)
        return code

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("stopped: run the same command again to go on; nothing is left half-written") from None


app = typer.Typer(
    name="cinefuse",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Run BERT and ViT once over plots and posters, keep every embedding in one verified HDF5 file, "
    "train fusion models against it.",
)


app.add_typer(data_commands.app, name="data")
app.add_typer(extract_commands.app)
app.add_typer(encoder_commands.app)
app.add_typer(cache_commands.app, name="cache")
app.add_typer(train_commands.app)
app.add_typer(tune_commands.app)
app.add_typer(evaluation_commands.app)
app.add_typer(serving_commands.app)
app.add_typer(report_commands.app)
app.add_typer(study_commands.app)


def _show_version(given: bool) -> None:
    if given:
        from importlib.metadata import version

        typer.echo(f"cinefuse {version('cinefuse')}")
        raise typer.Exit


@app.callback()
def cinefuse(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show the version, and stop")
    ] = False,
) -> None:
    """Two stages that meet in one file: `extract` fills it, `fuse` trains on it."""


@app.command("demo")
def demo(
    out: Annotated[Path, typer.Option(help="folder for everything the demo makes")] = Path("demo"),
    items: Annotated[int, typer.Option(min=20, help="films to invent")] = 300,
    users: Annotated[int, typer.Option(min=10, help="users to invent")] = 600,
) -> None:
    """Run both stages on an invented catalogue: import, extract, verify, train, compare, report. Offline, in minutes.

    Films, plots, posters, users and ratings are made up; the encoders are small, trained, and part of this package. Run
    it again to go on where it stopped.
    """
    from .data.sample.catalogue import NOTE

    # a demo runs beside other work: threads that wait for each other sleep, where spinning would cost it minutes
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    typer.echo(f"{NOTE} Everything goes to {printable(out)}.")
    _invent(out / "source", items, users)
    warm, unseen = (out / "study" / "both-tokens" / split / "seed-0" for split in ("random-0.1", "cold-items-0.25"))
    for words in _demo_steps(out, warm, unseen):
        _run_as_typed(words)
    typer.echo(
        f"\nLook at {out / 'report.html'} and {out / 'unseen.html'} in a browser. Then type:"
        f"\n      cinefuse explain {warm} --item 1 --out {out / 'film-1.html'}"
        f"\n      cinefuse cache browse {out / 'embeddings.h5'} --dataset {out / 'dataset'}"
        f"\n      cinefuse recommend {unseen} --user 2 -k 10"
        "\n      or the same commands on your own catalogue: docs/your-own-catalogue.md"
    )


def _invent(source: Path, items: int, users: int) -> None:
    """Write the sample, unless it is there already; UsageError where one of another size is there."""
    from .data.dataset.folder import Description
    from .data.sample.catalogue import write_sample

    if not source.exists():
        return write_sample(source, items=items, users=users)
    counts = Description.read(source).counts
    if (found := (counts.get("items"), counts.get("users"))) != (items, users):
        raise UsageError(
            f"{source} holds {found[0]} films and {found[1]} users, expected {items} and {users}: choose another "
            f"--out, or delete {source.parent}"
        )
    return None


def _demo_steps(out: Path, warm: Path, unseen: Path) -> list[list[str]]:
    """The commands of the demo, each as a user would type it."""
    source, dataset, cache, study = (str(out / name) for name in ("source", "dataset", "embeddings.h5", "study"))
    others = ("best", "text", "poster", "mf", "bias")
    reports = [
        ["report", str(run), *(str(out / "study" / name / run.parent.name / run.name) for name in others)]
        for run in (warm, unseen)
    ]
    tables = ["--items", f"{source}/items.parquet", "--ratings", f"{source}/ratings.parquet", "--posters", source]
    return [
        ["data", "import", "table", dataset, *tables, "--overwrite"],
        ["extract", dataset, cache, "--text-model", "mini", "--image-model", "mini"],
        ["cache", "verify", cache],
        ["study", dataset, cache, study, *DEMO_STUDY],
        ["evaluate", str(warm)],
        ["recommend", str(warm), "--user", "1", "-k", "5"],
        [*reports[0], "--out", str(out / "report.html")],
        [*reports[1], "--out", str(out / "unseen.html")],
    ]


# test parts: a tenth of the ratings; a quarter of the films, lest a few popular ones decide. Small models for a small
# catalogue
DEMO_STUDY = shlex.split(
    "--split random:0.1 --split cold-items:0.25 --models bias,mf,text,poster,both-tokens,best "
    "--set dim=16 --set width=64 --set layers=1 --set batch_items=32 "
    "--set transformer_learning_rate=0.001 --set l2.content=5 "
    "--set text_components=64 --set image_components=24 --set l2.item_features=200 --set l2.cold_components=300 "
    "--set members=1 --set epochs=8 --set factor_steps=200"
)


def _run_as_typed(words: list[str]) -> None:
    """Print a command and run it in this process. Ctrl-C names the demo, which has no --resume."""
    typer.secho(f"\n$ cinefuse {shlex.join(words)}", bold=True)
    try:
        app(words, standalone_mode=False)
    except Interrupted:
        raise Interrupted("stopped: run the same demo again to go on; nothing is left half-written") from None


_NO_WAY_THERE = {errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENOTDIR}


def _refused(refusal: CinefuseError) -> int:
    sys.stderr.write(f"cinefuse: {printable(refusal)}\n")
    return refusal.exit_code


def main() -> None:
    """Entry point: a refusal becomes one line on standard error and its exit code, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # titles and bars in any locale, as Python itself does from 3.15 on
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        app()
    except CinefuseError as refusal:
        sys.exit(_refused(refusal))
    except OSError as fault:
        if fault.filename is not None and fault.errno in _NO_WAY_THERE:
            sys.exit(_refused(BadInput(f"{fault.filename}: {fault.strerror}; choose another path, or open this one")))
        # a full disk under a file that a command writes is refused by the command: this one lies under standard output
        if fault.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would try again at its end
        sys.exit(_refused(NoSpace(f"standard output cannot be written ({fault.strerror}); free some space, try again")))
    finally:
        # the command is over: a Ctrl-C while Python tears itself down must not turn its exit code into a signal's
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
