"""The command `cinefuse fuse`: train a model, or one for each seed and fold.

Everything heavy is imported inside the commands, so that ``cinefuse --help`` answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ...data.commands.options import CompileOption, DatasetArgument, DeviceOption, JsonOption, ThreadsOption
from ...data.runtime.errors import UsageError
from .options import CacheArgument, SetOption, interruptible, one_at_most

app = typer.Typer()


def _list_settings(given: bool) -> None:
    if given:
        from .settings_screen import show_settings

        show_settings()
        raise typer.Exit


def _refuse_swapped_places(dataset: Path, embeddings: Path | None, run: Path) -> None:
    """UsageError where DATASET, CACHE.h5 and RUN are in another order, or one of them is left out."""
    order = "expected DATASET RUN, or DATASET CACHE.h5 RUN"
    if dataset.is_file():
        how = "" if dataset.suffix == ".h5" else f" (from a table: cinefuse data import table NAME --ratings {dataset})"
        raise UsageError(f"{order}, found the file {dataset} where the dataset folder{how} comes first")
    if run.is_file():
        raise UsageError(f"{run} is a file, expected a run folder to make; the folder is the last word of the command")
    if run.suffix in (".h5", ".hdf5"):
        raise UsageError(f"{order}, found {run} where the run folder to make comes last: name one after it")
    if embeddings is not None and embeddings.is_dir():
        raise UsageError(f"{order}, found the folder {embeddings} where the embedding file is expected")


@app.command("fuse")
def fuse(
    dataset: DatasetArgument,
    cache: CacheArgument = None,
    *,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run folder to make")],
    preset: Annotated[str, typer.Option(help="best, paper, bias, mf, text or poster")] = "best",
    objective: Annotated[
        str | None,
        typer.Option(
            help="rating: predict ratings; ranking: order what comes next, for recommend; or both  [default: both, "
            "ranking where there are no ratings]",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="an official fold such as u1, random:0.1, kfold:5/2, temporal:0.1, user-temporal:0.1, leave-one-out, "
            "cold-items:0.1, cold-users:0.1, column:NAME, file:PATH or all  [default: random:0.1]",
            show_default=False,
        ),
    ] = None,
    folds: Annotated[
        str | None, typer.Option(help="several folds: u1..u5, u1,u2 or kfold:5; a run each, mean and deviation")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="draws split, weights and batches  [default: 0]", show_default=False)
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="number of seeds from --seed on; a run each, mean and deviation")
    ] = 1,
    settings: SetOption = None,
    settings_file: Annotated[
        Path | None, typer.Option("--settings", metavar="FILE", help="settings that `cinefuse tune` wrote")
    ] = None,
    list_settings: Annotated[
        bool,
        typer.Option(
            "--list-settings",
            callback=_list_settings,
            is_eager=True,
            help="show every setting and its meaning, and stop",
        ),
    ] = False,
    validation: Annotated[
        float | None,
        typer.Option(help="share of the training part held out of a first fit, to measure its RMSE; 0: none"),
    ] = None,
    missing: Annotated[
        str, typer.Option(help="mask, drop or error: films without an embedding", rich_help_panel="Ratings")
    ] = "mask",
    duplicates: Annotated[
        str, typer.Option(help="last, first or error: a film rated twice by a user", rich_help_panel="Ratings")
    ] = "last",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    precision: Annotated[
        str | None, typer.Option(help="bf16, fp32, or auto: bf16 where it is native", rich_help_panel="Speed")
    ] = None,
    compile_: CompileOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with what was begun; keep what is finished")] = False,
    warm_start: Annotated[
        Path | None, typer.Option(metavar="RUN", help="retrain a run on grown ratings, in a quarter of the steps")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="write events into the run folder")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model on ratings and, where there is one, an embedding file; test it once, and keep it in a run folder.

    What a dataset does not have (plots, posters, genres, tags, ...) is not used, and a line says so:

        cinefuse fuse films runs/ids                          ratings alone
        cinefuse fuse films films.h5 runs/best                plots and posters too
        cinefuse fuse films runs/fold --split column:test     tested where a column says
        cinefuse fuse films runs/cold --split cold-items:0.1  tested on films without ratings
        cinefuse fuse films runs/all --split all              for production, no test part

    Choose between presets and settings by the validation RMSE that a run ends with, never by its test RMSE.

    Whatever stops it, the same command with --resume goes on from the last checkpoint. With --seeds or --folds RUN
    holds a run folder each: RUN/seed-0, RUN/u1, or RUN/u1/seed-0. On several GPUs, or machines with a common disk:
    `torchrun --nproc-per-node 8 -m cinefuse.cli fuse ...`
    """
    embeddings = one_at_most(cache)
    _refuse_swapped_places(dataset, embeddings, run)
    if split is not None and folds is not None:
        raise UsageError("--split and --folds: expected one of them, found both")
    with interruptible(f"run the same command with --resume to go on; everything finished is kept in {run}"):
        from ...data.runtime.progress import TerminalProgress
        from ...device import use_threads
        from ..runs.repeat import cases_of, folds_named, repeat
        from ..runs.train import train
        from ..settings.presets import preset as preset_named
        from ..tuning.tuned_settings import TunedSettings

        use_threads(threads)
        given = {
            "validation": validation,
            "precision": precision,
            "compile": "true" if compile_ else None,
            "seed": seed,
            "objective": objective,
        }
        words = [f"{name}={value}" for name, value in given.items() if value is not None]
        tuned = None if settings_file is None else TunedSettings.load(settings_file)
        if tuned is not None and preset not in ("best", tuned.preset):
            raise UsageError(f"--preset {preset} and --settings: the settings were tuned for preset {tuned.preset}")
        start = preset_named(preset) if tuned is None else tuned.config()
        config = start.with_settings([*(settings or []), *words])
        options: dict[str, Any] = {
            "missing": missing,
            "duplicates": duplicates,
            "device": device,
            "resume": resume,
            "warm_start": warm_start,
            "choices": None if tuned is None else tuned.choices(),
            "tensorboard": tensorboard,
            "progress": TerminalProgress(),
        }
        splits = folds_named(folds) if folds else [split or "random:0.1"]
        cases = cases_of(splits, range(config.seed, config.seed + seeds))
        if tuned is not None:
            for case in cases:
                tuned.refuse_if_seen(dataset, case.split, case.seed)
        if seeds == 1 and folds is None:
            done = train(dataset, embeddings, run, config, split=splits[0], **options)
        else:
            repeated = repeat(dataset, embeddings, run, config, cases, **options).as_dict()
    from ..training.processes import is_first_process
    from .training_screen import show_repeated, show_run

    if not is_first_process():
        return
    if seeds > 1 or folds is not None:
        typer.echo(json.dumps(repeated, indent=2)) if as_json else show_repeated(repeated)
    elif as_json:
        typer.echo(json.dumps({"run": str(run)} | done.summary.as_dict(), indent=2))
    else:
        show_run(run, done.record, done.summary, done.recommender.user_ids[0], has_test=len(done.split.test) > 0)
