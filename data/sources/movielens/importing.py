"""MovieLens as GroupLens ships it (100K, 1M, 10M, and the CSV generation), joined with plots and posters.

A source is a zip, or a folder with the same files, in one of three generations:

    100K    u.data, u.item; u.user, u.genre and the folds u1-u5, ua, ub (.base and .test) where there
    1M      ratings.dat or ratings*.parquet (user_id, movie_id, rating, maybe timestamp); movies.dat; users.dat and
            tags.dat where there (10M). The .dat files of films and users may carry a prefix, such as ml-1m-movies.dat
    CSV     ratings.csv, movies.csv; links.csv, tags.csv and the tag genome where there (latest-small, 20M, 25M, 32M)

Members of a zip are read by the names above alone: no name in an archive ever becomes a path on disk.
"""

from __future__ import annotations

from pathlib import Path

from ...dataset.assembly import Choices, ImportReport, assemble
from ...dataset.folder import new_folder
from ...dataset.posters.placing import place_posters, with_slashes, without_addresses
from ...dataset.posters.source import PosterSource
from ...runtime.errors import UsageError
from ...tables.opening import open_table
from ..own_tables import Reading
from .film_table import add_plots_and_posters
from .generations import READERS, add_tags
from .release import find_release


def import_movielens(
    source: Path,
    out: Path,
    *,
    items: Path | None = None,
    posters: Path | None = None,
    item_id: str | None = None,
    links: Path | None = None,
    encoding: str = "utf-8",
    reading: Reading | None = None,
    choices: Choices | None = None,
) -> ImportReport:
    """Make a dataset folder ``out`` from a MovieLens zip or folder.

    ``items`` is a table of plots and posters, joined by movie_id (or item_id, movieId, or ``item_id``), else by imdb_id
    or tmdb_id where the source has links.csv, or ``links`` is such a table. Columns such as director, actors and
    country become tags (``choices.tags`` names others). Its poster paths start at ``posters``, by default at the
    table's own folder; without such a column, the image called after the id is looked up. BadInput where a file is not
    as GroupLens writes it, or where most titles under one id are other films'.
    """
    pictures = PosterSource.open(posters) if posters is not None else None
    reading = reading or Reading(encoding)
    if items is None and (links is not None or item_id is not None):
        raise UsageError("--links and --item-id say how --items is joined: give --items FILE too")
    choices = choices or Choices()
    if choices.tags and items is None:
        raise UsageError(f"--tags {choices.tags[0]}: needs --items, the table that has the column")
    with new_folder(out, overwrite=choices.overwrite) as staging:
        release = find_release(source, staging.scratch)
        parts = READERS[release.generation](release)
        add_tags(parts, release)
        if links is not None:
            release.files["links.csv"] = links
        if items is not None:
            table = open_table(items, staging.scratch, reading.encoding, reading.items)
            add_plots_and_posters(parts, release, table, items, choices, item_id)
        if pictures is None and items is not None:
            beside = with_slashes(parts.items, items.resolve().parent)
            parts.items, notes = without_addresses(beside, "poster", items.name)
            parts.warnings += notes
        elif pictures is not None:
            name = release.name if items is None else items.name
            parts.items, notes = place_posters(parts.items, pictures, None, name)
            parts.posters, parts.warnings = pictures.root, parts.warnings + notes
        parts.sources += release.sources()
        return assemble(parts, staging, out, choices)
