"""How much of the item-item part a ranking model takes: chosen by NDCG@10 of the validation ratings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..inputs.interactions import TrainingPairs
from ..models.factors import Vectors
from ..models.item_item import ItemItem, Spectrum

K = 10
_USERS_AT_ONCE = 256
_MOST_USERS = 4096  # enough to tell apart what differs by more than chance
_FEWEST_USERS = 30  # with fewer a choice would be chance


@dataclass(frozen=True)
class Blend:
    """Convex ``share`` of the item-item part, and its ``l2``. The defaults are for where nothing is held out."""

    share: float = 0.3
    l2: float = 300.0


NO_ITEM_ITEM = Blend(0.0, 0.0)
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.9, 1.0)
STRENGTHS = (30.0, 100.0, 300.0, 600.0, 1200.0)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Validation pairs to rank by: ``user`` and ``item`` (n,) int64, liked, new to their users, of rated items."""

    pairs: TrainingPairs
    user: Tensor
    item: Tensor

    @classmethod
    def of(cls, pairs: TrainingPairs, user: Tensor, item: Tensor, liked: Tensor) -> HeldOut | None:
        """Those of the validation pairs that can be ranked; None where they are of too few users to choose by.

        Of more users than it takes some are drawn, always the same.
        """
        kept = liked & (pairs.item_counts[item] > 0) & (pairs.user_counts[user] > 0)
        user, item = user[kept], item[kept]
        users = torch.unique(user)
        if len(users) < _FEWEST_USERS:
            return None
        if len(users) > _MOST_USERS:
            drawn = np.sort(np.random.default_rng(0).choice(len(users), _MOST_USERS, replace=False))
            users = users[torch.from_numpy(drawn).to(users.device)]
            kept = torch.isin(user, users)
            user, item = user[kept], item[kept]
        return cls(pairs, user, item)

    @torch.no_grad()
    def ndcg(self, factors: Vectors, spectrum: Spectrum | None) -> dict[Blend, float]:
        """Mean NDCG@10 of every blend of the factors with the item-item part, or of the factors alone without one."""
        users = torch.unique(self.user)
        blends = [NO_ITEM_ITEM]
        parts: dict[float, ItemItem] = {}
        if spectrum is not None:
            parts = {l2: spectrum.regression(l2) for l2 in STRENGTHS}
            blends += [Blend(share, l2) for l2 in STRENGTHS for share in SHARES if share]
        sums = {l2: part.users(self.pairs) for l2, part in parts.items()}
        total = dict.fromkeys(blends, 0.0)
        for some in users.split(_USERS_AT_ONCE):
            seen, relevant = self._marked(some)
            of_factors = factors.scores(some).masked_fill_(seen, -torch.inf)
            total[NO_ITEM_ITEM] += float(_ndcg(of_factors, relevant).sum())
            for l2, part in parts.items():
                of_items = sums[l2][some] @ part.item.T
                for share in SHARES[1:]:
                    blended = (1 - share) * of_factors + share * of_items
                    total[Blend(share, l2)] += float(_ndcg(blended, relevant).sum())
        return {blend: value / len(users) for blend, value in total.items()}

    def _marked(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """(B, I) bool twice: what users (B,), ascending, have in training, and what of theirs is relevant."""
        shape = len(users), self.pairs.items
        seen, relevant = (torch.zeros(shape, dtype=torch.bool, device=users.device) for _ in range(2))
        for mark, user, item in ((seen, self.pairs.user, self.pairs.item), (relevant, self.user, self.item)):
            first, last = int(users[0]), int(users[-1])
            near = (user >= first) & (user <= last)
            user, item = user[near], item[near]
            here = torch.isin(user, users)
            mark[torch.searchsorted(users, user[here]), item[here]] = True
        return seen, relevant


def _ndcg(scores: Tensor, relevant: Tensor) -> Tensor:
    """(B,) float64, binary gain (fuse/evaluation/metrics.py); without a law for ties, which are chance here."""
    k = min(K, scores.shape[1])
    discount = 1 / torch.arange(2, k + 2, device=scores.device, dtype=torch.float64).log2()
    hits = relevant.gather(1, scores.topk(k, dim=1).indices)  # (B, k)
    ideal = discount.cumsum(0)[relevant.sum(1).clamp(1, k) - 1]
    return (hits * discount).sum(1) / ideal


def best(found: dict[Blend, float]) -> Blend:
    """The blend with the highest figure; the default where it is as good."""
    return max(found, key=lambda blend: (found[blend], blend == Blend()))
