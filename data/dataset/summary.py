"""What a dataset folder holds, counted: the numbers behind `cinefuse data info`."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import polars as pl

from ..runtime.errors import BadInput
from ..runtime.parquet import parquet_schema, scan_parquet
from ..splitting.boolean_columns import boolean_columns_of
from .catalog import Catalog
from .folder import Description
from .posters.files import file_of, poster_inside
from .ratings import rating_counts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def dataset_info(folder: Path) -> dict[str, Any]:
    """Count everything in a dataset folder, ready for JSON.

    name, implicit (the ratings are interactions alone), items, genres (name -> items), tags (column they are from ->
    different tags); texts: given, coverage, words (quantile -> words), repeated (texts beyond the first of their kind),
    and posters: given, present (a regular file inside the poster folder), missing, coverage (of files present),
    repeated (films whose poster's bytes an earlier film has); ratings as `rating_counts` gives them plus density (None
    without ratings); users (rows of users.parquet, None without); splits (fold or column:NAME -> part -> rows).
    BadInput where it is no dataset folder.
    """
    catalog = Catalog.open(folder)
    items = catalog.items
    about = Description.read(folder)
    return {
        "name": about.name,
        "implicit": about.implicit,
        "items": items.height,
        "genres": dict(items["genres"].explode().drop_nulls().value_counts(sort=True).iter_rows()),
        "tags": _tags(items["tags"]),
        "texts": _texts(items["text"]),
        "posters": _posters(catalog),
        "ratings": _ratings(folder / "ratings.parquet", items),
        "users": _height(folder / "users.parquet"),
        "splits": {file.stem: _fold(file) for file in sorted((folder / "splits").glob("*.parquet"))}
        | _marked(folder / "ratings.parquet"),
    }


def _tags(tags: pl.Series) -> dict[str, int]:
    """How many different tags each column gave, by the column's name."""
    kinds = tags.explode().drop_nulls().unique(maintain_order=True).str.split(": ").list.first()
    return dict(kinds.value_counts().sort(kinds.name).iter_rows())


def _texts(texts: pl.Series) -> dict[str, Any]:
    given = texts.drop_nulls()
    words = given.str.count_matches(r"\S+")
    return {
        "given": given.len(),
        "coverage": given.len() / max(1, texts.len()),
        "words": {f"{q:g}": words.quantile(q, "nearest") for q in QUANTILES} if given.len() else {},
        "repeated": given.len() - given.n_unique(),
    }


def _posters(catalog: Catalog) -> dict[str, Any]:
    given = [poster for poster in catalog.posters() if poster is not None]
    there = {path: poster_inside(catalog.poster_root, path) for path in set(map(file_of, given))}
    present = [poster for poster in given if there[file_of(poster)] is not None]
    # of posters inside an archive nothing is read: at millions of them that would take hours
    files = [file for poster in present if (path := file_of(poster)) == poster and (file := there[path]) is not None]
    return {
        "root": str(catalog.poster_root),
        "given": len(given),
        "present": len(present),
        "missing": len(given) - len(present),
        "coverage": len(present) / max(1, len(catalog)),
        "repeated": _repeated(files),
    }


def _repeated(files: list[Path]) -> int:
    """How many entries have the bytes of an earlier one; only files of equal size are read."""
    entries = Counter(files)
    by_size: dict[int, list[Path]] = defaultdict(list)
    for file in entries:
        by_size[file.stat().st_size].append(file)
    repeated = len(files) - len(entries)
    for alike in by_size.values():
        if len(alike) > 1:
            repeated += len(alike) - len({_digest(file) for file in alike})
    return repeated


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _ratings(file: Path, items: pl.DataFrame) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    with _readable(file):
        if parquet_schema(file).get("item_id") != items.schema["item_id"]:
            raise BadInput(f"{file}: its item_id is of another type than that of the items: import the dataset again")
        counts = rating_counts(file, items)
    cells = counts["users"] * (items.height + counts["unknown_items"])
    histogram = {f"{rating:g}": rows for rating, rows in counts["histogram"].items()}
    return counts | {"histogram": histogram, "density": counts["ratings"] / max(1, cells)}


def _marked(file: Path) -> dict[str, dict[str, int]]:
    """Splits by boolean columns of the ratings: the true rows are the test part."""
    if not file.is_file():
        return {}
    with _readable(file):
        names = boolean_columns_of(file)
        counted = scan_parquet(file).select(pl.len().alias("/rows"), *(pl.col(name).sum() for name in names))
        found = counted.collect(engine="streaming").row(0, named=True)
    return {f"column:{name}": {"train": found["/rows"] - found[name], "test": found[name]} for name in names}


def _height(file: Path) -> int | None:
    if not file.is_file():
        return None
    with _readable(file):
        return int(scan_parquet(file).select(pl.len()).collect().item())


def _fold(file: Path) -> dict[str, int]:
    with _readable(file):
        return dict(scan_parquet(file).group_by("part").len().sort("part", descending=True).collect().iter_rows())


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn a table that Polars cannot read into a refusal that names the file."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as fault:
        reason = str(fault).splitlines()[0]
        raise BadInput(f"{file} cannot be read ({reason}): import the dataset again") from None
