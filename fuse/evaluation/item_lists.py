"""Lists of items of many users, as compressed sparse rows, and the best unseen items by score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_Numbers = npt.NDArray[Any]

USERS_AT_ONCE = 64
"""Users of a block: all are scored together, always the same ones, so that a user's ranking is exactly the same
alone as among all."""


def users_of_block(block: int, users: int) -> slice:
    """Which of all ``users`` a block has, by number; the last block may have fewer than `USERS_AT_ONCE`."""
    return slice(block * USERS_AT_ONCE, min((block + 1) * USERS_AT_ONCE, users))


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

    def only(self, users: npt.NDArray[np.int64]) -> ItemLists:
        """The lists of ``users`` (n,), ascending, which become users 0 and on."""
        lengths = np.diff(self.offsets)
        chosen = np.zeros(len(self), np.bool_)
        chosen[users] = True
        offsets = np.concatenate(([0], np.cumsum(lengths[users]))).astype(np.int64)
        return ItemLists(offsets, self.items[self.offsets[0] : self.offsets[-1]][np.repeat(chosen, lengths)])

    def mask(self, items: int) -> npt.NDArray[np.bool_]:
        """(B, items) True where the user's list has the item. Raises ValueError for an item outside that."""
        if self.items.size and not 0 <= self.items.min() <= self.items.max() < items:
            raise ValueError(f"expected items from 0 to {items - 1}, received {self.items.min()} to {self.items.max()}")
        mask = np.zeros((len(self), items), np.bool_)
        mask[np.repeat(np.arange(len(self)), np.diff(self.offsets)), self.items] = True
        return mask


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
    return best_open(np.where(seen.mask(items), -np.inf, scores), k)


def best_open(open_scores: _Numbers, k: int) -> npt.NDArray[np.int64]:
    """`top_items` of ``open_scores`` (B, I), which are -inf for excluded items and finite for others."""
    users, items = open_scores.shape
    k = min(k, items)
    if not open_scores.size:
        return np.empty((users, k), np.int64)
    least = np.partition(open_scores, items - k, axis=1)[:, items - k, None]
    above, level = open_scores > least, open_scores == least
    places_left = k - above.sum(axis=1, keepdims=True)
    chosen = above | (level & (np.cumsum(level, axis=1, dtype=np.int32) <= places_left))
    top = np.nonzero(chosen)[1].reshape(users, k)
    score = np.take_along_axis(open_scores, top, axis=1)
    order = np.argsort(-score, axis=1, kind="stable")
    top = np.where(np.isneginf(score), -1, top)
    return np.take_along_axis(top, order, axis=1)
