"""Make and measure the lists of all tested users, a block of users at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .item_lists import USERS_AT_ONCE, ItemLists, top_items, users_of_block
from .ranking_metrics import METRICS, hits_of, list_metrics

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

BlockScores = Callable[[int], npt.NDArray[np.float32]]
"""From the number of a block of `USERS_AT_ONCE` users to their scores (B, I) of all items."""


@dataclass(frozen=True, eq=False)
class ListTask:
    """The lists to make and the test rows to measure them by; users and items by number.

    seen: of each of U users the items that are left out of the list. user, item, rating: (T,) test rows that are not
    seen. relevant: (T,) bool. cutoffs: lengths of lists, ascending. items: I. implicit: the ratings of the rows
    are to be ignored (implicit feedback).
    """

    items: int
    seen: ItemLists
    user: _Ints
    item: _Ints
    rating: npt.NDArray[np.float32]
    relevant: npt.NDArray[np.bool_]
    cutoffs: tuple[int, ...]
    implicit: bool = False

    @classmethod
    def of(
        cls,
        seen: ItemLists,
        items: int,
        user: _Ints,
        item: _Ints,
        rating: npt.NDArray[np.float32],
        relevant: npt.NDArray[np.bool_],
        cutoffs: Sequence[int],
        *,
        implicit: bool = False,
    ) -> ListTask:
        """Without the test rows of items that the user has seen, which no list can hold."""
        known = np.repeat(np.arange(len(seen)), np.diff(seen.offsets)) * items + seen.items
        new = ~np.isin(user * items + item, known)
        order = np.flatnonzero(new)[np.argsort(user[new], kind="stable")]
        rows = user[order], item[order], rating[order], relevant[order]
        return cls(items, seen, *rows, tuple(cutoffs), implicit)


@dataclass(frozen=True, eq=False)
class Measured:
    """The lists of one method. C cutoffs, M = 6 metrics of `METRICS`.

    users: (N,) those with a relevant item, ascending. values: (N, C, M) float64. listed: (C, I) how many of the
    lists (one a user with a test row) hold each item. rated, rating_sum: (C,) over the places whose item the user
    rated in the test part: how many, and the sum of those ratings.
    """

    users: _Ints
    values: _Floats
    listed: _Ints
    rated: _Ints
    rating_sum: _Floats


def measure(task: ListTask, block_scores: BlockScores, advance: Callable[[int], None] | None = None) -> Measured:
    """Rank all unseen items of each user with a test row, a block of users at a time, and measure the lists.

    Memory: some (64, I) arrays, and C * M numbers a user. ``advance`` is called with the users of each finished block.
    """
    users, longest = len(task.seen), min(task.cutoffs[-1], task.items)
    ends = np.searchsorted(task.user, np.arange(users + 1))
    listed = np.zeros((len(task.cutoffs), task.items), np.int64)
    rated, rating_sum = np.zeros(len(task.cutoffs), np.int64), np.zeros(len(task.cutoffs))
    whose, values = [np.empty(0, np.int64)], [np.empty((0, len(task.cutoffs), len(METRICS)))]
    for block in np.unique(task.user // USERS_AT_ONCE).tolist():
        some = users_of_block(block, users)
        start, stop = some.start, some.stop
        rows = slice(ends[start], ends[stop])
        user, item, relevant = task.user[rows] - start, task.item[rows], task.relevant[rows]
        tested = np.unique(user)
        top = np.full((stop - start, longest), -1, np.int64)
        top[tested] = top_items(block_scores(block)[tested], task.seen.of_users(start, stop).only(tested), longest)
        wanted = ItemLists.of(user[relevant], item[relevant], stop - start)
        counts = wanted.mask(task.items).sum(axis=1)
        found = list_metrics(hits_of(top, wanted, task.items), counts, task.cutoffs)
        whose.append(start + np.flatnonzero(counts))
        values.append(found[counts > 0])
        ratings = np.full((stop - start, task.items), np.nan, np.float32)
        ratings[user, item] = task.rating[rows]
        of_places = np.where(top >= 0, np.take_along_axis(ratings, np.maximum(top, 0), axis=1), np.nan)
        for number, k in enumerate(task.cutoffs):
            listed[number] += np.bincount(top[:, :k][top[:, :k] >= 0], minlength=task.items)
            known = of_places[:, :k][~np.isnan(of_places[:, :k])]
            rated[number] += len(known)
            rating_sum[number] += known.sum(dtype=np.float64)
        if advance:
            advance(len(tested))
    return Measured(np.concatenate(whose), np.concatenate(values), listed, rated, rating_sum)
