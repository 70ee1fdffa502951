"""Tables of plays, clicks or likes: which columns they have, and whether a table given as ratings is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..dataset.interactions import interactions
from ..dataset.ratings import RatingTable
from ..runtime.errors import BadInput
from ..tables.boolean_columns import boolean_columns
from ..tables.dates import read_times
from ..tables.delimited import ROW
from ..tables.ids import exact_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..tables.table import Table

_FEWEST_OF_A_MATRIX = 6


def interaction_table(
    table: Table, name: str, chosen: Mapping[str, str | None] | None = None, *, guessed: bool = False
) -> RatingTable:
    """Take user_id, item_id and (where there) count and timestamp: plays, clicks, likes (`dataset.interactions`).

    A column such as liked or clicked, of yes and no, counts as count. ``guessed`` adds a note that this was guessed.
    """
    chosen = chosen or {}
    required = ("user_id", "item_id")
    mapping = {
        ours: table.column_for(ours, chosen.get(ours), required=ours in required) for ours in (*required, "count")
    }
    mapping["count"] = mapping["count"] or table.column_for("liked")
    mapping["timestamp"], doubtful = table.times_column(chosen.get("timestamp"))
    kept = boolean_columns(table.frame, {ROW, "row", "rating", *mapping, *filter(None, mapping.values())})
    frame, notes = exact_ids(table.renamed(mapping, also=kept), ["user_id", "item_id"], name)
    if mapping["timestamp"]:
        frame, dates = read_times(frame, name, mapping["timestamp"], doubtful=doubtful)
        notes += dates
    if guessed:
        notes.append(f"{name} has no column of ratings: its rows are taken as plays, clicks or likes")
    elif unread := table.column_for("rating"):
        notes.append(f"{name}: its column {unread} is not read; give the table as --ratings if it holds ratings")
    return interactions(RatingTable(name, frame, notes=(*table.notes, *notes), booleans=tuple(kept)))


def without_ratings(table: Table, chosen: Mapping[str, str | None]) -> bool:
    """Whether no column of a table can be a rating: all others hold neither numbers nor yes and no about a liking."""
    if chosen.get("rating") or table.column_for("rating") or table.column_for("liked"):
        return False
    known = [table.column_for(ours, chosen.get(ours)) for ours in ("user_id", "item_id", "count")]
    known.append(table.times_column(chosen.get("timestamp"))[0])
    if None in known[:2]:
        return False
    marks = boolean_columns(table.frame, {ROW, *filter(None, known)})
    others = [name for name in table.columns if name not in known and name not in marks]
    if not others:
        return True
    first = table.frame.select(others).head(100).collect()
    return all(
        series.dtype == pl.Boolean or (not series.dtype.is_numeric() and _no_numbers(series)) for series in first
    )


def refuse_matrix(table: Table) -> None:
    """BadInput for a table without item ids whose columns, the user's aside, are many and hold numbers or nothing."""
    user = table.column_for("user_id") or table.columns[0]  # a matrix may have no name for it
    others = [name for name in table.columns if name not in (user, table.times_column()[0])]
    if len(others) < _FEWEST_OF_A_MATRIX:
        return
    first = table.frame.select(others).head(100).collect()
    numbers = [series.cast(pl.String).str.strip_chars().replace("", None).drop_nulls() for series in first]
    if all(column.cast(pl.Float64, strict=False).null_count() == 0 for column in numbers):
        raise BadInput(
            f"{table.name} looks like a matrix with a column for each of {len(others):,} films; expected a row for "
            "each rating (user, film, rating): unpivot it, in Polars by table.unpivot(index='user_id', "
            "variable_name='item_id', value_name='rating').drop_nulls()"
        )


def _no_numbers(series: pl.Series) -> bool:
    return series.dtype != pl.String or bool(series.str.strip_chars().cast(pl.Float64, strict=False).null_count())
