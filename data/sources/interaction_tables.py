"""Tables of plays, clicks or likes: which columns they have, and whether a table given as ratings is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..dataset.interactions import interactions
from ..dataset.ratings import RatingTable
from ..tables.boolean_columns import boolean_columns
from ..tables.dates import seconds
from ..tables.delimited import ROW
from ..tables.ids import exact_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..tables.table import Table


def interaction_table(
    table: Table, name: str, chosen: Mapping[str, str | None] | None = None, *, guessed: bool = False
) -> RatingTable:
    """Take user_id, item_id and (where there) count and timestamp: plays, clicks, likes (`dataset.interactions`).

    A column such as liked or clicked, of yes and no, counts as count. ``guessed`` adds a note that nobody said so.
    """
    chosen = chosen or {}
    required = ("user_id", "item_id")
    mapping = {
        ours: table.column_for(ours, chosen.get(ours), required=ours in required)
        for ours in (*required, "count", "timestamp")
    }
    mapping["count"] = mapping["count"] or table.column_for("liked")
    kept = boolean_columns(table.frame, {ROW, "row", "rating", *mapping, *filter(None, mapping.values())})
    frame, notes = exact_ids(table.renamed(mapping, also=kept), ["user_id", "item_id"], name)
    if mapping["timestamp"]:
        frame, dates = seconds(frame, "timestamp", name)
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
    known = [table.column_for(ours, chosen.get(ours)) for ours in ("user_id", "item_id", "timestamp", "count")]
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


def _no_numbers(series: pl.Series) -> bool:
    return series.dtype != pl.String or bool(series.str.strip_chars().cast(pl.Float64, strict=False).null_count())
