"""A catalogue and ratings in tables of anyone's making -> dataset folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dataset.assembly import Choices, ImportReport, Parts, assemble
from ..dataset.folder import new_folder
from ..dataset.items import find_posters, tidy_items
from ..dataset.links import link_columns, tidy_links
from ..dataset.ratings import RatingTable
from ..runtime.disk import sha256_of
from ..runtime.errors import BadInput, UsageError
from ..tables.dates import decimal_points, seconds
from ..tables.ids import exact_ids
from ..tables.opening import open_table
from ..tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ITEM_OPTIONS = ("item_id", "title", "year", "genres", "text", "poster")


def import_table(
    out: Path,
    items: Path,
    ratings: Path | None = None,
    *,
    posters: Path | None = None,
    columns: Mapping[str, str | None] | None = None,
    genre_separator: str | None = None,
    scale: tuple[float, float] | None = None,
    encoding: str = "utf-8",
    choices: Choices | None = None,
) -> ImportReport:
    """Make a dataset folder ``out`` from a film table and, if given, a rating table (CSV, TSV, Parquet, JSON lines).

    ``columns`` maps our names (item_id, title, year, genres, text, poster, user_id, rating, timestamp, and
    rating_item_id for the film's id in the rating table) to the source's; without it, familiar names are found, as are
    columns whose words become tags, unless ``choices.tags`` names them.
    Poster paths start at ``posters``, by default at the film table's folder; without a poster column,
    ``posters``/<id>.jpg (jpeg, png, webp, gif) are looked up. Ratings outside ``scale`` are refused. UsageError for a
    column that is not there, BadInput, naming rows, for rows that cannot be taken.
    """
    if posters is not None and not posters.is_dir():
        raise BadInput(f"--posters {posters}: no such folder")
    choices = choices or Choices()
    columns = columns or {}
    with new_folder(out, overwrite=choices.overwrite) as staging:
        films = open_table(items, staging.scratch, encoding)
        mapping = {ours: films.column_for(ours, columns.get(ours), required=ours == "item_id") for ours in ITEM_OPTIONS}
        raw = films.renamed(mapping, films.tag_columns(choices.tags))
        table, warnings = tidy_items(raw, films.name, genre_separator=genre_separator)
        warnings += films.notes
        if mapping["poster"] is None and posters is not None:
            table = find_posters(table, posters)
        elif mapping["poster"] is not None and posters is None:
            posters = items.resolve().parent
        rated = None
        if ratings is not None:
            source = open_table(ratings, staging.scratch, encoding)
            chosen = dict(columns)
            chosen["item_id"] = columns.get("rating_item_id") or _same_column(source, mapping["item_id"])
            rated = rating_table(source, ratings.name, chosen, scale)
        files = [file for file in (items, ratings) if file is not None]
        sources = [{"name": file.name, "sha256": sha256_of(file)} for file in files]
        links = tidy_links(films.renamed({"item_id": mapping["item_id"], **link_columns(films.columns)}))
        parts = Parts(films.name, table, rated, posters, links=links, sources=sources, warnings=warnings)
        return assemble(parts, staging, out, choices)


def rating_table(
    table: Table,
    name: str,
    chosen: Mapping[str, str | None] | None = None,
    scale: tuple[float, float] | None = None,
) -> RatingTable:
    """Take user_id, item_id, rating and (where there) timestamp from any table; ``chosen`` names its columns."""
    chosen = chosen or {}
    mapping = {
        ours: table.column_for(ours, chosen.get(ours), required=ours != "timestamp")
        for ours in ("user_id", "item_id", "rating", "timestamp")
    }
    frame, notes = exact_ids(table.renamed(mapping), ["user_id", "item_id"], name)
    frame, decimals = decimal_points(frame, "rating", name)
    notes += decimals
    if mapping["timestamp"]:
        frame, dates = seconds(frame, "timestamp", name)
        notes += dates
    return RatingTable(name, frame, scale, notes=(*table.notes, *notes))


def _same_column(table: Table, name: str | None) -> str | None:
    """The film table's name for ids, where the rating table uses it too; None leaves it to the familiar names."""
    return name if name in table.columns else None


def parse_scale(words: str) -> tuple[float, float]:
    """Read "0.5:5" as lowest and highest rating; UsageError for anything else."""
    low, _, high = words.partition(":")
    try:
        scale = float(low), float(high)
    except ValueError:
        raise UsageError(f"--scale {words}: expected LOWEST:HIGHEST, for instance 0.5:5") from None
    if not scale[0] < scale[1]:
        raise UsageError(f"--scale {words}: the lowest rating must be below the highest")
    return scale
