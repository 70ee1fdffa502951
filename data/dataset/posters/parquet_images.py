"""Images that lie in a column of a Parquet table: bytes, or a struct with bytes as the Hub has it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ...runtime.errors import BadInput
from ...runtime.parquet import parquet_schema, scan_parquet
from .members import Member

if TYPE_CHECKING:
    from collections.abc import Mapping

_IMAGE_COLUMNS = ("image", "poster", "img", "jpg", "png", "webp", "picture", "photo")


def image_column(schema: Mapping[str, pl.DataType]) -> str | None:
    """The column of a Parquet table that holds images: bytes, or a struct with bytes as the Hub has it."""
    found = [name for name, dtype in schema.items() if holds_images(dtype)]
    named = [name for name in found if name.casefold() in _IMAGE_COLUMNS]
    return next(iter(named or found), None)


def holds_images(dtype: pl.DataType) -> bool:
    """Whether a column of this type holds images as bytes."""
    return dtype == pl.Binary or (isinstance(dtype, pl.Struct) and _has_bytes(dtype))


def _has_bytes(dtype: pl.Struct) -> bool:
    return any(part.name == "bytes" and part.dtype == pl.Binary for part in dtype.fields)


def parquet_references(file: Path, column: str) -> list[str | None]:
    """The reference of every row's image, in the file's order; None where the cell is empty. No image is read."""
    import pyarrow.parquet as pq

    dtype = parquet_schema(file)[column]
    cell = pl.col(column)
    inside = f"{column}.bytes" if isinstance(dtype, pl.Struct) else column
    given = cell.struct.field("bytes").is_not_null() if isinstance(dtype, pl.Struct) else cell.is_not_null()
    there = scan_parquet(file).select(given.alias("there")).collect(engine="streaming")["there"].to_list()
    metadata = pq.read_metadata(file)
    references: list[str | None] = []
    for group in range(metadata.num_row_groups):
        for row in range(metadata.row_group(group).num_rows):
            known = there[len(references)]
            references.append(str(Member(file.name, column=inside, group=group, row=row)) if known else None)
    return references


def images_of_rows(file: Path, column: str, rows: pl.Series) -> pl.Series:
    """The references of images in a Parquet ``column``, for rows (from 0) of the table; a path where there is no image.

    BadInput where the table is not a Parquet file itself.
    """
    if file.suffix.lower() != ".parquet":
        raise BadInput(
            f"{file}, column {column}: images inside a table are read from .parquet alone; name another column"
        )
    references = pl.Series("poster", parquet_references(file, column), dtype=pl.String)
    dtype = parquet_schema(file)[column]
    if isinstance(dtype, pl.Struct) and any(part.name == "path" for part in dtype.fields):
        paths = scan_parquet(file).select(pl.col(column).struct.field("path").cast(pl.String)).collect().to_series()
        references = references.fill_null(paths).alias("poster")
    return references.gather(rows)
