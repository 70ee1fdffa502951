"""The `cinefuse data` commands: dataset folders are made, fetched and looked at.

Slow imports stand inside the commands, so that ``cinefuse --help`` appears at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import DatasetArgument, JsonOption

app = typer.Typer(no_args_is_help=True, help="Make, fetch and look at dataset folders.")


@app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="ml-100k, ml-1m, ml-latest-small, ml-25m or ml-32m")],
    out: Annotated[Path, typer.Argument(help="a folder, or the name of the .zip to write")],
    mirror: Annotated[str | None, typer.Option(envvar="CINEFUSE_MIRROR", help="address to fetch from instead")] = None,
    checksum: Annotated[str | None, typer.Option(help="md5:HEX or sha256:HEX to expect instead")] = None,
) -> None:
    """Download a MovieLens archive: resumed, retried, and checked before it gets its name."""
    from ..sources.movielens.download import GROUPLENS, fetch
    from .transfer_screen import transfer_bar

    with transfer_bar(name) as progress:
        fetched = fetch(name, out, mirror=mirror or GROUPLENS, checksum=checksum, progress=progress)
    typer.echo(f"{fetched.file}: sha256 {fetched.sha256}" + (" (was there already)" if fetched.already else ""))


@app.command("enrich")
def data_enrich(
    dataset: Annotated[Path, typer.Argument(help="dataset folder, made by `cinefuse data import`")],
    source: Annotated[
        Literal["tmdb", "omdb", "wikidata"],
        typer.Option(help="TMDB, OMDb, or plots of Wikipedia (by way of Wikidata, needs no key)"),
    ] = "tmdb",
    poster_size: Annotated[str, typer.Option(help="of TMDB: w92, w154, w185, w342, w500, w780, original")] = "w342",
    no_posters: Annotated[bool, typer.Option("--no-posters", help="plots and tags alone")] = False,
    language: Annotated[str, typer.Option(help="of plots and titles")] = "en-US",
    accept: Annotated[float, typer.Option(min=0, max=1, help="confidence that a match needs")] = 0.8,
    item_ids: Annotated[
        Literal["tmdb", "imdb"] | None, typer.Option(help="whose numbers the items' own ids are, where they are such")
    ] = None,
    matches: Annotated[
        Path | None,
        typer.Option(
            help="table of item_id and tmdb_id or imdb_id that you vouch for, as in enrichment/*-doubtful.csv"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace what the dataset has already")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count requests and megabytes, send nothing")] = False,
    rate: Annotated[float | None, typer.Option(min=0.01, help="requests a second [default: what it allows]")] = None,
    connections: Annotated[int | None, typer.Option(min=1, max=64, help="at once [default: 16, 8 or 2]")] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="file with TMDB_TOKEN=..., TMDB_API_KEY=... or OMDB_API_KEY=...")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(envvar="CINEFUSE_ENRICH_URL", help="address of a mirror of the service")
    ] = None,
    contact: Annotated[
        str | None, typer.Option(envvar="CINEFUSE_CONTACT", help="mail or page of yours, sent along to Wikimedia")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(envvar="CINEFUSE_CACHE", help="folder of responses [default: cinefuse in the user's caches]"),
    ] = None,
) -> None:
    """Bring plots, posters, genres, credits and keywords into a dataset.

    Items are found by links (links.csv of MovieLens, columns imdb_id or tmdb_id), else by title and year. Matches below
    --accept are not taken but listed in DATASET/enrichment. What the dataset has already stays, unless --overwrite.

    TMDB needs TMDB_TOKEN (or TMDB_API_KEY), OMDb needs OMDB_API_KEY, in the environment or a --key-file. Nothing is
    fetched twice: run the same command again to continue.
    """
    from ..enrichment.job import EnrichOptions, enrich, plan_enrichment
    from ..runtime.errors import BadInput
    from ..runtime.progress import TerminalProgress
    from .enrich_screen import show_plan, show_report

    options = EnrichOptions(
        source=source,
        posters=not no_posters,
        poster_size=poster_size,
        language=language,
        accept=accept,
        overwrite=overwrite,
        item_ids=item_ids,
        matches=matches,
        rate=rate,
        connections=connections,
        key_file=key_file,
        base_url=base_url,
        contact=contact,
        cache=cache,
    )
    if dry_run:
        show_plan(dataset, plan_enrichment(dataset, options))
        return
    report = enrich(dataset, options, TerminalProgress())
    show_report(report)
    if report.stopped:
        raise BadInput(
            f"{report.service}: {report.stopped}; {report.looked_up:,} of {report.wanted:,} items were looked up, "
            "what was found is in the dataset; the same command continues"
        )


@app.command("info")
def data_info(
    dataset: DatasetArgument,
    as_json: JsonOption = False,
) -> None:
    """Count what a dataset folder holds: items, plots, posters, ratings, duplicates, splits."""
    from ..dataset.summary import dataset_info

    info = dataset_info(dataset)
    if as_json:
        typer.echo(json.dumps(info, indent=2, ensure_ascii=False))
        return
    from .dataset_screen import show_info

    show_info(info)


import_app = typer.Typer(no_args_is_help=True, help="Make a dataset folder from what you have.")
app.add_typer(import_app, name="import")

PostersOption = Annotated[
    Path | None, typer.Option(help="folder that poster paths start from; or a .tar, .zip, .parquet of posters, by id")
]
LinksOption = Annotated[
    Path | None, typer.Option(help="table of both ids, where films and ratings have different ones")
]
QuoteOption = Annotated[
    str, typer.Option(help='double ("" inside quotes), backslash, none (a quote stands for itself) or auto')
]
EncodingOption = Annotated[str, typer.Option(help="encoding of CSV, TSV and JSON lines files")]
CopyPostersOption = Annotated[bool, typer.Option("--copy-posters", help="copy the posters into the dataset")]
StrictOption = Annotated[bool, typer.Option("--strict", help="refuse ids given twice")]
TagsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        help="column whose words become tags, may be given again (else director, actors, country, ... where there)",
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="replace an existing dataset")]


def _column(holds: str) -> Any:
    return typer.Option(metavar="COLUMN", help=f"column with the {holds}", rich_help_panel="Columns")


@import_app.command("movielens")
def data_import_movielens(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="GroupLens zip, or a folder with its files")],
    out: Annotated[Path, typer.Argument(help="dataset folder to make")],
    items: Annotated[Path | None, typer.Option(help="table of plots and posters, joined by film id")] = None,
    item_id: Annotated[str | None, typer.Option(metavar="COLUMN", help="column of --items with MovieLens ids")] = None,
    links: LinksOption = None,
    posters: PostersOption = None,
    quote: QuoteOption = "auto",
    tags: TagsOption = None,
    encoding: EncodingOption = "utf-8",
    copy_posters: CopyPostersOption = False,
    strict: StrictOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Make a dataset from MovieLens 100K, 1M, latest-small, 20M, 25M or 32M, official folds included.

    A folder may hold the ratings of 1M as ratings.dat or ratings*.parquet, and movies.dat and users.dat with a prefix.
    """
    from ..dataset.assembly import Choices
    from ..sources.movielens.importing import import_movielens
    from ..sources.own_tables import reading_of
    from .dataset_screen import show_import

    choices = Choices(overwrite=overwrite, strict=strict, copy_posters=copy_posters, tags=tags or ())
    report = import_movielens(
        source,
        out,
        items=items,
        item_id=item_id,
        links=links,
        posters=posters,
        reading=reading_of(encoding, quote),
        choices=choices,
    )
    show_import(report)


