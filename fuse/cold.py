"""Films nobody has rated: what content alone says of them, learned by hiding the ids of all films that were rated.

A film with ratings is told by its own row and histories, and content only corrects them. One without has content
alone, which then must say everything. One set of weights cannot be right for both, so the second has its own, found
after the factors: every training rating is predicted from the film's side information alone, with the users held
still. That is a ridge regression with one exact answer, and costs rated films nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .factors import Factors

_FILMS_AT_ONCE = 256


@torch.no_grad()
def cold_side_weights(factors: Factors, strength: float) -> Tensor:
    """(C, D + 1): the weights W of least half squared error plus half of ``strength`` times the squared weights.

    A rating of user u and film i is predicted as ``asking_ui . (W.T @ side_i)`` plus the user's bias; asking is the
    user's vector without what this rating adds to it, and a last 1 for the bias.
    """
    side = factors.film_side.double()  # (I, C)
    films, columns, outputs = len(side), side.shape[1], factors.dim + 1
    told = torch.zeros(films, outputs, dtype=torch.float64, device=side.device)
    squares = torch.zeros(films, outputs, outputs, dtype=torch.float64, device=side.device)
    offsets = factors.pairs.film_offsets.tolist()
    user = factors.vectors().user
    for start in range(0, films, _FILMS_AT_ONCE):
        stop = min(start + _FILMS_AT_ONCE, films)
        pair = factors.pairs.by_film[offsets[start] : offsets[stop]]
        asking, left = _questions(factors, user, pair)  # (K, D + 1), (K,)
        for film in range(start, stop):
            mine = slice(offsets[film] - offsets[start], offsets[film + 1] - offsets[start])
            squares[film] = asking[mine].T @ asking[mine]
            told[film] = asking[mine].T @ left[mine]
    # the normal equations of W read row by row: the sum over films of (side side') x (asking asking')
    pairs_of_columns = (side[:, :, None] * side[:, None, :]).flatten(1)  # (I, C * C)
    normal = (pairs_of_columns.T @ squares.flatten(1)).view(columns, columns, outputs, outputs)
    normal = normal.transpose(1, 2).reshape(columns * outputs, columns * outputs)
    normal.diagonal().add_(max(strength, 1e-3))
    weights: Tensor = torch.linalg.solve(normal, (side.T @ told).flatten()).view(columns, outputs)
    return weights.float()


def _questions(factors: Factors, user: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
    """What K pairs ask of their film's vector, (K, D + 1) float64, and the rating left when the user's bias is gone."""
    of_user = factors.user_vectors_at(user, pair).double()  # (K, D + 1)
    left = factors.pairs.rating[pair].double() - of_user[:, -1]
    of_user[:, -1] = 1
    return of_user, left
