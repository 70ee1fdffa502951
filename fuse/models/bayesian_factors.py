"""Bayesian matrix factorisation: the mean prediction of many draws of all vectors from their posterior distribution.

    rating of item i by user u = mean + p_u . q_i + b_u + c_i + noise_u,    noise_u ~ N(0, 1 / precision_u)
    (p_u, b_u) ~ N(A x_u, S),    (q_i, c_i) ~ N(B y_i, T)

drawn by Gibbs sampling (Salakhutdinov and Mnih 2008, "Bayesian probabilistic matrix factorization using Markov chain
Monte Carlo"), with features in the prior means (Simm et al. 2017, "Macau"). The features x_u and y_i say who rated
what: the leading singular vectors of the interactions, and the logarithm of the number of ratings. Users have a noise
of their own, since some rate more at random than others. Covariances, the features' weights and their L2 are drawn too,
so that nothing has to be tuned, and averaging prevents overfitting. It errs unlike `Factors`, which are one estimate by
gradient steps: their mean is better than either (docs/experiments.md).

A sweep costs ratings x rank² multiplications and memory for rows x rank² numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..inputs.interactions import TrainingPairs, chunks
from ..inputs.sparse import SparseProduct, csr
from .factors import Vectors
from .item_item import leading_directions

SERVED_RANK = 128  # numbers of a served one, which stands for the draws of all sweeps
_BURN_IN, _DRAWS = 20, 160
SWEEPS = _BURN_IN + _DRAWS
_LEAST_RANK, _MOST_RANK = 8, 32  # numbers of a drawn vector
_RANK_OF_RATING = 2  # that a rating of a user or item adds, on average
_MOST_RATINGS = 2_000_000  # some seconds a sweep
_MOST_ROWS = 300_000  # users and items: some 700 MB
_DIRECTIONS = 32  # singular vectors among the features
_NOISE_SHARE = 0.55  # of the ratings' variance, at the start
_LEAST_NOISE = 1e-3  # of the ratings' variance
_LEAST_VARIANCE = 0.1  # of standardised ratings, which have more unless they are all equal
_NOISE_PRIOR = 20.0  # imagined ratings of a user with the noise of all
_FIRST_DEVIATION = 0.1
_JITTER = 1e-5  # of a matrix's largest diagonal number, so that it has a root in single precision
_INTERCEPT_L2 = 2.0

_Floats = npt.NDArray[np.float64]


def affordable(ratings: int, users: int, items: int) -> bool:
    """Whether so many ratings by so many users of so many items take minutes at most, and little memory."""
    return ratings <= _MOST_RATINGS and users + items <= _MOST_ROWS


@torch.no_grad()
def fit_bayesian_factors(pairs: TrainingPairs, *, seed: int, advance: Callable[[], None] = lambda: None) -> Vectors:
    """Fit standardised training ratings; user (U, r + 1) and item (I, r + 1), r at most `SERVED_RANK`.

    The score of a pair is the mean of the standardised rating over the draws, but for the directions beyond r.
    ``advance`` is called after each of the `SWEEPS`. The same seed gives the same vectors on the same kind of device.
    """
    return _Sampler(pairs, seed).run(advance)


@dataclass(eq=False)
class _Side:
    """Users or items: their ratings row by row, features (N, F) and the newest draw of their vectors (N, n).

    offsets (N + 1,) and columns (R,): which rows of the other side each row has ratings with. order (R,): where these
    ratings stand among the pairs. The last of the n numbers is the bias.
    """

    offsets: Tensor
    columns: Tensor
    order: Tensor | slice
    features: Tensor
    vectors: Tensor

    def __post_init__(self) -> None:
        self.rated = self.offsets.diff() > 0
        self.offsets, self.columns = self.offsets.int(), self.columns.int()  # or every product would convert them
        x = self.features[self.rated].double()
        self.squares: _Floats = (x.T @ x).cpu().numpy()
        self.l2 = 1.0  # of the features' weights, until it is drawn

    def blocks(self, row_numbers: int) -> Iterator[tuple[slice, slice]]:
        """Rows, and their ratings, whose matrices of ``row_numbers`` numbers each fit the memory limit."""
        for rows in chunks(len(self.vectors), row_numbers * self.vectors.element_size()):
            stop = min(rows.stop, len(self.vectors))
            yield slice(rows.start, stop), slice(int(self.offsets[rows.start]), int(self.offsets[stop]))


class _Sampler:
    def __init__(self, pairs: TrainingPairs, seed: int) -> None:
        self.pairs, self.random = pairs, np.random.default_rng(seed)
        self.device = pairs.rating.device
        self.mean = float(pairs.rating.mean()) if len(pairs) else 0.0
        self.left = pairs.rating - self.mean  # (R,)
        variance = max(float(self.left.square().mean()) if len(pairs) else 0.0, _LEAST_VARIANCE)
        self.most_precise = 1 / (_LEAST_NOISE * variance)
        self.precision = torch.full((pairs.users,), 1 / (_NOISE_SHARE * variance), device=self.device)  # (U,)
        of_users, of_items = _features(pairs, seed)
        rows = max(1, int((pairs.user_counts > 0).sum() + (pairs.item_counts > 0).sum()))
        self.rank = min(max(_LEAST_RANK, round(_RANK_OF_RATING * len(pairs) / rows)), _MOST_RANK)
        self.users = _Side(pairs.user_offsets, pairs.item, slice(None), of_users, self._start(pairs.users))
        self.items = _Side(pairs.item_offsets, pairs.user_by_item, pairs.by_item, of_items, self._start(pairs.items))

    def run(self, advance: Callable[[], None]) -> Vectors:
        total = _Total(self.pairs.users, self.pairs.items, self.device)
        for sweep in range(SWEEPS):
            self._draw(self.users, self.items.vectors)
            self._draw(self.items, self.users.vectors)
            self._draw_precisions()
            if sweep >= _BURN_IN:
                total.add(self.users.vectors, self.items.vectors)
            advance()
        return total.mean_vectors(self.mean)

    def _normal(self, *shape: int) -> Tensor:
        return torch.from_numpy(self.random.standard_normal(shape, np.float32)).to(self.device)

    def _start(self, rows: int) -> Tensor:
        vectors = _FIRST_DEVIATION * self._normal(rows, self.rank + 1)
        vectors[:, -1] = 0
        return vectors

    def _draw(self, side: _Side, others: Tensor) -> None:
        """Draw the vectors of a side, given those of the ``others`` (M, n): a regression for each row."""
        precision, prior = self._draw_prior(side)
        size = others.shape[1]
        weight = self.precision[self.pairs.user][side.order]  # (R,)
        left = weight * (self.left[side.order] - others[side.columns, -1])
        inputs = torch.cat([others[:, :-1], torch.ones_like(others[:, :1])], 1)  # (M, n)
        row, column = torch.tril_indices(size, size, device=self.device)
        products = inputs[:, row] * inputs[:, column]  # (M, n (n + 1) / 2)
        noise = self._normal(len(side.vectors), size)
        for rows, ratings in side.blocks(2 * size * size):
            offsets = side.offsets[rows.start : rows.stop + 1] - ratings.start
            shape = rows.stop - rows.start, len(others)
            squares = csr(offsets, side.columns[ratings], weight[ratings], shape) @ products
            sums = csr(offsets, side.columns[ratings], left[ratings], shape) @ inputs  # (N, n)
            matrix = precision.expand(shape[0], size, size).clone()  # (N, n, n); its lower half is read alone
            matrix[:, row, column] += squares
            diagonal = matrix.diagonal(dim1=1, dim2=2)
            diagonal += _JITTER * diagonal.amax(1, keepdim=True)
            factor = torch.linalg.cholesky(matrix)
            centre = torch.cholesky_solve((sums + prior[rows] @ precision)[..., None], factor)
            spread = torch.linalg.solve_triangular(factor.mT, noise[rows, :, None], upper=True)
            side.vectors[rows] = torch.where(side.rated[rows, None], (centre + spread)[..., 0], prior[rows])

    def _draw_prior(self, side: _Side) -> tuple[Tensor, Tensor]:
        """The inverse covariance (n, n) of a side's vectors, and their means (N, n): a regression on the features."""
        vectors, features = side.vectors[side.rated].double(), side.features[side.rated].double()
        squares, products = (vectors.T @ vectors).cpu().numpy(), (features.T @ vectors).cpu().numpy()
        size = len(squares)
        l2 = np.full(len(side.squares), side.l2)
        l2[0] = _INTERCEPT_L2
        of_weights = side.squares + np.diag(l2)  # (F, F)
        weights = np.linalg.solve(of_weights, products)  # (F, n)
        scatter = squares - products.T @ weights + np.eye(size)
        precision = self._wishart((scatter + scatter.T) / 2, len(vectors) + size)
        noise = self.random.standard_normal(weights.shape)
        weights += np.linalg.solve(np.linalg.cholesky(of_weights).T, noise) @ _root_of_inverse(precision).T
        length = float(np.einsum("fi,ij,fj->", weights[1:], precision, weights[1:]))
        side.l2 = self.random.gamma(1 + weights[1:].size / 2) / (length / 2 + 1e-2)
        means = side.features @ torch.from_numpy(weights).to(side.features)
        return torch.from_numpy(precision).to(side.features), means

    def _wishart(self, scatter: _Floats, degrees: int) -> _Floats:
        """A draw from the Wishart distribution whose scale is the inverse of ``scatter`` (Bartlett 1933)."""
        size = len(scatter)
        lower = np.tril(self.random.standard_normal((size, size)), -1)
        lower[np.diag_indices(size)] = np.sqrt(self.random.chisquare(degrees - np.arange(size)))
        root = _root_of_inverse(scatter) @ lower
        drawn: _Floats = root @ root.T
        return drawn

    def _draw_precisions(self) -> None:
        """The precision of each user's ratings, drawn to the mean of all users'."""
        error = self.left - Vectors(self.users.vectors, self.items.vectors).pair_scores(
            self.pairs.user, self.pairs.item
        )
        sums = torch.zeros_like(self.precision).index_add_(0, self.pairs.user, error.square())
        mean = float(self.precision[self.users.rated].mean()) if len(self.pairs) else 1.0
        shape = (_NOISE_PRIOR + self.pairs.user_counts) / 2
        drawn = torch.from_numpy(self.random.gamma(shape.double().cpu().numpy())).to(sums)
        self.precision = (drawn / ((_NOISE_PRIOR / mean + sums) / 2)).clamp(max=self.most_precise)


