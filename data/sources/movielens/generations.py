"""The three generations of MovieLens's files (100K, 1M, CSV), each read into films, ratings and users."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ...dataset.assembly import Parts
from ...dataset.items import tidy_items, year_in_title
from ...dataset.links import link_columns, tidy_links
from ...dataset.ratings import RatingTable
from ...runtime.errors import BadInput
from ...tables.delimited import Layout
from ...tables.opening import open_table, utf8_or_latin
from ..own_tables import rating_table
from .release import FOLDS, SCALE, Release
from .tags import genome_tags, user_tags, with_tags

if TYPE_CHECKING:
    from collections.abc import Callable


# fmt: off
_GENRES_100K = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]
# fmt: on
_NO_GENRES = "(no genres listed)"


def _read_100k(release: Release) -> Parts:
    columns = ["user_id", "item_id", "rating", "timestamp"]
    genres = _GENRES_100K
    if "u.genre" in release.files:
        numbered = [line for line in release.lines("u.genre", "|", 1) if len(line) == 2]
        genres = [name for name, _ in sorted(numbered, key=lambda line: int(line[1]) if line[1].isdigit() else 0)]
    films = release.lines("u.item", "|", 5 + len(genres))
    return Parts(
        name=release.name,
        items=_films(
            release,
            ids=[film[0] for film in films],
            titles=[film[1] for film in films],
            genres=[
                [name for name, flag in zip(genres, film[5:], strict=False) if flag.strip() == "1"] for film in films
            ],
            release_years=[film[2][-4:] for film in films],
        ),
        ratings=release.ratings("u.data", "\t", columns),
        users=_users(release, "u.user", "|", ["user_id", "age", "gender", "occupation", "zip"]),
        folds={
            fold: {
                "train": release.ratings(f"{fold}.base", "\t", columns),
                "test": release.ratings(f"{fold}.test", "\t", columns),
            }
            for fold in FOLDS
            if _has_fold(release, fold)
        },
    )


def _has_fold(release: Release, fold: str) -> bool:
    there = [f"{fold}.{part}" in release.files for part in ("base", "test")]
    if any(there) and not all(there):
        raise BadInput(f"{release.source}: fold {fold} needs both {fold}.base and {fold}.test; one is missing")
    return all(there)


def _read_1m(release: Release) -> Parts:
    films = release.lines(release.find("movies.dat", "*movies.dat") or "", "::", 3)
    users = release.find("users.dat", "*users.dat")
    return Parts(
        name=release.name,
        items=_films(
            release,
            ids=[film[0] for film in films],
            # A title that holds the separator itself is still between the first and the last one.
            titles=["::".join(film[1:-1]) for film in films],
            genres=[[] if film[-1] == _NO_GENRES else film[-1].split("|") for film in films],
        ),
        ratings=_ratings_1m(release),
        users=_users(release, users, "::", ["user_id", "gender", "age", "occupation", "zip"]),
    )


def _ratings_1m(release: Release) -> RatingTable:
    if name := release.find("ratings.dat"):
        # Polars cuts at single bytes: "1::2::5::978" gives every second column empty.
        return release.ratings(name, ":", ["user_id", "_1", "item_id", "_2", "rating", "_3", "timestamp"])
    file = release.path(release.find("ratings*.parquet") or "")
    return rating_table(open_table(file, release.scratch), file.name, scale=SCALE)


def _read_csv(release: Release) -> Parts:
    films = open_table(release.path("movies.csv"), release.scratch)
    raw = films.renamed({"item_id": "movieId", "title": "title", "genres": "genres"})
    genres = pl.when(pl.col("genres") != _NO_GENRES).then(pl.col("genres"))
    ratings = open_table(release.path("ratings.csv"), release.scratch)
    items, warnings = tidy_items(raw.with_columns(genres, year=year_in_title(pl.col("title"))), "movies.csv")
    return Parts(
        release.name,
        items,
        rating_table(ratings, "ratings.csv", scale=SCALE),
        links=_links(release),
        warnings=warnings,
    )


def add_tags(parts: Parts, release: Release) -> None:
    """The films' tags: what users wrote, and the tag genome, where the release has them."""
    if "tags.csv" in release.files:
        parts.items = with_tags(parts.items, user_tags(open_table(release.path("tags.csv"), release.scratch)))
    elif "tags.dat" in release.files:
        layout = Layout("none", ("userId", "movieId", "tag", "timestamp"), "::", skip=True)
        file = release.path("tags.dat")
        table = open_table(file, release.scratch, utf8_or_latin(file, release.scratch), layout)
        parts.items = with_tags(parts.items, user_tags(table))
        parts.warnings += table.notes
    if {"genome-scores.csv", "genome-tags.csv"} <= set(release.files):
        scores, names = (
            open_table(release.path(name), release.scratch) for name in ("genome-scores.csv", "genome-tags.csv")
        )
        parts.items = with_tags(parts.items, genome_tags(scores, names))


def _links(release: Release) -> pl.DataFrame | None:
    if "links.csv" not in release.files:
        return None
    table = open_table(release.path("links.csv"), release.scratch)
    return tidy_links(table.renamed({"item_id": "movieId", **link_columns(table.columns)}))


READERS: dict[str, Callable[[Release], Parts]] = {"100K": _read_100k, "1M": _read_1m, "CSV": _read_csv}


def _films(
    release: Release,
    ids: list[str],
    titles: list[str],
    genres: list[list[str]],
    release_years: list[str] | None = None,
) -> pl.DataFrame:
    raw = pl.LazyFrame(
        {"item_id": ids, "title": titles, "genres": genres, "released": release_years or [None] * len(ids)},
        schema={"item_id": pl.String, "title": pl.String, "genres": pl.List(pl.String), "released": pl.String},
    )
    released = pl.col("released").cast(pl.Int32, strict=False)
    raw = raw.with_row_index("row").with_columns(year=pl.coalesce(year_in_title(pl.col("title")), released))
    return tidy_items(raw.drop("released"), f"{release.source.name}, films")[0]


def _users(release: Release, name: str | None, separator: str, columns: list[str]) -> pl.DataFrame | None:
    if name is None or name not in release.files:
        return None
    lines = release.lines(name, separator, len(columns))
    users = pl.DataFrame(
        [line[: len(columns)] for line in lines], schema=dict.fromkeys(columns, pl.String), orient="row"
    )
    ages = pl.col("age").cast(pl.Int32, strict=False)
    if wrong := users.select(ages.is_null().arg_true()).to_series().to_list():
        raise BadInput(f"{release.source}, {name}, line {wrong[0] + 1:,}: age {users['age'][wrong[0]]!r} is no number")
    return users.select("user_id", ages, "gender", "occupation", "zip")
