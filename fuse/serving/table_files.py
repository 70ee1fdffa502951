"""Tables that `cinefuse predict` and `recommend` read and write, by the suffix of their names."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from ...data.runtime.disk import write_atomically
from ...data.runtime.errors import BadInput, UsageError
from ...data.tables.opening import open_table

_SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")


def read_pairs(file: Path) -> pl.DataFrame:
    """user_id and item_id of a .csv, .tsv, .parquet or .jsonl, whose columns may have familiar names such as userId.

    BadInput where the table cannot be read or has no such column.
    """
    return _read(file, ("user_id", "item_id"))


def read_item_ids(file: Path) -> tuple[Any, ...]:
    """The ids in item_id of such a table. BadInput as `read_pairs`."""
    return tuple(_read(file, ("item_id",))["item_id"].drop_nulls().to_list())


def _read(file: Path, wanted: tuple[str, ...]) -> pl.DataFrame:
    with tempfile.TemporaryDirectory() as scratch:
        table = open_table(file, Path(scratch))
        columns = {ours: table.column_for(ours) for ours in wanted}
        if None in columns.values():
            names = f"column{'s' * (len(wanted) > 1)} {' and '.join(wanted)}"
            raise BadInput(f"{file}: expected {names}, found {', '.join(table.columns)}")
        try:
            ids = table.renamed(columns).drop("row").collect()
            return ids.with_columns(_whole(ids[name]) for name in wanted)
        except pl.exceptions.PolarsError as fault:
            raise BadInput(f"{file} cannot be read as a table: {str(fault).splitlines()[0]}") from None


def _whole(ids: pl.Series) -> pl.Series:
    """Ids without the ".0" that a program put behind all of them, as one does that knows a blank only among floats."""
    if ids.dtype.is_float() and (ids.is_null() | (ids == ids.floor())).all():
        return ids.cast(pl.Int64, strict=False)
    if ids.dtype == pl.String and ids.drop_nulls().str.contains(r"^-?(?:0|[1-9]\d*)\.0+$").all():
        return ids.str.replace(r"\.0+$", "")
    return ids


def refuse_unknown_suffix(file: Path) -> None:
    """UsageError where `write_table` has no way to write a file of that name."""
    if file.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"--out {file}: expected {', '.join(_SUFFIXES)}, found {file.suffix or 'no suffix'!r}")


def write_table(table: pl.DataFrame, file: Path) -> None:
    """Write Parquet, CSV, TSV or JSON lines, all or nothing. UsageError for another suffix; NoSpace, BadInput."""
    refuse_unknown_suffix(file)
    content, suffix = io.BytesIO(), file.suffix.lower()
    if suffix == ".parquet":
        table.write_parquet(content, compression="zstd")
    elif suffix == ".jsonl":
        table.write_ndjson(content)
    else:
        table.write_csv(content, separator="\t" if suffix == ".tsv" else ",")
    write_atomically(file, content.getvalue())