class _Total:
    """The sum of drawn vectors' scores, as vectors of a bounded length.

    Where they would grow too long the leading `SERVED_RANK` directions of the sum are kept: what draws have alone
    averages out, and has little weight.
    """

    def __init__(self, users: int, items: int, device: torch.device) -> None:
        self.parts = [(torch.zeros(users, 0, device=device), torch.zeros(items, 0, device=device))]
        self.user_bias, self.item_bias = torch.zeros(users, device=device), torch.zeros(items, device=device)
        self.draws = 0

    def add(self, user: Tensor, item: Tensor) -> None:
        """Add a draw, (U, n) and (I, n) with the biases last."""
        self.parts.append((user[:, :-1].clone(), item[:, :-1].clone()))
        self.user_bias += user[:, -1]
        self.item_bias += item[:, -1]
        self.draws += 1
        if sum(part.shape[1] for part, _ in self.parts) >= 2 * SERVED_RANK:
            self._shorten()

    def mean_vectors(self, mean: float) -> Vectors:
        self._shorten()
        ((user, item),) = self.parts
        of_user, of_item = (bias[:, None] / self.draws for bias in (self.user_bias, self.item_bias))
        share = self.draws**-0.5
        return Vectors(torch.cat([user * share, of_user], 1), torch.cat([item * share, of_item + mean], 1))

    def _shorten(self) -> None:
        user, item = (torch.cat(side, 1) for side in zip(*self.parts, strict=True))
        of_user, of_item = torch.linalg.qr(user), torch.linalg.qr(item)
        left, values, right = torch.linalg.svd((of_user.R @ of_item.R.T).cpu().double(), full_matrices=False)
        kept = slice(SERVED_RANK)
        roots = values[kept].sqrt()
        self.parts = [(of_user.Q @ (left[:, kept] * roots).to(user), of_item.Q @ (right[kept].T * roots).to(user))]


