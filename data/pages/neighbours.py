"""Nearest neighbours by cosine, exactly: every pair is compared, a block of films at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_BLOCK = 512


@dataclass(frozen=True)
class Neighbours:
    """For each film its nearest others, nearest first.

    place: (N, K) int64, the row of each neighbour among the N; -1 behind the last. cosine: (N, K) float32; 0 there.
    """

    place: npt.NDArray[np.int64]
    cosine: npt.NDArray[np.float32]

    def first(self, count: int) -> Neighbours:
        """The `count` nearest of them."""
        return Neighbours(self.place[:, :count], self.cosine[:, :count])


def nearest(vectors: npt.NDArray[np.float32], count: int) -> Neighbours:
    """The `count` nearest of `vectors` (N, D) to each, by cosine, itself left out; equals go by row, lower first.

    A vector of NaN has no neighbours and is nobody's; a vector of zeros has cosine 0 with all. Compares all N * N
    pairs in float32 and holds 512 * N of them at a time.
    """
    count = max(0, min(count, len(vectors) - 1))
    place = np.full((len(vectors), count), -1, np.int64)
    cosine = np.zeros((len(vectors), count), np.float32)
    there = np.flatnonzero(~np.isnan(vectors).any(axis=1))
    kept = min(count, len(there) - 1)
    if kept < 1:
        return Neighbours(place, cosine)
    unit = unit_length(vectors[there])
    for start in range(0, len(there), _BLOCK):
        block = there[start : start + _BLOCK]
        alike = unit[start : start + _BLOCK] @ unit.T
        alike[np.arange(len(block)), np.arange(start, start + len(block))] = -np.inf
        order = _largest(alike, kept)
        place[block, :kept] = there[order]
        cosine[block, :kept] = np.take_along_axis(alike, order, axis=1)
    return Neighbours(place, np.clip(cosine, -1, 1))


def unit_length(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`vectors` (N, D) brought to length 1; zeros stay zeros. Any finite length will do, however large or small."""
    # by the largest value first: squares of what float32 holds may not fit float32
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    scaled = vectors / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return np.asarray(scaled / np.where(length > 0, length, 1), np.float32)


def _largest(values: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """The columns of the `count` largest of each row, largest first; equals by column, lower first."""
    threshold = -np.partition(-values, count - 1, axis=1)[:, count - 1 : count]
    rows = []
    for row, least in zip(values, threshold, strict=True):
        candidates = np.flatnonzero(row >= least)  # more than `count` where several equal the last
        rows.append(candidates[np.argsort(-row[candidates], kind="stable")][:count])
    return np.array(rows, np.int64)
