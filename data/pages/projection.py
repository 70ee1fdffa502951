"""Films laid out in the plane: principal components, and t-SNE in numpy alone, in time linear in the films.

The t-SNE is the exact objective over nearest neighbours; its repulsion is interpolated on a grid and convolved by FFT,
after Linderman, Rachh, Hoskins, Steinerberger and Kluger, "Fast interpolation-based t-SNE" (arXiv 1712.09005). It
starts from the principal plane and draws nothing at random, so equal input gives equal maps.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from .neighbours import Neighbours

PERPLEXITY = 15.0
NEIGHBOURS_FOR_MAP = 45  # three times the perplexity, as is usual: beyond, affinities are next to nothing
_FEWEST_FILMS = 8

_EXAGGERATION = 12.0
_EXAGGERATED_STEPS, _STEPS = 150, 400
_SPACING = 0.5  # of the grid, where the kernel 1 / (1 + d^2) is 1 wide: forces are then right to 5 %
_FEW = 500


def principal_plane(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The two leading principal components of `vectors` (N, D), (N, 2); signs are such that the largest is positive."""
    if len(vectors) == 0:
        return np.zeros((0, 2))
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    plane = centred @ axes[:, : -min(3, axes.shape[1] + 1) : -1]
    plane = np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
    extreme = plane[np.abs(plane).argmax(axis=0), [0, 1]]
    return plane * np.where(extreme < 0, -1.0, 1.0)


