"""The catalogue: one row a film, with its id, its plot and where its poster lies."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from ..runtime.errors import BadInput, UsageError
from ..runtime.parquet import read_parquet
from .folder import ITEM_COLUMNS, Description, id_faults, refuse_rows, rows_named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, eq=False)
class Catalog:
    """The items of a dataset folder, in the order of `items.parquet`.

    ids: (N,) int64, or (N,) of dtype object holding ``str`` where the source has text ids. Unique, none missing.
    items: N rows with item_id (Int64 or String), title (String), year (Int32, may be null), genres and tags
        (List[String]; a tag is as in "director: Agnès Varda"), text (String, may be null), poster (String, may be
        null). Folders from before there were tags have none.
    poster_root: the folder that the paths in ``poster`` start from. Whether a path stays inside it, and whether there
        is an image, is for whoever opens it to check.
    """

    ids: np.ndarray
    items: pl.DataFrame
    poster_root: Path

    def __len__(self) -> int:
        return self.items.height

    @classmethod
    def open(cls, folder: Path) -> Catalog:
        """Read the items of a dataset folder.

        BadInput, naming row numbers where rows are at fault: no dataset folder, `items.parquet` missing or unreadable,
        a column missing or of another type, ids that are null, empty, too long, with a NUL, or given twice.
        """
        description = Description.read(folder)
        items = _read_items(folder / "items.parquet")
        ids = items["item_id"]
        return cls(
            ids=ids.to_numpy() if ids.dtype == pl.Int64 else np.array(ids.to_list(), dtype=object),
            items=items,
            poster_root=folder / description.posters,
        )

    def texts(self, template: str = "{text}") -> Iterator[str | None]:
        """Yield one text a film: ``template`` filled with the columns of items, or None where the film has no text.

        ``{{`` and ``}}`` stand for braces; a null becomes nothing, genres and tags are joined by commas. UsageError (at
        the call, not at the first text) where the template is malformed or names a column there isn't.
        """
        columns = _columns_named(template, self.items.columns)
        return _filled(template, self.items.select(list(dict.fromkeys(["text", *columns]))))

    def posters(self) -> list[str | None]:
        """Paths relative to ``poster_root``, as written in the catalogue; None where a film has none."""
        return self.items["poster"].to_list()


def _read_items(file: Path) -> pl.DataFrame:
    try:
        items = read_parquet(file)
    except FileNotFoundError:
        raise BadInput(f"{file} is missing: import the dataset again") from None
    except (pl.exceptions.PolarsError, OSError) as fault:
        reason = str(fault).splitlines()[0]
        raise BadInput(f"{file} cannot be read as Parquet ({reason}): import the dataset again") from None
    if "tags" not in items.columns:
        items = items.with_columns(tags=pl.lit([], dtype=ITEM_COLUMNS["tags"]))
    # where all lists are empty, some writers (and Polars itself, reversing) forget what they would hold
    untyped = [name for name, dtype in items.schema.items() if dtype == pl.List(pl.Null)]
    items = items.with_columns(pl.col(untyped).cast(pl.List(pl.String)))
    if absent := [name for name in ITEM_COLUMNS if name not in items.columns]:
        raise BadInput(f"{file} lacks the column {absent[0]!r}; it has {', '.join(items.columns)}")
    for name, dtype in ITEM_COLUMNS.items():
        allowed = (pl.Int64, pl.String) if name == "item_id" else (dtype,)
        if items.schema[name] not in allowed:
            expected = " or ".join(str(one) for one in allowed)
            raise BadInput(f"{file}, column {name}: expected {expected}, found {items.schema[name]}")
    text_ids = items.lazy().select(pl.col("item_id").cast(pl.String)).with_row_index("row")
    refuse_rows(text_ids, id_faults("item_id"), str(file))
    if repeated := items.select(pl.col("item_id").is_duplicated().arg_true()).to_series().to_list():
        first = items["item_id"][repeated[0]]
        raise BadInput(
            f"{file}, column item_id: {rows_named(repeated)} repeat ids ({first!r} first); ids must be unique"
        )
    return items.select(list(ITEM_COLUMNS))


def _columns_named(template: str, columns: list[str]) -> list[str]:
    try:
        fields = [part for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as fault:
        raise UsageError(
            f"text template {template!r}: {fault}; write columns as {{text}}, braces as {{{{ }}}}"
        ) from None
    for _, name, spec, conversion in fields:
        if name not in columns:
            raise UsageError(f"text template {template!r}: no column {name!r}; there are {', '.join(columns)}")
        if spec or conversion:
            raise UsageError(f"text template {template!r}: write {{{name}}} alone, without format or conversion")
    return [str(name) for _, name, _, _ in fields]


def _filled(template: str, items: pl.DataFrame) -> Iterator[str | None]:
    for film in items.iter_rows(named=True):
        text = film["text"]
        if text is None or not text.strip():
            yield None
        else:
            yield template.format_map({name: _as_words(value) for name, value in film.items()})


def _as_words(value: object) -> str:
    if value is None:
        return ""
    return ", ".join(str(part) for part in value if part is not None) if isinstance(value, list) else str(value)
