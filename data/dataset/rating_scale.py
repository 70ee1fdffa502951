"""What the values of ratings say about their scale: that they are counts, or that one of them means "not rated"."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

_HIGHEST_SCALE = 1000  # no scale of ratings goes beyond it
_USUAL_SCALE, _SKEW, _MANY_LEVELS = 100, 20, 20


def looks_like_counts(lowest: float, median: float, highest: float, levels: int) -> bool:
    """Whether numbers of these are counts (plays, seconds, purchases) rather than ratings on a scale.

    None is negative, there are more than 20 different ones, and the highest is above 1000, or above 100 and 20 times
    the median.
    """
    skewed = highest > _USUAL_SCALE and highest > _SKEW * median
    return lowest >= 0 and levels > _MANY_LEVELS and (highest > _HIGHEST_SCALE or skewed)


def median_of(histogram: Mapping[float, int]) -> float:
    """The median of values given with how often they occur, in ascending order."""
    half, seen = sum(histogram.values()) / 2, 0
    for value, count in histogram.items():
        seen += count
        if seen >= half:
            return value
    raise ValueError("expected at least one value")


def values_not_rated(histogram: Mapping[float, int]) -> list[float]:
    """The values that probably mean "not rated", among values in ascending order with how often they occur.

    The lowest, where it is 0 or below, all others are 1 or more, and it is more frequent than the next; and the lowest
    or highest where it is farther from the next than all others from each other, such as 99 beside -10 to 10.
    """
    values = list(histogram)
    if len(values) < 4:
        return []
    found = []
    lowest, second, before, highest = values[0], values[1], values[-2], values[-1]
    if second - lowest > highest - second or (
        lowest <= 0 < 1 <= second and histogram[lowest] > histogram[second] and _whole(values[1:])
    ):
        found.append(lowest)
    if highest - before > before - lowest:
        found.append(highest)
    return found


def _whole(values: list[float]) -> bool:
    """Whether values stand a half or more apart, as marks do and counts of a continuous scale do not."""
    return all(later - earlier >= 0.5 for earlier, later in pairwise(values))
