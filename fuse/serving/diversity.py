"""Diverse lists: maximal marginal relevance over content.

The next item is repeatedly the one of the best items by score with the highest

    (1 - diversity) * score  -  diversity * similarity to the most similar chosen one

with scores scaled to 0 to 1 within the pool, and the cosine of content as similarity (Carbonell and Goldstein 1998,
The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_Numbers = npt.NDArray[np.int64]


def pool_size(k: int) -> int:
    """The number of best items from which a list of k is chosen."""
    return max(100, 5 * k)


def diversified(
    pool: _Numbers, scores: npt.NDArray[np.float32], content: npt.NDArray[np.float32], k: int, diversity: float
) -> _Numbers:
    """(B, min(k, P)) of ``pool`` (B, P), best first and -1 where none is left, in the order of the choice.

    ``scores`` (B, I) are those of all items, ``content`` (I, C) has rows of length 1, or 0. Ties go to the better.
    """
    chosen = np.full((len(pool), min(k, pool.shape[1])), -1, np.int64)
    for row, items in enumerate(pool):
        items = items[items >= 0]
        if len(items):
            order = _order(scores[row, items], content[items], min(k, len(items)), diversity)
            chosen[row, : len(order)] = items[order]
    return chosen


def _order(score: npt.NDArray[Any], content: npt.NDArray[Any], k: int, diversity: float) -> _Numbers:
    span = float(score.max() - score.min())
    worth = (score - score.min()) / span if span else np.ones(len(score))
    alike = np.zeros(len(score))  # nothing is chosen yet
    open_ = np.ones(len(score), bool)
    order = np.empty(k, np.int64)
    for place in range(k):
        gain = np.where(open_, (1 - diversity) * worth - diversity * alike, -np.inf)
        order[place] = best = int(gain.argmax())
        open_[best] = False
        alike = np.maximum(alike, content @ content[best])
    return order
