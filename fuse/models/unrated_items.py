"""Ranking vectors of items without interactions, predicted from content.

A ridge regression fits the vectors of rated items, bias included, from genres, years, components and tags. Its
shrinkage to the mean calibrates the scores: an unrated item scores as the average rated item with such content.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..inputs.sparse import SparseProduct
from .cold_start import solved

L2 = 60.0  # on the validation part of cold-items:0.1 of MovieLens 100K, flat from 30 to 240 (docs/experiments.md)
_INTERCEPT = 3.0  # the value of its column: its weight has in effect a ninth of the L2


@torch.no_grad()
def vectors_of_content(side: Tensor, tags: SparseProduct | None, vectors: Tensor, rated: Tensor) -> Tensor:
    """(I, D + 1) vectors as content predicts them.

    ``side`` (I, C) and ``tags`` (I, T) are the content, ``vectors`` (I, D + 1) those of the ``rated`` items (I,) bool;
    the vectors of the others are ignored.
    """
    side = torch.cat([side, side.new_full((len(side), 1), _INTERCEPT)], 1)
    tags = tags if tags is not None else SparseProduct.nothing(len(side), side.device)
    columns, kept = side.shape[1], rated.to(side)[:, None]

    def of_items(weights: Tensor) -> Tensor:
        return side @ weights[:columns] + tags @ weights[columns:]  # (I, D + 1)

    def of_columns(items: Tensor) -> Tensor:
        return torch.cat([side.T @ items, tags.t() @ items])  # (C + 1 + T, D + 1)

    def normal(weights: Tensor) -> Tensor:
        return of_columns(kept * of_items(weights)) + L2 * weights

    target = of_columns(kept * vectors)
    diagonal = torch.cat([side.square().T @ kept, tags.t() @ kept]) + L2  # a tag is 0 or 1, and so its square
    return of_items(solved(normal, target, diagonal, torch.zeros_like(target)))