@import_app.command("table")
def data_import_table(
    out: Annotated[Path, typer.Argument(help="dataset folder to make")],
    ratings: Annotated[
        Path | None, typer.Option(help="table of ratings: .csv, .tsv, .parquet, .jsonl, or in a .gz or .zip")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="table of films, of the same kinds  [default: the films rated, by their ids]")
    ] = None,
    interactions: Annotated[
        Path | None,
        typer.Option(help="table of plays, clicks or likes instead of ratings: user, film, perhaps count and time"),
    ] = None,
    core: Annotated[
        int | None,
        typer.Option(metavar="N", help="keep users and films with N or more of each other alone, as papers do with 5"),
    ] = None,
    posters: PostersOption = None,
    tags: TagsOption = None,
    item_id: Annotated[str | None, _column("film id")] = None,
    title: Annotated[str | None, _column("title")] = None,
    year: Annotated[str | None, _column("year")] = None,
    genres: Annotated[str | None, _column("genres, a list or separated text")] = None,
    text: Annotated[str | None, _column("plot")] = None,
    poster: Annotated[str | None, _column("poster path")] = None,
    user_id: Annotated[str | None, _column("user id")] = None,
    rating_item_id: Annotated[str | None, _column("film id in the rating table")] = None,
    rating: Annotated[str | None, _column("rating")] = None,
    timestamp: Annotated[str | None, _column("seconds since 1970, or dates")] = None,
    count: Annotated[str | None, _column("number of plays or clicks")] = None,
    links: LinksOption = None,
    poster_urls: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="download posters from the addresses in this column of --items")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="names of the columns of --items (or of --ratings alone), without a header"
        ),
    ] = None,
    rating_columns: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="names of the columns of --ratings, without a header")
    ] = None,
    quote: QuoteOption = "auto",
    genre_separator: Annotated[
        str | None, typer.Option(help="what stands between genres  [default: | ; or , whichever there is]")
    ] = None,
    scale: Annotated[str | None, typer.Option(help="LOWEST:HIGHEST rating, for instance 0.5:5")] = None,
    drop_rating: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="leave ratings of this value out, as 0 for 'not rated'")
    ] = None,
    log_ratings: Annotated[
        bool, typer.Option("--log-ratings", help="the ratings are counts (plays, minutes): keep log(1 + count)")
    ] = False,
    encoding: EncodingOption = "utf-8",
    copy_posters: CopyPostersOption = False,
    strict: StrictOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Make a dataset from a table of ratings (or of plays, clicks, likes), a table of films, or both.

    Familiar column names are found by themselves; an option names any other. A column of true and false in the table of
    ratings is kept: `cinefuse fuse --split column:NAME` tests on its true rows.
    """
    from ..dataset.assembly import Choices
    from ..runtime.progress import TerminalProgress
    from ..sources.own_tables import import_table, parse_scale, reading_of
    from ..sources.poster_urls import PosterUrls
    from .dataset_screen import show_import

    chosen = {
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
        "count": count,
    }
    report = import_table(
        out,
        items,
        ratings,
        interactions=interactions,
        core=core,
        posters=posters,
        links=links,
        poster_urls=PosterUrls(poster_urls, progress=TerminalProgress()) if poster_urls else None,
        columns=chosen,
        genre_separator=genre_separator,
        scale=parse_scale(scale) if scale else None,
        drop_rating=drop_rating,
        log_ratings=log_ratings,
        reading=reading_of(encoding, quote, columns, rating_columns, items_given=items is not None),
        choices=Choices(overwrite=overwrite, strict=strict, copy_posters=copy_posters, tags=tags or ()),
    )
    show_import(report)


_KNOWN = {
    "kaggle-movies": "The Movies Dataset of Kaggle: movies_metadata.csv, links, keywords, credits, ratings.",
    "movietweetings": "MovieTweetings: movies.dat and ratings.dat, ids of IMDb, ratings from 0 to 10.",
    "amazon-reviews": "Amazon reviews of 2018 or 2023: JSON lines or a table of ratings, and `meta_*` beside.",
    "microlens": "MicroLens: `*_pairs.csv` and `*title*.csv`; covers with --posters.",
    "goodbooks": "goodbooks-10k: books.csv, ratings.csv, tags.csv and book_tags.csv.",
    "book-crossing": "Book-Crossing: BX-Books.csv and BX-Book-Ratings.csv, or Kaggle's Books.csv and Ratings.csv.",
    "recbole": "RecBole's atomic files: NAME.inter and NAME.item.",
    "netflix-prize": "The Netflix Prize: movie_titles.csv and `combined_data_*.txt` or `mv_*.txt`.",
}


def _add_known(name: str, description: str) -> None:
    def data_import_known(
        source: Annotated[Path, typer.Argument(metavar="SRC", help="folder or zip with the source's files")],
        out: Annotated[Path, typer.Argument(help="dataset folder to make")],
        posters: PostersOption = None,
        copy_posters: CopyPostersOption = False,
        strict: StrictOption = False,
        overwrite: OverwriteOption = False,
    ) -> None:
        from ..dataset.assembly import Choices
        from ..sources.known_sources import import_known
        from .dataset_screen import show_import

        choices = Choices(overwrite=overwrite, strict=strict, copy_posters=copy_posters)
        show_import(import_known(name, source, out, posters=posters, choices=choices))

    import_app.command(name, help=description)(data_import_known)


for _name, _description in _KNOWN.items():
    _add_known(_name, _description)
