"""The error of each film over all its test ratings."""

from __future__ import annotations

import numpy as np
import polars as pl

from ..evaluation.run_rows import Tested

_LEAST = (100, 50, 20, 10, 5, 2, 1)
_ENOUGH_FILMS = 40


def fair_least(tested: Tested) -> int:
    """How many test ratings a film needs to be compared: the most that at least 40 films have, of a few round numbers.

    The error of a film with two ratings is mostly chance.
    """
    counts = np.bincount(tested.item)
    return next((least for least in _LEAST if (counts >= least).sum() >= _ENOUGH_FILMS), 1)


def film_errors(tested: Tested, least: int = 1) -> pl.DataFrame:
    """A row a film with ``least`` test ratings or more, the lowest error first: film (its number), ratings (Int64),
    rmse, rating and prediction (means), spread (deviation of its ratings, divided by n).
    Equal ones stand by film number.
    """
    return (
        pl.DataFrame({"film": tested.item, "rating": tested.rating, "prediction": tested.prediction})
        .with_columns(pl.col("rating", "prediction").cast(pl.Float64))
        .group_by("film")
        .agg(
            ratings=pl.len().cast(pl.Int64),
            rmse=((pl.col("prediction") - pl.col("rating")) ** 2).mean().sqrt(),
            mean_rating=pl.col("rating").mean(),
            mean_prediction=pl.col("prediction").mean(),
            spread=pl.col("rating").std(ddof=0),
        )
        .rename({"mean_rating": "rating", "mean_prediction": "prediction"})
        .filter(pl.col("ratings") >= least)
        .sort("rmse", "film")
    )
