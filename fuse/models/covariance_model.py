"""The covariance model: the ratings of a user are one draw from a normal distribution over all items.

    rating of item i = mean_i + z_i + noise,    z ~ N(0, S),    S (I, I) the covariance of the items

What a user gave to some items then says what to expect of every other one: a Gaussian process whose kernel is learned
(Yu, Zhu, Lafferty and Gong 2009, "Fast nonparametric matrix factorization for large-scale collaborative filtering").
It has no factors to choose the number of and no gradient steps, and errs unlike `Factors`: their mean is better than
either (docs/experiments.md).

S starts as a bias of the user, a taste for each item alone, and the leading directions of the items' covariance, each
pair shrunk by how few users rated both. A few EM steps follow. More of them fit the ratings too closely.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..inputs.interactions import TrainingPairs
from .factors import Vectors

RANK = 128  # numbers of a served vector
MOST_ITEMS = 4096
_MOST_WORK = 2e11  # multiplications of an EM step, about: some ten seconds
_WORK_OF_USER = 1e6  # what a user costs besides, in the same measure
_STEPS = 3
_SHRINKAGE = 200.0  # imagined common raters of two items whose ratings do not vary together
_DIRECTIONS = 30
_USER_SHARE, _ITEM_SHARE, _NOISE_SHARE = 0.2, 0.1, 0.6  # of the ratings' variance, at the start
_LEAST_NOISE = 0.01  # of the ratings' variance
_LEAST_VARIANCE = 1e-6  # of ratings that are all equal
_PRIOR = 3.0  # imagined ratings that draw a mean to 0
_MEAN_STEPS = 10
_SUBSPACE_STEPS = 6


def affordable(user: Tensor, items: int) -> bool:
    """Whether ratings by ``user`` (R,) are few enough: time grows with the cubes of items and of a user's ratings."""
    counts = torch.bincount(user).double()
    work = float(counts.pow(3).sum() + _WORK_OF_USER * (counts > 0).sum()) + 4.0 * items**3
    return items <= MOST_ITEMS and work <= _MOST_WORK


@torch.no_grad()
def fit_covariance_model(pairs: TrainingPairs) -> Vectors:
    """Fit standardised training ratings; user (U, r + 1) and item (I, r + 1), r at most `RANK`.

    The score of a pair is the expectation of the standardised rating given the user's training ratings. A user without
    one is expected to give the item's mean. It is fitted on the CPU; the vectors are where the ratings are.
    """
    user, item = _Expectation(pairs).run()
    return Vectors(user.to(pairs.rating.device), item.to(pairs.rating.device))


class _Posterior(NamedTuple):
    """What the ratings say of the z of every user, given the covariance.

    weights (R,): z is the covariance times these, each at its item. at_ratings (R,): z of the rated items.
    change (I, I): the sum over users of weights' products less the inverse covariances of their ratings.
    uncertainty: the sum of the variances of z at the ratings.
    """

    weights: Tensor
    at_ratings: Tensor
    change: Tensor
    uncertainty: float


