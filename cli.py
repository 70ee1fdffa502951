"""The `cinefuse` command: each subcommand parses its options and calls one function.

Everything heavy is imported inside the commands, so that ``cinefuse --help`` answers at once.
"""

from __future__ import annotations

import atexit
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .data.errors import CinefuseError, DamagedFile, Interrupted, UsageError
from .data.printable import printable


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
data_app = typer.Typer(no_args_is_help=True, help="Make, fetch and look at dataset folders.")
cache_app = typer.Typer(no_args_is_help=True, help="Look at embedding files and check them.")
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")


@app.callback()
def cinefuse() -> None:
    """Two stages that meet in one file: `extract` fills it, `fuse` trains on it."""


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="ml-100k, ml-1m, ml-latest-small, ml-25m or ml-32m")],
    out: Annotated[Path, typer.Argument(help="a folder, or the name of the .zip to write")],
    mirror: Annotated[str | None, typer.Option(envvar="CINEFUSE_MIRROR", help="address to fetch from instead")] = None,
    checksum: Annotated[str | None, typer.Option(help="md5:HEX or sha256:HEX to expect instead")] = None,
) -> None:
    """Download a MovieLens archive: resumed, retried, and checked before it gets its name."""
    from .data.fetch import GROUPLENS, fetch
    from .data.info_screen import download_bar

    with download_bar(name) as progress:
        fetched = fetch(name, out, mirror=mirror or GROUPLENS, checksum=checksum, progress=progress)
    typer.echo(f"{fetched.file}: sha256 {fetched.sha256}" + (" (was there already)" if fetched.already else ""))


