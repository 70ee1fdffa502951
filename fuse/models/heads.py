"""From scores to ratings: the loss a rating costs, and the rating (or its distribution) a score stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.runtime.errors import BadInput

MOST_LEVELS = 20
_DEVIATION = 1.125  # of MovieLens 100K's ratings, on whose scale the L2 strengths were learned
_NOISE = 0.75  # squared error that stays, on that scale: makes an ordinal loss as heavy as a squared one
_SLOPE = 2.0  # of the logistic curves around each threshold, on that scale


@dataclass(frozen=True)
class Scale:
    """The ratings' own scale, and the standard one that all strengths and scores are in.

    ``levels`` are the distinct ratings of the training part, ascending; ``mean`` and ``unit`` translate:
    rating = mean + unit * score.
    """

    levels: tuple[float, ...]
    mean: float
    unit: float

    @classmethod
    def of(cls, ratings: Tensor) -> Scale:
        """The scale of (R,) training ratings. One and the same rating throughout is a scale too: its unit is 1."""
        deviation = float(ratings.double().std(correction=0))
        levels = tuple(torch.unique(ratings).tolist())
        return cls(levels, float(ratings.double().mean()), deviation / _DEVIATION if deviation > 1e-6 else 1.0)

    def standardise(self, ratings: Tensor) -> Tensor:
        """Ratings as scores."""
        return (ratings - self.mean) / self.unit

    def clamp(self, ratings: Tensor) -> Tensor:
        """Ratings inside the lowest and highest one seen."""
        return ratings.clamp(self.levels[0], self.levels[-1])


class Head(Protocol):
    """How scores become losses and ratings."""

    scale: Scale

    def losses(self, scores: Tensor, rating: Tensor, user: Tensor) -> Tensor:
        """(R,) what each standardised rating costs, in units of half the squared error."""

    def ratings(self, scores: Tensor, user: Tensor) -> Tensor:
        """Expected ratings on the ratings' own scale, of the shape of scores; user is their first axis."""

    def penalty(self) -> Tensor:
        """What its own parameters cost, before the strength."""


class SquaredHead(nn.Module):
    """The score is the rating; half the squared error."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.scale = scale

    def losses(self, scores: Tensor, rating: Tensor, user: Tensor) -> Tensor:
        """(R,) half the squared error."""
        return 0.5 * F.mse_loss(scores, rating, reduction="none")

    def ratings(self, scores: Tensor, user: Tensor) -> Tensor:
        """The score on the ratings' scale, clamped to it."""
        return self.scale.clamp(self.scale.mean + self.scale.unit * scores)

    def penalty(self) -> Tensor:
        """Nothing."""
        return torch.zeros(())


class OrdinalHead(nn.Module):
    """P(rating > level k) = sigmoid(slope * (score - threshold of k and user)): the cumulative logit of McCullagh 1980.

    Every user has thresholds of their own, drawn to the common ones by L2. The prediction is the expected rating.
    """

    def __init__(self, scale: Scale, ratings: Tensor, users: int) -> None:
        super().__init__()
        if not 2 <= len(scale.levels) <= MOST_LEVELS:
            raise BadInput(
                f"an ordinal head needs 2 to {MOST_LEVELS} different ratings, found {len(scale.levels)}; "
                "use --set head=squared"
            )
        self.scale = scale
        self.register_buffer("levels", torch.tensor(scale.levels))
        # between the levels, since ratings that were standardised and back may lie beside their own
        above = torch.stack([(ratings > (a + b) / 2).float().mean() for a, b in pairwise(scale.levels)])
        # 1.2: scores spread, so the curve over all of them is flatter than the one around each
        self.thresholds = nn.Parameter(-torch.logit(above) * 1.2 / _SLOPE)  # (K - 1,)
        self.of_user = nn.Parameter(torch.zeros(users, len(scale.levels) - 1))  # (U, K - 1)

    levels: Tensor

    def _logits(self, scores: Tensor, user: Tensor) -> Tensor:
        own = self.thresholds + self.of_user[user]  # (N, K - 1)
        if scores.dim() == 2:  # (N, I): one row of scores a user
            own = own[:, None, :]
        return _SLOPE * (scores[..., None] - own)

    def losses(self, scores: Tensor, rating: Tensor, user: Tensor) -> Tensor:
        """(R,) negative log likelihood, times the noise that makes it weigh as half a squared error does."""
        logits = self._logits(scores, user)  # (R, K - 1)
        level = torch.searchsorted(
            (self.levels[:-1] + self.levels[1:]) / 2, (self.scale.mean + self.scale.unit * rating).contiguous()
        )
        ends = logits.new_full((len(logits), 1), 30.0)
        logits = torch.cat([ends, logits, -ends], 1)  # (R, K + 1)
        upper = logits.gather(1, level[:, None])[:, 0]
        lower = logits.gather(1, level[:, None] + 1)[:, 0]
        # log(sigmoid(upper) - sigmoid(lower)), kept finite where a user's thresholds come too near each other
        gap = torch.log1p(-torch.exp((lower - upper).clamp(max=-1e-3)))
        return -_NOISE * (F.logsigmoid(upper) + F.logsigmoid(-lower) + gap)

    def _above(self, scores: Tensor, user: Tensor) -> Tensor:
        """The probability of more than each level but the last, (..., K - 1), never rising from one to the next."""
        above = list(torch.sigmoid(self._logits(scores, user)).unbind(-1))
        for level in range(1, len(above)):  # cummin says the same, eleven times slower
            above[level] = torch.minimum(above[level - 1], above[level])
        return torch.stack(above, -1)

    def distribution(self, scores: Tensor, user: Tensor) -> Tensor:
        """The probability of each level, (..., K), for scores (N,) or (N, I) of users (N,)."""
        above = self._above(scores, user)
        one, none = torch.ones_like(above[..., :1]), torch.zeros_like(above[..., :1])
        return torch.cat([one, above], -1) - torch.cat([above, none], -1)

    def ratings(self, scores: Tensor, user: Tensor) -> Tensor:
        """The expected rating."""
        steps = self.levels.diff()  # (K - 1,)
        above = self._above(scores, user)
        return self.levels[0] + above @ steps

    def penalty(self) -> Tensor:
        """Half the squared distance of users' thresholds from the common ones."""
        return 0.5 * self.of_user.square().sum()


def levels_named(levels: Sequence[float]) -> str:
    """The levels as a person writes them."""
    return ", ".join(f"{level:g}" for level in levels)
