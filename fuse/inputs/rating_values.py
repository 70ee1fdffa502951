"""Refuse ratings that are counts, which no rating model fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.dataset.rating_scale import looks_like_counts
from ...data.runtime.errors import BadInput


def refuse_counts(dataset: Path, rating: npt.NDArray[Any]) -> None:
    """BadInput where the ratings (R,) are counts: a few large ones would dominate every error."""
    lowest, median, highest = (float(value) for value in (rating.min(), np.median(rating), rating.max()))
    if looks_like_counts(lowest, median, highest, len(np.unique(rating))):
        raise BadInput(
            f"{dataset / 'ratings.parquet'}: the ratings run from {lowest:g} to {highest:g} with a median of "
            f"{median:g}, as counts do: import them with --log-ratings, which keeps log(1 + count); or rank by them "
            "with --objective ranking; or take them as ratings with --set head=squared"
        )