def _root_of_inverse(matrix: _Floats) -> _Floats:
    """A lower triangular root L of the inverse of a positive definite matrix: L L' is the inverse."""
    inverse: Any = np.linalg.inv(matrix)
    return np.linalg.cholesky((inverse + inverse.T) / 2)


def _features(pairs: TrainingPairs, seed: int) -> tuple[Tensor, Tensor]:
    """(U, F) and (I, F): 1, the logarithm of the number of ratings, and who rated what.

    The latter are the leading singular vectors of the interactions over the roots of both counts, of mean square 1.
    """
    of_pairs = (pairs.user_counts[pairs.user] * pairs.item_counts[pairs.item]).rsqrt()
    matrix = SparseProduct(pairs.by_user_matrix(of_pairs), pairs.by_item_matrix(of_pairs))
    values, of_items = leading_directions(matrix, _DIRECTIONS, seed=seed)
    of_users = matrix @ of_items / values.sqrt().clamp(min=1e-6)
    user, item = (
        torch.cat([torch.ones_like(counts)[:, None], _standardised_log(counts), directions * len(counts) ** 0.5], 1)
        for counts, directions in ((pairs.user_counts, of_users), (pairs.item_counts, of_items))
    )
    return user, item


def _standardised_log(counts: Tensor) -> Tensor:
    """(N, 1)."""
    logarithm = counts.clamp(min=1).log()[:, None]
    return (logarithm - logarithm.mean()) / logarithm.std(correction=0).clamp(min=1e-6)
