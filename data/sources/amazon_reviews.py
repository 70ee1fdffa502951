"""Amazon reviews (2018 and 2023): reviews as JSON lines or as a table of ratings, products from the metadata beside.

Known faults: titles that are HTML or scripts of the page, products given twice, descriptions as lists with HTML.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import polars as pl

from ..dataset.assembly import Parts
from ..dataset.items import rated_items, tidy_items
from ..runtime.errors import BadInput
from ..tables.delimited import Layout
from ..tables.table import TAG
from .own_tables import rating_table

if TYPE_CHECKING:
    from pathlib import Path

    from ..tables.table import Table
    from .source_files import SourceFiles

_KINDS = ("*.json", "*.jsonl", "*.json.gz", "*.jsonl.gz", "*.csv", "*.csv.gz")
_PAGE = r"(?i)<span|<script|var aPageStart|getTime\(|<!--"


def read_amazon_reviews(files: SourceFiles) -> Parts:
    """Reviews, and products from ``meta_*``; ids are parent_asin where the reviews have it (2023), else asin."""
    meta = files.find(*(f"meta_{kind}" for kind in _KINDS))
    reviews = [file for file in files.all(*_KINDS) if not file.name.startswith("meta_") and file != meta]
    if len(reviews) != 1:
        raise BadInput(f"{files.source}: expected one file of reviews beside meta_*, found {len(reviews)}; keep one")
    table = _reviews(files, reviews[0])
    key = next((name for name in ("parent_asin", "asin", "item") if name in table.columns), None)
    chosen = {"item_id": key, "user_id": next((name for name in ("reviewerID", "user") if name in table.columns), None)}
    rated = rating_table(table, "reviews", chosen, (1.0, 5.0))
    if meta is None:
        return Parts(files.name, rated_items(rated), rated, warnings=["there is no meta_*: items have ids alone"])
    items, warnings = _products(files.table(meta))
    return Parts(files.name, items, rated, warnings=warnings)


def _reviews(files: SourceFiles, file: Path) -> Table:
    if ".csv" not in file.name:
        return files.table(file)
    headless = ("item", "user", "rating", "timestamp")  # of 2018; the tables of 2023 have a header
    table = files.table(file)
    return table if "rating" in table.columns else files.table(file, layout=Layout(columns=headless))


def _products(table: Table) -> tuple[pl.DataFrame, list[str]]:
    have = table.columns
    key = "parent_asin" if "parent_asin" in have else "asin"
    genres = next((name for name in ("categories", "category") if name in have), None)
    tags = [name for name in ("brand", "store") if name in have]
    mapping = {"item_id": key, "title": "title", "text": "description" if "description" in have else None}
    raw = table.renamed(mapping | {"genres": genres})
    page = pl.col("title").str.contains(_PAGE).fill_null(False)
    pages = raw.select(page.sum()).collect(engine="streaming").item()
    raw = raw.with_columns(title=pl.when(~page).then(pl.col("title")))
    if tags:  # a maker's name is one word, commas and all
        named = table.frame.select(pl.concat_list(pl.col(name)).alias(TAG + name) for name in tags)
        raw = pl.concat([raw, named], how="horizontal")
    items, warnings = tidy_items(raw, table.name, titled_years=False)
    plain = [_plain(text) for text in items["text"].to_list()]
    items = items.with_columns(
        pl.Series("text", plain, dtype=pl.String),
        pl.Series("title", [html.unescape(title) for title in items["title"].to_list()], dtype=pl.String),
    ).with_columns(text=pl.col("text").str.replace_all(r"<[^<>]{1,200}>", " ").str.strip_chars())
    items = items.with_columns(text=pl.when(pl.col("text") != "").then(pl.col("text")))
    if pages:
        warnings.append(f"{table.name}: {pages:,} titles are HTML or a script of the page; they count as missing")
    return items, [*table.notes, *warnings]


def _plain(text: str | None) -> str | None:
    return None if text is None else html.unescape(text)
