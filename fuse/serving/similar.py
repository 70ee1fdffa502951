"""Items like another one: by content, by taste, or by both."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from ...data.runtime.errors import BadInput, UsageError
from ..runs.run import Run
from .known_ids import id_column, item_numbers_of
from .run_tables import item_content, run_items
from .scoring import ranking_of

SimilarBy = Literal["both", "content", "taste"]


def similar(run: Run, item_id: int | str, k: int = 10, *, by: str = "both") -> pl.DataFrame:
    """The k items most like one, most alike first; fewer where the catalogue has fewer.

    ``content`` (Float32) is the cosine of the features besides ratings (genres, year, components of plots and
    posters), ``taste`` (Float32) that of the ranking model's item vectors, null for items without ratings; for
    "both" the mean of the two counts, or the one there is. Columns: rank (Int64), item_id, title, likeness (Float32),
    content, taste, train_ratings. BadInput where the run doesn't know the item or has nothing to compare it by;
    UsageError for another ``by`` or a k below 1.
    """
    if by not in get_args(SimilarBy):
        raise UsageError(f"--by {by}: expected content, taste or both")
    if k < 1:
        raise UsageError(f"k must be at least 1, found {k}")
    number = int(item_numbers_of(run.recommender, [item_id], "--item")[0])
    items = run_items(run)
    rated = items["train_ratings"].to_numpy() > 0
    nothing = np.full(items.height, np.nan, np.float32)
    content = nothing if by == "taste" else _content(run, number, by)
    taste = nothing if by == "content" or not rated[number] else _taste(run, number, rated, by)
    if by == "taste" and not rated[number]:
        raise BadInput(f"--item {item_id}: it has no ratings, so there is no taste to compare; use --by content")
    both = np.stack([content, taste])
    known = ~np.isnan(both)
    comparable: npt.NDArray[np.bool_] = known.any(0) & (np.arange(items.height) != number)
    if not comparable.any():
        raise BadInput(
            f"--item {item_id}: nothing to compare it by: the run has no content of it, and no ranking model of users "
            "who differ in taste; give the dataset genres, plots or posters, or ratings of more users"
        )
    likeness = np.where(known, both, 0).sum(0) / np.maximum(known.sum(0), 1)
    order = np.argsort(-np.where(comparable, likeness, -np.inf), kind="stable")
    order = order[comparable[order]][:k]
    ids = run.recommender.item_ids
    columns: dict[str, Any] = {
        "rank": np.arange(1, len(order) + 1),
        "item_id": id_column(ids[order], ids),
        "title": items["title"].gather(order),
        "likeness": pl.Series(likeness[order], dtype=pl.Float32),
        "content": pl.Series(content[order], dtype=pl.Float32).fill_nan(None),
        "taste": pl.Series(taste[order], dtype=pl.Float32).fill_nan(None),
        "train_ratings": items["train_ratings"].gather(order),
    }
    return pl.DataFrame(columns)


def _content(run: Run, number: int, by: str) -> npt.NDArray[np.float32]:
    """(I,) cosines of content; NaN where either item has none. BadInput without content where ``by`` is "content"."""
    try:
        rows = item_content(run)
    except BadInput:
        if by == "content":
            raise
        return np.full(len(run.recommender.item_ids), np.nan, np.float32)
    known = (rows != 0).any(1) & bool(rows[number].any())
    return np.where(known, rows @ rows[number], np.nan).astype(np.float32)


def _taste(run: Run, number: int, rated: npt.NDArray[np.bool_], by: str) -> npt.NDArray[np.float32]:
    """(I,) cosines of the ranking model's vectors without biases; NaN for items without ratings, or without taste."""
    if run.ranking is None and by == "both":
        return np.full(len(rated), np.nan, np.float32)
    model = ranking_of(run)
    vectors = model.balanced_items().numpy()
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.maximum(length, 1e-12)
    known = rated & (length[:, 0] > 1e-12) & (length[number, 0] > 1e-12)  # no vector has a length where users are alike
    return np.where(known, vectors @ vectors[number], np.nan).astype(np.float32)
