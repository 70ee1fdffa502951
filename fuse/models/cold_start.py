"""Weights for items without ratings, by which side information and tags alone give an item's vector.

For an item with ratings, content corrects a vector that its ids and histories determine; for one without it is all
there is. The two need different weights. Those of items without ratings are fitted after the factors: they predict
every training rating from the item's side information and tags alone, with the users' vectors fixed. That is a ridge
regression, solved by conjugate gradients; predictions for rated items do not change.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..inputs.interactions import chunks
from .factors import Factors

_STEPS, _TOLERANCE = 1000, 1e-6
_LEAST_L2 = 1e-3  # so that the solution is unique where no L2 is set


@torch.no_grad()
def cold_start_weights(factors: Factors, side_l2: Tensor, tag_l2: float) -> tuple[Tensor, Tensor]:
    """Weights V (C, D + 1) of side information and W (T, D + 1) of tags that predict ratings with the least error.

    A rating of user u and item i is predicted as ``query_ui . (side_i @ V + tags_i @ W)`` plus the user's bias; the
    query is the user's vector without the term of this rating, and a last 1 for the bias. The loss is half the squared
    error of all ratings plus half the squared weights, each times its L2; ``side_l2`` (C,) has one for each column of
    side information.
    """
    side, tags = factors.item_features, factors.item_tags  # (I, C), (I, T)
    l2 = torch.cat([side_l2.to(side), side.new_full((tags.columns,), tag_l2)])
    l2 = l2.clamp(min=_LEAST_L2)[:, None]  # (C + T, 1)
    gram, target = _normal_equations_of_items(factors)
    # in the eigenbasis of the queries the outputs hardly depend on each other, which takes a tenth of the steps
    turn = torch.linalg.eigh(gram.sum(0, dtype=torch.float64)).eigenvectors  # (O, O)
    for part in chunks(len(gram), 3 * 8 * turn.numel()):
        gram[part] = turn.T @ gram[part].double() @ turn
    target = (target @ turn).float()
    turn = turn.float()

    def of_items(weights: Tensor) -> Tensor:
        return side @ weights[: side.shape[1]] + tags @ weights[side.shape[1] :]  # (I, O)

    def of_columns(items: Tensor) -> Tensor:
        return torch.cat([side.T @ items, tags.t() @ items])  # (C + T, O)

    def normal(weights: Tensor) -> Tensor:
        return of_columns((gram @ of_items(weights)[:, :, None]).squeeze(2)) + l2 * weights

    squares = gram.diagonal(dim1=1, dim2=2)  # (I, O)
    diagonal = torch.cat([side.square().T @ squares, tags.t() @ squares]) + l2  # a tag is 0 or 1, and so its square
    before = (
        torch.cat([factors.cold_side, factors.cold_tags]) @ turn
    )  # after a warm start these are close to the solution
    weights = solved(normal, of_columns(target), diagonal, before) @ turn.T
    return weights[: side.shape[1]].contiguous(), weights[side.shape[1] :].contiguous()


def solved(normal: Callable[[Tensor], Tensor], target: Tensor, diagonal: Tensor, weights: Tensor) -> Tensor:
    """Solve ``normal(w) = target`` by conjugate gradients from ``weights``, preconditioned by ``diagonal``."""
    left = target - normal(weights)
    ahead = scaled = left / diagonal
    for _ in range(_STEPS):
        if left.norm() <= _TOLERANCE * target.norm():
            break
        made = normal(ahead)
        slope = (left * scaled).sum()
        step = slope / (ahead * made).sum()
        weights, left = weights + step * ahead, left - step * made
        scaled = left / diagonal
        ahead = scaled + (left * scaled).sum() / slope * ahead
    return weights


def _normal_equations_of_items(factors: Factors) -> tuple[Tensor, Tensor]:
    """Sums over each item's ratings: of query query' (I, O, O) float32, and of query times residual (I, O) float64."""
    items, outputs = factors.pairs.items, factors.dim + 1
    gram = torch.zeros(items, outputs, outputs, device=factors.item_features.device)
    target = torch.zeros(items, outputs, dtype=torch.float64, device=factors.item_features.device)
    offsets = factors.pairs.item_offsets.tolist()
    user = factors.vectors().user
    item = 0
    # five float32 vectors and one of float64 a rating: the ratings of a popular item are split too
    for part in chunks(len(factors.pairs), 28 * outputs):
        query, residual = _queries(factors, user, factors.pairs.by_item[part])  # (K, O), (K,)
        while item < items and offsets[item] < part.stop:
            mine = slice(max(offsets[item] - part.start, 0), min(offsets[item + 1], part.stop) - part.start)
            gram[item] += query[mine].T @ query[mine]
            target[item] += query[mine].T @ residual[mine]
            if offsets[item + 1] > part.stop:
                break
            item += 1
    return gram, target


def _queries(factors: Factors, user: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
    """The queries (K, D + 1) of K pairs, and their ratings less the user's bias (K,), float64."""
    of_user = factors.user_vectors_at(user, pair).double()  # (K, D + 1)
    residual = factors.pairs.rating[pair].double() - of_user[:, -1]
    of_user[:, -1] = 1
    return of_user, residual
