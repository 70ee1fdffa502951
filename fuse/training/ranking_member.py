"""The factors of the ranking model, trained on every pair of a user and an item, rated or not.

A liked item should score 1 and all else 0, where all else weighs less (implicit feedback after Hu, Koren and Volinsky
2008), with the model and the own-term removal of fuse/models/factors.py:

    1/2 [ sum over liked (1 - s)^2  +  w * sum over rated but not liked s^2  +  w * sum over all others s^2 ]

Nothing is sampled. The last sum is that over all pairs without that over rated ones, and over all pairs of user vectors
A and item vectors B the sum of (a . b)^2 is that of the elements of A'A * B'B (Gramians, as in iALS): a step costs
ratings times D and (users + items) times D^2. A rated pair's s leaves out what this very rating adds to both histories.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..inputs.interactions import TrainingPairs
from ..inputs.side_information import SideInformation
from ..models.factors import Vectors
from ..settings.config import Config
from .adam import Adam
from .full_batch import factor_rate, factors_of

# L2 strengths before they are multiplied by `ranking_l2`: found for this loss by validation NDCG (docs/experiments.md)
_STRENGTHS = {
    "user": (38.3, 7.0),
    "item": (219.0, 51.8),
    "user_features": (790.0, 439.0),
    "item_features": (644.0, 228.0),
    "item_tags": (2600.0, 900.0),
    "implicit_items": (55.0, 1490.0),
    "explicit_items": (85.4, 379.0),
    "implicit_users": (61.9, 85.5),
    "explicit_users": (144.0, 400.0),
}
_USER_POWER, _ITEM_POWER = 0.425, 0.175


class RankingMember(nn.Module):
    """Factors with the all-pairs loss, and their optimiser.

    ``liked`` (R,) bool says which training pairs should score 1.
    """

    def __init__(
        self, config: Config, pairs: TrainingPairs, liked: Tensor, side: SideInformation, *, seed: int
    ) -> None:
        super().__init__()
        self.config, self.pairs, self.steps = config, pairs, config.factor_steps
        self.factors = factors_of(config, pairs, side, user_power=_USER_POWER, item_power=_ITEM_POWER, seed=seed)
        self.liked = liked
        self._liked = liked.to(pairs.rating)
        self._strengths = {
            f"{name}{part}": config.ranking_l2 * value
            for name, both in _STRENGTHS.items()
            for part, value in zip(("", ".bias"), both, strict=True)
        }
        self.factor_optimiser = Adam(self.factors.parameters(), config.factor_learning_rate, (0.9, 0.99))

    @torch.no_grad()
    def vectors(self) -> Vectors:
        """Vectors of all users and items, histories included."""
        return self.factors.vectors()

    def own_row(self) -> dict[str, float] | None:
        """What the loss holds a user's own row to, as `RankingModel.user_of_likes` needs it; None without such rows."""
        if "user" not in self.factors.tables:
            return None
        return {
            "others": self.config.ranking_others,
            "l2": self._strengths["user"],
            "l2_bias": self._strengths["user.bias"],
            "power": _USER_POWER,
            "mean_count": float(self.pairs.user_counts.clamp(min=1).mean()),
        }

    def step(self, step: int) -> Tensor:
        """One full-batch step, the ``step``-th of all; gives the loss of a training pair it started from."""
        self.factor_optimiser.rate = factor_rate(self.config.factor_learning_rate, step, self.steps)
        loss = self.loss()
        self.factor_optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.factor_optimiser.step()
        return loss.detach()

    def loss(self) -> Tensor:
        """The loss of the training, divided by the number of training pairs."""
        others = self.config.ranking_others
        vectors = user, item = self.factors.vectors()
        ones = torch.ones_like(user[:, :1]), torch.ones_like(item[:, :1])
        left = torch.cat([user, ones[0]], 1)  # (U, D + 2): factors, bias, 1
        right = torch.cat([item[:, :-1], ones[1], item[:, -1:]], 1)  # (I, D + 2): factors, 1, bias
        everywhere = ((left.T @ left) * (right.T @ right)).sum()
        rated, scores = self.factors.products_and_scores(vectors)
        of_rated = self._liked * (1 - scores).square() + others * (1 - self._liked) * scores.square()
        squares = of_rated.sum() + others * (everywhere - rated.square().sum())
        return (squares / 2 + self.factors.penalty(self._strengths)) / len(self.pairs)
