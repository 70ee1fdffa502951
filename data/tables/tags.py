"""Tags of films: who made them, who plays in them, where they are from, as single words that films share.

Any column of a film table can give them. A tag says which column it is from, as in "director: Agnès Varda", so that the
same name in two columns makes two tags.
"""

from __future__ import annotations

import polars as pl

from .words import word_lists

FAMILIAR_TAG_COLUMNS = (
    *("director", "directors", "writer", "writers", "actors", "cast", "country", "countries", "language", "languages"),
    *("rated", "certificate", "studio", "studios", "keywords", "tags"),
)
_SEPARATORS = (",", "|")


def tags_from(columns: dict[str, pl.Series]) -> tuple[pl.Series, dict[str, tuple[list[int], str]]]:
    """One List(String) of all tags of a row, each once; ``columns`` maps a column's name to its cells.

    Also, by column, the rows whose cells look like lists and are none, and the first such cell. Lists are taken as they
    are, plain text is cut at commas and bars.
    """
    wrong = {}
    parts = []
    for name, cells in columns.items():
        words, rows, first = word_lists(cells, _SEPARATORS)
        if rows:
            wrong[name] = (rows, first)
        named = pl.format("{}: {}", pl.lit(name), pl.element())
        if name == "tags":  # a dataset folder's own say by themselves which column they are from
            named = pl.when(pl.element().str.contains(": ", literal=True)).then(pl.element()).otherwise(named)
        parts.append(words.alias(name).to_frame().select(pl.col(name).list.eval(named)))
    together = pl.concat(parts, how="horizontal").select(
        tags=pl.concat_list(list(columns)).list.unique(maintain_order=True)
    )
    return together["tags"], wrong
