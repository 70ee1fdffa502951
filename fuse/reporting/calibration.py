"""Calibration: predicted ratings and probabilities against the ratings that were given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]
_LEAST_RATINGS = 30  # in a bin: with fewer an interval is too wide to be of use
_NORMAL = 1.96  # standard errors to either side of a 95 % interval


@dataclass(frozen=True, eq=False)
class Bins:
    """Bins of predictions, of about equal size and ascending; all (B,).

    ``predicted`` and ``observed`` are means; ``low`` and ``high`` bound ``observed`` (95 %; NaN for one user alone).
    """

    predicted: _Floats
    observed: _Floats
    low: _Floats
    high: _Floats
    ratings: npt.NDArray[np.int64]

    @property
    def gap(self) -> float:
        """Mean distance of observed from predicted, each bin weighted by its ratings."""
        return float(np.average(np.abs(self.observed - self.predicted), weights=self.ratings))


def calibration(
    predicted: npt.NDArray[Any], observed: npt.NDArray[Any], user: npt.NDArray[Any], *, most_bins: int = 10
) -> Bins:
    """Bin (R,) predicted ratings, or probabilities, by quantiles, with the means of ``observed`` (R,) in each bin.

    Ratings of one ``user`` (R,) are alike, so the variance of a bin's mean is that of sums over users:
    G / (G - 1) / n**2 * sum over the G users of (sum of the user's residuals)**2 (Cochran 1977, Sampling Techniques,
    section 9A.3). Raises ValueError where arrays are empty or differ in shape.
    """
    predicted, observed = np.asarray(predicted, np.float64), np.asarray(observed, np.float64)
    if not predicted.size or predicted.shape != observed.shape or predicted.shape != np.shape(user):
        raise ValueError(
            f"expected arrays (R,) of one shape, received {predicted.shape}, {observed.shape}, {np.shape(user)}"
        )
    count = max(1, min(most_bins, predicted.size // _LEAST_RATINGS))
    # equal predictions belong to one bin, so there may be fewer bins
    edges = np.unique(np.quantile(predicted, np.arange(1, count) / count))
    place = np.searchsorted(edges, predicted, side="right")
    found = [_mean_of(predicted[place == one], observed[place == one], user[place == one]) for one in np.unique(place)]
    columns = [np.array(column) for column in zip(*found, strict=True)]
    return Bins(columns[0], columns[1], columns[2], columns[3], columns[4].astype(np.int64))


def _mean_of(predicted: _Floats, observed: _Floats, user: npt.NDArray[Any]) -> tuple[float, float, float, float, int]:
    mean = float(observed.mean())
    _, cluster = np.unique(user, return_inverse=True)
    sums = np.bincount(cluster, observed - mean)
    if len(sums) < 2:
        return float(predicted.mean()), mean, float("nan"), float("nan"), len(predicted)
    half = _NORMAL * float(np.sqrt(len(sums) / (len(sums) - 1) * np.sum(sums**2))) / len(predicted)
    return float(predicted.mean()), mean, mean - half, mean + half, len(predicted)


def slope(prediction: npt.NDArray[Any], rating: npt.NDArray[Any]) -> float | None:
    """The slope of the regression of ratings (R,) on predictions (R,); None where all predictions are equal.

    It is 1 for calibrated predictions, above 1 where they spread too little, below 1 where they spread too much.
    """
    prediction, rating = np.asarray(prediction, np.float64), np.asarray(rating, np.float64)
    spread = prediction - prediction.mean()
    squares = float(spread @ spread)
    return float(spread @ rating) / squares if squares > 1e-12 * prediction.size else None


def level_shares(
    distribution: npt.NDArray[Any], rating: npt.NDArray[Any], levels: tuple[float, ...]
) -> tuple[_Floats, _Floats]:
    """The share of each of K ``levels``, predicted by the mean of ``distribution`` (R, K), and observed; both (K,).

    A rating counts for the nearest level: test ratings may have one that training has not.
    """
    nearest = np.abs(np.asarray(rating, np.float64)[:, None] - np.array(levels)).argmin(1)
    return np.asarray(distribution, np.float64).mean(0), np.bincount(nearest, minlength=len(levels)) / len(rating)
