"""Errors of predicted ratings, with intervals and by popularity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

_Numbers = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]

BANDS: tuple[tuple[str, int], ...] = (("unseen", 0), ("1-4", 1), ("5-19", 5), ("20+", 20))
"""Bands of popularity: a name, and the fewest training ratings of an item in it."""


def rmse(rating: _Numbers, prediction: _Numbers) -> float:
    """Root of the mean squared error of two (R,) arrays, summed in float64.

    Raises ValueError where they are empty, differ in shape, or hold a value that is not finite.
    """
    return float(np.sqrt(np.mean(_errors(rating, prediction) ** 2)))


def mae(rating: _Numbers, prediction: _Numbers) -> float:
    """Mean absolute error of two (R,) arrays, summed in float64. Raises ValueError as `rmse` does."""
    return float(np.mean(np.abs(_errors(rating, prediction))))


def _errors(rating: _Numbers, prediction: _Numbers) -> _Floats:
    rating, prediction = np.asarray(rating), np.asarray(prediction)
    if rating.ndim != 1 or rating.shape != prediction.shape:
        raise ValueError(f"expected ratings and predictions (R,), received {rating.shape} and {prediction.shape}")
    if not rating.size:
        raise ValueError("expected at least one rating, received none")
    errors = prediction.astype(np.float64) - rating.astype(np.float64)
    if not np.isfinite(errors).all():
        raise ValueError(f"expected finite ratings and predictions, received {int((~np.isfinite(errors)).sum())} other")
    return errors


@dataclass(frozen=True)
class Interval:
    """A value, and the bounds of its percentile interval: NaN where there is only one user (or rating) to draw from."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ErrorIntervals:
    """Both errors over the same ratings, from the same draws."""

    rmse: Interval
    mae: Interval


def bootstrap_interval(
    rating: _Numbers,
    prediction: _Numbers,
    user: _Numbers | None,
    *,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> ErrorIntervals:
    """RMSE and MAE over (R,) ratings with percentile intervals.

    Whole users are drawn with replacement, as many as there are, since the errors of a user are correlated (the cluster
    bootstrap: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8). `user` (R,) is any array
    that identifies them; None draws single ratings instead, which makes the interval too narrow where users differ.
    The same arguments give the same interval. Raises ValueError as `rmse` does, for `draws` below 1, and for a `level`
    outside 0 to 1.
    """
    errors = _errors(rating, prediction)
    sums = resampled_sums(_per_cluster(user, errors**2, np.abs(errors)), seed, draws)
    return ErrorIntervals(
        _interval(rmse(rating, prediction), np.sqrt(sums[:, 1] / sums[:, 0]), level),
        _interval(mae(rating, prediction), sums[:, 2] / sums[:, 0], level),
    )


def paired_difference(
    rating: _Numbers,
    prediction_a: _Numbers,
    prediction_b: _Numbers,
    user: _Numbers | None,
    *,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> Interval:
    """RMSE of a minus RMSE of b over the same (R,) ratings; below 0, a is better.

    Each draw of users (as in `bootstrap_interval`) is used for both, so that shared errors cancel. Raises
    ValueError as `bootstrap_interval` does.
    """
    a, b = _errors(rating, prediction_a), _errors(rating, prediction_b)
    sums = resampled_sums(_per_cluster(user, a**2, b**2), seed, draws)
    differences = np.sqrt(sums[:, 1] / sums[:, 0]) - np.sqrt(sums[:, 2] / sums[:, 0])
    return _interval(rmse(rating, prediction_a) - rmse(rating, prediction_b), differences, level)


def _per_cluster(user: _Numbers | None, *amounts: _Floats) -> _Floats:
    """(C, 1 + amounts): of each user the number of ratings, then the sum of each amount."""
    if user is None:
        return np.column_stack([np.ones(len(amounts[0])), *amounts])
    if np.shape(user) != amounts[0].shape:
        raise ValueError(f"expected one user a rating, {amounts[0].shape}, received {np.shape(user)}")
    _, cluster = np.unique(user, return_inverse=True)
    return np.column_stack([np.bincount(cluster), *(np.bincount(cluster, amount) for amount in amounts)])


def resampled_sums(clusters: _Floats, seed: int, draws: int) -> _Floats:
    """(draws, columns): sums over as many rows of ``clusters`` (C, columns) as there are, drawn with replacement.

    One row of NaN where there are fewer than two. The same seed draws the same rows whatever the columns.
    ValueError for draws below 1.
    """
    if draws < 1:
        raise ValueError(f"expected at least 1 draw, received {draws}")
    count = len(clusters)
    if count < 2:
        return np.full((1, clusters.shape[1]), np.nan)
    chance = np.random.default_rng(seed)
    columns = np.ascontiguousarray(clusters.T)
    sums = np.empty((draws, len(columns)))
    for draw in range(draws):
        # how often each cluster was drawn weighs its sums: ratings are never copied
        times = np.bincount(chance.integers(0, count, count), minlength=count).astype(np.float64)
        # not a matrix product, whose last digits would depend on the number of threads
        sums[draw] = [np.sum(times * column) for column in columns]
    return sums


def _interval(value: float, resampled: _Floats, level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, received {level}")
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def by_popularity(rating: _Numbers, prediction: _Numbers, counts: _Numbers) -> pl.DataFrame:
    """Errors in each of `BANDS`: band (String), ratings (Int64), rmse and mae (Float64, null where there is no rating).

    `counts` (R,) is the number of training ratings of each rating's item. Raises ValueError as `rmse` does, and for a
    count below 0 or not one a rating.
    """
    errors, counts = _errors(rating, prediction), np.asarray(counts)
    if counts.shape != errors.shape or counts.min() < 0:
        raise ValueError(f"expected a training count of at least 0 for each of {errors.size} ratings")
    band = np.searchsorted([fewest for _, fewest in BANDS], counts, side="right") - 1
    found = [errors[band == place] for place in range(len(BANDS))]
    return pl.DataFrame(
        {
            "band": [name for name, _ in BANDS],
            "ratings": [len(some) for some in found],
            "rmse": [float(np.sqrt(np.mean(some**2))) if some.size else None for some in found],
            "mae": [float(np.mean(np.abs(some))) if some.size else None for some in found],
        },
        schema={"band": pl.String, "ratings": pl.Int64, "rmse": pl.Float64, "mae": pl.Float64},
    )
