"""Boolean columns of a rating table, such as one that marks the test ratings: kept by an import, read by a split."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import polars as pl

from ..runtime.parquet import parquet_schema

if TYPE_CHECKING:
    from pathlib import Path


_TRUE, _FALSE = ("true", "1", "1.0"), ("false", "0", "0.0")


def boolean_columns(frame: pl.LazyFrame, without: Collection[str]) -> dict[str, pl.Expr]:
    """The columns of a table, ``without`` some, that say yes or no in each row, as expressions of Boolean values.

    A column of booleans, of true and false as text in any capitals, or of 0 and 1 is one, if no row is empty. Reads the
    table once, streaming, where a column may be one by its type.
    """
    candidates = {
        name: _as_boolean(name, dtype)
        for name, dtype in frame.collect_schema().items()
        if name not in without and (dtype == pl.Boolean or dtype == pl.String or dtype.is_numeric())
    }
    if not candidates:
        return {}
    # a look at the first rows spares reading long columns of text or numbers to their end
    for table in (frame.head(100), frame):
        whole = table.select(value.is_not_null().all().alias(name) for name, value in candidates.items())
        found = whole.collect(engine="streaming").row(0, named=True)
        candidates = {name: value for name, value in candidates.items() if found[name]}
        if not candidates:
            break
    return candidates


def _as_boolean(name: str, dtype: pl.DataType) -> pl.Expr:
    """Boolean, null where the value is neither yes nor no."""
    given = pl.col(name)
    if dtype == pl.Boolean:
        return given
    words = given.cast(pl.String).str.strip_chars().str.to_lowercase()
    return pl.when(words.is_in(_TRUE)).then(True).when(words.is_in(_FALSE)).then(False).otherwise(None)


def boolean_columns_of(ratings: Path) -> list[str]:
    """The names of the boolean columns of a `ratings.parquet`."""
    return [name for name, dtype in parquet_schema(ratings).items() if dtype == pl.Boolean]
