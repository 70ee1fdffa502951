"""`cinefuse tune`: search settings on validation ratings, and show what was found."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...data.commands.options import DatasetArgument, DeviceOption, ThreadsOption
from ...data.runtime.errors import UsageError
from ...data.runtime.untrusted_text import printable
from .options import CacheArgument, SetOption, interruptible, one_at_most

if TYPE_CHECKING:
    from ..tuning.tune import Tuned

app = typer.Typer()


@app.command("tune")
def tune(
    dataset: DatasetArgument,
    cache: CacheArgument = None,
    *,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder for settings.json and the trials")],
    preset: Annotated[str, typer.Option(help="preset to start from")] = "best",
    split: Annotated[
        str, typer.Option(help="the split whose test part stays unread, as `fuse --split` takes it")
    ] = "random:0.1",
    seed: Annotated[int, typer.Option(min=0, help="draws the split and the trials")] = 0,
    minutes: Annotated[float, typer.Option(min=0.01, help="stop after so many minutes")] = 20.0,
    trials: Annotated[int | None, typer.Option(min=1, help="stop after so many trials  [default: no limit]")] = None,
    draws: Annotated[int, typer.Option(min=1, help="draws of validation ratings that judge a trial")] = 2,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Search the settings of a preset on validation ratings within the training part of a split.

    The test part of the split is never read. OUT/settings.json goes into `cinefuse fuse --settings`, which refuses a
    split whose test ratings the search has seen. Run the same command again to search on; Ctrl-C keeps the best so far.

        cinefuse tune ml-100k ml-100k.h5 tuned --split u1 --minutes 20
        cinefuse fuse ml-100k ml-100k.h5 runs/tuned --settings tuned/settings.json --split u1
    """
    if find_spec("optuna") is None:
        raise UsageError("cinefuse tune needs Optuna, which is not installed: pip install 'cinefuse[tune]'")
    embeddings = one_at_most(cache)
    with interruptible("no trial had come to an end; run the same command again"):
        from ...data.runtime.progress import TerminalProgress
        from ...device import use_threads
        from ..settings.presets import preset as preset_named
        from ..tuning.tune import tune as search

        use_threads(threads)
        found = search(
            dataset,
            embeddings,
            out,
            preset_named(preset).with_settings([*(settings or []), f"seed={seed}"]),
            split=split,
            minutes=minutes,
            trials=trials,
            draws=draws,
            device=device,
            progress=TerminalProgress(),
        )
    _show(found, [str(dataset), *([str(embeddings)] if embeddings else [])], split, seed)


def _show(found: Tuned, inputs: list[str], split: str, seed: int) -> None:
    rmse = found.settings.validation
    typer.echo(f"trials      {found.trials} trained to the end, {found.pruned} stopped early")
    if found.interrupted:
        typer.echo("stopped     by Ctrl-C; run the same command again to search on")
    draws = "draws that the search has not used" if found.settings.confirmed else "the draws that it was chosen by"
    typer.echo(f"validation  RMSE {rmse['tuned']:.4f}, of what a run chooses by itself {rmse['start']:.4f} ({draws})")
    for number, settings in enumerate(found.settings.members):
        chosen = ", ".join(f"{name}={value}" for name, value in settings.items())
        typer.echo(f"member {number + 1:<5}{chosen or 'as the preset says'}")
    if found.importance:
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(found.importance.items())[:5])
        typer.echo(f"importance  {shares}")
    typer.echo(f"written to  {printable(found.file)}")
    words = ["fuse", *inputs, "RUN", "--settings", str(found.file), "--split", split]
    typer.echo(f"next        cinefuse {printable(shlex.join([*words, *(['--seed', str(seed)] if seed else [])]))}")
