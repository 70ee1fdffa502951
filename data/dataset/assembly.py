"""From parts in hand (items, ratings, users, folds, posters) to a dataset folder, whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from ..runtime.errors import BadInput
from .folder import ITEM_COLUMNS, Description, Staging, is_integer_id, poster_root_as_written
from .items import without_repeats
from .links import write_links
from .posters.files import copy_posters, file_of, poster_inside
from .rating_scale import looks_like_counts, median_of, values_not_rated
from .ratings import rating_counts, write_fold

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .ratings import RatingTable


@dataclass(frozen=True)
class Choices:
    """The options of an import: replace OUT, refuse doubtful rows, copy the posters, take tags from columns."""

    overwrite: bool = False
    strict: bool = False
    copy_posters: bool = False
    tags: Sequence[str] = ()


@dataclass
class Parts:
    """Everything an import found; ``name`` is the source's, as messages say it.

    ``items`` has the columns of `items.parquet`, ids as text, and ``row``. ``folds`` maps a fold's name to its "train"
    and "test" tables. ``posters`` is where poster paths start (None: there are none).
    ``links`` are the numbers of IMDb and TMDB, as `tidy_links` gives them.
    """

    name: str
    items: pl.DataFrame
    ratings: RatingTable | None
    posters: Path | None = None
    users: pl.DataFrame | None = None
    links: pl.DataFrame | None = None
    folds: dict[str, dict[str, RatingTable]] = field(default_factory=dict)
    sources: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ImportReport:
    """What an import made: the dataset folder, its counts by name, and one sentence for each thing to know about it."""

    folder: Path
    counts: dict[str, int]
    warnings: list[str]


def assemble(parts: Parts, staging: Staging, out: Path, choices: Choices) -> ImportReport:
    """Write all files of a dataset into the staged folder; its final place is ``out``.

    Item ids become Int64 where those of items and ratings alike are all canonical integers, else both stay text.
    """
    items, repeats = without_repeats(parts.items, parts.name, strict=choices.strict)
    if items.is_empty():
        raise BadInput(f"{parts.name}: there are no items; a dataset needs at least one")
    integers = {"user_id": True, "item_id": True} if parts.ratings is None else parts.ratings.check()
    integer_items = integers["item_id"] and bool(items.select(is_integer_id("item_id").all()).item())
    items = items.select(list(ITEM_COLUMNS)).with_columns(
        pl.col("item_id").cast(pl.Int64 if integer_items else pl.String)
    )
    items.write_parquet(staging.folder / "items.parquet", compression="zstd")
    if parts.links is not None:
        write_links(parts.links, items, staging.folder)
    counts: dict[str, int] = {
        "items": items.height,
        "texts": items.height - items["text"].null_count(),
        "posters": items.height - items["poster"].null_count(),
    }
    if tags := items["tags"].explode().drop_nulls().n_unique():
        counts["tags"] = tags
    warnings = [*parts.warnings, *repeats]
    if parts.ratings is not None:
        file = staging.folder / "ratings.parquet"
        parts.ratings.write(file, integer_users=integers["user_id"], integer_items=integer_items)
        found = rating_counts(file, items)
        what = "interactions" if parts.ratings.implicit else "ratings"
        counts |= {what: found["ratings"], "users": found["users"], "rated_items": found["rated_items"]}
        warnings += [*parts.ratings.notes, *_doubts(found)]
        _write_folds(parts.folds, staging.folder)
    if parts.users is not None:
        dtype = pl.Int64 if integers["user_id"] else pl.String
        users = parts.users.with_columns(pl.col("user_id").cast(dtype))
        users.write_parquet(staging.folder / "users.parquet", compression="zstd")
    root = "."
    if parts.posters is not None:
        own = parts.posters.is_relative_to(staging.folder)  # downloaded into the dataset itself
        root = parts.posters.name if own else poster_root_as_written(parts.posters, out)
        given = items["poster"].drop_nulls().to_list()
        if choices.copy_posters and not own:
            root, missing = copy_posters(given, parts.posters, staging.folder)
            note = "they were not copied"
        else:
            files = [file_of(poster) for poster in given]
            gone = {file for file in set(files) if poster_inside(parts.posters, file) is None}
            missing = sum(file in gone for file in files)
            note = "--posters names the folder that they start from"
        if missing:
            warnings.append(f"{missing:,} of {len(given):,} posters are not files inside {parts.posters}; {note}")
    implicit = parts.ratings is not None and parts.ratings.implicit
    Description(out.resolve().name, root, parts.sources, counts, implicit=implicit).write(staging.folder)
    return ImportReport(out, counts, warnings)


def _write_folds(folds: dict[str, dict[str, RatingTable]], folder: Path) -> None:
    if folds:
        (folder / "splits").mkdir()
    for name, tables in folds.items():
        write_fold(folder / "ratings.parquet", name, tables, folder / "splits" / f"{name}.parquet")


def _doubts(found: dict[str, Any]) -> list[str]:
    doubts = []
    histogram: dict[float, int] = found["histogram"]
    if histogram:
        lowest, highest, median = min(histogram), max(histogram), median_of(histogram)
        if looks_like_counts(lowest, median, highest, len(histogram)):
            doubts.append(
                f"the ratings run from {lowest:g} to {highest:g} with a median of {median:g}: if they are counts, "
                "import them with --log-ratings, or with --interactions to rank by them"
            )
        else:
            doubts += [
                f"the rating {value:g}, given {'once' if histogram[value] == 1 else f'{histogram[value]:,} times'}, "
                f"stands apart from all others: if it means 'not rated', import with --drop-rating {value:g}"
                for value in values_not_rated(histogram)
            ]
    if found["repeated_pairs"]:
        doubts.append(f"{found['repeated_pairs']:,} ratings repeat a user and film already rated; they were kept")
    if found["unknown_items"]:
        doubts.append(
            f"{found['unknown_item_ratings']:,} ratings name {found['unknown_items']:,} films that the items lack; "
            "they were kept"
        )
    return doubts
