"""Ranking vectors of items that nobody has taken yet: what content says, learned from the items that were.

A ridge regression predicts the vectors of rated items, all numbers and the bias at once, from genres, years, components
and tags. That it draws towards the mean of what it doesn't know is its calibration: the score of an unrated item is the
mean of those of rated items with such content, as far as content predicts it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..inputs.interactions import SparseProduct
from .cold_start import solved

L2 = 60.0  # on the validation part of cold-items:0.1 of MovieLens 100K, flat from 30 to 240 (docs/experiments.md)
_INTERCEPT = 3.0  # its column's value: as if its own weight had a ninth of the L2


@torch.no_grad()
def vectors_of_content(side: Tensor, tags: SparseProduct | None, vectors: Tensor, rated: Tensor) -> Tensor:
    """(I, D + 1) vectors as content predicts them.

    ``side`` (I, C) and ``tags`` (I, T) are the content, ``vectors`` (I, D + 1) those of the ``rated`` items (I,) bool;
    the others' are not looked at.
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