@data_app.command("info")
def data_info(
    dataset: Annotated[Path, typer.Argument(help="dataset folder")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Count what a dataset folder holds: items, plots, posters, ratings, duplicates, splits."""
    from .data.info import dataset_info

    info = dataset_info(dataset)
    if as_json:
        typer.echo(json.dumps(info, indent=2, ensure_ascii=False))
        return
    from .data.info_screen import show_info

    show_info(info)


import_app = typer.Typer(no_args_is_help=True, help="Make a dataset folder from what you have.")
data_app.add_typer(import_app, name="import")

PostersOption = Annotated[Path | None, typer.Option(help="folder that poster paths start from")]
EncodingOption = Annotated[str, typer.Option(help="encoding of CSV, TSV and JSON lines files")]
CopyPostersOption = Annotated[bool, typer.Option("--copy-posters", help="copy the posters into the dataset")]
StrictOption = Annotated[bool, typer.Option("--strict", help="refuse ids given twice")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="replace an existing dataset")]


def _column(holds: str) -> Any:
    return typer.Option(metavar="COLUMN", help=f"column with the {holds}", rich_help_panel="Columns")


@import_app.command("movielens")
def data_import_movielens(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="GroupLens zip, or a folder with its files")],
    out: Annotated[Path, typer.Argument(help="dataset folder to make")],
    items: Annotated[Path | None, typer.Option(help="table of plots and posters, joined by film id")] = None,
    posters: PostersOption = None,
    encoding: EncodingOption = "utf-8",
    copy_posters: CopyPostersOption = False,
    strict: StrictOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Make a dataset from MovieLens 100K, 1M, latest-small, 20M, 25M or 32M, official folds included.

    A folder may hold the ratings of 1M as ratings.dat or ratings*.parquet, and movies.dat and users.dat with a prefix.
    """
    from .data.assembly import Choices
    from .data.info_screen import show_import
    from .data.movielens import import_movielens

    choices = Choices(overwrite=overwrite, strict=strict, copy_posters=copy_posters)
    show_import(import_movielens(source, out, items=items, posters=posters, encoding=encoding, choices=choices))


@import_app.command("table")
def data_import_table(
    out: Annotated[Path, typer.Argument(help="dataset folder to make")],
    items: Annotated[Path, typer.Option(help="table of films: .csv, .tsv, .parquet, .jsonl")],
    ratings: Annotated[Path | None, typer.Option(help="table of ratings, of the same kinds")] = None,
    posters: PostersOption = None,
    item_id: Annotated[str | None, _column("film id")] = None,
    title: Annotated[str | None, _column("title")] = None,
    year: Annotated[str | None, _column("year")] = None,
    genres: Annotated[str | None, _column("genres, a list or separated text")] = None,
    text: Annotated[str | None, _column("plot")] = None,
    poster: Annotated[str | None, _column("poster path")] = None,
    user_id: Annotated[str | None, _column("user id")] = None,
    rating_item_id: Annotated[str | None, _column("film id in the rating table")] = None,
    rating: Annotated[str | None, _column("rating")] = None,
    timestamp: Annotated[str | None, _column("seconds since 1970")] = None,
    genre_separator: Annotated[str, typer.Option(help="what stands between genres")] = "|",
    scale: Annotated[str | None, typer.Option(help="LOWEST:HIGHEST rating, for instance 0.5:5")] = None,
    encoding: EncodingOption = "utf-8",
    copy_posters: CopyPostersOption = False,
    strict: StrictOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Make a dataset from a table of films and, where there is one, a table of ratings.

    Familiar column names are found by themselves; an option names any other.
    """
    from .data.assembly import Choices
    from .data.info_screen import show_import
    from .data.table_import import import_table, parse_scale

    columns = {
        "item_id": item_id,
        "title": title,
        "year": year,
        "genres": genres,
        "text": text,
        "poster": poster,
        "user_id": user_id,
        "rating_item_id": rating_item_id,
        "rating": rating,
        "timestamp": timestamp,
    }
    report = import_table(
        out,
        items,
        ratings,
        posters=posters,
        columns=columns,
        genre_separator=genre_separator,
        scale=parse_scale(scale) if scale else None,
        encoding=encoding,
        choices=Choices(overwrite=overwrite, strict=strict, copy_posters=copy_posters),
    )
    show_import(report)


@app.command("extract")
def extract(
    dataset: Annotated[Path, typer.Argument(help="dataset folder")],
    out: Annotated[Path, typer.Argument(metavar="OUT.h5", help="embedding file to make, continue or mend")],
    text_model: Annotated[
        str, typer.Option(help="hub id or folder of a BERT-like model", rich_help_panel="Models")
    ] = "google-bert/bert-base-uncased",
    image_model: Annotated[
        str, typer.Option(help="hub id or folder of a ViT-like model", rich_help_panel="Models")
    ] = "google/vit-base-patch16-224-in21k",
    no_text: Annotated[bool, typer.Option("--no-text", help="leave plots out", rich_help_panel="Models")] = False,
    no_image: Annotated[bool, typer.Option("--no-image", help="leave posters out", rich_help_panel="Models")] = False,
    text_revision: Annotated[
        str | None, typer.Option("--text-revision", help="commit, tag or branch", rich_help_panel="Models")
    ] = None,
    image_revision: Annotated[str | None, typer.Option(help="commit, tag or branch", rich_help_panel="Models")] = None,
    text_layer: Annotated[
        int | None, typer.Option(help="layer to keep, from 1, or from -1 backwards", rich_help_panel="Models")
    ] = None,
    image_layer: Annotated[int | None, typer.Option(help="the same for posters", rich_help_panel="Models")] = None,
    text_template: Annotated[
        str, typer.Option(help="text of an item from its columns, as '{title}. {text}'", rich_help_panel="Inputs")
    ] = "{text}",
    max_length: Annotated[
        int | None, typer.Option(help="tokens kept of a text (what the model reads)", rich_help_panel="Inputs")
    ] = None,
    max_megapixels: Annotated[
        float, typer.Option(help="posters of more pixels are marked as failed", rich_help_panel="Inputs")
    ] = 32.0,
    strict: Annotated[
        bool, typer.Option("--strict", help="stop at the first input that cannot be used", rich_help_panel="Inputs")
    ] = False,
    level: Annotated[
        str,
        typer.Option(help="tokens: CLS and tokens; cls: CLS alone, a hundredth of the size", rich_help_panel="Numbers"),
    ] = "tokens",
    dtype: Annotated[
        str, typer.Option(help="float16, float32 or bfloat16 in the file", rich_help_panel="Numbers")
    ] = "float16",
    precision: Annotated[
        str, typer.Option(help="bf16, fp32, or auto: bf16 where it is native", rich_help_panel="Numbers")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps", rich_help_panel="Speed")] = "auto",
    compile_: Annotated[
        bool, typer.Option("--compile", help="compile the encoders (needs a C++ compiler)", rich_help_panel="Speed")
    ] = False,
    batch_tokens: Annotated[
        int | None, typer.Option(help="tokens in a text batch, padding included", rich_help_panel="Speed")
    ] = None,
    batch_posters: Annotated[int | None, typer.Option(help="posters in a batch", rich_help_panel="Speed")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="show what would be done, and stop")] = False,
    reuse: Annotated[
        list[Path] | None, typer.Option(help="embedding file whose equal rows are copied; may be repeated")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="start over, whatever is there")] = False,
    source: Annotated[str | None, typer.Option(help="where plots and posters come from, for the header")] = None,
    licence: Annotated[str | None, typer.Option(help="terms of the file, for the header")] = None,
) -> None:
    """Run BERT and ViT once over all plots and posters and keep CLS and token embeddings in one file.

    Whatever stops it, run the same command again: it goes on where it stopped, and the file comes out the same.
    A finished file is checked, and exactly its damaged rows are computed again.
    """
    from .data.catalog import Catalog
    from .data.progress import Terminal
    from .extract.job import Settings, prepare
    from .extract.poster import PosterLimits

    if not 0 < max_megapixels < float("inf"):
        raise UsageError(f"--max-megapixels: expected a number above 0, found {max_megapixels}")
    settings = Settings(
        text_model=None if no_text else text_model,
        image_model=None if no_image else image_model,
        text_revision=text_revision,
        image_revision=image_revision,
        text_layer=text_layer,
        image_layer=image_layer,
        template=text_template,
        max_length=max_length,
        level=level,
        dtype=dtype,
        precision=precision,
        device=device,
        compile=compile_,
        batch_tokens=batch_tokens,
        batch_posters=batch_posters,
        limits=PosterLimits(max_pixels=int(max_megapixels * 1e6)),
        reuse=tuple(reuse or ()),
        strict=strict,
        restart=restart,
        licence=licence,
        source=source,
    )
    if plan:
        from .extract.screen import show_plan

        show_plan(prepare(Catalog.open(dataset), settings, Terminal(), weights=False), settings)
        return
    from .extract.run import extract as run
    from .extract.screen import show_summary

    show_summary(run(dataset, out, settings, Terminal()))


@cache_app.command("info")
def cache_info(
    file: Annotated[Path, typer.Argument(help="embedding file, finished or not")],
    failures: Annotated[bool, typer.Option("--failures", help="list items without embedding, and why")] = False,
    truncated: Annotated[bool, typer.Option("--truncated", help="with --failures: also texts that were cut")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Tell what an embedding file is: models, settings, coverage, sizes, digest."""
    from .data.embeddings import EmbeddingFile
    from .data.overview import failures as found
    from .data.overview import overview
    from .data.overview_screen import show_failures, show_overview

    with EmbeddingFile.open(file, pending=True) as opened:
        if failures and as_json:
            rows = [
                {"item": f.item, "modality": f.modality, "status": f.status.name.lower(), "why": f.reason.sentence}
                for f in found(opened, truncated=truncated)
            ]
            typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        elif failures:
            show_failures(found(opened, truncated=truncated))
        elif as_json:
            typer.echo(json.dumps(overview(opened), indent=1, ensure_ascii=False))
        else:
            show_overview(overview(opened))


@cache_app.command("verify")
def cache_verify(
    file: Annotated[Path, typer.Argument(help="embedding file")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Read every byte of an embedding file once and check all that the format promises.

    Names each damaged row; `cinefuse extract` then computes exactly those again. Exit code 4 where anything is wrong.
    """
    from .data.overview_screen import show_report, verify_bar
    from .data.verify import verify

    with verify_bar(file) as progress:
        report = verify(file, progress)
    if as_json:
        problems = [{"where": p.where, "row": p.row, "item": p.item, "what": p.what} for p in report.problems]
        told = {"path": str(file), "sound": report.sound, "complete": report.complete, "pending": report.pending}
        typer.echo(json.dumps(told | {"problems": problems}, indent=1))
    else:
        show_report(report)
    if not report.complete:
        raise DamagedFile(f"{file}: {len(report.problems):,} problems, {sum(report.pending.values()):,} rows pending")


def _list_settings(asked: bool) -> None:
    if asked:
        from .fuse.settings_screen import show_settings

        show_settings()
        raise typer.Exit


@contextmanager
def _interruptible(how_to_go_on: str) -> Iterator[None]:
    """Ctrl-C inside becomes the refusal that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped: {how_to_go_on}") from None


def _one_at_most(files: list[Path] | None) -> Path | None:
    if files and len(files) > 1:
        raise UsageError(f"expected one embedding file at most, found {len(files)}: {files[0]}, {files[1]}")
    return files[0] if files else None


DatasetArgument = Annotated[Path, typer.Argument(metavar="DATASET", help="dataset folder")]
CacheArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="CACHE.h5", help="embedding file; none is needed where the model reads none"),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished run")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="any setting of `--list-settings`; may be repeated"),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")]
KOption = Annotated[int, typer.Option("-k", help="films in a list")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command("fuse")
def fuse(
    dataset: DatasetArgument,
    cache: CacheArgument = None,
    *,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run folder to make")],
    preset: Annotated[str, typer.Option(help="best, best-1m, paper, bias, mf, text or poster")] = "best",
    split: Annotated[
        str | None,
        typer.Option(
            help="an official fold such as u1, random:0.1, kfold:5/2, temporal:0.1, user-temporal:0.1, cold-items:0.1, "
            "cold-users:0.1, file:PATH or all  [default: random:0.1]",
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
        float | None, typer.Option(help="share of the training part that chooses the number of epochs")
    ] = None,
    missing: Annotated[
        str, typer.Option(help="mask, drop or error: films without an embedding", rich_help_panel="Ratings")
    ] = "mask",
    duplicates: Annotated[
        str, typer.Option(help="last, first or error: a film rated twice by a user", rich_help_panel="Ratings")
    ] = "last",
    device: DeviceOption = "auto",
    precision: Annotated[str | None, typer.Option(help="bf16, fp32, or auto: bf16 where it is native")] = None,
    compile_: Annotated[bool, typer.Option("--compile", help="compile the Transformer (needs a C++ compiler)")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with what was begun; keep what is finished")] = False,
    warm_start: Annotated[
        Path | None, typer.Option(metavar="RUN", help="start from the weights of an earlier run")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="write events into the run folder")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a fusion model against the embeddings, test it once at the end, and keep everything in a run folder.

    Whatever stops it, the same command with --resume goes on from the last checkpoint. With --seeds or --folds RUN
    holds a run folder each: RUN/seed-0, RUN/u1, or RUN/u1/seed-0.
    """
    embeddings = _one_at_most(cache)
    if run.is_file():
        raise UsageError(f"{run} is a file, expected a run folder to make; the folder is the last word of the command")
    if split is not None and folds is not None:
        raise UsageError("--split and --folds: expected one of them, found both")
    with _interruptible(f"run the same command with --resume to go on; everything finished is kept in {run}"):
        from .data.progress import Terminal
        from .fuse.config import preset as preset_named
        from .fuse.repeat import cases_of, folds_named, repeat
        from .fuse.run import fuse as train

        told = {"validation": validation, "precision": precision, "compile": "true" if compile_ else None, "seed": seed}
        words = [f"{name}={value}" for name, value in told.items() if value is not None]
        config = preset_named(preset).with_settings([*(settings or []), *words])
        options: dict[str, Any] = {
            "missing": missing,
            "duplicates": duplicates,
            "device": device,
            "resume": resume,
            "warm_start": warm_start,
            "tensorboard": tensorboard,
            "watcher": Terminal(),
        }
        if seeds == 1 and folds is None:
            done = train(dataset, embeddings, run, config, split=split or "random:0.1", **options)
        else:
            splits = folds_named(folds) if folds else [split or "random:0.1"]
            cases = cases_of(splits, range(config.seed, config.seed + seeds))
            repeated = repeat(dataset, embeddings, run, config, cases, **options).as_dict()
    from .fuse.result_screen import show_repeated, show_run

    if seeds > 1 or folds is not None:
        typer.echo(json.dumps(repeated, indent=2)) if as_json else show_repeated(repeated)
    elif as_json:
        typer.echo(json.dumps({"run": str(run)} | done.summary, indent=2))
    else:
        show_run(run, done.about, done.summary, done.recommender.user_ids[0])


@app.command("evaluate")
def evaluate(
    run: RunArgument,
    k: KOption = 10,
    liked: Annotated[
        float | None, typer.Option(help="a test film rated so or better is relevant  [default: 4 of 5]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a run on its test part: RMSE, MAE with intervals, NDCG, recall, and errors by popularity."""
    from .fuse.evaluate import evaluate as measure
    from .fuse.run import Run
    from .fuse.screen import show_evaluation

    found = measure(Run.open(run), k=k, liked=liked)
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
    from .fuse.recommend import predict as predicted
    from .fuse.run import Run
    from .fuse.table_files import read_pairs, refuse_unknown_suffix, write_table

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
    k: KOption = 10,
    out: Annotated[Path | None, typer.Option(help="table to write: .parquet, .csv, .tsv or .jsonl")] = None,
    as_json: JsonOption = False,
) -> None:
    """Recommend the k films that a user has not rated and would rate highest; or do so for all users at once."""
    if (user is None) != everybody:
        raise UsageError("recommend: expected either --user ID or --all")
    if everybody and not (out or as_json):
        raise UsageError("recommend --all: expected --out FILE.parquet or --json, as there are many rows")
    from .fuse.recommend import recommend as best_films
    from .fuse.recommend import recommend_all
    from .fuse.run import Run
    from .fuse.screen import show_recommendations
    from .fuse.table_files import refuse_unknown_suffix, write_table

    if out:
        refuse_unknown_suffix(out)
    opened = Run.open(run)
    table = recommend_all(opened, k) if user is None else best_films(opened, user, k)
    if out:
        write_table(table, out)
    if as_json:
        typer.echo(json.dumps(table.to_dicts(), indent=1, ensure_ascii=False))
    elif out:
        typer.echo(f"{printable(out)}: {len(table):,} rows")
    else:
        show_recommendations(table, user)


@app.command("compare")
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="folders of finished runs, the first to compare to")
    ],
    as_json: JsonOption = False,
) -> None:
    """Compare runs tested on the same ratings: RMSE, and its difference to the first run's, with intervals."""
    from .fuse.compare import compare as compared
    from .fuse.run import Run
    from .fuse.screen import show_comparison

    table = compared([Run.open(run) for run in runs])
    typer.echo(json.dumps(table.to_dicts(), indent=1, ensure_ascii=False)) if as_json else show_comparison(table)


@app.command("export")
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder to make")],
    format_: Annotated[str, typer.Option("--format", help="parquet or npy")] = "parquet",
    approximate: Annotated[
        bool, typer.Option("--approximate", help="accept vectors that rank only nearly as the run does")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write vectors, biases and ids of users and films for a nearest-neighbour index, and say how exact they are."""
    from .fuse.export import export as written
    from .fuse.run import Run

    done = written(Run.open(run), out, format=format_, approximate=approximate)  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps(done.as_dict(), indent=2))
        return
    exact = "the run's ratings and ranking" if done.rates_exactly else "the run's ranking" if done.ranks_exactly else ""
    says = f"a score gives {exact} exactly" if exact else "a score ranks only nearly as the run does"
    typer.echo(f"{printable(out)}: {done.users:,} users and {done.films:,} films, {done.dim} numbers each; {says}")


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
) -> None:
    """Train every model on every split and seed, and write the table that tells what plots and posters add.

    Models: bias, mf, text, poster, both-cls, both-tokens, best-none, best-transformer, best-fused, best. OUT receives
    results.md, results.csv and runs.csv. Run the same command again to go on: finished runs are kept.
    """
    embeddings = _one_at_most(cache)
    with _interruptible(f"run the same command again to go on; everything finished is kept in {out}"):
        from .data.progress import Terminal
        from .fuse.repeat import folds_named
        from .fuse.study import study as run_study

        run_study(
            dataset,
            embeddings,
            out,
            groups=[*([folds_named(folds)] if folds else []), *([each] for each in split or [])],
            seeds=seeds,
            models=[name.strip() for name in models.split(",")] if models else [],
            settings=settings or [],
            device=device,
            watcher=Terminal(),
        )
    typer.echo((out / "results.md").read_text("utf-8"))
    typer.echo(f"written to {out / 'results.md'}, results.csv and runs.csv")


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
