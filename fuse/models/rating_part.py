"""What rating models say of a pair, as inner products that a ranking model can take in beside its own.

The mean of the members' scores, each divided by its standard deviation over the training ratings, so that one weight
means the same with every head. What is the same for all items of a user is left out: it orders nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..inputs.interactions import TrainingPairs
from .factors import UserParts, Vectors


@dataclass(frozen=True, eq=False)
class RatingPart:
    """user (U, K) and item (I, K), whose inner products are the scores; implicit, explicit (I, K) and base (K,): what
    the users' vectors are made of besides rows of their own, as in `UserParts`.
    """

    user: Tensor
    item: Tensor
    implicit: Tensor
    explicit: Tensor
    base: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, members: Sequence[tuple[Vectors, UserParts]], pairs: TrainingPairs) -> RatingPart | None:
        """The mean of the members, trained on ``pairs``; None where there are none, or all score all items alike."""
        parts = [part for vectors, parts in members if (part := _of_member(vectors, parts, pairs)) is not None]
        if not parts:
            return None
        joined = (torch.cat([getattr(part, name) for part in parts], -1) for name in cls.__annotations__)
        user, item, *rest = joined
        return cls(user, item / len(parts), *rest)

    def times(self, weight: float) -> RatingPart:
        """The same with users' vectors, and so the scores, times ``weight``."""
        of_users = (weight * value for value in (self.implicit, self.explicit, self.base))
        return RatingPart(weight * self.user, self.item, *of_users)


def _of_member(vectors: Vectors, parts: UserParts, pairs: TrainingPairs) -> RatingPart | None:
    user = torch.cat([vectors.user[:, :-1], torch.ones_like(vectors.user[:, :1])], 1)  # (U, D + 1)
    deviation = pairs.dots(user, vectors.item).std(correction=0) if len(pairs) else user.new_zeros(())
    if not deviation > 0:
        return None
    # what a history adds to the user's bias is the same for all items
    implicit, explicit = (
        torch.cat([table[:, :-1], torch.zeros_like(table[:, :1])], 1) for table in (parts.implicit, parts.explicit)
    )
    base = torch.cat([parts.base[:-1], torch.ones_like(parts.base[:1])])
    return RatingPart(user, vectors.item / deviation, implicit, explicit, base)
