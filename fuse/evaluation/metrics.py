"""How good predictions are: error with its uncertainty, error by popularity, and rank among all films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

_Numbers = npt.NDArray[Any]
_Floats = npt.NDArray[np.float64]

BANDS: tuple[tuple[str, int], ...] = (("unseen", 0), ("1-4", 1), ("5-19", 5), ("20+", 20))
"""Bands of popularity: a name, and the fewest training ratings of a film in it."""


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

    Whole users are drawn with replacement, as many as there are, since one user's errors are alike (the cluster
    bootstrap: Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8). `user` (R,) is any array
    that tells them apart; None draws single ratings instead, which makes the interval too narrow where users differ.
    The same arguments give the same interval. Raises ValueError as `rmse` does, for `draws` below 1, and for a `level`
    outside 0 to 1.
    """
    errors = _errors(rating, prediction)
    sums = _resampled(_per_cluster(user, errors**2, np.abs(errors)), seed, draws)
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

    Each draw of users (as in `bootstrap_interval`) serves both, so that what is hard for both cancels. Raises
    ValueError as `bootstrap_interval` does.
    """
    a, b = _errors(rating, prediction_a), _errors(rating, prediction_b)
    sums = _resampled(_per_cluster(user, a**2, b**2), seed, draws)
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


def _resampled(clusters: _Floats, seed: int, draws: int) -> _Floats:
    """(draws, columns): sums over as many clusters as there are, drawn with replacement; none without a spread."""
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
        times = np.bincount(chance.integers(0, count, count), minlength=count)
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

    `counts` (R,) says how often each rating's film occurs in training. Raises ValueError as `rmse` does, and for a
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


@dataclass(frozen=True, eq=False)
class ItemLists:
    """For each of B users a list of items (compressed sparse rows): user b has items[offsets[b] : offsets[b + 1]].

    offsets: (B + 1,) int64, from 0, never falling. items: (offsets[-1],) integers.
    """

    offsets: npt.NDArray[np.int64]
    items: npt.NDArray[Any]

    @classmethod
    def of(cls, user: _Numbers, item: _Numbers, users: int) -> ItemLists:
        """Group the pairs (user, item), (R,) each, by user: indices from 0 to `users` - 1. ValueError for others."""
        user, item = np.asarray(user), np.asarray(item)
        if user.shape != item.shape or (user.size and not 0 <= user.min() <= user.max() < users):
            raise ValueError(f"expected pairs of a user from 0 to {users - 1} and an item")
        offsets = np.concatenate(([0], np.cumsum(np.bincount(user, minlength=users)))).astype(np.int64)
        return cls(offsets, item[np.argsort(user, kind="stable")])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of_users(self, start: int, stop: int) -> ItemLists:
        """The lists of users `start` to `stop` - 1, which become users 0 and on."""
        offsets = self.offsets[start : stop + 1]
        return ItemLists(offsets - offsets[0], self.items[offsets[0] : offsets[-1]])

    def mask(self, items: int) -> npt.NDArray[np.bool_]:
        """(B, items) True where the user's list has the item. Raises ValueError for an item outside that."""
        if self.items.size and not 0 <= self.items.min() <= self.items.max() < items:
            raise ValueError(f"expected items from 0 to {items - 1}, received {self.items.min()} to {self.items.max()}")
        mask = np.zeros((len(self), items), np.bool_)
        mask[np.repeat(np.arange(len(self)), np.diff(self.offsets)), self.items] = True
        return mask


@dataclass(frozen=True, eq=False)
class Ranking:
    """nDCG and recall of each user who has a relevant item: users (U,) int64 rows of the scores, the others float64."""

    users: npt.NDArray[np.int64]
    ndcg: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]

    @property
    def mean_ndcg(self) -> float:
        """Mean over users, NaN where there is none."""
        return float(self.ndcg.mean()) if self.ndcg.size else float("nan")

    @property
    def mean_recall(self) -> float:
        """Mean over users, NaN where there is none."""
        return float(self.recall.mean()) if self.recall.size else float("nan")

    @classmethod
    def joined(cls, chunks: Sequence[tuple[int, Ranking]]) -> Ranking:
        """One ranking from several, each with the number of its first user."""
        return cls(
            np.concatenate([start + chunk.users for start, chunk in chunks] or [np.empty(0, np.int64)]),
            np.concatenate([chunk.ndcg for _, chunk in chunks] or [np.empty(0)]),
            np.concatenate([chunk.recall for _, chunk in chunks] or [np.empty(0)]),
        )


