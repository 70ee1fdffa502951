"""What a ranking model blends with its factors: chosen by NDCG@10 of the validation ratings.

First the item-item part, its share and strength: the blend of the highest NDCG. Then the weight of the rating model:
of the weights whose NDCG is the highest, or so near to it that the difference may be chance, the one whose lists hold
items that were rated highest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..inputs.interactions import TrainingPairs
from ..models.factors import Vectors
from ..models.item_item import ItemItem, Spectrum
from ..models.rating_part import RatingPart

K = 10
_USERS_AT_ONCE = 256
_MOST_USERS = 4096  # enough to tell apart what differs by more than chance
_FEWEST_USERS = 30  # with fewer a choice would be chance
_AS_GOOD = 0.25  # standard errors of the difference to the highest NDCG


@dataclass(frozen=True)
class Blend:
    """Convex ``share`` of the item-item part, its ``l2``, and how often the rating model's score is added.

    The defaults are for where nothing is held out.
    """

    share: float = 0.3
    l2: float = 300.0
    rating: float = 0.0


NO_ITEM_ITEM = Blend(0.0, 0.0)
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.9, 1.0)
STRENGTHS = (30.0, 100.0, 300.0, 600.0, 1200.0, 2400.0)
RATING_WEIGHTS = (0.0, 0.01, 0.02, 0.03, 0.045, 0.06, 0.08, 0.1)


@dataclass(frozen=True, eq=False)
class Lists:
    """The lists of N users: ndcg (N,) float64, and the mean validation rating of the listed items that have one."""

    ndcg: Tensor
    mean_rating: float

    @property
    def figure(self) -> float:
        """Mean NDCG@10."""
        return float(self.ndcg.mean())

    def below(self, other: Lists) -> float:
        """How many standard errors of the paired difference this NDCG lies below the other's."""
        lost = other.ndcg - self.ndcg
        error = float(lost.std(correction=0)) / len(lost) ** 0.5
        mean = float(lost.mean())
        return mean / error if error else math.copysign(math.inf, mean) if mean else 0.0


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Validation pairs (n,) to rank by, of rated items and of users who like one of theirs that is new to them.

    user, item: int64. rating: float32. liked: bool.
    """

    pairs: TrainingPairs
    user: Tensor
    item: Tensor
    rating: Tensor
    liked: Tensor

    @classmethod
    def of(cls, pairs: TrainingPairs, user: Tensor, item: Tensor, rating: Tensor, liked: Tensor) -> HeldOut | None:
        """Those of the validation pairs that can be ranked; None where they are of too few users to choose by.

        Of more users than it takes some are drawn, always the same.
        """
        known = (pairs.item_counts[item] > 0) & (pairs.user_counts[user] > 0)
        users = torch.unique(user[known & liked])
        if len(users) < _FEWEST_USERS:
            return None
        if len(users) > _MOST_USERS:
            drawn = np.sort(np.random.default_rng(0).choice(len(users), _MOST_USERS, replace=False))
            users = users[torch.from_numpy(drawn).to(users.device)]
        kept = known & torch.isin(user, users)
        return cls(pairs, user[kept], item[kept], rating[kept], liked[kept])

    @torch.no_grad()
    def ndcg(self, factors: Vectors, spectrum: Spectrum | None) -> dict[Blend, float]:
        """Mean NDCG@10 of every blend of the factors with the item-item part, or of the factors alone without one."""
        blends = [NO_ITEM_ITEM]
        parts: dict[float, ItemItem] = {}
        if spectrum is not None:
            parts = {l2: spectrum.regression(l2) for l2 in STRENGTHS}
            blends += [Blend(share, l2) for l2 in STRENGTHS for share in SHARES if share]
        sums = {l2: part.users(self.pairs) for l2, part in parts.items()}
        total = dict.fromkeys(blends, 0.0)
        users = self._users()
        for some in _blocks(users):
            seen, relevant = self._marked(some)
            of_factors = factors.scores(some).masked_fill_(seen, -torch.inf)
            total[NO_ITEM_ITEM] += float(_ndcg(_top(of_factors), relevant).sum())
            for l2, part in parts.items():
                of_items = sums[l2][some] @ part.item.T
                for share in SHARES[1:]:
                    blended = (1 - share) * of_factors + share * of_items
                    total[Blend(share, l2)] += float(_ndcg(_top(blended), relevant).sum())
        return {blend: value / len(users) for blend, value in total.items()}

    @torch.no_grad()
    def lists(
        self, factors: Vectors, spectrum: Spectrum | None, blend: Blend, ratings: RatingPart | None
    ) -> dict[Blend, Lists]:
        """The lists of ``blend`` with every weight of the rating model, or without it alone."""
        part = spectrum.regression(blend.l2) if spectrum is not None and blend.share else None
        sums = None if part is None else part.users(self.pairs)

        def scores(users: Tensor, weight: float) -> Tensor:
            found = factors.scores(users)
            if part is not None and sums is not None:
                found = (1 - blend.share) * found + blend.share * (sums[users] @ part.item.T)
            return found if ratings is None else found + weight * (ratings.user[users] @ ratings.item.T)

        weights = (blend.rating,) if ratings is None else RATING_WEIGHTS
        return {replace(blend, rating=weight): self._lists(partial(scores, weight=weight)) for weight in weights}

    def _lists(self, scores: Callable[[Tensor], Tensor]) -> Lists:
        ndcg, total, count = [], 0.0, 0
        for some in _blocks(self._users()):
            seen, relevant = self._marked(some)
            top = _top(scores(some).masked_fill_(seen, -torch.inf))
            ndcg.append(_ndcg(top, relevant))
            near, row = self._of(self.user, some)
            ratings = torch.full(relevant.shape, torch.nan, device=relevant.device)
            ratings[row, self.item[near]] = self.rating[near]
            listed = ratings.gather(1, top)
            total, count = total + float(listed.nansum()), count + int((~listed.isnan()).sum())
        return Lists(torch.cat(ndcg), total / max(1, count))

    def _users(self) -> Tensor:
        users: Tensor = torch.unique(self.user)
        return users

    def _marked(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """(B, I) bool twice: what no list of users (B,), ascending, may hold, and what of theirs is relevant."""
        shape = len(users), self.pairs.items
        seen, relevant = (torch.zeros(shape, dtype=torch.bool, device=users.device) for _ in range(2))
        liked = self.user[self.liked], self.item[self.liked]
        for mark, (user, item) in ((seen, (self.pairs.user, self.pairs.item)), (relevant, liked)):
            near, row = self._of(user, users)
            mark[row, item[near]] = True
        seen |= self.pairs.item_counts == 0  # lists that are served have them last
        return seen, relevant

    @staticmethod
    def _of(user: Tensor, users: Tensor) -> tuple[Tensor, Tensor]:
        """Places in ``user`` (n,) that hold one of ``users`` (B,), ascending, and which of these it is."""
        near = torch.nonzero((user >= users[0]) & (user <= users[-1]))[:, 0]
        near = near[torch.isin(user[near], users)]
        return near, torch.searchsorted(users, user[near])


def _blocks(users: Tensor) -> tuple[Tensor, ...]:
    return torch.split(users, _USERS_AT_ONCE)


def _top(scores: Tensor) -> Tensor:
    return scores.topk(min(K, scores.shape[1]), dim=1).indices


def _ndcg(top: Tensor, relevant: Tensor) -> Tensor:
    """(B,) float64, binary gain (fuse/evaluation/metrics.py); without a law for ties, which are chance here."""
    k = top.shape[1]
    discount = 1 / torch.arange(2, k + 2, device=top.device, dtype=torch.float64).log2()
    hits = relevant.gather(1, top)  # (B, k)
    ideal = discount.cumsum(0)[relevant.sum(1).clamp(1, k) - 1]
    found: Tensor = (hits * discount).sum(1) / ideal
    return found


def best(found: Mapping[Blend, float]) -> Blend:
    """The blend with the highest figure; the default where it is as good."""
    return max(found, key=lambda blend: (found[blend], blend == Blend()))


def best_rated(found: Mapping[Blend, Lists]) -> Blend:
    """Of the blends whose NDCG is as good as the highest, the one whose listed items were rated highest."""
    highest = max(found.values(), key=lambda lists: lists.figure)
    as_good = [blend for blend, lists in found.items() if lists.below(highest) <= _AS_GOOD]
    return max(as_good, key=lambda blend: (found[blend].mean_rating, -blend.rating))
