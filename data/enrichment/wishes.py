"""Which items of a dataset lack what, and what identifies them: links, a table of matches, their own ids."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from ..dataset.links import link_columns, read_links, tidy_links
from ..dataset.posters.files import poster_inside
from ..runtime.errors import UsageError
from ..tables.opening import open_table
from .services.facts import Wanted

if TYPE_CHECKING:
    from ..dataset.catalog import Catalog

ItemIds = Literal["tmdb", "imdb"]
_IMDB = re.compile(r"tt\d{5,}")


@dataclass(frozen=True)
class Wish:
    """An item to look up and what is to be taken of it: any of text, poster, year, genres, tags."""

    wanted: Wanted
    lacks: frozenset[str]


def wishes(
    catalog: Catalog,
    dataset: Path,
    gives: tuple[str, ...],
    *,
    overwrite: bool,
    posters: bool,
    item_ids: ItemIds | None,
    matches: Path | None,
) -> tuple[list[Wanted], list[Wish]]:
    """All items as they would be looked up, and those of them that lack something a service ``gives``.

    With ``overwrite`` that is all of them. A poster that leads to no file counts as lacking. ``item_ids`` says whose
    numbers the items' own ids are; ids such as tt0114709 are IMDb's anyway.
    """
    taken = [one for one in gives if posters or one != "poster"]
    links = _links_of(catalog, dataset, item_ids)
    sure = _matches_of(matches) if matches is not None else {}
    everything, found = [], []
    for row in catalog.items.iter_rows(named=True):
        item = str(row["item_id"])
        imdb, tmdb = sure.get(item) or links.get(item, (None, None))
        wanted = Wanted(item, row["title"] or "", row["year"], imdb, tmdb, certain=item in sure)
        everything.append(wanted)
        lacks = frozenset(one for one in taken if overwrite or not _has(catalog, row, one))
        if lacks:
            found.append(Wish(wanted, lacks))
    return everything, found


def _has(catalog: Catalog, row: dict[str, object], what: str) -> bool:
    value = row[what]
    if what == "poster":
        return isinstance(value, str) and poster_inside(catalog.poster_root, value) is not None
    return bool(value.strip()) if isinstance(value, str) else bool(value)


def _links_of(catalog: Catalog, dataset: Path, item_ids: ItemIds | None) -> dict[str, tuple[str | None, int | None]]:
    kept = read_links(dataset)
    links = {} if kept is None else {item: (imdb, tmdb) for item, imdb, tmdb in kept.iter_rows()}
    ids = [str(item) for item in catalog.ids.tolist()]
    if item_ids is None and all(_IMDB.fullmatch(item) for item in ids):
        item_ids = "imdb"
    if item_ids is not None:
        own = tidy_links(pl.LazyFrame({"item_id": ids, f"{item_ids}_id": ids}))
        if own is None:
            raise UsageError(f"--item-ids {item_ids}: the items' ids, such as {ids[0]!r}, are no such numbers")
        for item, imdb, tmdb in own.iter_rows():
            known = links.get(item, (None, None))
            links[item] = (known[0] or imdb, known[1] if known[1] is not None else tmdb)
    return links


def _matches_of(file: Path) -> dict[str, tuple[str | None, int | None]]:
    with tempfile.TemporaryDirectory() as scratch:
        table = open_table(file, Path(scratch))
        columns = link_columns(table.columns)
        item = table.column_for("item_id")
        if item is None or not columns:
            raise UsageError(
                f"--matches {file}: expected item_id and tmdb_id or imdb_id, found {', '.join(table.columns)}"
            )
        found = tidy_links(table.renamed({"item_id": item, **columns}))
    return {} if found is None else {row[0]: (row[1], row[2]) for row in found.iter_rows()}
