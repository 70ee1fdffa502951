"""The training ratings as sparse matrices, by user and by item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .sparse import csr

_MOST_IN_32_BITS = 2**31 - 1
CHUNK_BYTES = 2**28  # of rows gathered for many ratings at a time: R rows at once would take more than a GPU has
_SAMPLED_ON = ("cpu",)  # kinds of device on which dot products are sampled by a sparse matrix, without gathered rows


def chunks(rows: int, row_bytes: int) -> Iterator[slice]:
    """``rows`` in slices of at most ``CHUNK_BYTES``, where each takes ``row_bytes``; one row at least."""
    step = max(1, CHUNK_BYTES // max(1, row_bytes))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


class PairWeights(NamedTuple):
    """A constant number for each training pair: (R,) as the pairs are sorted, and (R,) item by item."""

    by_user: Tensor
    by_item: Tensor


class PairTerm(NamedTuple):
    """Vectors (U, D) and (I, D) whose dot products at the training pairs are a term of a sum, perhaps weighted."""

    user: Tensor
    item: Tensor
    weight: PairWeights | None = None


@dataclass(frozen=True, eq=False)
class TrainingPairs:
    """R training ratings sorted by user, then item, and where each stands when sorted by item.

    user, item: (R,) int64. rating: (R,) float32, standardised. user_offsets (U + 1,), item_offsets (I + 1,): int64.
    by_item: (R,) int64, the order that sorts the pairs by item.
    """

    users: int
    items: int
    user: Tensor
    item: Tensor
    rating: Tensor
    user_offsets: Tensor
    item_offsets: Tensor
    by_item: Tensor

    @classmethod
    def sorted(cls, user: Tensor, item: Tensor, rating: Tensor, *, users: int, items: int) -> TrainingPairs:
        """Sort R pairs. ValueError where one occurs twice, as its history would then leak its rating."""
        key = user.long() * items + item.long()
        order = torch.argsort(key, stable=True)
        key = key[order]
        if (key[1:] == key[:-1]).any():
            raise ValueError("expected each (user, item) once, received some twice")
        user, item = user.long()[order], item.long()[order]
        return cls(
            users,
            items,
            user,
            item,
            rating.float()[order],
            _offsets(torch.bincount(user, minlength=users)),
            _offsets(torch.bincount(item, minlength=items)),
            torch.argsort(item, stable=True),
        )

    def __len__(self) -> int:
        return len(self.user)

    def to(self, device: torch.device) -> TrainingPairs:
        """The same pairs on another device."""
        tensors = (getattr(self, name) for name in (f.name for f in fields(self)[2:]))
        return TrainingPairs(self.users, self.items, *(tensor.to(device) for tensor in tensors))

    @cached_property
    def user_counts(self) -> Tensor:
        """(U,) ratings of each user, float32."""
        return self.user_offsets.diff().float()

    @cached_property
    def item_counts(self) -> Tensor:
        """(I,) ratings of each item, float32."""
        return self.item_offsets.diff().float()

    @cached_property
    def user_by_item(self) -> Tensor:
        """(R,) the user of each pair, item by item: those of one item lie side by side in memory."""
        return self.user[self.by_item]

    @cached_property
    def rating_by_item(self) -> Tensor:
        """(R,) the rating of each pair, item by item."""
        return self.rating[self.by_item]

    @cached_property
    def _by_user(self) -> tuple[Tensor, Tensor]:
        return _indices(self.user_offsets, self.item)

    @cached_property
    def _by_item(self) -> tuple[Tensor, Tensor]:
        return _indices(self.item_offsets, self.user_by_item)

    def by_user_matrix(self, values: Tensor) -> Tensor:
        """(U, I) CSR holding values (R,) at the pairs."""
        return csr(*self._by_user, values, (self.users, self.items))

    def by_item_matrix(self, values: Tensor) -> Tensor:
        """(I, U) CSR holding values (R,) at the pairs."""
        values = values[self.by_item]
        return csr(*self._by_item, values, (self.items, self.users))

    def dots(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """(R,) the dot product of each pair's rows of (U, D) and (I, D)."""
        return self.sum_of_dots(PairTerm(user_vectors, item_vectors))[1]

    def sum_of_dots(self, *terms: PairTerm) -> tuple[Tensor, Tensor]:
        """(R,) twice: the first term's dot products of each pair, and the weighted sum of those of all terms."""
        vectors = [side for term in terms for side in (term.user, term.item)]
        weights = [term.weight for term in terms]
        return _PairDots.apply(self, weights, *vectors)  # type: ignore[no-any-return,no-untyped-call]

    def weights(self, values: Tensor) -> PairWeights:
        """Constant weights (R,) of the pairs, for `sum_of_dots`."""
        return PairWeights(values, values[self.by_item])

    def dots_of_items(self, items: Tensor, user: Tensor, item_vectors: Tensor, user_vectors: Tensor) -> Tensor:
        """(K,) the dot products of the pairs of some items; only the items' vectors get a gradient.

        ``items`` (B,) are the items' numbers and ``user`` (K,) their raters', those of the first item first;
        ``item_vectors`` (B, D) belong to the items, ``user_vectors`` (U, D) to all users.
        """
        offsets = _offsets(self.item_offsets[items + 1] - self.item_offsets[items])
        dots: Tensor = _ItemDots.apply(item_vectors, user_vectors, offsets, user)  # type: ignore[no-untyped-call]
        return dots

    def means(self, prior: float = 5.0) -> tuple[Tensor, Tensor]:
        """(U,) and (I,): each side's mean of the standardised ratings, shrunk to 0 by ``prior`` ratings of 0."""
        by_user = torch.zeros(self.users, device=self.rating.device).index_add_(0, self.user, self.rating)
        by_item = torch.zeros(self.items, device=self.rating.device).index_add_(0, self.item, self.rating)
        return by_user / (self.user_counts + prior), by_item / (self.item_counts + prior)


