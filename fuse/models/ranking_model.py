"""A trained ranking model: which items a user would take next, as one inner product a pair.

Factors trained on all pairs (fuse/training/ranking_member.py), the rating model beside them (rating_part.py) and the
item-item part (item_item.py) are put side by side, weighted, so that any nearest-neighbour index can hold the whole:

    score = user . item + both biases,  item = all three parts
    user = [(1 - share) factors, weight * rating model, share * sum of item-item rows]

Everything that a user's items add to the user's vector is kept, so that the part of each in a score is exact, and so
that a new user gets a vector without training.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ...data.runtime.disk import write_atomically
from ..inputs.run_file import readable
from .factors import Vectors

_TENSORS = ("user", "item", "implicit", "explicit", "item_item", "base", "residual", "offsets", "items")


@dataclass(frozen=True, eq=False)
class RankingModel:
    """Vectors of U users and I items of D numbers, and what they are made of.

    The first F numbers are the factors' and the rating model's; of these `own_width` are of the factors, which alone
    have rows that are a user's own.

    vectors: user (U, D + 1) and item (I, D + 1), float32; the last column is the bias.
    implicit, explicit: (I, F + 1). A user with n items gets their sum over sqrt(n), the second times the residual of
    each rating. item_item: (I, D - F), of which a user gets the plain sum. base: (F + 1,), the mean of what users have
    besides. residual: (R,) of each training rating, 0 where there are only interactions.
    offsets, items: (U + 1,) and (R,) int64: the items that each user has in training, ascending.
    settings: what was chosen on validation, and how good it was there.
    """

    vectors: Vectors
    implicit: Tensor
    explicit: Tensor
    item_item: Tensor
    base: Tensor
    residual: Tensor
    offsets: Tensor
    items: Tensor
    settings: dict[str, Any]

    @cached_property
    def counts(self) -> Tensor:
        """(I,) int64: interactions of each item in training. Items with none have vectors from content alone."""
        return torch.bincount(self.items, minlength=len(self.vectors.item))

    @property
    def width(self) -> int:
        """F, how many numbers of a vector histories make, the factors' and the rating model's."""
        return self.implicit.shape[1] - 1

    @property
    def own_width(self) -> int:
        """How many numbers of a vector are the factors'."""
        return int(self.settings["own_width"])

    @torch.no_grad()
    def scores(self, users: Tensor | slice = slice(None)) -> Tensor:
        """(B, I) scores of every item for these users: higher is better, comparable within a user only.

        Items without an interaction in training come after all others, in the order of what content says of them: their
        scores were never held against anybody's choice.
        """
        return unrated_last(self.vectors.scores(users), self.counts == 0)

    @torch.no_grad()
    def shares(self, user: int, items: Tensor) -> Tensor:
        """(n, k): what each of the user's n training items adds to the scores (k,) of ``items``.

        The rest of a score is the user's own part (demographics and own row) and the item's bias.
        """
        mine = self._of_user(user)
        return self._shares(self.items[mine], self.residual[mine], items)

    def items_of(self, user: int) -> Tensor:
        """(n,) the user's training items, ascending."""
        return self.items[self._of_user(user)]

    def _of_user(self, user: int) -> slice:
        return slice(int(self.offsets[user]), int(self.offsets[user + 1]))

    def shares_of_likes(self, likes: Tensor, items: Tensor) -> Tensor:
        """(n, k): what each of ``likes`` (n,) adds to the scores of ``items`` (k,) for the user of `user_of_likes`.

        That is by the histories and by the row of their own, which the likes determine.
        """
        shares = self._shares(likes, torch.full((len(likes),), self.settings["liked_residual"]), items)
        if self.settings["own_row"] and self.settings["share"] < 1:
            prior = self.base + self._history_of_likes(likes).sum(0)
            of_likes, _ = self._own_row(likes, prior)
            shares = shares + of_likes[:, :-1] @ self.vectors.item[items][:, : self.width].T + of_likes[:, -1:]
        return shares

    def _shares(self, seen: Tensor, residual: Tensor, items: Tensor) -> Tensor:
        item = self.vectors.item[items]  # (k, D + 1)
        added = self.implicit[seen] + residual[:, None] * self.explicit[seen]  # (n, F + 1)
        added = added / max(1, len(seen)) ** 0.5
        of_factors = added[:, :-1] @ item[:, : self.width].T + added[:, -1:]  # the bias column adds to every item
        shares: Tensor = of_factors + self.item_item[seen] @ item[:, self.width : -1].T
        return shares

    @torch.no_grad()
    def user_of_likes(self, likes: Tensor) -> Tensor:
        """(D + 1,) the vector of a user of whom nothing is known but that they like the items ``likes`` (n,).

        What users have besides their histories, a row of their own, is what the training loss asks of this user with
        everything else held still, in closed form.
        """
        of_factors = self.base + self._history_of_likes(likes).sum(0)
        if self.settings["own_row"] and self.settings["share"] < 1:
            of_likes, rest = self._own_row(likes, of_factors)
            of_factors = of_factors + of_likes.sum(0) + rest
        return torch.cat([of_factors[:-1], self.item_item[likes].sum(0), of_factors[-1:]])

    def _own_row(self, likes: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        """What each like (n, F + 1) and all other items (F + 1,) add to the row q of least loss.

        That is 1/2 sum of weight (target - score)^2 over the items, plus the row's L2 penalty.
        A liked item has the target 1, the weight 1 and a score without its own term in the history ``prior`` (F + 1,);
        every other one the target 0 and the weight of all others.
        """
        kept, about = 1 - self.settings["share"], self.settings["own_row"]
        rated, width = self.counts > 0, self.own_width
        items = torch.cat([self.vectors.item[:, :width], torch.ones(len(rated), 1)], 1).double()  # (I, width + 1)
        score = items @ (self._of_factors(prior) / kept).double() + self.vectors.item[:, -1].double() / kept  # (I,)
        own = self._of_factors(self._history_of_likes(likes)).div(kept).double()  # (n, width + 1)
        score[likes] -= (items[likes] * own).sum(1)
        weight = about["others"] * rated.double()
        weight[likes] = 1
        target = torch.zeros_like(weight)
        target[likes] = 1
        strength = torch.full((width + 1,), float(about["l2"]), dtype=torch.float64)
        strength *= (max(1, len(likes)) / about["mean_count"]) ** about["power"]
        strength[-1] = about["l2_bias"]
        normal = items.T @ (weight[:, None] * items) + torch.diag(strength.clamp(min=1e-6))
        # (I, width + 1), which the row would follow without the normal
        pulls = (weight * (target - score))[:, None] * items
        of_likes = pulls[likes]
        pulls[likes] = 0
        found = torch.linalg.solve(normal, torch.cat([of_likes, pulls.sum(0, keepdim=True)]).T).T.mul(kept).to(prior)
        rows = prior.new_zeros(len(found), self.width + 1)
        rows[:, :width], rows[:, -1] = found[:, :-1], found[:, -1]
        return rows[:-1], rows[-1]

    def _of_factors(self, values: Tensor) -> Tensor:
        """The numbers of ``values`` (..., F + 1) that are the factors', and the bias."""
        return torch.cat([values[..., : self.own_width], values[..., -1:]], -1)

    def _history_of_likes(self, likes: Tensor) -> Tensor:
        """(n, F + 1) what each like adds to the histories, as if rated as much above the item's mean as likes are."""
        added = self.implicit[likes] + self.settings["liked_residual"] * self.explicit[likes]
        each: Tensor = added / max(1, len(likes)) ** 0.5
        return each

    def balanced_items(self) -> Tensor:
        """(I, D) item vectors whose dot products mean likeness: each number times how far users differ in it.

        A vector's numbers are as large as the users' are small, and the other way round; only their products count.
        """
        return self.vectors.item[:, :-1] * self.vectors.user[:, :-1].std(0, correction=0)

    def save(self, file: Path) -> None:
        """Write one safetensors file, all or nothing."""
        tensors = {name: getattr(self, name) for name in _TENSORS if name not in ("user", "item")}
        tensors |= {"user": self.vectors.user, "item": self.vectors.item}
        tensors["items"] = self.items.int()
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_atomically(file, save(plain, {"settings": json.dumps(self.settings)}))

    @classmethod
    def load(cls, file: Path) -> RankingModel:
        """Read what `save` wrote. BadInput where it is missing or damaged."""
        with readable(file), safe_open(file, framework="pt") as content:
            t = {name: content.get_tensor(name) for name in _TENSORS}
            settings = json.loads((content.metadata() or {})["settings"])
        vectors = Vectors(t.pop("user"), t.pop("item"))
        return cls(vectors, **(t | {"items": t["items"].long()}), settings=settings)


def unrated_last(scores: Tensor, unrated: Tensor) -> Tensor:
    """``scores`` (B, I) with those of ``unrated`` items (I,) moved below all others, their order kept; in place.

    What nobody has rated was never held against anybody's choice, and would come into a list by accident.
    """
    if unrated.any() and not unrated.all():
        new = scores[:, unrated]
        lowest = scores[:, ~unrated].min(1, keepdim=True).values
        scores[:, unrated] = new - new.max(1, keepdim=True).values + (lowest - 1)
    return scores
