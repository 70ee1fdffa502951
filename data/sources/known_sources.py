"""Known sources by their names: each a reader of its files as they are published, broken rows and all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dataset.assembly import Choices, ImportReport, Parts, assemble
from ..dataset.folder import new_folder
from ..dataset.posters.placing import place_posters
from ..dataset.posters.source import PosterSource
from ..runtime.errors import UsageError
from .amazon_reviews import read_amazon_reviews
from .kaggle_movies import read_kaggle_movies
from .known_tables import read_book_crossing, read_goodbooks, read_microlens, read_movietweetings, read_recbole
from .netflix_prize import read_netflix_prize
from .source_files import SourceFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KNOWN: dict[str, Callable[[SourceFiles], Parts]] = {
    "kaggle-movies": read_kaggle_movies,
    "movietweetings": read_movietweetings,
    "amazon-reviews": read_amazon_reviews,
    "microlens": read_microlens,
    "goodbooks": read_goodbooks,
    "book-crossing": read_book_crossing,
    "recbole": read_recbole,
    "netflix-prize": read_netflix_prize,
}


def import_known(
    name: str, source: Path, out: Path, *, posters: Path | None = None, choices: Choices | None = None
) -> ImportReport:
    """Make a dataset folder ``out`` from the folder or zip ``source`` of a known source (a key of KNOWN).

    ``posters`` is where images called after the items' ids lie. BadInput where a file is missing or not as the source
    publishes it.
    """
    if name not in KNOWN:
        raise UsageError(f"{name}: unknown source; there are {', '.join(KNOWN)}")
    choices = choices or Choices()
    pictures = PosterSource.open(posters) if posters is not None else None
    with new_folder(out, overwrite=choices.overwrite) as staging:
        files = SourceFiles(source, staging.scratch)
        parts = KNOWN[name](files)
        if pictures is not None:
            parts.items, notes = place_posters(parts.items, pictures, None, files.name)
            parts.posters, parts.warnings = pictures.root, parts.warnings + notes
        parts.sources = files.sources()
        return assemble(parts, staging, out, choices)
