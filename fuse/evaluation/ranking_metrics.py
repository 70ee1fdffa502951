"""Where the relevant items stand in a user's list of recommended ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .item_lists import ItemLists, top_items

_Numbers = npt.NDArray[Any]


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
