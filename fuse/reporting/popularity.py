"""Errors by the number of training ratings of the item, or of the user, in bands with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..evaluation.metrics import BANDS, ErrorIntervals, bootstrap_interval
from ..evaluation.run_rows import Tested

_PARTS = (("20-99", 20), ("100-499", 100), ("500+", 500))
"""Parts of the last band of `BANDS`, for data in which it has nearly all ratings."""


@dataclass(frozen=True)
class Band:
    """Test ratings of items (or users) with ``fewest`` training ratings or more, up to the next band.

    is_part: whether it is a part of the last band. errors: None where the band has no test rating.
    """

    name: str
    fewest: int
    is_part: bool
    ratings: int
    errors: ErrorIntervals | None


def bands(tested: Tested, counts: npt.NDArray[Any], *, draws: int = 2000, seed: int = 0) -> list[Band]:
    """The bands of `metrics.BANDS`, then the parts of the last one where more than one of them has test ratings.

    ``counts`` (R,) is the number of training ratings of each test rating's item, or of its user. Intervals are those of
    `bootstrap_interval`: whole users are drawn.
    """
    found = _bands(tested, counts, BANDS, False, draws, seed)
    parts = _bands(tested, counts, _PARTS, True, draws, seed)
    return found + (parts if sum(part.ratings > 0 for part in parts) > 1 else [])


def _bands(
    tested: Tested,
    counts: npt.NDArray[Any],
    named: tuple[tuple[str, int], ...],
    is_part: bool,
    draws: int,
    seed: int,
) -> list[Band]:
    place = np.searchsorted([fewest for _, fewest in named], counts, side="right") - 1
    found = []
    for number, (name, fewest) in enumerate(named):
        inside = place == number
        errors = None
        if inside.any():
            rating, prediction, user = tested.rating[inside], tested.prediction[inside], tested.user[inside]
            errors = bootstrap_interval(rating, prediction, user, draws=draws, seed=seed)
        found.append(Band(name, fewest, is_part, int(inside.sum()), errors))
    return found
