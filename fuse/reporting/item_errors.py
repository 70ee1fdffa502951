"""The error of each item over all its test ratings."""

from __future__ import annotations

import numpy as np
import polars as pl

from ..evaluation.run_rows import Tested

_LEAST = (100, 50, 20, 10, 5, 2, 1)
_ENOUGH_ITEMS = 40


def fair_least(tested: Tested) -> int:
    """The fewest test ratings of an item to be compared: the largest of a few round numbers that 40 items reach.

    The error of an item with two ratings is mostly chance.
    """
    counts = np.bincount(tested.item)
    return next((least for least in _LEAST if (counts >= least).sum() >= _ENOUGH_ITEMS), 1)


def item_errors(tested: Tested, least: int = 1) -> pl.DataFrame:
    """A row for each item with ``least`` test ratings or more, the lowest error first, equal ones by number.

    Columns: item (its number), ratings (Int64), rmse, rating and prediction (means), spread (deviation of its ratings,
    divided by n).
    """
    return (
        pl.DataFrame({"item": tested.item, "rating": tested.rating, "prediction": tested.prediction})
        .with_columns(pl.col("rating", "prediction").cast(pl.Float64))
        .group_by("item")
        .agg(
            ratings=pl.len().cast(pl.Int64),
            rmse=((pl.col("prediction") - pl.col("rating")) ** 2).mean().sqrt(),
            mean_rating=pl.col("rating").mean(),
            mean_prediction=pl.col("prediction").mean(),
            spread=pl.col("rating").std(ddof=0),
        )
        .rename({"mean_rating": "rating", "mean_prediction": "prediction"})
        .filter(pl.col("ratings") >= least)
        .sort("rmse", "item")
    )
