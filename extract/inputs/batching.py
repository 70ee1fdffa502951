"""Which items share a batch: texts of about one length, posters in the catalogue's order, equal inputs once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .plan import ModalityPlan

MOST_PADDING = 0.05


def cut_text(plan: ModalityPlan, budget: int, enough: int | None = None) -> ModalityPlan:
    """`plan` with batches of at most `budget` positions, padding included, over rows sorted by length.

    The longest come first, so that a batch that does not fit the memory is met in the first seconds. A batch also ends
    where one more row would raise its padding above 5 %, and, once it has `enough` positions, where the next row is
    shorter: a batch of one length needs neither padding nor mask.
    """
    enough = budget if enough is None else enough
    rows = plan.distinct
    order = rows[np.argsort(-plan.lengths[rows], kind="stable")]
    numbers = np.full(len(plan.status), -1, np.int32)
    number, longest, count, total = -1, 0, 0, 0
    for row, length in zip(order.tolist(), plan.positions_of[order].tolist(), strict=True):
        padded = longest * (count + 1)
        full = padded > budget or (length < longest and total >= enough)
        if number < 0 or full or total + length < (1 - MOST_PADDING) * padded:
            number, longest, count, total = number + 1, length, 0, 0
        numbers[row] = number
        count, total = count + 1, total + length
    return replace(plan, batch=_with_duplicates(plan, numbers))


def cut_posters(plan: ModalityPlan, size: int) -> ModalityPlan:
    """`plan` with batches of `size` posters, in the catalogue's order."""
    rows = plan.distinct
    numbers = np.full(len(plan.status), -1, np.int32)
    numbers[rows] = np.arange(len(rows)) // size
    return replace(plan, batch=_with_duplicates(plan, numbers))


def join_batches(plan: ModalityPlan, budget: int) -> ModalityPlan:
    """`plan` with neighbouring batches joined up to `budget` positions, padding included, of which at most 5 %.

    Batches that were cut for this budget stay as they are; those cut for a smaller one, on another device, are joined
    to calls that are worth it here. Which ones depends on the plan and the budget alone.
    """
    rows = plan.batched
    numbers, number_of = np.unique(plan.batch[rows], return_inverse=True)
    positions = plan.positions_of[rows]
    counts, totals = (np.bincount(number_of, weights, len(numbers)) for weights in (None, positions))
    longest = np.zeros(len(numbers), np.int64)
    np.maximum.at(longest, number_of, positions)
    joined = np.full(int(plan.batch.max(initial=0)) + 1, -1, np.int32)
    last, widest, count, total = -1, 0, 0, 0.0
    for number, wide, more, read in zip(
        numbers.tolist(), longest.tolist(), counts.tolist(), totals.tolist(), strict=True
    ):
        padded = max(widest, wide) * (count + more)
        if last < 0 or padded > budget or total + read < (1 - MOST_PADDING) * padded:
            last, widest, count, total = last + 1, 0, 0, 0.0
        joined[number] = last
        widest, count, total = max(widest, wide), count + more, total + read
    return replace(plan, batch=np.where(plan.batch >= 0, joined[plan.batch], plan.batch).astype(np.int32))


def _with_duplicates(plan: ModalityPlan, numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """An item whose input stood before belongs to the batch that encodes it."""
    rows = np.flatnonzero(plan.encodable)
    if rows.size:
        _, first, group = np.unique(plan.digest[rows], axis=0, return_index=True, return_inverse=True)
        numbers[rows] = numbers[rows[first[group.reshape(-1)]]]
    return numbers