def _indices(offsets: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Both in 32 bits where these can count the pairs, as every product would convert them."""
    if len(columns) <= _MOST_IN_32_BITS:
        return offsets.int(), columns.int()
    return offsets, columns


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


class _PairDots(torch.autograd.Function):
    """Row dot products of pairs; backward is two sparse products a term, where autograd would scatter R rows twice.

    All terms are one function, because to put a gradient into the order of the items costs as much as a product.
    """

    @staticmethod
    def forward(
        ctx: Any, pairs: TrainingPairs, weights: list[PairWeights | None], *vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.pairs, ctx.weights = pairs, weights
        ctx.save_for_backward(*vectors)
        first: Tensor | None = None
        total = vectors[0].new_zeros(len(pairs))
        for weight, user, item in zip(weights, vectors[::2], vectors[1::2], strict=True):
            if user.device.type in _SAMPLED_ON:
                # twenty times the speed of gathering R rows on each side, which would be written and read back
                found = _sampled(pairs.by_user_matrix(user.new_zeros(len(pairs))), user, item)
            else:
                found = _gathered(user, pairs.user, item, pairs.item)
            first = found if first is None else first
            total = total + found if weight is None else total.addcmul(weight.by_user, found)
        return total if first is None else first, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pairs: TrainingPairs = ctx.pairs
        of_first, of_sum = (gradient.contiguous() for gradient in gradients)
        first_by_item, sum_by_item = of_first[pairs.by_item], of_sum[pairs.by_item]
        found: list[Tensor | None] = [None, None]
        vectors = ctx.saved_tensors
        for number, weight in enumerate(ctx.weights):
            by_user, by_item = of_sum, sum_by_item
            if weight is not None:
                by_user, by_item = by_user * weight.by_user, by_item * weight.by_item
            if number == 0:
                by_user, by_item = by_user + of_first, by_item + first_by_item
            user, item = vectors[2 * number], vectors[2 * number + 1]
            of_users = csr(*pairs._by_user, by_user, (pairs.users, pairs.items))
            of_items = csr(*pairs._by_item, by_item, (pairs.items, pairs.users))
            found += [of_users @ item, of_items @ user]
        return tuple(found)


def _sampled(pattern: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The dot products of ``rows`` (M, D) and ``columns`` (N, D) in place of the zeros that a CSR matrix (M, N) has."""
    found: Tensor = torch.sparse.sampled_addmm(pattern, rows, columns.t(), out=pattern).values()
    return found


def _gathered(left: Tensor, left_row: Tensor, right: Tensor, right_row: Tensor) -> Tensor:
    """(R,) the dot product of row ``left_row[r]`` of (M, D) and row ``right_row[r]`` of (N, D), some r at a time."""
    found = left.new_empty(len(left_row))
    for part in chunks(len(left_row), 2 * left.shape[1] * left.element_size()):
        found[part] = left[left_row[part]].mul_(right[right_row[part]]).sum(1)
    return found


class _ItemDots(torch.autograd.Function):
    """Row dot products of items' vectors with those of their users; backward is one sparse product."""

    @staticmethod
    def forward(ctx: Any, item_vectors: Tensor, user_vectors: Tensor, offsets: Tensor, user: Tensor) -> Tensor:
        ctx.save_for_backward(user_vectors, offsets, user)
        shape = len(item_vectors), len(user_vectors)
        if item_vectors.device.type in _SAMPLED_ON:  # without K rows gathered on each side, as in `_PairDots`
            nothing = csr(offsets, user, item_vectors.new_zeros(len(user)), shape)
            return _sampled(nothing, item_vectors, user_vectors)
        place = torch.repeat_interleave(offsets.diff(), output_size=len(user))  # (K,), without waiting for the device
        return _gathered(item_vectors, place, user_vectors, user)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        user_vectors, offsets, user = ctx.saved_tensors
        shape = len(offsets) - 1, len(user_vectors)
        of_pairs = csr(offsets, user, gradients[0].contiguous(), shape)
        return of_pairs @ user_vectors, None, None, None