class _Expectation:
    """EM for the means of the items, their covariance and the noise."""

    def __init__(self, pairs: TrainingPairs) -> None:
        self.users, self.items = pairs.users, pairs.items
        self.user, self.item = pairs.user.cpu(), pairs.item.cpu()
        self.rating = pairs.rating.cpu().double()  # (R,), user by user
        ends = pairs.user_offsets.tolist()
        self.blocks = [slice(start, end) for start, end in pairwise(ends) if end > start]  # of each user with ratings
        variance = max(float(self.rating.var(correction=0)), _LEAST_VARIANCE)
        self.least_noise = _LEAST_NOISE * variance
        self.own, self.noise = _ITEM_SHARE * variance, _NOISE_SHARE * variance
        user_bias = self._fit_means()
        self.covariance = self._shrunk_covariance(self.rating - self.mean[self.item] - user_bias[self.user])
        self.covariance += _USER_SHARE * variance
        self.covariance.diagonal().add_(self.own)

    def run(self) -> Vectors:
        for _ in range(_STEPS):
            self._step()
        weights = self._posterior(alone=True).weights
        values, directions = _leading(self.covariance, RANK)
        # beyond the leading directions the covariance is about that of each item alone, which no other item sees
        factor = directions * (values - self.own).clamp(min=0).sqrt()  # (I, r)
        user = torch.zeros(self.users, factor.shape[1])
        user.index_add_(0, self.user, weights.float()[:, None] * factor[self.item])
        return Vectors(
            torch.cat([user, torch.zeros(self.users, 1)], 1), torch.cat([factor, self.mean.float()[:, None]], 1)
        )

    def _fit_means(self) -> Tensor:
        """Set the items' means, (I,); gives the (U,) biases of the users that were fitted with them."""
        counts = torch.bincount(self.user, minlength=self.users)
        bias = torch.zeros(self.users, dtype=torch.double)
        for _ in range(_MEAN_STEPS):
            self.mean = self._item_means(bias[self.user])
            left = self.rating - self.mean[self.item]
            bias = torch.zeros_like(bias).index_add_(0, self.user, left) / (counts + _PRIOR)
        return bias

    def _item_means(self, explained: Tensor) -> Tensor:
        """(I,) means of what the ``explained`` (R,) leave, drawn to the mean rating."""
        centre = self.rating.mean()
        sums = torch.zeros(self.items, dtype=torch.double).index_add_(0, self.item, self.rating - explained - centre)
        return centre + sums / (torch.bincount(self.item, minlength=self.items) + _PRIOR)

    def _shrunk_covariance(self, residual: Tensor) -> Tensor:
        """(I, I) of the leading directions in which the items' residuals (R,) vary together."""
        products, common = torch.zeros(self.items, self.items), torch.zeros(self.items, self.items)
        for block in self.blocks:
            items, own = self.item[block], residual[block].float()
            products[items[:, None], items] += torch.outer(own, own)
            common[items[:, None], items] += 1
        products.div_(common.add_(_SHRINKAGE)).fill_diagonal_(0)
        values, directions = _leading(products, _DIRECTIONS)
        return (directions * values.clamp(min=0)) @ directions.T

    def _step(self) -> None:
        posterior = self._posterior()
        covariance = self.covariance
        covariance = covariance + covariance @ posterior.change @ covariance / len(self.blocks)
        self.covariance = (covariance + covariance.T) / 2
        left = self.rating - self.mean[self.item] - posterior.at_ratings
        self.noise = max((float(left.square().sum()) + posterior.uncertainty) / len(left), self.least_noise)
        self.mean = self._item_means(posterior.at_ratings)

    def _posterior(self, *, alone: bool = False) -> _Posterior:
        """With ``alone`` its weights alone; the rest is zero."""
        residual = self.rating - self.mean[self.item]
        weights, at_ratings, uncertainty = torch.zeros_like(residual), torch.zeros_like(residual), 0.0
        change = torch.zeros(self.items, self.items)
        for block in self.blocks:
            items = self.item[block]
            among = self.covariance[items[:, None], items].double()  # (n, n)
            factor = torch.linalg.cholesky(among + self.noise * torch.eye(len(items), dtype=torch.double))
            own = torch.cholesky_solve(residual[block, None], factor)[:, 0]  # (n,)
            weights[block] = own
            if not alone:
                inverse = torch.cholesky_inverse(factor)
                at_ratings[block] = among @ own
                uncertainty += self.noise * float((1 - self.noise * inverse.diagonal()).sum())
                change[items[:, None], items] += (torch.outer(own, own) - inverse).float()
        return _Posterior(weights, at_ratings, change, uncertainty)


def _leading(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest eigenvalues of a symmetric matrix (n, n), and eigenvectors (n, count); fewer where n is.

    By randomised subspace iteration (Halko et al. 2011), which finds those of the largest magnitude: twice as many
    directions are followed, for negative ones.
    """
    size = len(matrix)
    width = min(size, 2 * count)
    basis = torch.linalg.qr(torch.randn(size, width, generator=torch.Generator().manual_seed(0))).Q
    for _ in range(_SUBSPACE_STEPS):
        basis = torch.linalg.qr(matrix @ basis).Q
    values, turn = torch.linalg.eigh((basis.T @ matrix @ basis).double())
    return values[-count:].float(), basis @ turn[:, -count:].float()
