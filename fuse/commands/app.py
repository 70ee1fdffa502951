"""The commands of stage two: train, measure, predict, recommend, compare, report, export, explain, study.

Everything heavy is imported inside the commands, so that ``cinefuse --help`` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ...data.runtime.errors import Interrupted, UsageError
from ...data.runtime.untrusted_text import printable

app = typer.Typer()


def _list_settings(asked: bool) -> None:
    if asked:
        from .settings_screen import show_settings

        show_settings()
        raise typer.Exit


@contextmanager
def interruptible(how_to_go_on: str) -> Iterator[None]:
    """Ctrl-C inside becomes the refusal that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped: {how_to_go_on}") from None


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


def one_at_most(files: list[Path] | None) -> Path | None:
    if files and len(files) > 1:
        raise UsageError(f"expected one embedding file at most, found {len(files)}: {files[0]}, {files[1]}")
    return files[0] if files else None


DatasetArgument = Annotated[Path, typer.Argument(metavar="DATASET", help="dataset folder")]
CacheArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="CACHE.h5", help="embedding file; without one, plots and posters are not used"),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished run")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="any setting of `--list-settings`; may be repeated"),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads of torch  [default: the cores that this process may use]")
]
KOption = Annotated[int, typer.Option("-k", help="films in a list")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


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
    seeds: Annotated[int, typer.Option(min=1, help="so many seeds from --seed on; a run each, mean and deviation")] = 1,
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
        float | None, typer.Option(help="share of the training part held out of a first fit, to tell its RMSE; 0: none")
    ] = None,
    missing: Annotated[
        str, typer.Option(help="mask, drop or error: films without an embedding", rich_help_panel="Ratings")
    ] = "mask",
    duplicates: Annotated[
        str, typer.Option(help="last, first or error: a film rated twice by a user", rich_help_panel="Ratings")
    ] = "last",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    precision: Annotated[str | None, typer.Option(help="bf16, fp32, or auto: bf16 where it is native")] = None,
    compile_: Annotated[bool, typer.Option("--compile", help="compile the Transformer (needs a C++ compiler)")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with what was begun; keep what is finished")] = False,
    warm_start: Annotated[
        Path | None, typer.Option(metavar="RUN", help="retrain a run on grown ratings, in a quarter of the steps")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="write events into the run folder")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model on ratings and, where there is one, an embedding file; test it once, and keep it in a run folder.

    What a dataset does not have (plots, posters, genres, tags, ...) is not used, and a line says so:

        cinefuse fuse films runs/ids                              ratings alone
        cinefuse fuse films films.h5 runs/best                    plots and posters too
        cinefuse fuse films runs/fold --split column:test         a boolean column of the ratings marks the test part
        cinefuse fuse films runs/cold --split cold-items:0.1      how good is it for films that nobody has rated?
        cinefuse fuse films runs/all --split all                  for production: nothing is held out for a test

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
        from ..settings.config import preset as preset_named
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
    from ..training.processes import told_to_speak
    from .training_screen import show_repeated, show_run

    if not told_to_speak():
        return
    if seeds > 1 or folds is not None:
        typer.echo(json.dumps(repeated, indent=2)) if as_json else show_repeated(repeated)
    elif as_json:
        typer.echo(json.dumps({"run": str(run)} | done.summary, indent=2))
    else:
        show_run(run, done.about, done.summary, done.recommender.user_ids[0])


@app.command("evaluate")
def evaluate(
    run: RunArgument,
    k: Annotated[
        int | None,
        typer.Option(
            "-k", help="films in the lists of the headline  [default: 10, or 20 by mmrec]", show_default=False
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="movielens: test films rated --liked or better are relevant; mmrec: all test films are; auto: mmrec "
            "where the data has no ratings"
        ),
    ] = "auto",
    liked: Annotated[
        float | None,
        typer.Option(
            help="lowest rating of a relevant film  [default: four fifths of the highest]", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a run on its test part: errors of its ratings, and its lists beside most popular and EASE.

    RMSE and MAE with intervals and by popularity. Lists of 5, 10 and 20 of all films new to the user: NDCG, recall,
    precision, MAP, MRR, hit rate, coverage, novelty, and the share of the most popular films; beside the most popular
    films and EASE (above 20,000 films: iALS) on the same rows, with intervals and paired differences. The last lines
    name the baselines that the lists don't beat.
    """
    from ...data.runtime.progress import TerminalProgress
    from ..evaluation.evaluate import evaluate as measure
    from ..runs.run import Run
    from .evaluation_screen import show_evaluation

    found = measure(Run.open(run), k=k, liked=liked, protocol=protocol, progress=TerminalProgress())
    typer.echo(json.dumps(found.as_dict(), indent=2)) if as_json else show_evaluation(found)


@app.command("predict")
def predict(
    run: RunArgument,
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS", help="table with user_id and item_id: .csv, .parquet, ...")],
    out: Annotated[Path, typer.Option(help="table to write: .parquet, .csv, .tsv or .jsonl")],
    distribution: Annotated[
        bool, typer.Option("--distribution", help="the probability of each rating too (ordinal head)")
    ] = False,
) -> None:
    """Predict the rating of each pair of a user and a film, and say why where a run cannot."""
    from ..runs.run import Run
    from ..serving.predict import predict as predicted
    from ..serving.table_files import read_pairs, refuse_unknown_suffix, write_table

    refuse_unknown_suffix(out)
    table = predicted(Run.open(run), read_pairs(pairs), distribution=distribution)
    write_table(table, out)
    unknown = table["prediction"].null_count()
    typer.echo(f"{printable(out)}: {len(table) - unknown:,} predictions, {unknown:,} pairs unknown to the run")


@app.command("recommend")
def recommend(
    run: RunArgument,
    user: Annotated[str | None, typer.Option(help="id of the user to recommend films to")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="for every user; with --out or --json")] = False,
    likes: Annotated[
        str | None, typer.Option(metavar="ID,ID,...", help="for somebody new, by the films they like, as 1,50,260")
    ] = None,
    k: KOption = 10,
    by: Annotated[
        str, typer.Option(help="ranking: what comes next; rating: the expected rating; auto: ranking if the run has it")
    ] = "auto",
    genre: Annotated[
        list[str] | None, typer.Option(help="films of this genre alone; may be repeated", rich_help_panel="Filters")
    ] = None,
    years: Annotated[
        str | None, typer.Option(metavar="FIRST:LAST", help="as 1990:1999, 1990: or :1950", rich_help_panel="Filters")
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(help="films left out: ids in a .txt, one a line, or a table", rich_help_panel="Filters"),
    ] = None,
    candidates: Annotated[
        Path | None, typer.Option(help="no other films than these; a file as above", rich_help_panel="Filters")
    ] = None,
    diversity: Annotated[float, typer.Option(help="from 0 to 1: how unlike each other the films of a list are")] = 0.0,
    new: Annotated[int, typer.Option(help="places kept for films that nobody has rated yet")] = 0,
    only_new: Annotated[bool, typer.Option("--only-new", help="films that nobody has rated yet, no others")] = False,
    out: Annotated[Path | None, typer.Option(help="table to write: .parquet, .csv, .tsv or .jsonl")] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend the k films that a user would take next, none of which they have rated; or do so for all users at once.

    Beside each stands the rating expected of the user, and the film of theirs that adds most to its score. Films that
    nobody has rated yet have places of their own: --new N keeps N of a list for them, --only-new gives nothing else.
    """
    if (user is not None) + everybody + (likes is not None) != 1:
        raise UsageError("recommend: expected one of --user ID, --all and --likes ID,ID,...")
    if likes is not None and by == "rating":
        raise UsageError("--likes: a list for somebody new is made by the ranking model; leave --by rating away")
    if everybody and not (out or as_json):
        raise UsageError("recommend --all: expected --out FILE.parquet or --json, as there are many rows")
    from ..runs.run import Run
    from ..serving.filters import Filters, read_ids
    from ..serving.recommend import recommend as best_films
    from ..serving.recommend import recommend_all, recommend_for_likes
    from ..serving.table_files import refuse_unknown_suffix, write_table
    from .recommendation_screen import show_recommendations

    if out:
        refuse_unknown_suffix(out)
    opened = Run.open(run)
    filters = Filters(
        genres=tuple(genre or ()),
        years=years,
        exclude=read_ids(exclude) if exclude else (),
        candidates=read_ids(candidates) if candidates else None,
    )
    options: dict[str, Any] = {"filters": filters, "diversity": diversity, "new": new, "only_new": only_new}
    if likes is not None:
        table = recommend_for_likes(opened, [one.strip() for one in likes.split(",") if one.strip()], k, **options)
    elif user is not None:
        table = best_films(opened, user, k, by=by, **options)
    else:
        table = recommend_all(opened, k, by=by, **options)
    if out:
        write_table(table, out)
    if as_json:
        typer.echo(json.dumps(table.to_dicts(), indent=1, ensure_ascii=False))
    elif out:
        typer.echo(f"{printable(out)}: {len(table):,} rows")
    else:
        show_recommendations(table, f"user {user}" if user is not None else "who likes these", k)


@app.command("similar")
def similar(
    run: RunArgument,
    item: Annotated[str, typer.Option(help="id of the film that others are compared with")],
    k: KOption = 10,
    by: Annotated[
        str, typer.Option(help="content: genres, year, plot and poster; taste: who takes them; or both")
    ] = "both",
    as_json: JsonOption = False,
) -> None:
    """Show the films most like one, by content, by taste, or by both."""
    from ..runs.run import Run
    from ..serving.similar import similar as most_alike
    from .recommendation_screen import show_similar

    table = most_alike(Run.open(run), item, k, by=by)
    typer.echo(json.dumps(table.to_dicts(), indent=1, ensure_ascii=False)) if as_json else show_similar(table)


@app.command("compare")
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="folders of finished runs, the first to compare to")
    ],
    k: Annotated[
        int | None, typer.Option("-k", help="films in a list  [default: 10, or 20 by mmrec]", show_default=False)
    ] = None,
    protocol: Annotated[str, typer.Option(help="movielens, mmrec or auto, as in `cinefuse evaluate`")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Compare runs tested on the same ratings: RMSE and lists, with intervals and differences to the first run.

    The most popular films and EASE stand beside the lists of the runs.
    """
    from ...data.runtime.progress import TerminalProgress
    from ..evaluation.comparison import compare as compared
    from ..evaluation.list_comparison import compare_lists
    from ..runs.run import Run
    from .evaluation_screen import show_comparison, show_list_comparison

    opened = [Run.open(run) for run in runs]
    table = compared(opened) if all(run.recommender.predicts for run in opened) else None
    lists = compare_lists(opened, k=k, protocol=protocol, progress=TerminalProgress())
    if as_json:
        both = {"ratings": table.to_dicts() if table is not None else [], "lists": lists.as_dict()}
        typer.echo(json.dumps(both, indent=1, ensure_ascii=False))
        return
    if table is not None:
        show_comparison(table)
    show_list_comparison(lists)


@app.command("report")
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="folders of finished runs; the page is about the first")
    ],
    out: Annotated[Path | None, typer.Option(help="page to write  [default: report.html in the first run]")] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="where the dataset is now  [default: where it was in training]")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="FILE.h5", help="where the embedding file is now  [default: as in training]")
    ] = None,
    posters: Annotated[
        bool, typer.Option("--posters/--no-posters", help="without them the page can be shown to anybody")
    ] = True,
) -> None:
    """Write one page about a run that needs no network: figures, films, users, and what was trained on what.

    More runs, tested on the same ratings, stand beside the first one, with the differences and their intervals.
    """
    from ..reporting.report import write_report
    from ..runs.run import Run
    from ..runs.run_folder import RunFolder

    page = out or RunFolder(runs[0]).report
    done = write_report([Run.open(run) for run in runs], page, dataset=dataset, cache=cache, posters=posters)
    lacking = f", {done.without_poster:,} films have none" if posters and done.without_poster else ""
    if done.left_out:
        typer.echo(f"left out where it looks: {printable(done.left_out)}", err=True)
    typer.echo(f"{printable(page)}: {done.bytes / 1e6:.2f} MB, {done.posters:,} posters{lacking}; open it in a browser")


@app.command("export")
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder to make")],
    format_: Annotated[str, typer.Option("--format", help="parquet or npy")] = "parquet",
    approximate: Annotated[
        bool, typer.Option("--approximate", help="accept vectors that rank only nearly as the run does")
    ] = False,
    by: Annotated[
        str, typer.Option(help="ranking or rating: whose vectors; auto: the ranking model's if the run has one")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write vectors, biases and ids of users and films for a nearest-neighbour index, and say how exact they are."""
    from ..runs.run import Run
    from ..serving.export import export as written

    done = written(Run.open(run), out, format=format_, approximate=approximate, by=by)  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps(done.as_dict(), indent=2))
        return
    exact = "the run's ratings and ranking" if done.rates_exactly else "the run's ranking" if done.ranks_exactly else ""
    nearly = f"by score {done.agreement:.1%} of a user's ten best films are found"
    says = f"a score gives {exact} exactly" if exact else nearly
    typer.echo(f"{printable(out)}: {done.users:,} users and {done.items:,} films, {done.dim} numbers each; {says}")


@app.command("explain")
def explain(
    run: RunArgument,
    item: Annotated[list[str], typer.Option("--item", metavar="ID", help="film to explain; may be repeated")],
    user: Annotated[str | None, typer.Option(help="id of a user whose prediction is explained too")] = None,
    out: Annotated[
        list[Path] | None, typer.Option(help="picture or page to write: .png or .html; may be repeated")
    ] = None,
    rollout: Annotated[
        bool, typer.Option("--rollout", help="attention through all blocks, not the last alone")
    ] = False,
    dataset: Annotated[Path | None, typer.Option(help="where the run's dataset lies now")] = None,
    cache: Annotated[Path | None, typer.Option(help="where the run's embedding file lies now")] = None,
    text_model: Annotated[
        str | None, typer.Option(help="folder of the text model, for the words of plots: its tokenizer.json; or mini")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a run's model looks in a film's poster and plot, and what it predicts without them.

    Hiding is done through the model itself, and a check says whether its attention tells what hiding does.
    """
    from ..explaining.explain import explain as explained
    from ..explaining.files import refuse_unknown_picture, write_explanation
    from ..runs.run import Run

    for file in out or []:
        refuse_unknown_picture(file)
    opened = Run.open(run)
    options: dict[str, Any] = {"dataset": dataset, "cache": cache, "text_model": text_model, "rollout": rollout}
    found = explained(opened, item, user, **options)
    for file in out or []:
        write_explanation(file, found, opened)
    if as_json:
        typer.echo(json.dumps([each.as_dict() for each in found], indent=1, ensure_ascii=False))
        return
    from .explain_screen import show_explanations

    show_explanations(found)
    for file in out or []:
        typer.echo(f"\nwritten to {printable(file)}")


@app.command("study")
def study(
    dataset: DatasetArgument,
    cache: CacheArgument = None,
    *,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder for runs and tables")],
    folds: Annotated[
        str | None,
        typer.Option(help="folds that share a table: u1..u5, u1,u2 or kfold:5  [default: u1..u5 where there are such]"),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="a split with a table of its own, as cold-items:0.1; may be repeated")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="so many seeds, from 0 on")] = 1,
    models: Annotated[str | None, typer.Option(help="some of the models, as mf,text,best  [default: all]")] = None,
    settings: SetOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Train every model on every split and seed, and write the table that tells what plots and posters add.

    Models: bias, mf, text, poster, both-cls, both-tokens, best-none, best-transformer, best-fused, best. OUT receives
    results.md, results.csv and runs.csv. Run the same command again to go on: finished runs are kept.
    """
    embeddings = one_at_most(cache)
    with interruptible(f"run the same command again to go on; everything finished is kept in {out}"):
        from ...data.runtime.progress import TerminalProgress
        from ...device import use_threads
        from ..runs.repeat import folds_named
        from ..runs.study import study as run_study

        use_threads(threads)
        done = run_study(
            dataset,
            embeddings,
            out,
            groups=[*([folds_named(folds)] if folds else []), *([each] for each in split or [])],
            seeds=seeds,
            models=[name.strip() for name in models.split(",")] if models else [],
            settings=settings or [],
            device=device,
            progress=TerminalProgress(),
        )
    from .study_screen import show_study

    show_study(done)
