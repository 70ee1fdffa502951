"""The bias model: the mean rating plus a bias of the user and one of the item, the baseline of every run.

    rating = mean + user_bias + item_bias + noise

Biases of users and of items have normal priors, whose variances are estimated from the training ratings (empirical
Bayes: mean-field variational inference of the crossed random effects). The L2 of a bias is the noise variance over its
variance, so that nothing has to be tuned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_ITERATIONS = 25
_LEAST_SHARE = 1e-9  # of the ratings' variance: no variance is estimated below it


@dataclass(frozen=True, eq=False)
class BiasModel:
    """mean, user (U,) and item (I,) biases; predictions stay between ``lowest`` and ``highest``.

    ``l2_user`` and ``l2_item`` are the L2 that follow from the estimated variances.
    """

    mean: float
    user: Floats
    item: Floats
    l2_user: float
    l2_item: float
    lowest: float
    highest: float

    @classmethod
    def fit(
        cls, user: npt.NDArray[Any], item: npt.NDArray[Any], rating: npt.NDArray[Any], *, users: int, items: int
    ) -> BiasModel:
        """Fit ratings (R,) by users and of items, (R,) integers below ``users`` and ``items``; time linear in R."""
        ratings = rating.astype(np.float64)
        lowest, highest = float(ratings.min()), float(ratings.max())
        of_user, of_item = np.bincount(user, minlength=users), np.bincount(item, minlength=items)
        mean, variance = float(ratings.mean()), float(ratings.var())
        biases = np.zeros(users), np.zeros(items)
        if variance == 0:
            return cls(mean, *biases, float("inf"), float("inf"), lowest, highest)
        least = _LEAST_SHARE * variance
        noise, user_variance, item_variance = variance / 2, variance / 4, variance / 4
        user_bias, item_bias = biases
        for _ in range(_ITERATIONS):
            l2_user, l2_item = noise / user_variance, noise / item_variance
            left = ratings - mean
            user_bias = np.bincount(user, left - item_bias[item], users) / (of_user + l2_user)
            left -= user_bias[user]
            item_bias = np.bincount(item, left, items) / (of_item + l2_item)
            left -= item_bias[item]
            shift = float(left.mean())
            mean += shift
            # posterior variances of the biases, and what they add to the expected square of a residual
            user_spread, item_spread = noise / (of_user + l2_user), noise / (of_item + l2_item)
            spread = of_user @ user_spread + of_item @ item_spread
            noise = max(((left - shift) @ (left - shift) + spread) / len(ratings), least)
            user_variance = max(_mean_where(user_bias**2 + user_spread, of_user), least)
            item_variance = max(_mean_where(item_bias**2 + item_spread, of_item), least)
        return cls(mean, user_bias, item_bias, l2_user, l2_item, lowest, highest)

    def predict(self, user: npt.NDArray[Any], item: npt.NDArray[Any]) -> Floats:
        """(n,) ratings of pairs (n,) of users and items; a bias is 0 where there was no training rating."""
        ratings: Floats = np.clip(self.mean + self.user[user] + self.item[item], self.lowest, self.highest)
        return ratings


def _mean_where(values: Floats, counts: npt.NDArray[np.int64]) -> float:
    return float(values[counts > 0].mean())
