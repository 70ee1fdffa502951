"""Errors by how often a film was rated in training, or a user had rated: bands, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..evaluation.metrics import BANDS, ErrorIntervals, bootstrap_interval
from ..evaluation.run_rows import Tested

_PARTS = (("20-99", 20), ("100-499", 100), ("500+", 500))
"""The last band of `BANDS` in parts, for data where nearly everything is in it."""


@dataclass(frozen=True)
class Band:
    """Test ratings of films (or users) with ``fewest`` training ratings or more, up to the next band.

    ``is_part`` where it is a part of the last band. ``errors`` is None where no test rating is of it.
    """

    name: str
    fewest: int
    is_part: bool
    ratings: int
    errors: ErrorIntervals | None


def bands(tested: Tested, counts: npt.NDArray[Any], *, draws: int = 2000, seed: int = 0) -> list[Band]:
    """The bands of `metrics.BANDS`, then the parts of the last one where more than one of them has test ratings.

    ``counts`` (R,) says how often each test rating's film, or its user, occurs in training. Intervals are those of
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
