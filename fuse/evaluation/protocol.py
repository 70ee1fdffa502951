"""Protocols of evaluating lists: which test rows make an item relevant, and how long the lists are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.runtime.errors import UsageError
from ..models.heads import Scale

CUTOFFS = (5, 10, 20)
"""Lengths of lists that are always measured, beside the headline's k."""

PROTOCOLS = ("auto", "movielens", "mmrec")


@dataclass(frozen=True)
class Protocol:
    """A protocol: its name, the lowest rating that is relevant (None: every test row is), and the headline length k."""

    name: str
    liked: float | None
    k: int

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """`CUTOFFS` and k, ascending."""
        return tuple(sorted({*CUTOFFS, self.k}))

    def relevant(self, rating: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """(R,) True where a test row of this rating makes its item relevant."""
        if self.liked is None:
            return np.ones(len(rating), np.bool_)
        # as the ratings are stored: 4.2 in float32 is less than 4.2
        return rating >= np.float32(self.liked)

    def sentence(self) -> str:
        """The protocol in words."""
        which = "every test interaction is" if self.liked is None else f"a test rating of {self.liked:g} or more is"
        title = {"movielens": "MovieLens protocol", "mmrec": "MMRec protocol"}[self.name]
        return (
            f"{title}: {which} relevant; all films compete but those of the user's training and validation rows; "
            "nothing is sampled"
        )


def protocol_for(
    scale: Scale, *, name: str = "auto", k: int | None = None, liked: float | None = None, implicit: bool = False
) -> Protocol:
    """The protocol of this name for ratings of a scale.

    "movielens": relevant is what was rated ``liked`` or more (`Scale.liked`), lists of 10. "mmrec": relevant is
    every test row, lists of 20, as in MMRec's published tables. "auto" is "mmrec" for ``implicit`` data, else
    "movielens". UsageError for another name, a k below 1, and a ``liked`` that is no number.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"protocol {name!r}: expected {', '.join(PROTOCOLS[:-1])} or {PROTOCOLS[-1]}")
    if k is not None and k < 1:
        raise UsageError(f"k must be at least 1, found {k}")
    if liked is not None and not math.isfinite(liked):
        raise UsageError(f"liked must be a rating, such as 4, found {liked}")
    if name == "mmrec" and liked is not None:
        raise UsageError("protocol mmrec: every test row is relevant, so it takes no lowest rating; leave --liked out")
    if name == "mmrec" or (name == "auto" and implicit and liked is None):
        return Protocol("mmrec", None, k or 20)
    return Protocol("movielens", scale.liked if liked is None else liked, k or 10)