def ranking(scores: _Numbers, seen: ItemLists, relevant: ItemLists, k: int = 10) -> Ranking:
    """Rank *all* items the user has not seen by `scores` (B, I), and see where the relevant ones stand.

    `seen` lists each user's training and validation items, which are left out; `relevant` the test items that the user
    liked. Nothing is sampled: every unseen item competes. Users without a relevant item are left out of the result.
    Raises ValueError as `top_items` and `ndcg_at` do, and for an item that is both seen and relevant.
    """
    top = top_items(scores, seen, k)
    if len(relevant) != len(top):
        raise ValueError(f"expected lists of {len(top)} users, received {len(relevant)}")
    liked = relevant.mask(np.shape(scores)[1])
    if (liked & seen.mask(liked.shape[1])).any():
        raise ValueError("expected relevant items that the user has not seen, received some that are in both lists")
    users = np.flatnonzero(liked.any(axis=1))
    return Ranking(users, ndcg_at(top, liked)[users], recall_at(top, liked)[users])


def top_items(scores: _Numbers, seen: ItemLists, k: int) -> npt.NDArray[np.int64]:
    """The best unseen items of each user, (B, min(k, I)) int64, best first; -1 where fewer are left.

    `scores` is (B, I); among equal ones the item of the lower index comes first. It takes about 10 bytes a score.
    Raises ValueError for a score that is not finite, a `k` below 1, and lists of other users or items.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or len(scores) != len(seen):
        raise ValueError(f"expected scores (users, items) of {len(seen)} users, received {scores.shape}")
    if k < 1 or not np.isfinite(scores).all():
        raise ValueError(f"expected finite scores and k of at least 1, received k = {k}")
    users, items = scores.shape
    k = min(k, items)
    if not scores.size:
        return np.empty((users, k), np.int64)
    open_scores = np.where(seen.mask(items), -np.inf, scores)
    least = np.partition(open_scores, items - k, axis=1)[:, items - k, None]
    above, level = open_scores > least, open_scores == least
    places_left = k - above.sum(axis=1, keepdims=True)
    chosen = above | (level & (np.cumsum(level, axis=1, dtype=np.int32) <= places_left))
    top = np.nonzero(chosen)[1].reshape(users, k)
    score = np.take_along_axis(open_scores, top, axis=1)
    order = np.argsort(-score, axis=1, kind="stable")
    top = np.where(np.isneginf(score), -1, top)
    return np.take_along_axis(top, order, axis=1)


def ndcg_at(top: npt.NDArray[np.int64], relevant: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Normalised discounted cumulative gain of each user, (B,); NaN for one without a relevant item.

    A relevant item at place p (from 1) of `top` (B, k) gains 1 / log2(p + 1); the sum is divided by what the best
    order of the user's `relevant` (B, I) items would gain in k places. After Järvelin and Kekäläinen 2002, Cumulated
    gain-based evaluation of IR techniques, with binary gain and the discount that starts at the second place.
    """
    discount = 1 / np.log2(np.arange(2, top.shape[1] + 2))
    ideal = np.concatenate(([0.0], np.cumsum(discount)))
    best = ideal[np.minimum(relevant.sum(axis=1), top.shape[1])]
    # summed in the order of `ideal`: the best order is exactly 1, and no user's value depends on the others
    gain = np.cumsum(_hits(top, relevant) * discount, axis=1)[:, -1:].sum(axis=1)
    return _ratio(gain, best)


def recall_at(top: npt.NDArray[np.int64], relevant: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The share of each user's `relevant` (B, I) items that is in `top` (B, k): (B,); NaN for one without any.

    Divided by all relevant items: a user with more than k of them cannot reach 1.
    """
    return _ratio(_hits(top, relevant).sum(axis=1), relevant.sum(axis=1))


def _hits(top: npt.NDArray[np.int64], relevant: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.take_along_axis(relevant, np.maximum(top, 0), axis=1) & (top >= 0)


def _ratio(part: _Numbers, whole: _Numbers) -> npt.NDArray[np.float64]:
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
