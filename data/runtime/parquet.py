"""Parquet tables by their exact paths: polars by itself takes `[`, `*` and `?` in a folder's name for a pattern."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl


def scan_parquet(file: Path | list[Path]) -> pl.LazyFrame:
    """A table, or several one after the other, that is read as it is needed."""
    return pl.scan_parquet(file, glob=False)


def read_parquet(file: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A table, or these columns of it."""
    return pl.read_parquet(file, columns=None if columns is None else list(columns), glob=False)


def parquet_schema(file: Path) -> pl.Schema:
    """Columns and their types, without reading rows."""
    return scan_parquet(file).collect_schema()
