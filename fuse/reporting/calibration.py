"""Whether what was said came true: predictions and probabilities against the ratings that were given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]
_LEAST_RATINGS = 30  # in a bin: below, an interval says nothing
_NORMAL = 1.96  # standard errors to either side of a 95 % interval


@dataclass(frozen=True, eq=False)
class Bins:
    """What was said and what happened, by bins of what was said; all (B,), bins of about equal size, ascending.

    ``said`` and ``happened`` are means; ``low`` and ``high`` bound ``happened`` (95 %; NaN for one user alone).
    """

    said: _Floats
    happened: _Floats
    low: _Floats
    high: _Floats
    ratings: npt.NDArray[np.int64]

    @property
    def gap(self) -> float:
        """Mean distance of what happened from what was said, each bin weighed by its ratings."""
        return float(np.average(np.abs(self.happened - self.said), weights=self.ratings))


def calibration(
    said: npt.NDArray[Any], happened: npt.NDArray[Any], user: npt.NDArray[Any], *, most_bins: int = 10
) -> Bins:
    """Bin (R,) predictions, or probabilities, by their own quantiles and set against each what ``happened`` (R,).

    Ratings of one ``user`` (R,) are alike, so the variance of a bin's mean is that of sums over users:
    G / (G - 1) / n**2 * sum over the G users of (sum of the user's residuals)**2 (Cochran 1977, Sampling Techniques,
    section 9A.3). Raises ValueError where arrays are empty or differ in shape.
    """
    said, happened = np.asarray(said, np.float64), np.asarray(happened, np.float64)
    if not said.size or said.shape != happened.shape or said.shape != np.shape(user):
        raise ValueError(
            f"expected arrays (R,) of one shape, received {said.shape}, {happened.shape}, {np.shape(user)}"
        )
    count = max(1, min(most_bins, said.size // _LEAST_RATINGS))
    # predictions that are equal are one bin's, so there may be fewer
    edges = np.unique(np.quantile(said, np.arange(1, count) / count))
    place = np.searchsorted(edges, said, side="right")
    found = [_mean_of(said[place == one], happened[place == one], user[place == one]) for one in np.unique(place)]
    columns = [np.array(column) for column in zip(*found, strict=True)]
    return Bins(columns[0], columns[1], columns[2], columns[3], columns[4].astype(np.int64))


def _mean_of(said: _Floats, happened: _Floats, user: npt.NDArray[Any]) -> tuple[float, float, float, float, int]:
    mean = float(happened.mean())
    _, cluster = np.unique(user, return_inverse=True)
    sums = np.bincount(cluster, happened - mean)
    if len(sums) < 2:
        return float(said.mean()), mean, float("nan"), float("nan"), len(said)
    half = _NORMAL * float(np.sqrt(len(sums) / (len(sums) - 1) * np.sum(sums**2))) / len(said)
    return float(said.mean()), mean, mean - half, mean + half, len(said)


def slope(prediction: npt.NDArray[Any], rating: npt.NDArray[Any]) -> float | None:
    """The slope of a straight line fitted to ratings (R,) by predictions (R,): 1 where they are neither too timid
    (above 1) nor too bold (below); None where all predictions are equal."""
    prediction, rating = np.asarray(prediction, np.float64), np.asarray(rating, np.float64)
    spread = prediction - prediction.mean()
    squares = float(spread @ spread)
    return float(spread @ rating) / squares if squares > 1e-12 * prediction.size else None


def level_shares(
    distribution: npt.NDArray[Any], rating: npt.NDArray[Any], levels: tuple[float, ...]
) -> tuple[_Floats, _Floats]:
    """The share of each of K ``levels`` as said, (K,), by the mean of ``distribution`` (R, K), and as it happened.

    A rating counts for the nearest level: test ratings may have one that training has not.
    """
    nearest = np.abs(np.asarray(rating, np.float64)[:, None] - np.array(levels)).argmin(1)
    return np.asarray(distribution, np.float64).mean(0), np.bincount(nearest, minlength=len(levels)) / len(rating)
