"""Film tables from anywhere made into the columns of `items.parquet`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..runtime.errors import BadInput
from .folder import ITEM_COLUMNS, id_faults, refuse_rows, rows_named

if TYPE_CHECKING:
    from pathlib import Path

POSTER_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif")

# "Heat (1995)", "Show (2015-2018)", "Show (2015– )", "Sequel (1995) (V)"
_YEAR_IN_TITLE = r"\((\d{4})(?:[-–—]\s*(?:\d{4})?\s*)?\)\s*(?:\([A-Z]+\)\s*)?$"


def year_in_title(title: pl.Expr) -> pl.Expr:
    """The year that closes a MovieLens title, as Int32; null where there is none."""
    return title.str.extract(_YEAR_IN_TITLE, 1).cast(pl.Int32)


def tidy_items(raw: pl.LazyFrame, name: str, *, genre_separator: str = "|") -> tuple[pl.DataFrame, list[str]]:
    """Give a film table the columns and types of `items.parquet` (ids still text) and ``row``, and warnings.

    ``raw`` has row, item_id and any of the other columns. An empty text, poster or year becomes null, a missing title
    "", a missing list of genres or tags []. BadInput names rows without a valid id.
    """
    schema = raw.collect_schema()
    if not (schema["item_id"].is_integer() or schema["item_id"] in (pl.String, pl.Categorical, pl.Enum)):
        raise BadInput(
            f"{name}, column for item_id: ids must be integers or text, found {schema['item_id']}; "
            "convert it where the table is made (a float cannot hold every id)"
        )
    for column in ("title", "text", "poster"):
        if column in schema and schema[column].is_nested():
            raise BadInput(f"{name}, column for {column}: expected text, found {schema[column]}")
    absent = [pl.lit(None, dtype=kind).alias(column) for column, kind in ITEM_COLUMNS.items() if column not in schema]
    table = raw.with_columns(pl.col("item_id").cast(pl.String), *absent)
    refuse_rows(table, id_faults("item_id"), name)
    blank_to_null = [
        pl.when(pl.col(column).cast(pl.String).str.strip_chars() != "").then(pl.col(column).cast(pl.String))
        for column in ("text", "poster")
    ]
    year_given = pl.col("year").is_not_null() & (pl.col("year").cast(pl.String).str.strip_chars() != "")
    items = table.select(
        "row",
        "item_id",
        pl.col("title").cast(pl.String).fill_null(""),
        _year(schema.get("year")),
        _genres(schema.get("genres"), genre_separator),
        pl.col("tags").fill_null([]),
        *blank_to_null,
        (year_given & _year(schema.get("year")).is_null()).alias("year_lost"),
    ).collect(engine="streaming")
    warnings = []
    if lost := items.filter("year_lost")["row"].to_list():
        warnings.append(f"{name}: {rows_named(lost)} with a year that is not a whole number; it was left empty")
    return items.select("row", *ITEM_COLUMNS), warnings


def _year(dtype: pl.DataType | None) -> pl.Expr:
    given = pl.col("year")
    if dtype == pl.String:
        given = given.str.strip_chars().str.replace(r"\.0+$", "")
    return given.cast(pl.Int32, strict=False)


def _genres(dtype: pl.DataType | None, separator: str) -> pl.Expr:
    given = pl.col("genres")
    if dtype is not None and not isinstance(dtype, pl.List):
        given = given.cast(pl.String).str.split(separator)
    parts = given.cast(pl.List(pl.String)).list.eval(pl.element().str.strip_chars())
    return parts.list.eval(pl.element().filter(pl.element() != "")).fill_null([])


def without_repeats(items: pl.DataFrame, name: str, *, strict: bool) -> tuple[pl.DataFrame, list[str]]:
    """Keep the first row of each id, with one warning for each id given again; BadInput instead if ``strict``."""
    again = (
        items.filter(pl.col("item_id").is_duplicated()).group_by("item_id", maintain_order=True).agg("row").iter_rows()
    )
    warnings = [f"{name}: id {key!r} is given by {rows_named(rows)}; the first is kept" for key, rows in again]
    if warnings and strict:
        first = warnings[0].removesuffix("; the first is kept")
        raise BadInput(f"{first} ({len(warnings):,} such ids in all); remove the others or drop --strict")
    return items.unique("item_id", keep="first", maintain_order=True), warnings


def find_posters(items: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Fill ``poster`` with the name of the image called after the item's id, where ``folder`` has one.

    Only names listed in the folder are ever taken, so an id such as "../x" finds nothing.
    """
    there = {entry.name for entry in folder.iterdir()}
    names = (
        next((file for suffix in POSTER_SUFFIXES if (file := f"{item}.{suffix}") in there), None)
        for item in items["item_id"]
    )
    return items.with_columns(pl.Series("poster", list(names), dtype=pl.String))