def neighbour_map(near: Neighbours, start: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """t-SNE of films by their neighbours' cosines, (N, 2), from `start` (N, 2); every film needs a neighbour.

    Distances are those of unit vectors, d^2 = 2 - 2 cos. Steps, exaggeration and rates follow van der Maaten and Hinton
    (JMLR 9, 2008) with the learning rate of Belkina et al. (Nature Communications 10, 2019). Fewer than 8 films keep
    their `start`.
    """
    count = len(start)
    if count < _FEWEST_FILMS:
        return start
    ends, weights = affinities(near, PERPLEXITY)
    ends = np.ascontiguousarray(ends.T).T
    spread = start.std(axis=0).max()
    places = start / (spread if spread > 0 else 1.0) * 1e-4
    moved, gains = np.zeros_like(places), np.ones_like(places)
    rate = count / _EXAGGERATION / 4  # with more, few films under exaggeration fly apart: attraction grows as 1 / count
    for step in range(_STEPS):
        early = step < _EXAGGERATED_STEPS
        gradient = 4 * ((_EXAGGERATION if early else 1.0) * attraction(places, ends, weights) - repulsion(places))
        gains = np.maximum(np.where(gradient * moved < 0, gains + 0.2, gains * 0.8), 0.01)
        moved = (0.5 if early else 0.8) * moved - rate * gains * gradient
        places = places + moved
        places -= places.mean(axis=0)
    return places


def affinities(near: Neighbours, perplexity: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The symmetric affinities of t-SNE as edges: (E, 2) rows of both ends, ordered, and (E,) weights that sum to 1.

    Each film's Gaussian is as wide as gives its neighbours that perplexity (or a third of them, where they are few).
    """
    count = len(near.place)
    there = near.place >= 0
    distance = np.where(there, 2 - 2 * near.cosine.astype(np.float64), np.inf)
    share = _gaussian_shares(distance, there, min(perplexity, there.shape[1] / 3))
    ends = np.repeat(np.arange(count), there.sum(axis=1)), near.place[there]
    keys = np.concatenate((ends[0] * count + ends[1], ends[1] * count + ends[0]))
    edges, edge = np.unique(keys, return_inverse=True)
    weights = np.bincount(edge, np.tile(share[there], 2))
    return np.stack((edges // count, edges % count), axis=1), weights / weights.sum()


def _gaussian_shares(
    distance: npt.NDArray[np.float64], there: npt.NDArray[np.bool_], perplexity: float
) -> npt.NDArray[np.float64]:
    """(N, K) the shares of each film's neighbours, by bisection on the precision until the entropy is right."""
    beyond = np.where(there, distance - distance.min(axis=1, keepdims=True), 0.0)
    low, high = np.zeros((len(distance), 1)), np.full((len(distance), 1), np.inf)
    precision = np.ones((len(distance), 1))
    for _ in range(60):
        share = np.where(there, np.exp(-precision * beyond), 0.0)
        share /= share.sum(axis=1, keepdims=True)
        entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1, keepdims=True)
        wide = entropy > np.log(max(perplexity, 1.0))
        low, high = np.where(wide, precision, low), np.where(wide, high, precision)
        precision = np.where(np.isinf(high), precision * 2, (low + np.where(np.isinf(high), 0.0, high)) / 2)
    return share


def attraction(
    places: npt.NDArray[np.float64], ends: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(N, 2) sum over each film's edges of p (y_i - y_j) / (1 + |y_i - y_j|^2)."""
    here, other = ends[:, 0], ends[:, 1]
    across, down = (line[here] - line[other] for line in np.ascontiguousarray(places.T))
    pull = weights / (1 + across * across + down * down)
    forces = [np.bincount(here, pull * apart, len(places)) for apart in (across, down)]
    return np.stack(forces, axis=1)


def repulsion(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N, 2) sum over all others of (y_i - y_j) / (1 + |y_i - y_j|^2)^2, over the sum of 1 / (1 + d^2) of all pairs.

    Few films, or films far apart, are compared pair by pair. Else interpolated: each film is spread over
    the 4 x 4 nodes of the grid around it, the nodes are convolved with the kernel, and the result is read back with the
    same weights.
    """
    low = places.min(axis=0)
    nodes = int(float((places.max(axis=0) - low).max()) / _SPACING) + 5
    if len(places) <= _FEW or nodes * nodes > 100 * len(places):
        return repulsion_of_pairs(places)
    columns, weights = _node_weights((places - low) / _SPACING, nodes)
    centred = places - places.mean(axis=0)
    side = _fast_length(2 * nodes)
    charges = np.stack(
        [
            np.bincount(columns.ravel(), (weights * charge[:, None]).ravel(), nodes * nodes).reshape(nodes, nodes)
            for charge in (np.ones(len(places)), centred[:, 0], centred[:, 1])
        ]
    )
    spectra = np.fft.rfft2(charges, (side, side))
    plain, squared = _kernel_spectra(side, _SPACING)
    fields = np.fft.irfft2(np.concatenate((spectra * squared, spectra[:1] * plain)), (side, side))
    fields = fields[:, :nodes, :nodes].reshape(4, -1)
    pushing, across, down, nearness = (fields[:, columns] * weights).sum(axis=2)
    total = float(nearness.sum()) - len(places)  # each film meets itself with 1
    force: npt.NDArray[np.float64] = centred * pushing[:, None] - np.stack((across, down), axis=1)
    return force / total


def repulsion_of_pairs(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What `repulsion` approximates, (N, 2), in time N * N and memory 256 * N."""
    centred = places - places.mean(axis=0)
    square = (centred**2).sum(axis=1)
    force, total = np.zeros_like(places), 0.0
    for start in range(0, len(places), 256):
        some = centred[start : start + 256]
        apart = square[start : start + 256, None] + square - 2 * some @ centred.T
        near = 1 / (1 + np.maximum(apart, 0))
        total += float(near.sum())
        near *= near
        force[start : start + 256] = some * near.sum(axis=1, keepdims=True) - near @ centred
    return force / max(total - len(places), 1e-12)


def _node_weights(scaled: npt.NDArray[np.float64], nodes: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(N, 16) the nodes around each film and its cubic Lagrange weights; `scaled` counts in spacings from node 1."""
    cell = np.minimum(scaled.astype(np.int64), nodes - 4)
    t = scaled - cell  # the four nodes lie at -1, 0, 1, 2
    along = np.stack(
        (
            -t * (t - 1) * (t - 2) / 6,
            (t + 1) * (t - 1) * (t - 2) / 2,
            -(t + 1) * t * (t - 2) / 2,
            (t + 1) * t * (t - 1) / 6,
        ),
        axis=2,
    )
    first = cell[:, :, None] + np.arange(4)
    columns = first[:, 0, :, None] * nodes + first[:, 1, None, :]
    weights = along[:, 0, :, None] * along[:, 1, None, :]
    return columns.reshape(len(scaled), 16), weights.reshape(len(scaled), 16)


@lru_cache(maxsize=2)
def _kernel_spectra(side: int, spacing: float) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
    """Spectra of 1 / (1 + d^2) and of its square on a ring of `side` x `side` nodes."""
    steps = np.minimum(np.arange(side), side - np.arange(side)) * spacing
    plain = 1 / (1 + steps[:, None] ** 2 + steps[None, :] ** 2)
    return np.fft.rfft2(plain), np.fft.rfft2(plain**2)


def _fast_length(least: int) -> int:
    """The smallest length of at least `least` that FFTs like: no prime factor but 2, 3 and 5, and even."""
    length = least + least % 2
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 2
