"""A trained model for predictions: vectors, heads and ids, without ratings and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ...data.runtime.disk import write_atomically
from ..inputs.run_file import readable
from .factors import Vectors
from .heads import OrdinalHead, Scale, SquaredHead

_USERS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Recommender:
    """M trained members whose predicted ratings are averaged, perhaps with those of Bayesian factors.

    user_ids (U,), item_ids (I,): int64, or object holding str, as the dataset has them. In training user u rated the
    items ``rated_items[rated_offsets[u]:rated_offsets[u + 1]]``. ``bayesian`` are the vectors of Bayesian factors,
    which have ``bayesian_share`` of the weight where user and item both have ratings: of others they know nothing,
    while members know content.
    """

    user_ids: npt.NDArray[Any]
    item_ids: npt.NDArray[Any]
    scale: Scale
    vectors: tuple[Vectors, ...]
    heads: tuple[SquaredHead | OrdinalHead, ...]
    rated_offsets: npt.NDArray[np.int64]
    rated_items: npt.NDArray[np.int64]
    bayesian: Vectors | None = None
    bayesian_share: float = 0.0

    @property
    def predicts(self) -> bool:
        """Whether there is a rating model at all: a run for ranking alone keeps ids and training ratings only."""
        return len(self.vectors) > 0

    def pair_ratings(
        self, user: npt.NDArray[np.integer[Any]], item: npt.NDArray[np.integer[Any]]
    ) -> npt.NDArray[np.float32]:
        """(R,) predicted ratings of pairs, given by user and item number, both (R,)."""
        u, f = torch.from_numpy(user.astype(np.int64)), torch.from_numpy(item.astype(np.int64))
        with torch.no_grad():
            each = [head.ratings(v.pair_scores(u, f), u) for v, head in zip(self.vectors, self.heads, strict=True)]
            mean = torch.stack(each).mean(0)
            if self.bayesian is not None:
                rated = self._user_is_rated[u] * self._item_is_rated[f]
                mean = self._averaged(mean, self.bayesian.pair_scores(u, f), rated)
        ratings: npt.NDArray[np.float32] = mean.numpy()
        return ratings

    def all_ratings(self, user: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """(B, I) predicted ratings of every item by B users, given by number: one matrix product a member."""
        ratings: npt.NDArray[np.float32] = self._ratings(torch.from_numpy(user.astype(np.int64)), clamped=True).numpy()
        return ratings

    def ratings_to_rank(self, user: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """`all_ratings`, but those at an end of the scale, which are all alike, as they were before clamping."""
        u = torch.from_numpy(user.astype(np.int64))
        ratings, lowest, highest = self._ratings(u, clamped=True), self.scale.levels[0], self.scale.levels[-1]
        near = 1e-6 * (highest - lowest)
        at_end = (ratings >= highest - near) | (ratings <= lowest + near)
        ranked: npt.NDArray[np.float32] = torch.where(at_end, self._ratings(u, clamped=False), ratings).numpy()
        return ranked

    @torch.no_grad()
    def _ratings(self, users: Tensor, *, clamped: bool) -> Tensor:
        """(B, I) ratings of every item by ``users`` (B,)."""
        scored = [(head, v.scores(users)) for v, head in zip(self.vectors, self.heads, strict=True)]
        each = [head.ratings(s, users) if clamped else head.unclamped(s, users) for head, s in scored]
        mean = each[0] if len(each) == 1 else torch.stack(each).mean(0)
        return self.with_bayesian(mean, users, slice(None), clamped=clamped)

    @torch.no_grad()
    def with_bayesian(self, mean: Tensor, users: Tensor, items: Tensor | slice, *, clamped: bool = True) -> Tensor:
        """The members' ``mean`` ratings (B, G) of ``items`` by ``users`` (B,), averaged with the Bayesian factors'."""
        if self.bayesian is None:
            return mean
        rated = self._user_is_rated[users][:, None] * self._item_is_rated[items]
        return self._averaged(mean, self.bayesian.scores(users, items), rated, clamped=clamped)

    def _averaged(self, mean: Tensor, scores: Tensor, rated: Tensor, *, clamped: bool = True) -> Tensor:
        """The members' ``mean`` averaged with the Bayesian factors' ``scores`` where ``rated`` is 1, alone where 0."""
        head = SquaredHead(self.scale)
        ratings = head.ratings(scores, scores) if clamped else head.unclamped(scores, scores)
        return mean + self.bayesian_share * rated * (ratings - mean)

    @cached_property
    def _user_is_rated(self) -> Tensor:
        """(U,) 1 for users with training ratings, 0 for others."""
        return torch.from_numpy((np.diff(self.rated_offsets) > 0).astype(np.float32))

    @cached_property
    def _item_is_rated(self) -> Tensor:
        """(I,) 1 for items with training ratings, 0 for others."""
        return torch.from_numpy((np.bincount(self.rated_items, minlength=len(self.item_ids)) > 0).astype(np.float32))

    def distribution(
        self, user: npt.NDArray[np.integer[Any]], item: npt.NDArray[np.integer[Any]]
    ) -> npt.NDArray[np.float32] | None:
        """(R, K): the probability of each of ``scale.levels``; None where no member has an ordinal head."""
        u, f = torch.from_numpy(user.astype(np.int64)), torch.from_numpy(item.astype(np.int64))
        with torch.no_grad():
            each = [
                head.distribution(v.pair_scores(u, f), u)
                for v, head in zip(self.vectors, self.heads, strict=True)
                if isinstance(head, OrdinalHead)
            ]
        return torch.stack(each).mean(0).numpy() if each else None

    @property
    def is_one_product(self) -> bool:
        """Whether a rating is exactly one dot product plus biases, before clamping (`joint_vectors`)."""
        return self.bayesian is None and all(isinstance(head, SquaredHead) for head in self.heads)

    def joint_vectors(self) -> Vectors:
        """One vector each, (U, M * D + 1) and (I, M * D + 1), whose score is the mean of the members' scores.

        Bayesian factors are not in them: they have no part where a user or item has no rating.
        """
        share = len(self.vectors) ** -0.5
        user = torch.cat([v.user[:, :-1] * share for v in self.vectors], 1)
        item = torch.cat([v.item[:, :-1] * share for v in self.vectors], 1)
        user_bias = torch.stack([v.user[:, -1] for v in self.vectors]).mean(0)
        item_bias = torch.stack([v.item[:, -1] for v in self.vectors]).mean(0)
        return Vectors(torch.cat([user, user_bias[:, None]], 1), torch.cat([item, item_bias[:, None]], 1))

    @cached_property
    def _user_number(self) -> dict[Any, int]:
        return {user: number for number, user in enumerate(self.user_ids.tolist())}

    @cached_property
    def _item_number(self) -> dict[Any, int]:
        return {item: number for number, item in enumerate(self.item_ids.tolist())}

    def user_numbers(self, ids: Sequence[Any]) -> npt.NDArray[np.int64]:
        """(n,) the number of each user id, -1 where the model doesn't know it."""
        return np.array([self._user_number.get(user, -1) for user in ids], np.int64)

    def item_numbers(self, ids: Sequence[Any]) -> npt.NDArray[np.int64]:
        """(n,) the number of each item id, -1 where the model doesn't know it."""
        return np.array([self._item_number.get(item, -1) for item in ids], np.int64)

    def save(self, file: Path) -> None:
        """Write one safetensors file, all or nothing."""
        tensors = {
            "rated_offsets": torch.from_numpy(self.rated_offsets),
            "rated_items": torch.from_numpy(self.rated_items.astype(np.int32)),
            "levels": torch.tensor(self.scale.levels, dtype=torch.float64),
            "mean_unit": torch.tensor([self.scale.mean, self.scale.unit], dtype=torch.float64),
            **_ids_as_tensors("user", self.user_ids),
            **_ids_as_tensors("item", self.item_ids),
        }
        for number, (vectors, head) in enumerate(zip(self.vectors, self.heads, strict=True)):
            tensors[f"{number}.user"], tensors[f"{number}.item"] = vectors.user, vectors.item
            if isinstance(head, OrdinalHead):
                tensors[f"{number}.level_logits"] = head.level_logits
                tensors[f"{number}.user_level_logits"] = head.user_level_logits
        if self.bayesian is not None:
            tensors["bayesian.user"], tensors["bayesian.item"] = self.bayesian
            tensors["bayesian.share"] = torch.tensor(self.bayesian_share, dtype=torch.float64)
        write_atomically(file, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))

    @classmethod
    def load(cls, file: Path) -> Recommender:
        """Read what `save` wrote; BadInput where it is missing or damaged."""
        with readable(file, f"{file} is missing: the run is not finished; go on with `cinefuse fuse ... --resume`"):
            t = load_file(file)
            scale = Scale(tuple(t["levels"].tolist()), *t["mean_unit"].tolist())
            members = sorted(int(name.split(".")[0]) for name in t if name[0].isdigit() and name.endswith(".item"))
            vectors = tuple(Vectors(t[f"{m}.user"], t[f"{m}.item"]) for m in members)
            heads = tuple(_head(t, m, scale) for m in members)
            bayesian = Vectors(t["bayesian.user"], t["bayesian.item"]) if "bayesian.share" in t else None
            return cls(
                _ids_from_tensors("user", t),
                _ids_from_tensors("item", t),
                scale,
                vectors,
                heads,
                t["rated_offsets"].numpy(),
                t["rated_items"].numpy().astype(np.int64),
                bayesian,
                float(t["bayesian.share"]) if bayesian is not None else 0.0,
            )


