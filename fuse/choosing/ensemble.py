"""Which trials become members, for how many steps each is trained, and the weight of Bayesian factors beside them.

Members are chosen by forward selection (Caruana et al. 2004): an ordinal and a squared head, or a weaker and a stronger
L2, err differently; so do long and short trainings, and few ratings are overfitted early.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..models.bayesian_factors import affordable
from ..settings.config import Config
from .groups import A_MILLION, free
from .trials import Trials

TRIALS_OF_MEMBERS = 14
"""At most: three points at four lengths, biases alone, Bayesian factors."""

_FEWEST_STEPS = 30  # of a member
_CLEARLY = 2.0  # standard errors by which another weight than a member's must be better
_SHARES = tuple(percent / 100 for percent in range(5, 100, 5))  # of the Bayesian factors

_Key = TypeVar("_Key")


@dataclass(eq=False)
class Ensemble:
    """Selects the members of a run of ``config`` from what its ``trials`` predicted."""

    config: Config
    trials: Trials

    def members(self, best: str) -> tuple[list[tuple[str, int]], Tensor]:
        """The point and the factor steps of each member, and their mean prediction (N,).

        Points are selected in short trainings. These are trained at their own sizes then, for half the steps as long as
        that gains, and members are selected from what came out.
        """
        points, mean = self._forward(self.trials.predictions, best)
        if len(self.trials.data.train) >= A_MILLION:
            chosen = [(key, self.config.factor_steps) for key in points]
        else:
            predictions: dict[tuple[str, int], Tensor] = {}
            for key in dict.fromkeys(points):
                predictions |= self._at_full_size(key)
            first = min(predictions, key=lambda member: self.trials.rmse(predictions[member]))
            chosen, mean = self._forward(predictions, first)
        return chosen if free(self.config, ["members"]) else chosen * self.config.members, mean

    def _at_full_size(self, key: str) -> dict[tuple[str, int], Tensor]:
        """Predictions (N,) of a point by the steps of its training: the config's, then half as many while it gains."""
        steps = self.config.factor_steps
        found = {(key, steps): self.trials.at_full_size(key, steps)}
        while free(self.config, ["factor_steps"]) and not self.config.fuses and steps // 2 >= _FEWEST_STEPS:
            found[key, steps // 2] = self.trials.at_full_size(key, steps // 2)
            if not self.trials.gains(found[key, steps // 2], found[key, steps]):
                break
            steps //= 2
        return found

    def _forward(self, predictions: Mapping[_Key, Tensor], best: _Key) -> tuple[list[_Key], Tensor]:
        """Keys of ``predictions``, the best first, and their mean: whichever makes it better joins, while one does.

        Where the number of members was set by hand the best stays alone.
        """
        most = 1 if not free(self.config, ["members"]) else 3 if len(self.trials.data.train) < A_MILLION else 2
        chosen, mean = [best], predictions[best]
        while len(chosen) < most:
            means = {key: torch.stack([predictions[each] for each in [*chosen, key]]).mean(0) for key in predictions}
            key = min(means, key=lambda name: self.trials.rmse(means[name]))
            if not self.trials.gains(means[key], mean):
                break
            chosen.append(key)
            mean = means[key]
        return chosen, mean

    def bayesian_share(self, mean: Tensor, members: int) -> tuple[float, Tensor]:
        """The weight of Bayesian factors beside the members' ``mean`` (N,), and the prediction with them; 0: none.

        The members were selected on the same ratings and so look better there than they are. So where Bayesian factors
        gain they weigh as much as a member, unless another weight is clearly better: then the nearest to that one that
        is not clearly worse.
        """
        if not (self.config.takes_bayesian and self.affords_bayesian()):
            return 0.0, mean
        alone = self.trials.of_bayesian()
        blends = {share: mean + share * (alone - mean) for share in _SHARES}
        best = min(blends.values(), key=self.trials.rmse)
        if not self.trials.gains(best, mean):
            return 0.0, mean
        as_good = [
            share
            for share, blend in blends.items()
            if not self.trials.gains(best, blend, _CLEARLY) and self.trials.rmse(blend) < self.trials.rmse(mean)
        ]
        share = min(as_good, key=lambda share: abs(share - 1 / (members + 1)))
        return share, blends[share]

    def affords_bayesian(self) -> bool:
        """Whether the ratings that members are fitted to in the end are few enough for Bayesian factors."""
        data = self.trials.data
        return affordable(len(data.fitted(whole=self.config.refit)), data.users, data.items)
