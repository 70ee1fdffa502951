"""Tables of plays, clicks or likes: which columns they have, and whether a table given as ratings is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from ..dataset.interactions import interactions
from ..dataset.ratings import RatingTable
from ..runtime.errors import BadInput, UsageError
from ..splitting.boolean_columns import boolean_columns
from ..tables.dates import read_times
from ..tables.delimited import ROW
from ..tables.familiar import named_so, plain_name
from ..tables.ids import exact_ids

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ..tables.table import Table

_FEWEST_OF_A_MATRIX, _FEWEST_WITHOUT_NAMES = 3, 6
_KINDS = ("event", "event_type", "behavior", "behaviour", "behavior_type", "action", "action_type", "interaction_type")
_MOST_KINDS = 20


def interaction_table(
    table: Table, name: str, chosen: Mapping[str, str | None] | None = None, *, guessed: bool = False
) -> RatingTable:
    """Take user_id, item_id and (where there) count and timestamp: plays, clicks, likes (`dataset.interactions`).

    A column such as liked or clicked, of yes and no, counts as count. ``guessed`` adds a note that this was guessed.
    """
    chosen = chosen or {}
    required = ("user_id", "item_id")
    mapping = required_columns(table, chosen, required)
    mapping["count"] = table.column_for("count", chosen.get("count"))
    mapping["count"] = mapping["count"] or table.column_for("liked")
    mapping["timestamp"], doubtful = table.times_column(chosen.get("timestamp"))
    kept = boolean_columns(table.frame, {ROW, "row", "rating", *mapping, *filter(None, mapping.values())})
    frame, notes = exact_ids(table.renamed(mapping, also=kept), ["user_id", "item_id"], name)
    if mapping["timestamp"]:
        frame, dates = read_times(frame, name, mapping["timestamp"], doubtful=doubtful)
        notes += dates
    notes += _mixed_kinds(table, mapping.values())
    if guessed:
        notes.append(f"{name} has no column of ratings: its rows are taken as plays, clicks or likes")
    elif unread := table.column_for("rating"):
        notes.append(f"{name}: its column {unread} is not read; give the table as --ratings if it holds ratings")
    return interactions(RatingTable(name, frame, notes=(*table.notes, *notes), booleans=tuple(kept)))


def required_columns(table: Table, chosen: Mapping[str, str | None], ours: Sequence[str]) -> dict[str, str | None]:
    """The column for each of ``ours``. UsageError where there is none, BadInput where the table is a matrix."""
    try:
        return {name: table.column_for(name, chosen.get(name), required=True) for name in ours}
    except UsageError as fault:
        if "no column for user_id;" not in str(fault):
            raise
        refuse_matrix(table)
        raise UsageError(
            f"{fault}; one person's ratings, as IMDb, Letterboxd or Goodreads export them, need a column that says "
            "whose"
        ) from None


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
    """BadInput for a table without ids of users or items that has many other columns, all of numbers or nothing."""
    index = table.column_for("user_id") or table.column_for("title")
    surely = index is not None or not plain_name(table.columns[0])  # else few columns of numbers may be anything
    index = index or table.column_for("item_id") or table.columns[0]
    others = [name for name in table.columns if name not in (index, table.times_column()[0])]
    if len(others) < (_FEWEST_OF_A_MATRIX if surely else _FEWEST_WITHOUT_NAMES):
        return
    named = table.column_for("rating") or table.column_for("count")
    if named or any(plain_name(name).endswith("id") for name in others):
        return
    first = table.frame.select(others).head(100).collect()
    numbers = [series.cast(pl.String).str.strip_chars().replace("", None).drop_nulls() for series in first]
    filled = sum(len(column) > 0 for column in numbers)
    if 2 * filled >= len(others) and all(column.cast(pl.Float64, strict=False).null_count() == 0 for column in numbers):
        things, ours = ("users", "user_id") if table.column_for("title") == index else ("films", "item_id")
        raise BadInput(
            f"{table.name} looks like a matrix with a column for each of {len(others):,} {things}; expected a row for "
            f"each rating (user, film, rating): unpivot it, in Polars by table.unpivot(index={index!r}, "
            f"variable_name={ours!r}, value_name='rating').drop_nulls()"
        )


def _mixed_kinds(table: Table, read: Collection[str | None]) -> list[str]:
    """A sentence where a column says of which kind each row is, such as view, cart and purchase: all are taken."""
    column = named_so(table.columns, _KINDS)
    if column is None or column in read:
        return []
    kinds = (
        table.frame.select(pl.col(column).drop_nulls().unique().sort()).head(_MOST_KINDS).collect()[column].to_list()
    )
    if not 1 < len(kinds) < _MOST_KINDS:
        return []
    some = ", ".join(map(str, kinds[:5]))
    return [
        f"{table.name}: rows of every kind in column {column} ({some}) are taken alike; give a table of those that you "
        "mean, or name a count of their weight with --count"
    ]


def _no_numbers(series: pl.Series) -> bool:
    return series.dtype != pl.String or bool(series.str.strip_chars().cast(pl.Float64, strict=False).null_count())
