"""Read a run folder's tables and vectors of items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors.numpy import load_file

from ...data.runtime.errors import BadInput
from ...data.runtime.parquet import parquet_schema, read_parquet
from ..inputs.run_file import readable
from ..runs.run import Run

_DETAILS = {"year": pl.Int32(), "genres": pl.List(pl.String())}


def run_items(run: Run) -> pl.DataFrame:
    """item_id, title, train_ratings, year and genres of all items of a run, by number. BadInput if it is damaged."""
    file = run.files.items
    items = read_run_table(file, ("item_id", "title", "train_ratings"))
    if items["item_id"].to_list() != run.recommender.item_ids.tolist():
        raise BadInput(f"{file} lists other films than the model: train the run again")
    there = parquet_schema(file)
    details = read_run_table(file, tuple(name for name in _DETAILS if name in there))
    absent = [pl.lit(None, kind).alias(name) for name, kind in _DETAILS.items() if name not in there]
    return items.hstack(details).with_columns(absent)


def item_content(run: Run) -> npt.NDArray[np.float32]:
    """(I, C) genres, year and components of each item, rows of length 1, or 0 where all are unknown.

    BadInput where the run read none of these, or the file is damaged.
    """
    file = run.files.content
    nothing = f"{run.folder} read no genres, years, plots or posters: there is no content to compare films by"
    with readable(file, missing=nothing):
        content = load_file(file)["content"].astype(np.float32)
    if len(content) != len(run.recommender.item_ids):
        raise BadInput(f"{file} is of other films than the model: train the run again")
    length = np.linalg.norm(content, axis=1, keepdims=True)
    rows: npt.NDArray[np.float32] = content / np.maximum(length, 1e-12)
    return rows


def read_run_table(file: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """The columns of a table of a run folder; BadInput where it is missing or damaged."""
    with readable(file):
        return read_parquet(file, columns=list(columns))
