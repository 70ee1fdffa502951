"""What MovieLens users call films: free tags (tags.csv, tags.dat) and the tag genome, as tags of films."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from ...tables.table import Table

MOST_TAGS = 20
RELEVANT = 0.8  # of the genome's relevance, from 0 to 1


def user_tags(table: Table) -> pl.DataFrame:
    """item_id and tags: each film's MOST_TAGS most frequent tags, in small letters, by how many users gave them."""
    given = table.renamed({"user_id": "userId", "item_id": "movieId", "word": "tag"})
    given = given.with_columns(word=pl.col("word").str.strip_chars().str.to_lowercase()).filter(pl.col("word") != "")
    counted = given.group_by("item_id", "word").agg(users=pl.col("user_id").n_unique(), first=pl.col("row").min())
    return _named(counted.sort("users", "first", descending=[True, False]), "tag")


def genome_tags(scores: Table, names: Table) -> pl.DataFrame:
    """item_id and tags: the genome's MOST_TAGS most relevant tags of each film, of a relevance of at least RELEVANT."""
    called = names.renamed({"tag_id": "tagId", "word": "tag"}).drop("row")
    given = scores.renamed({"item_id": "movieId", "tag_id": "tagId", "relevance": "relevance"})
    given = given.with_columns(pl.col("relevance").cast(pl.Float64, strict=False))
    relevant = given.filter(pl.col("relevance") >= RELEVANT).join(called, on="tag_id", how="inner")
    return _named(relevant.sort("relevance", "row", descending=[True, False]), "genome")


def _named(ordered: pl.LazyFrame, kind: str) -> pl.DataFrame:
    words = ordered.group_by("item_id", maintain_order=True).agg(pl.col("word").head(MOST_TAGS))
    named = pl.col("word").list.eval(pl.format(f"{kind}: {{}}", pl.element()))
    return words.select(pl.col("item_id").cast(pl.String), tags=named).collect()


def with_tags(items: pl.DataFrame, tags: pl.DataFrame) -> pl.DataFrame:
    """The items with ``tags`` (item_id, tags) behind those that they have."""
    more = items.join(tags.rename({"tags": "more"}), on="item_id", how="left", maintain_order="left")
    together = pl.concat_list("tags", pl.col("more").fill_null([])).list.unique(maintain_order=True)
    return more.with_columns(tags=together).drop("more")
