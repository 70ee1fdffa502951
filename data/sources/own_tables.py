"""A catalogue and ratings in tables of anyone's making -> dataset folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dataset.assembly import Choices, ImportReport, Parts, assemble
from ..dataset.boolean_columns import boolean_columns
from ..dataset.folder import new_folder
from ..dataset.items import find_posters, rated_items, tidy_items
from ..dataset.links import link_columns, tidy_links
from ..dataset.ratings import RatingTable
from ..runtime.disk import sha256_of
from ..runtime.errors import BadInput, UsageError
from ..tables.dates import decimal_points, seconds
from ..tables.delimited import ROW
from ..tables.ids import exact_ids
from ..tables.opening import open_table
from ..tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ITEM_OPTIONS = ("item_id", "title", "year", "genres", "text", "poster")


def import_table(
    out: Path,
    items: Path | None = None,
    ratings: Path | None = None,
    *,
    posters: Path | None = None,
    columns: Mapping[str, str | None] | None = None,
    genre_separator: str | None = None,
    scale: tuple[float, float] | None = None,
    drop_rating: float | None = None,
    encoding: str = "utf-8",
    choices: Choices | None = None,
) -> ImportReport:
    """Make a dataset folder ``out`` from a film table, a rating table or both (CSV, TSV, Parquet, JSON lines).

    Without a film table the items are those rated, known by their ids alone. Boolean columns of the rating table are
    kept, so that ``--split column:NAME`` can read them. Rows with the rating ``drop_rating`` are left out.

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
    if items is None and ratings is None:
        raise UsageError("expected --ratings FILE, --items FILE, or both, found neither")
    with new_folder(out, overwrite=choices.overwrite) as staging:
        films = open_table(items, staging.scratch, encoding) if items is not None else None
        names = {} if films is None else _item_columns(films, columns)
        rated = None
        if ratings is not None:
            source = open_table(ratings, staging.scratch, encoding)
            chosen = dict(columns)
            of_items = columns.get("item_id") if films is None else _same_column(source, names["item_id"])
            chosen["item_id"] = columns.get("rating_item_id") or of_items
            rated = rating_table(source, ratings.name, chosen, scale, booleans=True)
            if drop_rating is not None:
                rated = rated.without_rating(drop_rating)
        warnings: list[str] = []
        links = None
        if films is None and rated is not None:
            table = rated_items(rated)
        elif films is not None:
            raw = films.renamed(names, films.tag_columns(choices.tags))
            table, warnings = tidy_items(raw, films.name, genre_separator=genre_separator)
            warnings += films.notes
            links = tidy_links(films.renamed({"item_id": names["item_id"], **link_columns(films.columns)}))
        if names.get("poster") is None and posters is not None:
            table = find_posters(table, posters)
        elif names.get("poster") is not None and posters is None and items is not None:
            posters = items.resolve().parent
        files = [file for file in (items, ratings) if file is not None]
        sources = [{"name": file.name, "sha256": sha256_of(file)} for file in files]
        parts = Parts(files[0].name, table, rated, posters, links=links, sources=sources, warnings=warnings)
        return assemble(parts, staging, out, choices)


def _item_columns(films: Table, columns: Mapping[str, str | None]) -> dict[str, str | None]:
    """The film table's column for each of ours; None where it has none."""
    return {ours: films.column_for(ours, columns.get(ours), required=ours == "item_id") for ours in ITEM_OPTIONS}


def rating_table(
    table: Table,
    name: str,
    chosen: Mapping[str, str | None] | None = None,
    scale: tuple[float, float] | None = None,
    *,
    booleans: bool = False,
) -> RatingTable:
    """Take user_id, item_id, rating and (where there) timestamp from any table; ``chosen`` names its columns.

    With ``booleans`` its other columns of Boolean values too.
    """
    chosen = chosen or {}
    mapping = {
        ours: table.column_for(ours, chosen.get(ours), required=ours != "timestamp")
        for ours in ("user_id", "item_id", "rating", "timestamp")
    }
    kept = boolean_columns(table.frame, {ROW, "row", *mapping, *filter(None, mapping.values())}) if booleans else {}
    frame, notes = exact_ids(table.renamed(mapping, also=kept), ["user_id", "item_id"], name)
    frame, decimals = decimal_points(frame, "rating", name)
    notes += decimals
    if mapping["timestamp"]:
        frame, dates = seconds(frame, "timestamp", name)
        notes += dates
    return RatingTable(name, frame, scale, (*table.notes, *notes), tuple(kept))


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
