"""Films nobody has rated: what content alone says of them, learned by hiding the ids of all films that were rated.

A film with ratings is told by its own row and histories, and content only corrects them. One without has content
alone, which then must say everything. One set of weights cannot be right for both, so the second has its own, found
after the factors: every training rating is predicted from the film's side information and tags alone, with the users
held still. That is a ridge regression, solved by conjugate gradients, and costs rated films nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..inputs.interactions import chunks
from .factors import Factors

_STEPS, _TOLERANCE = 1000, 1e-6
_LEAST_STRENGTH = 1e-3  # so that there is one answer also where nothing is asked to be small


@torch.no_grad()
def cold_start_weights(factors: Factors, side_strength: Tensor, tag_strength: float) -> tuple[Tensor, Tensor]:
    """Weights V (C, D + 1) of side information and W (T, D + 1) of tags that predict ratings with the least error.

    A rating of user u and film i is predicted as ``asking_ui . (side_i @ V + tags_i @ W)`` plus the user's bias; asking
    is the user's vector without what this rating adds to it, and a last 1 for the bias. What is least is half the
    squared error of all ratings plus half of each strength times its squared weights; ``side_strength`` (C,) is one for
    each column of side information.
    """
    side, tags = factors.item_features, factors.item_tags  # (I, C), (I, T)
    strength = torch.cat([side_strength.to(side), side.new_full((tags.columns,), tag_strength)])
    strength = strength.clamp(min=_LEAST_STRENGTH)[:, None]  # (C + T, 1)
    asked, told = _questions_of_items(factors)
    # turned to the directions that users ask in, the outputs hardly depend on each other: a tenth of the steps
    turn = torch.linalg.eigh(asked.sum(0, dtype=torch.float64)).eigenvectors  # (O, O)
    for part in chunks(len(asked), 3 * 8 * turn.numel()):
        asked[part] = turn.T @ asked[part].double() @ turn
    told = (told @ turn).float()
    turn = turn.float()

    def of_items(weights: Tensor) -> Tensor:
        return side @ weights[: side.shape[1]] + tags @ weights[side.shape[1] :]  # (I, O)

    def of_columns(items: Tensor) -> Tensor:
        return torch.cat([side.T @ items, tags.t() @ items])  # (C + T, O)

    def normal(weights: Tensor) -> Tensor:
        return of_columns((asked @ of_items(weights)[:, :, None]).squeeze(2)) + strength * weights

    squares = asked.diagonal(dim1=1, dim2=2)  # (I, O)
    diagonal = (
        torch.cat([side.square().T @ squares, tags.t() @ squares]) + strength
    )  # a tag is 0 or 1, and so its square
    before = torch.cat([factors.cold_side, factors.cold_tags]) @ turn  # of a warm start: nearly the answer
    weights = solved(normal, of_columns(told), diagonal, before) @ turn.T
    return weights[: side.shape[1]].contiguous(), weights[side.shape[1] :].contiguous()


def solved(normal: Callable[[Tensor], Tensor], target: Tensor, diagonal: Tensor, weights: Tensor) -> Tensor:
    """The weights that ``normal`` makes ``target``: conjugate gradients from ``weights``, scaled by ``diagonal``."""
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


def _questions_of_items(factors: Factors) -> tuple[Tensor, Tensor]:
    """Of each film's ratings: the sum of asking asking' (I, O, O), and of asking times what is left to tell (I, O).

    The sums are float64; the first are kept as float32, since there are so many.
    """
    items, outputs = factors.pairs.items, factors.dim + 1
    asked = torch.zeros(items, outputs, outputs, device=factors.item_features.device)
    told = torch.zeros(items, outputs, dtype=torch.float64, device=factors.item_features.device)
    offsets = factors.pairs.item_offsets.tolist()
    user = factors.vectors().user
    item = 0
    # five float32 vectors and one of float64 a rating: of a popular film's ratings some at a time, too
    for part in chunks(len(factors.pairs), 28 * outputs):
        asking, left = _questions(factors, user, factors.pairs.by_item[part])  # (K, O), (K,)
        while item < items and offsets[item] < part.stop:
            mine = slice(max(offsets[item] - part.start, 0), min(offsets[item + 1], part.stop) - part.start)
            asked[item] += asking[mine].T @ asking[mine]
            told[item] += asking[mine].T @ left[mine]
            if offsets[item + 1] > part.stop:
                break
            item += 1
    return asked, told


def _questions(factors: Factors, user: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
    """What K pairs ask of their film's vector, (K, D + 1) float64, and the rating left when the user's bias is gone."""
    of_user = factors.user_vectors_at(user, pair).double()  # (K, D + 1)
    left = factors.pairs.rating[pair].double() - of_user[:, -1]
    of_user[:, -1] = 1
    return of_user, left
