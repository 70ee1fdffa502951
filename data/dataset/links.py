"""Links of items: the numbers that IMDb and TMDB know them by, kept in a dataset's `links.parquet`.

item_id   as in items.parquet, each once
imdb_id   String, such as "tt0114709"; null where the source has none
tmdb_id   Int64; null where the source has none
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..runtime.errors import BadInput
from ..runtime.parquet import read_parquet
from ..tables.ids import exact_ids

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE = "links.parquet"

_NAMES = {"imdb_id": ("imdb_id", "imdbid", "imdb", "tconst"), "tmdb_id": ("tmdb_id", "tmdbid", "tmdb")}


def link_columns(columns: Sequence[str]) -> dict[str, str]:
    """Which of a table's columns hold links, by their names in any case: ours -> theirs.

    >>> link_columns(["movieId", "imdbId", "tmdbId"])
    {'imdb_id': 'imdbId', 'tmdb_id': 'tmdbId'}
    """
    plainly = {name.strip().casefold(): name for name in reversed(columns)}
    found = {ours: next((plainly[name] for name in names if name in plainly), None) for ours, names in _NAMES.items()}
    return {ours: name for ours, name in found.items() if name is not None}


def number_of(column: str) -> pl.Expr:
    """IMDb and TMDB numbers however they are written: tt0114709, 0114709, 114709 and 114709.0 are one; else null."""
    digits = pl.col(column).cast(pl.String).str.strip_chars().str.strip_prefix("tt").str.replace(r"\.0+$", "")
    number = digits.cast(pl.Int64, strict=False)
    return pl.when(number > 0).then(number)


def tidy_links(raw: pl.LazyFrame) -> pl.DataFrame | None:
    """The links of items in ``raw`` (item_id, and imdb_id or tmdb_id or both), ids as text; None where there are none.

    Where an id is given twice, its first row counts.
    """
    schema = raw.collect_schema()
    if not {"imdb_id", "tmdb_id"} & set(schema.names()):
        return None
    raw, _ = exact_ids(raw, ["item_id"], "links")
    imdb = number_of("imdb_id") if "imdb_id" in schema else pl.lit(None, dtype=pl.Int64)
    tmdb = number_of("tmdb_id") if "tmdb_id" in schema else pl.lit(None, dtype=pl.Int64)
    links = raw.select(
        pl.col("item_id"),
        imdb_id=pl.format("tt{}", imdb.cast(pl.String).str.zfill(7)),
        tmdb_id=tmdb,
    )
    known = links.filter(pl.col("imdb_id").is_not_null() | pl.col("tmdb_id").is_not_null())
    found = known.unique("item_id", keep="first", maintain_order=True).collect()
    return None if found.is_empty() else found


def write_links(links: pl.DataFrame, items: pl.DataFrame, folder: Path) -> None:
    """Write the links of those ``items`` (their item_id decides the type) into the dataset ``folder``."""
    ids = links.with_columns(pl.col("item_id").cast(items.schema["item_id"], strict=False))
    ids.join(items, on="item_id", how="semi", maintain_order="left").write_parquet(folder / FILE, compression="zstd")


def read_links(folder: Path) -> pl.DataFrame | None:
    """The links of a dataset folder, item_id as text; None where it has none. BadInput where they cannot be read."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        links = read_parquet(file)
        return links.select(pl.col("item_id", "imdb_id").cast(pl.String), pl.col("tmdb_id").cast(pl.Int64))
    except (pl.exceptions.PolarsError, OSError) as fault:
        raise BadInput(f"{file} cannot be read ({str(fault).splitlines()[0]}): import the dataset again") from None
