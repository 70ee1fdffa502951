"""The L2 strengths of a rating model: half of each times the squared weights stands beside half the squared errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from .declaration import setting

_strength = partial(setting, "L2", low=0.0, high=math.inf)

TABLES = (
    "user",
    "item",
    "user_features",
    "item_features",
    "item_tags",
    "implicit_items",
    "explicit_items",
    "implicit_users",
    "explicit_users",
)
"""Tables of weights with a strength for their vectors and one for their biases."""


@dataclass(frozen=True)
class Regularization:
    """``scale`` multiplies every strength of `TABLES`. The defaults are those of the preset `paper`."""

    scale: float = _strength(0.7, "multiplies every strength from l2.user to l2.explicit_users_bias")
    user: float = _strength(14.0, "L2 strength of users' vectors")
    item: float = _strength(14.0, "L2 strength of items' vectors")
    user_features: float = _strength(790.0, "L2 strength of vectors of demographics")
    item_features: float = _strength(644.0, "L2 strength of vectors of genres, years and components")
    item_tags: float = _strength(644.0, "L2 strength of vectors of tags")
    implicit_items: float = _strength(55.0, "L2 strength of vectors of items a user saw")
    explicit_items: float = _strength(85.4, "L2 strength of vectors of items a user rated, weighted by the ratings")
    implicit_users: float = _strength(61.9, "L2 strength of vectors of users who saw an item")
    explicit_users: float = _strength(
        144.0, "L2 strength of vectors of users who rated an item, weighted by the ratings"
    )
    user_bias: float = _strength(7.0, "L2 strength of users' biases")
    item_bias: float = _strength(7.0, "L2 strength of items' biases")
    user_features_bias: float = _strength(439.0, "L2 strength of biases of demographics")
    item_features_bias: float = _strength(228.0, "L2 strength of biases of genres, years and components")
    item_tags_bias: float = _strength(228.0, "L2 strength of biases of tags")
    implicit_items_bias: float = _strength(1490.0, "L2 strength of biases of items a user saw")
    explicit_items_bias: float = _strength(379.0, "L2 strength of biases of items a user rated")
    implicit_users_bias: float = _strength(85.5, "L2 strength of biases of users who saw an item")
    explicit_users_bias: float = _strength(400.0, "L2 strength of biases of users who rated an item")
    content: float = _strength(5.0, "L2 strength of the Transformer's vector of an item")
    user_power: float = _strength(
        0.5, "how the strength of a user's own row grows with their ratings: (count / mean count) ** power"
    )
    item_power: float = _strength(0.5, "how the strength of an item's own row grows with its ratings, likewise")
    levels: float = _strength(
        1.0, "multiplies the L2 of users' level logits in the ordinal head, which is estimated from the ratings"
    )
    cold_side: float = _strength(300.0, "L2 strength of the weights of genres and years for items without a rating")
    cold_components: float = _strength(10000.0, "L2 strength of the weights of components for items without a rating")
    cold_tags: float = _strength(600.0, "L2 strength of the weights of tags for items without a rating")

    def strengths(self) -> dict[str, float]:
        """The strengths of `TABLES`, scaled, by the names that `Factors.penalty` knows: ``user``, ``user.bias``, ..."""
        vectors = {name: self.scale * getattr(self, name) for name in TABLES}
        return vectors | {f"{name}.bias": self.scale * getattr(self, f"{name}_bias") for name in TABLES}
