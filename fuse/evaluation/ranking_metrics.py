"""Six metrics of recommended lists with binary relevance, at several lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .item_lists import ItemLists

_Hits = npt.NDArray[np.bool_]
_Counts = npt.NDArray[np.integer[Any]]
_Floats = npt.NDArray[np.float64]

METRICS = ("ndcg", "recall", "precision", "map", "mrr", "hit_rate")
"""The order of the last axis of `list_metrics`."""


def hits_of(top: npt.NDArray[np.int64], relevant: ItemLists, items: int) -> _Hits:
    """(B, k) True where a place of ``top`` (B, k; -1: empty) holds an item of the user's ``relevant`` list.

    ValueError for lists of other users or items.
    """
    if len(relevant) != len(top):
        raise ValueError(f"expected lists of {len(top)} users, received {len(relevant)}")
    wanted = relevant.mask(items)
    return np.take_along_axis(wanted, np.maximum(top, 0), axis=1) & (top >= 0)


def list_metrics(hits: _Hits, relevant: _Counts, cutoffs: Sequence[int]) -> _Floats:
    """(B, len(cutoffs), 6) float64: each of `METRICS` for the first k places of each user's list, for every cutoff k.

    ``hits`` (B, at least the longest cutoff, or as many as there are items) and ``relevant`` (B,), how many items are
    relevant to each user. NaN for a user without any. A list of fewer than k items counts as one whose last places
    are misses.
    """
    each = []
    for k in cutoffs:
        first = hits[:, :k]
        each.append(
            np.stack(
                [
                    ndcg(first, relevant, k),
                    recall(first, relevant),
                    precision(first, relevant, k),
                    average_precision(first, relevant, k),
                    reciprocal_rank(first, relevant),
                    hit_rate(first, relevant),
                ],
                axis=1,
            )
        )
    return np.stack(each, axis=1)


def ndcg(hits: _Hits, relevant: _Counts, k: int) -> _Floats:
    """Normalised discounted cumulative gain (B,), of the first k places.

    A relevant item at place p (from 1) gains 1 / log2(p + 1); the sum is divided by what the best order of the user's
    relevant items would gain in k places. After Järvelin and Kekäläinen 2002, Cumulated gain-based evaluation of IR
    techniques, with binary gain and the discount that starts at the second place.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate(([0.0], np.cumsum(discount)))
    best = ideal[np.minimum(relevant, k)]
    # summed in the order of `ideal`: the best order is exactly 1, and no user's value depends on the others
    gain = np.cumsum(hits * discount[: hits.shape[1]], axis=1)[:, -1:].sum(axis=1)
    return _ratio(gain, best)


def recall(hits: _Hits, relevant: _Counts) -> _Floats:
    """The share of each user's relevant items that is in the list (B,).

    Divided by all relevant items: a user with more of them than places cannot reach 1.
    """
    return _ratio(hits.sum(axis=1), relevant)


def precision(hits: _Hits, relevant: _Counts, k: int) -> _Floats:
    """The share of the k places that hold a relevant item (B,); empty places count."""
    return np.where(relevant > 0, hits.sum(axis=1) / k, np.nan)


def average_precision(hits: _Hits, relevant: _Counts, k: int) -> _Floats:
    """The precision at each hit's place, summed and divided by min(k, relevant items) (B,).

    So divided it reaches 1 for every user, as in MMRec and RecBole. trec_eval's map_cut divides by all relevant items.
    """
    places = np.arange(1, hits.shape[1] + 1)
    precisions = np.cumsum(hits, axis=1) / places
    return _ratio((precisions * hits).sum(axis=1), np.minimum(relevant, k))


def reciprocal_rank(hits: _Hits, relevant: _Counts) -> _Floats:
    """1 / the place of the first hit, 0 where there is none (B,)."""
    first = 1 / (hits.argmax(axis=1) + 1) if hits.shape[1] else np.zeros(len(hits))
    return np.where(relevant > 0, np.where(hits.any(axis=1), first, 0.0), np.nan)


def hit_rate(hits: _Hits, relevant: _Counts) -> _Floats:
    """1 where the list holds any relevant item, else 0 (B,)."""
    return np.where(relevant > 0, hits.any(axis=1).astype(np.float64), np.nan)


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> _Floats:
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
