"""Heads: the loss of a rating given a score, and the expected rating, or the distribution of ratings, for a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.runtime.errors import BadInput

MOST_LEVELS = 101
LEVELS_OF_AUTO = 20  # with more levels, head=auto takes the ordinal head only where a search finds it better
_LIKED_SHARE = 0.8  # of the scale's top
_LIKED_SHARE_OF_RANGE = 0.75
_DEVIATION = 1.125  # of MovieLens 100K's ratings, on whose scale the L2 were tuned
_NOISE = 0.75  # squared error on that scale: gives ordinal and squared losses the same weight against the L2
_FIRST_L2 = 6.0  # of users' own logits, until it is estimated; validation hardly changes from 1 to 12
_L2_RANGE = (0.2, 200.0)


@dataclass(frozen=True)
class Scale:
    """The ratings' own scale, and the standard one of all scores and L2.

    ``levels`` are the distinct ratings of the training part, ascending; rating = mean + unit * score.
    """

    levels: tuple[float, ...]
    mean: float
    unit: float

    @classmethod
    def of(cls, ratings: Tensor) -> Scale:
        """The scale of (R,) training ratings; its unit is 1 where they are all the same."""
        deviation = float(ratings.double().std(correction=0))
        levels = tuple(torch.unique(ratings).tolist())
        return cls(levels, float(ratings.double().mean()), deviation / _DEVIATION if deviation > 1e-6 else 1.0)

    @property
    def liked(self) -> float:
        """The lowest level of at least four fifths of the highest: 4 where ratings go to 5, 8 where they go to 10.

        Where ratings go below 0 their highest says nothing of what is good: there it is three quarters up the scale.
        """
        lowest, top = self.levels[0], self.levels[-1]
        least = _LIKED_SHARE * top if lowest >= 0 else lowest + _LIKED_SHARE_OF_RANGE * (top - lowest)
        return min((level for level in self.levels if level >= least - 1e-6 * abs(top)), default=top)

    def standardise(self, ratings: Tensor) -> Tensor:
        """Ratings as scores."""
        return (ratings - self.mean) / self.unit

    def clamp(self, ratings: Tensor) -> Tensor:
        """Ratings clamped to the lowest and highest one of the training part."""
        return ratings.clamp(self.levels[0], self.levels[-1])


class Head(Protocol):
    """How scores become losses and ratings."""

    scale: Scale

    def losses(self, scores: Tensor, rating: Tensor, user: Tensor) -> Tensor:
        """(R,) the loss of each standardised rating, in units of half the squared error."""

    def ratings(self, scores: Tensor, user: Tensor) -> Tensor:
        """Expected ratings on the ratings' own scale, of the shape of scores; user is their first axis."""

    def unclamped(self, scores: Tensor, user: Tensor) -> Tensor:
        """The same before they are clamped to the scale."""

    def estimate_l2(self, scores: Tensor, user: Tensor) -> None:
        """Set the L2 of its own parameters from (R,) scores of the training ratings and their users."""

    def penalty(self) -> Tensor:
        """The L2 penalty of its own parameters."""


class SquaredHead(nn.Module):
    """The score is the standardised rating; the loss is half the squared error."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.scale = scale

    def losses(self, scores: Tensor, rating: Tensor, user: Tensor) -> Tensor:
        """(R,) half the squared error."""
        return 0.5 * F.mse_loss(scores, rating, reduction="none")

    def ratings(self, scores: Tensor, user: Tensor) -> Tensor:
        """The score on the ratings' scale, clamped to it."""
        return self.scale.clamp(self.unclamped(scores, user))

    def unclamped(self, scores: Tensor, user: Tensor) -> Tensor:
        """The score on the ratings' scale."""
        return self.scale.mean + self.scale.unit * scores

    def estimate_l2(self, scores: Tensor, user: Tensor) -> None:
        """Nothing: it has no parameters."""

    def penalty(self) -> Tensor:
        """Zero: it has no parameters."""
        return torch.zeros(())


