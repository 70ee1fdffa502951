"""The item-item part of the ranking model: scores of items given a user's interactions with others.

EASE (Steck 2019, Embarrassingly Shallow Autoencoders for Sparse Data) predicts the interactions X (U, I) of users by
X @ B, where B is the ridge regression of every item on all others. With G = X'X and P = inverse(G + l2) it is
B = 1 - P / diag(P), and an item without an interaction of the user scores -sum of P_ji / P_ii over the user's items j.

By the eigenvectors Q and eigenvalues w of G, P is (1 - Q diag(w / (w + l2)) Q') / l2. Off the diagonal only the second
part is left, so that the score of a new item is exactly an inner product of as many numbers as there are eigenvectors:

    sum of Q_j w / (w + l2)  .  Q_i / (l2 P_ii)

With the leading ones alone it is that of a ridge regression of reduced rank, at a cost linear in the interactions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..inputs.interactions import TrainingPairs
from ..inputs.sparse import SparseProduct

_ITERATIONS = (
    4  # of the subspace: the leading eigenvalues are well separated, and the error of the others matters little
)
_MORE = 16  # directions than asked for, so that the last of these are good too (Halko et al. 2011, section 4.2)


@dataclass(frozen=True, eq=False)
class ItemItem:
    """history (I, r): the term of an item in the vector of each of its users. item (I, r): the item's own vector."""

    history: Tensor
    item: Tensor

    def users(self, pairs: TrainingPairs) -> Tensor:
        """(U, r) the sums over each user's items."""
        return interactions(pairs) @ self.history


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The leading eigenvalues (r,) of X'X, largest first, and its eigenvectors (I, r)."""

    values: Tensor
    directions: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, pairs: TrainingPairs, rank: int, *, seed: int) -> Spectrum:
        """The ``rank`` leading ones, or as many as there are, by randomised subspace iteration from ``seed``."""
        return cls(*leading_directions(interactions(pairs), rank, seed=seed))

    def regression(self, l2: float) -> ItemItem:
        """The ridge regression of each item on all others with L2 ``l2``."""
        kept = self.values / (self.values + l2)  # (r,)
        left = 1 - self.directions.square() @ kept  # (I,), l2 times the diagonal of P; in (0, 1]
        return ItemItem(self.directions * kept, self.directions / left.clamp(min=1e-6)[:, None])


def interactions(pairs: TrainingPairs) -> SparseProduct:
    """X (U, I), ones."""
    ones = torch.ones_like(pairs.rating)
    return SparseProduct(pairs.by_user_matrix(ones), pairs.by_item_matrix(ones))


def leading_directions(matrix: SparseProduct, rank: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """The ``rank`` largest eigenvalues (r,) of X'X, largest first, and eigenvectors (N, r), of a ``matrix`` X (M, N).

    As many as there are where these are fewer; by randomised subspace iteration from ``seed``.
    """
    rows, columns = matrix.matrix.shape
    rank = min(rank, rows, columns)
    width = min(rank + _MORE, rows, columns)
    start = torch.randn(columns, width, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(start.to(matrix.matrix.device)).Q  # (N, width)
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(matrix.t() @ (matrix @ basis)).Q
    seen = matrix @ basis  # (M, width)
    values, turn = torch.linalg.eigh((seen.T @ seen).cpu().double())
    values, turn = values.flip(0)[:rank].clamp(min=0), turn.flip(1)[:, :rank]
    return values.to(basis), (basis @ turn.to(basis)).contiguous()