def _head(tensors: dict[str, Tensor], member: int, scale: Scale) -> SquaredHead | OrdinalHead:
    if f"{member}.level_logits" not in tensors:
        return SquaredHead(scale)
    of_users = tensors[f"{member}.user_level_logits"]
    head = OrdinalHead(scale, torch.tensor(scale.levels), len(of_users))
    head.level_logits.data, head.user_level_logits.data = tensors[f"{member}.level_logits"], of_users
    return head


def _ids_as_tensors(side: str, ids: npt.NDArray[Any]) -> dict[str, Tensor]:
    if ids.dtype != object:
        return {f"{side}_ids": torch.from_numpy(ids.astype(np.int64))}
    encoded = [str(value).encode() for value in ids.tolist()]
    ends = np.cumsum([0, *(len(value) for value in encoded)])
    return {
        f"{side}_ids.utf8": torch.frombuffer(bytearray(b"".join(encoded)), dtype=torch.uint8),
        f"{side}_ids.offsets": torch.from_numpy(ends.astype(np.int64)),
    }


def _ids_from_tensors(side: str, tensors: dict[str, Tensor]) -> npt.NDArray[Any]:
    if f"{side}_ids" in tensors:
        ids: npt.NDArray[Any] = tensors[f"{side}_ids"].numpy()
        return ids
    text, ends = tensors[f"{side}_ids.utf8"].numpy().tobytes(), tensors[f"{side}_ids.offsets"].tolist()
    return np.array([text[a:b].decode() for a, b in pairwise(ends)], dtype=object)