class OrdinalHead(nn.Module):
    """P(level k | score s, user u) is proportional to exp(c_k + o_uk + s * x_k / noise), x_k the standardised level.

    These are the adjacent-category logits of Goodman 1983, item response theory's partial credit model (Masters 1982):
    the log odds of one level against the next below rise with the score. It is a distribution for any parameters, and
    its expectation rises with the score, so that nothing has to be kept in order. With equal o_uk and normal c_k it is
    the normal distribution around the score on a grid. The o_uk hold which levels a user gives at all: they are low at
    half stars for a user of whole stars. Their L2 follows the ratings (`estimate_l2`).
    """

    def __init__(self, scale: Scale, ratings: Tensor, users: int) -> None:
        super().__init__()
        if not 2 <= len(scale.levels) <= MOST_LEVELS:
            raise BadInput(
                f"an ordinal head needs 2 to {MOST_LEVELS} different ratings, found {len(scale.levels)}; "
                "use --set head=squared"
            )
        self.scale = scale
        self.register_buffer("levels", torch.tensor(scale.levels))  # (K,)
        self.register_buffer("_standard", scale.standardise(self.levels), persistent=False)  # (K,)
        # between the levels, as a rating that was standardised and back may differ from its level by rounding
        self.register_buffer("_cuts", (self.levels[:-1] + self.levels[1:]) / 2, persistent=False)
        counts = torch.bincount(torch.searchsorted(self._cuts, ratings.contiguous()), minlength=len(scale.levels))
        frequency = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
        # where scores are normal with the variance of the ratings, levels come out as likely as they were given
        given = self._standard.square() / 2 * (_DEVIATION**-2 - 1 / _NOISE)
        self.level_logits = nn.Parameter(frequency.log() + given)  # (K,)
        self.user_level_logits = nn.Parameter(torch.zeros(users, len(scale.levels)))  # (U, K)
        self.register_buffer("l2", torch.tensor(_FIRST_L2))

    levels: Tensor
    l2: Tensor
    _standard: Tensor
    _cuts: Tensor

    def _logits(self, scores: Tensor, user: Tensor) -> Tensor:
        own = F.embedding(user, self.user_level_logits) + self.level_logits  # (N, K)
        if scores.dim() == 2:  # (N, I): one row of scores a user
            own = own[:, None, :]
        return own + scores[..., None] * (self._standard / _NOISE)

    def losses(self, scores: Tensor, rating: Tensor, user: Tensor) -> Tensor:
        """(R,) negative log likelihood times the noise, which gives it the weight of half a squared error."""
        given = (self.scale.mean + self.scale.unit * rating).contiguous()
        level = torch.searchsorted(self._cuts, given)
        of_users = self.user_level_logits + self.level_logits  # (U, K)
        likelihood: Tensor = _NegativeLogLikelihood.apply(  # type: ignore[no-untyped-call]
            scores, of_users, self._standard / _NOISE, user, level
        )
        return _NOISE * likelihood

    def distribution(self, scores: Tensor, user: Tensor) -> Tensor:
        """The probability of each level, (..., K), for scores (N,) or (N, I) of users (N,)."""
        return torch.softmax(self._logits(scores, user), -1)

    def ratings(self, scores: Tensor, user: Tensor) -> Tensor:
        """The expected rating."""
        return self.distribution(scores, user) @ self.levels

    def unclamped(self, scores: Tensor, user: Tensor) -> Tensor:
        """The expected rating, which lies within the scale."""
        return self.ratings(scores, user)

    @torch.no_grad()
    def estimate_l2(self, scores: Tensor, user: Tensor) -> None:
        """Set the L2 of users' own logits from (R,) scores of the training ratings and their users.

        One step of MacKay's fixed point (1992): the L2 under which the logits, given how many of them the ratings
        determine, are as large as they are. Users who differ much in the levels they give lower it.
        """
        probability = self.distribution(scores, user)  # (R, K)
        curvature = torch.zeros_like(self.user_level_logits)
        curvature.index_add_(0, user, probability * (1 - probability))
        determined = (_NOISE * curvature / (_NOISE * curvature + self.l2)).sum()
        size = self.user_level_logits.square().sum().clamp(min=1e-12)
        self.l2.copy_((_NOISE * determined / size).clamp(*_L2_RANGE))

    def penalty(self) -> Tensor:
        """Half the L2 times the squared users' own logits."""
        return 0.5 * self.l2 * self.user_level_logits.square().sum()


class _NegativeLogLikelihood(torch.autograd.Function):
    """-log softmax(of_users[user] + scores * slope)[level], (R,), in half the passes over (R, K) of autograd."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, of_users: Tensor, slope: Tensor, user: Tensor, level: Tensor) -> Tensor:
        logits = F.embedding(user, of_users).addcmul_(scores[:, None], slope)  # (R, K)
        logits -= logits.amax(1, keepdim=True)
        given = logits.gather(1, level[:, None])[:, 0]
        probability = logits.exp_()
        total = probability.sum(1)
        probability /= total[:, None]
        ctx.save_for_backward(probability, slope, user, level)
        ctx.users = len(of_users)
        return total.log() - given

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        probability, slope, user, level = ctx.saved_tensors
        gradient = gradients[0]
        of_logits = probability * gradient[:, None]  # (R, K)
        of_logits.scatter_add_(1, level[:, None], -gradient[:, None])
        of_users = None
        if ctx.needs_input_grad[1]:
            of_users = of_logits.new_zeros(ctx.users, of_logits.shape[1]).index_add_(0, user, of_logits)
        return of_logits @ slope, of_users, None, None, None


def levels_named(levels: Sequence[float]) -> str:
    """The levels as text for people."""
    return ", ".join(f"{level:g}" for level in levels)
