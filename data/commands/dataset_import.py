"""The `cinefuse data import` commands: a dataset folder from MovieLens, from own tables, from a known source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import_app = typer.Typer(no_args_is_help=True, help="Make a dataset folder from what you have.")

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
