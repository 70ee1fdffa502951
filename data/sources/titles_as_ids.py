"""Films known by their titles and years, where tables have no ids: Solaris of 1972 is not Solaris of 2002."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from ..dataset.folder import is_integer_id
from ..dataset.items import year_in_title
from ..tables.dates import year
from ..tables.familiar import names_a_thing
from ..tables.ids import exact_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..tables.table import Table

COLUMN = "title and year"


def known_by_titles(
    films: Table | None, rated: Table | None, columns: Mapping[str, str | None]
) -> tuple[Table | None, Table | None, Mapping[str, str | None]]:
    """The tables with a column `COLUMN` of ids made of titles, where neither has ids, and ``columns`` that name it.

    The year stands behind the title, as in "Solaris (1972)", if all tables have years. Else, or where a column of ids
    is named in ``columns``, everything is as it was.
    """
    tables = [table for table in (films, rated) if table is not None]
    if columns.get("item_id") or columns.get("rating_item_id"):
        return films, rated, columns
    titles = [_title_column(table, columns.get("title") if table is films else None) for table in tables]
    if None in titles or (rated is not None and rated.column_for("user_id", columns.get("user_id")) is None):
        return films, rated, columns
    dated = all(_has_years(table, str(title)) for table, title in zip(tables, titles, strict=True))
    named = [_with_ids(table, str(title), dated=dated) for table, title in zip(tables, titles, strict=True)]
    films, rated = None if films is None else named[0], None if rated is None else named[-1]
    return films, rated, {**columns, "item_id": COLUMN, "rating_item_id": COLUMN}


def _title_column(table: Table, chosen: str | None) -> str | None:
    """The column of titles of a table without ids; a column "movie" beside one of years holds titles, if text."""
    found = table.column_for("item_id")
    if found is None:
        return table.column_for("title", chosen)
    if not names_a_thing(found) or table.column_for("year") is None:
        return None
    ids, _ = exact_ids(table.frame.select(id=found), ["id"], table.name)
    return None if ids.select(is_integer_id("id").all()).collect(engine="streaming").item() else found


def _has_years(table: Table, title: str) -> bool:
    return table.column_for("year") is not None or bool(
        table.frame.select(year_in_title(pl.col(title).cast(pl.String)).is_not_null().any()).collect().item()
    )


def _with_ids(table: Table, title: str, *, dated: bool) -> Table:
    """The table with its titles as ids, and a note that says so."""
    text = pl.col(title).cast(pl.String).str.strip_chars()
    column = table.column_for("year") if dated else None
    said = f"the column {title}"
    if column is not None:
        said += f" and {column}"
        behind = year(pl.col(column), table.frame.collect_schema()[column])
        lacking = behind.is_not_null() & year_in_title(text).is_null()
        text = pl.when(lacking).then(pl.format("{} ({})", text, behind)).otherwise(text)
    note = f"{table.name}: films are known by {said}, as there are no other ids"
    return replace(table, frame=table.frame.with_columns(text.alias(COLUMN)), notes=[*table.notes, note])
