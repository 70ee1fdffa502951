"""Ratings as people write them: with decimal commas, as yes and no, as stars, as 4/5 or 80 %.

A way of writing is read where every cell of the column has it; one cell of another leaves the column as it is, for
whoever checks the rows to name.
"""

from __future__ import annotations

import polars as pl

_LIKED = ("true", "yes", "y", "like", "liked", "up", "thumbsup", "positive")
_PERCENT = r"^(\d*\.?\d+)\s*%$"
_SHARE = r"(?i)^(\d*\.?\d+)\s*(?:/|of|out of)\s*(\d+)(?:\s*stars?)?$"
_DISLIKED = ("false", "no", "n", "dislike", "disliked", "down", "thumbsdown", "negative")


def yes_and_no(table: pl.LazyFrame, column: str, name: str) -> tuple[pl.LazyFrame, list[str]]:
    """The table with 1 and 0 for a text column of which every cell says yes or no, and a sentence where it was one."""
    if table.collect_schema()[column] != pl.String:
        return table, []
    word = pl.col(column).str.to_lowercase().str.replace_all(r"[\s_-]", "")
    value = pl.when(word.is_in(_LIKED)).then(1.0).when(word.is_in(_DISLIKED)).then(0.0)
    for rows in (table.head(100), table):
        if not rows.select(value.is_not_null().all()).collect(engine="streaming").item():
            return table, []
    return table.with_columns(value.alias(column)), [
        f"{name}: the column for {column} says yes or no; it is read as 1 and 0"
    ]


def decimal_points(table: pl.LazyFrame, column: str, name: str) -> tuple[pl.LazyFrame, list[str]]:
    """The table with points for the decimal commas of a text column of numbers, and a sentence where it had some."""
    if table.collect_schema()[column] != pl.String:
        return table, []
    value = pl.col(column).str.strip_chars()
    found = table.select(
        commas=value.str.contains(r"^-?\d+,\d+$").any(), other=~value.str.contains(r"^-?\d*(?:,\d+)?$").all()
    ).collect(engine="streaming")
    if not found["commas"].item() or found["other"].item():
        return table, []
    return table.with_columns(value.str.replace(",", ".", literal=True).alias(column)), [
        f"{name}: numbers in the column for {column} have decimal commas; 4,5 is read as 4.5"
    ]


def stars_and_shares(table: pl.LazyFrame, column: str, name: str) -> tuple[pl.LazyFrame, list[str]]:
    """The table with numbers for ratings such as ★★★½, "3.5 stars", 4/5 or 80 %, and a sentence where it had such.

    A share is read as its upper number, if all are of one full mark: 4/5 is 4.
    """
    if table.collect_schema()[column] != pl.String:
        return table, []
    text = pl.col(column).str.strip_chars().str.replace(",", ".", literal=True)
    for value in (
        _glyphs(text),
        _number(text, r"(?i)^(\d*\.?\d+)\s*stars?$"),
        _shares(table, text),
        _number(text, _PERCENT),
    ):
        if not all(
            rows.select(value.is_not_null().all()).collect(engine="streaming").item()
            for rows in (table.head(100), table)
        ):
            continue
        rows = table.select(column, value=value).head(1).collect().rows()
        if rows:
            note = f"{name}: the column for {column} is written as {rows[0][0]}; it is read as {rows[0][1]:g}"
            return table.with_columns(value.alias(column)), [note]
    return table, []


def _glyphs(text: pl.Expr) -> pl.Expr:
    """★★★½ is 3.5; stars that are not filled count nothing."""
    stars = text.str.replace_all("[\u2606\ufe0f]", "").str.replace_all("[\u2605\u2b50]", "*")
    half = pl.when(stars.str.contains("½|1/2")).then(0.5).otherwise(0.0)
    shaped = stars.str.contains(r"^\*+\s*(?:½|1/2)?$|^½$")
    return pl.when(shaped).then(stars.str.count_matches(r"\*") + half)


def _number(text: pl.Expr, pattern: str) -> pl.Expr:
    return text.str.extract(pattern, 1).cast(pl.Float64, strict=False)


def _shares(table: pl.LazyFrame, text: pl.Expr) -> pl.Expr:
    """Null where the shares are of several full marks: 4/5 beside 7/10 is for the user to bring to one scale."""
    full = text.str.extract(_SHARE, 2).drop_nulls().n_unique()
    if table.select(full).collect(engine="streaming").item() != 1:
        return pl.lit(None, pl.Float64)
    return _number(text, _SHARE)
