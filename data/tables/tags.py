"""Tags of films: who made them, who plays in them, where they are from, as single words that films share.

Any column of a film table can give them. A tag says which column it is from, as in "director: Agnès Varda", so that the
same name in two columns makes two tags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence

FAMILIAR_TAG_COLUMNS = (
    *("director", "directors", "writer", "writers", "actors", "cast", "country", "countries", "language", "languages"),
    *("rated", "certificate", "studio", "studios", "keywords", "tags"),
)
_NOTHING = ("", "N/A")  # the second is what OMDb writes


def tags_from(columns: Sequence[str], schema: pl.Schema) -> pl.Expr:
    """One List(String) of all tags of a row, each once, from at least one column.

    Lists are taken as they are, anything else is cut at commas and bars.
    """
    each = [_tags_of(name, listed=isinstance(schema[name], pl.List)) for name in columns]
    return pl.concat_list(each).list.unique(maintain_order=True)


def _tags_of(name: str, *, listed: bool) -> pl.Expr:
    given = pl.col(name)
    parts = given if listed else given.cast(pl.String).str.replace_all("|", ",", literal=True).str.split(",")
    word = pl.element().cast(pl.String).str.strip_chars()
    words = parts.list.eval(word).list.eval(pl.element().filter(~pl.element().is_in(_NOTHING)).drop_nulls())
    named = pl.format("{}: {}", pl.lit(name), pl.element())
    if name == "tags":  # a dataset folder's own say by themselves which column they are from
        named = pl.when(pl.element().str.contains(": ", literal=True)).then(pl.element()).otherwise(named)
    return words.list.eval(named).fill_null([])
