"""The Movies Dataset of Kaggle: TMDB's metadata, credits and keywords, with MovieLens ratings by way of its links.

Its known faults: three records broken in two, whose halves have a date or nothing in the column of ids; films given
twice; lists as Python literals; TMDB ids in the films and MovieLens ids in the ratings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from ..dataset.assembly import Parts
from ..dataset.items import tidy_items
from ..dataset.links import tidy_links
from ..dataset.posters.placing import without_addresses
from ..tables.delimited import Layout
from ..tables.table import TAG
from ..tables.words import NotAList, listed, words_in
from .own_tables import rating_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..tables.table import Table
    from .source_files import SourceFiles

_LAYOUT = Layout("double", separator=",", skip=True, lenient=True)
_MOST_ACTORS = 8


def read_kaggle_movies(files: SourceFiles) -> Parts:
    """Films from movies_metadata.csv (credits.csv and keywords.csv where there), ratings where there.

    With ratings the ids are MovieLens's, by links.csv or links_small.csv; without, TMDB's.
    """
    films = files.table(files.need("movies_metadata.csv"), layout=_LAYOUT)
    name = "movies_metadata.csv"
    columns = {
        "title": "title",
        "year": "release_date",
        "genres": "genres",
        "text": "overview",
        "poster": "poster_path",
    }
    raw = films.renamed({"item_id": "id", "imdb_id": "imdb_id", **columns}).with_columns(tmdb=pl.col("item_id"))
    whole = pl.col("item_id").str.contains(r"^\d+$").fill_null(False)
    broken = raw.filter(~whole).select(pl.len()).collect().item()
    warnings = [*films.notes]
    if broken:
        warnings.append(f"{name}: {broken:,} records are broken in two (no TMDB id in column id); they were left out")
    raw = raw.filter(whole).unique("item_id", keep="first", maintain_order=True)
    for file, columns_of_tags in _TAGGED.items():
        found = files.find(file)
        if found is not None:
            table = files.table(found, layout=_LAYOUT)
            for column, taken in columns_of_tags.items():
                raw = raw.join(_tags(table, column, taken), on="item_id", how="left", maintain_order="left")
    ratings = files.find("ratings.csv", "ratings_small.csv")
    rated = None
    if ratings is not None:
        small = ratings.name.endswith("small.csv") or files.find("ratings.csv") is None
        table = files.table(
            files.need(*(("links_small.csv", "links.csv") if small else ("links.csv", "links_small.csv")))
        )
        pairs = table.renamed({"movie": "movieId", "tmdb": "tmdbId"}).drop("row").drop_nulls()
        pairs = pairs.with_columns(pl.col("tmdb").str.replace(r"\.0+$", ""))
        before = raw.select(pl.len()).collect().item()
        raw = raw.join(pairs, on="tmdb", how="inner", maintain_order="left").with_columns(item_id=pl.col("movie"))
        raw = raw.drop("movie")
        known = raw.select(pl.col("tmdb").n_unique()).collect().item()
        if before > known:
            warnings.append(f"{name}: {before - known:,} films have no MovieLens id in the links; they were left out")
        rated = rating_table(files.table(ratings), "ratings", {"item_id": "movieId"}, (0.5, 5.0))
    items, notes = tidy_items(raw.drop("imdb_id", "tmdb"), name)
    items, posters = without_addresses(items, "poster_path", name)
    links = tidy_links(raw.select("item_id", "imdb_id", tmdb_id="tmdb"))
    return Parts(files.name, items, rated, links=links, warnings=[*warnings, *notes, *posters])


def _tags(table: Table, column: str, taken: Callable[[str | None], list[str]]) -> pl.LazyFrame:
    tag = TAG + {"crew": "director"}.get(column, column)
    cells = table.renamed({"item_id": "id", "cell": column}).unique("item_id", keep="first", maintain_order=True)
    found = cells.drop_nulls("item_id").collect()
    words = pl.Series(tag, [taken(cell) for cell in found["cell"].to_list()], dtype=pl.List(pl.String))
    return found.select("item_id", words).lazy()


def _dicts(cell: str | None) -> list[dict[str, Any]]:
    try:
        value = listed(cell or "")
    except NotAList:
        return []
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _keywords(cell: str | None) -> list[str]:
    return words_in([one.get("name") for one in _dicts(cell)])


def _actors(cell: str | None) -> list[str]:
    """The first names of the cast; all of them would be thousands of tags that two films share by chance."""
    return _keywords(cell)[:_MOST_ACTORS]


def _directors(cell: str | None) -> list[str]:
    return words_in([one.get("name") for one in _dicts(cell) if one.get("job") == "Director"])


# file -> column -> what is taken of its cells as tags
_TAGGED: dict[str, dict[str, Callable[[str | None], list[str]]]] = {
    "keywords.csv": {"keywords": _keywords},
    "credits.csv": {"cast": _actors, "crew": _directors},
}
