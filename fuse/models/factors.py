"""The factors of the model: biases, factors, side information and rating histories of users and items.

A user's vector is the sum of four parts; an item's too, with tags and content added (SVD++ of Koren 2008, for users and
for items):

    user = own row + demographics @ W  +  implicit_items / sqrt(n)  +  explicit_items / sqrt(n)
    item = own row + genre, year, ... @ W  +  implicit_users / sqrt(n)  +  explicit_users / sqrt(n)
           + tags @ V  +  the Transformer's output for its text and image

The implicit terms sum over the n items that the user rated (the n users who rated the item), the explicit ones over the
same, times the residual of the rating. A score is the dot product plus both biases; the last column of every table is
the bias it adds. A training rating is scored without its own terms in these sums, which would be target leakage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..inputs.interactions import PairTerm, TrainingPairs, chunks
from ..inputs.sparse import SparseProduct


class Vectors(NamedTuple):
    """user (U, D + 1) and item (I, D + 1), float32; the last column is the bias."""

    user: Tensor
    item: Tensor

    def scores(self, users: Tensor | slice = slice(None), items: Tensor | slice = slice(None)) -> Tensor:
        """(len(users), len(items)): standardised scores of every such user for every such item."""
        user, item = self.user[users], self.item[items]
        return user[:, :-1] @ item[:, :-1].T + user[:, -1:] + item[:, -1]

    def pair_scores(self, user: Tensor, item: Tensor) -> Tensor:
        """(R,) standardised scores of pairs, both (R,)."""
        return torch.cat([self._pair_scores(user[part], item[part]) for part in self._parts(len(user))])

    def _parts(self, pairs: int) -> Iterator[slice]:
        """Slices of the pairs whose gathered rows fit the memory limit; one slice where there are no pairs."""
        return chunks(max(1, pairs), 3 * self.user.shape[1] * self.user.element_size())

    def _pair_scores(self, user: Tensor, item: Tensor) -> Tensor:
        u, f = self.user[user], self.item[item]  # (R, D + 1)
        return (u[:, :-1] * f[:, :-1]).sum(1) + u[:, -1] + f[:, -1]


class UserParts(NamedTuple):
    """What a user's vector is made of besides a row of their own: implicit and explicit (I, D + 1), base (D + 1,).

    A user with n items gets their implicit rows, and the explicit ones times the residuals, over sqrt(n). ``base`` is
    the mean of what demographics add for the users with ratings.
    """

    implicit: Tensor
    explicit: Tensor
    base: Tensor


class Histories:
    """The implicit and explicit terms of users and items, as four sparse matrices with constant weights.

    A residual is the rating less the mean of the *other* side alone: with both means it would leak the rating.
    """

    def __init__(self, pairs: TrainingPairs) -> None:
        user_mean, item_mean = pairs.means()
        self.user_weight = pairs.user_counts.clamp(min=1).rsqrt()  # (U,)
        self.item_weight = pairs.item_counts.clamp(min=1).rsqrt()  # (I,)
        self.item_residual = pairs.rating - item_mean[pairs.item]  # (R,)
        self.user_residual = pairs.rating - user_mean[pairs.user]  # (R,)
        self.item_residuals = pairs.weights(self.item_residual)
        self.user_residuals = pairs.weights(self.user_residual)
        self.both_residuals = pairs.weights(self.item_residual * self.user_residual)
        of_user, of_item = self.user_weight[pairs.user], self.item_weight[pairs.item]
        self.implicit_items = _user_sums(pairs, of_user)
        self.explicit_items = _user_sums(pairs, of_user * self.item_residual)
        self.implicit_users = _item_sums(pairs, of_item)
        self.explicit_users = _item_sums(pairs, of_item * self.user_residual)


def _user_sums(pairs: TrainingPairs, values: Tensor) -> SparseProduct:
    return SparseProduct(pairs.by_user_matrix(values), pairs.by_item_matrix(values))


def _item_sums(pairs: TrainingPairs, values: Tensor) -> SparseProduct:
    return SparseProduct(pairs.by_item_matrix(values), pairs.by_user_matrix(values))


class Factors(nn.Module):
    """All parameters but those of Transformer and head. Each table is (rows, D + 1): D factors and the bias it adds.

    The L2 of a user's own row is multiplied by (ratings of the user / mean ratings of a user) ** ``user_power``, that
    of an item's by the same with ``item_power``.

    ``user_features`` (U, S) and ``item_features`` (I, C) are side information, ``item_tags`` (I, T) more of it in a
    sparse matrix; S, C or T may be 0. ``user_ids`` and ``item_ids`` say whether a user or item has a row of its own;
    without one it is represented by side information and content alone.
    """

    def __init__(
        self,
        pairs: TrainingPairs,
        user_features: Tensor,
        item_features: Tensor,
        item_tags: SparseProduct | None = None,
        *,
        dim: int,
        user_ids: bool = True,
        item_ids: bool = True,
        histories: bool = True,
        user_power: float = 0.0,
        item_power: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.pairs, self.dim = pairs, dim
        self.user_features, self.item_features = user_features, item_features
        self.item_tags = item_tags or SparseProduct.nothing(pairs.items, pairs.user.device)
        self.histories = Histories(pairs) if histories else None
        rows = {"user_features": user_features.shape[1], "item_features": item_features.shape[1]}
        rows |= {"user": pairs.users} if user_ids else {}
        rows |= {"item": pairs.items} if item_ids else {}
        rows |= {"item_tags": item_tags.columns} if item_tags is not None else {}
        if histories:
            rows |= {
                "implicit_items": pairs.items,
                "explicit_items": pairs.items,
                "implicit_users": pairs.users,
                "explicit_users": pairs.users,
            }
        self.tables = nn.ParameterDict({name: _table(count, dim, generator) for name, count in rows.items()})
        # rows without a training rating get no gradient: they start and stay at 0
        for name, counts in (("user", pairs.user_counts), ("item", pairs.item_counts)):
            if name in self.tables:
                self.tables[name].data *= (counts > 0).float().cpu()[:, None]
        # weights for items without ratings (fuse/models/cold_start.py); 0: the same as for all others
        self.register_buffer("cold_side", torch.zeros(item_features.shape[1], dim + 1))
        self.register_buffer("cold_tags", torch.zeros(self.item_tags.columns, dim + 1), persistent="item_tags" in rows)
        self.register_buffer("_user_share", _shares(pairs.user_counts, user_power), persistent=False)
        self.register_buffer("_item_share", _shares(pairs.item_counts, item_power), persistent=False)
        self.to(pairs.user.device)

    cold_side: Tensor
    cold_tags: Tensor
    _user_share: Tensor
    _item_share: Tensor

    def vectors(self, content: Tensor | None = None, keep: Tensor | None = None) -> Vectors:
        """Vectors of all users and items. ``content`` (I, D + 1) is added to the items'.

        ``keep`` (I,), 0 or 1: items with 0 lose their own row and histories, as if nobody had rated them yet.
        """
        t, h = self.tables, self.histories
        user = self.user_features @ t["user_features"]  # (U, D + 1)
        item = self.item_features @ t["item_features"]  # (I, D + 1)
        if "item_tags" in t:
            item = item + self.item_tags @ t["item_tags"]
        of_ids = t["item"] if "item" in t else torch.zeros_like(item)
        if "user" in t:
            user = user + t["user"]
        if h is not None:
            user = user + h.implicit_items @ t["implicit_items"] + h.explicit_items @ t["explicit_items"]
            of_ids = of_ids + h.implicit_users @ t["implicit_users"] + h.explicit_users @ t["explicit_users"]
        item = item + (of_ids if keep is None else of_ids * keep[:, None])
        if self.cold_side.any() or self.cold_tags.any():
            unrated = (self.pairs.item_counts == 0)[:, None]
            item = torch.where(unrated, self.item_features @ self.cold_side + self.item_tags @ self.cold_tags, item)
        return Vectors(user, item if content is None else item + content)

    def training_scores(self, content: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """(R,) scores of the training pairs, each without the terms of its own rating."""
        return self.products_and_scores(self.vectors(content, keep), keep)[1]

    def products_and_scores(self, vectors: Vectors, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(R,) twice: the training pairs' scores by ``vectors`` as they are, and without the terms of each own rating.

        ``vectors`` and ``keep`` are those of `vectors`.
        """
        pairs, h = self.pairs, self.histories
        user, item = vectors
        ones_u, ones_i = torch.ones_like(user[:, :1]), torch.ones_like(item[:, :1])
        products = PairTerm(
            torch.cat([user[:, :-1], user[:, -1:], ones_u], 1), torch.cat([item[:, :-1], ones_i, item[:, -1:]], 1)
        )
        if h is None:
            return pairs.sum_of_dots(products)
        t = self.tables
        w_user = h.user_weight[:, None]  # (U, 1)
        w_item = (h.item_weight if keep is None else h.item_weight * keep)[:, None]  # (I, 1)
        implicit_users, explicit_users = (
            w_user * t[name][:, :-1] for name in ("implicit_users", "explicit_users")
        )  # (U, D)
        seen, rated = (w_item * t[name][:, :-1] for name in ("implicit_items", "explicit_items"))  # (I, D)
        # (u - a)(f - b) = uf - af - ub + ab, where a and b are the terms of this rating in the user and in the item:
        # a = implicit_items + item_residual * explicit_items,
        # b = implicit_users + user_residual * explicit_users, each times its weight. Without
        # ab the score would still leak the residuals that it has to predict.
        own = PairTerm(
            torch.cat([w_user, _table_scores(t["implicit_users"], user), implicit_users], 1),
            torch.cat([-_table_scores(t["implicit_items"], item), -w_item, seen], 1),
        )
        of_item_residual = PairTerm(
            torch.cat([-w_user, implicit_users], 1),
            torch.cat([_table_scores(t["explicit_items"], item), rated], 1),
            h.item_residuals,
        )
        of_user_residual = PairTerm(
            torch.cat([-_table_scores(t["explicit_users"], user), explicit_users], 1),
            torch.cat([w_item, seen], 1),
            h.user_residuals,
        )
        of_both = PairTerm(explicit_users, rated, h.both_residuals)
        return pairs.sum_of_dots(products, own, of_item_residual, of_user_residual, of_both)

    @torch.no_grad()
    def user_parts(self) -> UserParts:
        """What users' vectors are made of; zeros where there are no histories."""
        none = torch.zeros(self.pairs.items, self.dim + 1, device=self.user_features.device)
        implicit, explicit = (
            self.tables[f"{name}_items"] if self.histories else none for name in ("implicit", "explicit")
        )
        rated = self.pairs.user_counts > 0
        base = (self.user_features @ self.tables["user_features"])[rated]
        return UserParts(implicit, explicit, base.mean(0) if len(base) else none.new_zeros(self.dim + 1))

    @torch.no_grad()
    def user_vectors_at(self, user: Tensor, pair: Tensor) -> Tensor:
        """(K, D + 1): rows of ``user`` (U, D + 1) for the training pairs ``pair`` (K,), without the pair's own term."""
        u, item = self.pairs.user[pair], self.pairs.item[pair]
        seen = user[u]  # (K, D + 1)
        if (h := self.histories) is None:
            return seen
        t = self.tables
        own = t["implicit_items"][item] + h.item_residual[pair][:, None] * t["explicit_items"][item]
        without: Tensor = seen - h.user_weight[u][:, None] * own
        return without

    def content_scores(self, content: Tensor, user: Tensor, items: Tensor, pair: Tensor, place: Tensor) -> Tensor:
        """(K,) the term of ``content`` (B, D + 1) of the B items ``items`` in the scores of their K pairs.

        ``pair`` (K,) are their numbers in the order by item, and ``place`` (K,) says which of the B items each belongs
        to. ``user`` (U, D + 1) is taken without the pair's own term, as in `user_vectors_at`. Only content gets a
        gradient.
        """
        query = torch.cat([user[:, :-1], torch.ones_like(user[:, :1])], 1)  # (U, D + 1), the bias as it is
        rating_user = self.pairs.user_by_item[pair]
        scores = self.pairs.dots_of_items(items, rating_user, content, query)
        if (h := self.histories) is None:
            return scores
        # the product of own term and content takes two numbers for an item, not a vector for each pair
        seen, rated = (
            (self.tables[name].detach()[items][:, :-1] * content[:, :-1]).sum(1)[place]
            for name in ("implicit_items", "explicit_items")
        )
        own: Tensor = h.user_weight[rating_user] * (seen + h.item_residual[self.pairs.by_item[pair]] * rated)
        return scores - own

    def penalty(self, strengths: dict[str, float]) -> Tensor:
        """Half the squared weights, each group times its L2: ``name`` for factors, ``name.bias`` for biases."""
        total = torch.zeros((), device=self.user_features.device)
        for name, table in self.tables.items():
            squares = table[:, :-1].square().sum(1)
            if name in ("user", "item"):
                squares = squares * (self._user_share if name == "user" else self._item_share)
            total = total + strengths[name] * squares.sum()
            total = total + strengths[f"{name}.bias"] * table[:, -1].square().sum()
        return total / 2


def _shares(counts: Tensor, power: float) -> Tensor:
    """(N,) the factor of each row's L2: (count / mean count) ** power, with 1 for a count of 0."""
    counts = counts.clamp(min=1)
    return (counts / counts.mean()).pow(power)


def _table(rows: int, dim: int, generator: torch.Generator) -> nn.Parameter:
    factors = torch.randn(rows, dim, generator=generator) * 0.1
    return nn.Parameter(torch.cat([factors, torch.zeros(rows, 1)], 1))


def _table_scores(table: Tensor, vectors: Tensor) -> Tensor:
    """(N, 1): the score of row n of a history table with vector n."""
    scores: Tensor = (table[:, :-1] * vectors[:, :-1]).sum(1, keepdim=True) + table[:, -1:]
    return scores
